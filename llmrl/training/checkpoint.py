"""Checkpoints: one folder per checkpoint, complete or absent; ``latest``, ``best`` and ``good`` link to some.

A folder is a Hugging Face model with tokenizer, plus a folder ``state`` with everything else that the run
needs to go on, plus ``SHA256SUMS``, which ``sha256sum --check`` reads too.  It is written under another
name, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import pickle
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from llmrl.distributed.world import World
from llmrl.errors import UserError
from llmrl.policies.saving import disk_errors
from llmrl.text import DamagedFile, one_line, read_json, read_whole

APART = "state"
"""The folder within a checkpoint for what is no part of the model."""
STATE = f"{APART}/trainer.pt"
SHARDS = f"{APART}/shards"
"""Weights and optimizer as several ranks write them; the folder then holds a model only where that was asked for."""
SUMS = "SHA256SUMS"
WRITING = ".writing-"
"""Beginning of the names of folders that are being written or removed."""
LINKS = ("latest", "best", "good")
"""Names in the folder of a run that lead to a checkpoint."""
ARRANGING = threading.Lock()
"""Held while checkpoints of this process are named, linked or removed, which may happen in two threads."""
_NAME = re.compile(r"checkpoint-(\d+)")


class DamagedCheckpoint(UserError, ValueError):
    """A checkpoint is not what was written; the message names it and what is wrong with it."""


class Score(NamedTuple):
    """The value by which ``checkpoint.keep_best`` compares checkpoints."""

    metric: str
    value: float
    """The highest is the best."""


def save(
    folder: Path,
    step: int,
    save_model: Callable[[Path], object],
    state: dict[str, Any],
    keep: int,
    score: Score | None = None,
    world: World | None = None,
) -> Path:
    """Write ``folder/checkpoint-STEP``, point ``latest`` at it and remove all but the last ``keep``.

    Args:
        save_model: writes the weights to a folder; every rank calls it.
        world: the ranks; the first one writes the rest.
        score: of this checkpoint; if no earlier one has a higher value, ``best`` points at it from
            now on, and it stays as long as it does.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints and ``latest`` are untouched.
    """
    target = path_of(folder, step)
    aside = folder / f"{WRITING}{target.name}"
    world = world or World()
    try:
        with world.together():
            if world.main:
                for left in folder.glob(f"{WRITING}*"):  # of a run that was killed while it wrote or removed
                    with contextlib.suppress(OSError):
                        _remove(left)
                aside.mkdir(parents=True)
        with disk_errors(aside):
            save_model(aside)
        with world.together():
            if world.main:
                _write_state(state, aside / STATE)
                _put_in_place(aside, target, keep, score)
    except OSError as error:
        if world.main:
            shutil.rmtree(aside, ignore_errors=True)
        raise OSError(
            f"Checkpoint {target} could not be written ({error}). Earlier checkpoints are intact: free "
            "some space or give another --output, then use --resume."
        ) from error
    return target


def _put_in_place(aside: Path, target: Path, keep: int, score: Score | None) -> None:
    """From all files written to a checkpoint under its name."""
    _write_sums(aside)
    for path in (*aside.rglob("*"), aside):
        _flush(path)
    with ARRANGING:
        _arrange(aside, target, keep, score)


def _arrange(aside: Path, target: Path, keep: int, score: Score | None) -> None:
    """Give a checkpoint its name and its links, and remove old ones."""
    folder = target.parent
    replaced = set_aside(target) if target.exists() else None  # folders cannot be replaced
    aside.rename(target)
    link(folder, "latest", target)
    if score is not None:
        note_score(target, score)
    _flush(folder)
    if replaced is not None:
        _remove_later(replaced)
    stay = {path.resolve() for path in (folder / "best", folder / "good", target) if path.exists()}
    for old in list_checkpoints(folder)[: -max(keep, 1)]:
        if old.resolve() not in stay:
            _remove_later(old)


def note_score(checkpoint: Path, score: Score) -> None:
    """Point ``best`` at a checkpoint, unless another one has a higher value of the same metric."""
    if not math.isfinite(score.value):
        return
    folder = checkpoint.parent
    record = folder / "best.json"
    best = _best(record) if (folder / "best").exists() else None
    if best is not None and best[0] != checkpoint.name and best[1].metric == score.metric:
        if best[1].value > score.value:
            return
    aside = folder / ".best.json"
    aside.write_text(json.dumps({"checkpoint": checkpoint.name, **score._asdict()}) + "\n")
    _flush(aside)
    # The record first: with a link to an older one, the next score merely writes both again.
    os.replace(aside, record)
    link(folder, "best", checkpoint)


def _best(record: Path) -> tuple[str, Score] | None:
    """The name and the score of the best checkpoint so far; None where there is no such record."""
    try:
        best = read_json(record)
        return str(best["checkpoint"]), Score(str(best["metric"]), float(best["value"]))
    except (FileNotFoundError, DamagedFile, LookupError, TypeError, ValueError):
        return None


def path_of(folder: Path, step: int) -> Path:
    """The path of the checkpoint of a step, which need not exist."""
    return folder / f"checkpoint-{step:06d}"


def is_name(name: str) -> bool:
    """Whether a folder of this name in that of a run is a checkpoint.

    >>> is_name("checkpoint-000010"), is_name("latest")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if is_name(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def later_than(checkpoint: Path) -> list[Path]:
    """The checkpoints of later steps in the same folder, oldest first."""
    return [path for path in list_checkpoints(checkpoint.parent) if step_of(path) > step_of(checkpoint)]


def damages(checkpoint: Path) -> list[str]:
    """Differences from the files that were written; empty for an intact checkpoint."""
    if (checkpoint / "trainer.pt").is_file():
        return [
            f"it is of an earlier llmrl, which kept trainer.pt next to the model and not in {APART}; its weights load"
        ]
    listing = checkpoint / SUMS
    if not listing.is_file():
        return [f"no {SUMS} in it"]
    wrong = []
    try:
        entries = _sums(checkpoint)
    except DamagedFile as error:
        return [str(error)]
    if not entries or entries[-1][-1] != STATE:
        wrong.append(f"{SUMS} is cut off")
    for digest, name in entries:
        if not (checkpoint / name).is_file():
            wrong.append(f"{name} is missing")
        elif _digest(checkpoint / name) != digest:
            wrong.append(f"{name} differs from what was written")
    return wrong


def listed(checkpoint: Path) -> list[str]:
    """The files that a checkpoint was written with, by their paths in it."""
    return [name for _, name in _sums(checkpoint)]


def is_state(name: str) -> bool:
    """Whether a file of a checkpoint is the trainer's, and no part of the model.

    >>> is_state(STATE), is_state("state/shards/rank_0.pt"), is_state("model.safetensors")
    (True, True, False)
    """
    return name.startswith(f"{APART}/")


def set_aside_later(checkpoint: Path) -> list[Path]:
    """Rename the checkpoints of later steps than this one, which is about to be resumed.

    They belong to a continuation that is being written again; ``latest`` must not lead back to it.

    Returns:
        Their new paths, ``aside-checkpoint-STEP``.
    """
    folder = checkpoint.parent
    moved = [set_aside(path) for path in later_than(checkpoint)]
    link(folder, "latest", checkpoint)  # with none moved too: a run may have ended before it could set the link
    if not (folder / "best").exists():
        (folder / "best").unlink(missing_ok=True)
        (folder / "best.json").unlink(missing_ok=True)
    _flush(folder)
    return moved


def set_aside(checkpoint: Path) -> Path:
    """Rename a checkpoint to ``aside-checkpoint-STEP``, in place of one that has this name."""
    new = checkpoint.parent / f"aside-{checkpoint.name}"
    if new.exists() or new.is_symlink():
        _remove(new)
    return checkpoint.rename(new)


def _remove_later(checkpoint: Path) -> None:
    """Remove a checkpoint, or leave it under another name to the next one that is written: on some file systems a
    folder cannot be removed while a file in it is read. A checkpoint of which a part is removed has no name of one."""
    aside = checkpoint.with_name(f"{WRITING}{checkpoint.name}-removed")
    with contextlib.suppress(OSError):
        _remove(checkpoint.rename(aside))


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; of one that was moved elsewhere only the link that was left in its place."""
    if checkpoint.is_symlink():
        checkpoint.unlink()
    else:
        shutil.rmtree(checkpoint)


def load_state(checkpoint: Path) -> dict[str, Any]:
    """The contents of ``trainer.pt`` of a checkpoint.

    Raises:
        DamagedCheckpoint: it is not a trainer's state, or it names code.
    """
    try:
        state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DamagedCheckpoint(
            f"{checkpoint / STATE} cannot be read ({one_line(reason[0])}). Give another --resume."
        ) from error
    if not isinstance(state, dict):
        raise DamagedCheckpoint(f"{checkpoint / STATE} is not a trainer's state. Give another --resume.")
    return state


def _write_state(state: dict[str, Any], path: Path) -> None:
    """``torch.save``, whose own error for a full disk does not say so."""
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        writer = _Writer(file)
        try:
            torch.save(state, writer)  # type: ignore[arg-type]
        except RuntimeError as error:
            if writer.error is not None:
                raise writer.error from error
            raise


class _Writer:
    """A file that remembers why it could not be written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise


def _write_sums(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    files.sort(key=lambda path: (path == folder / STATE, path))  # last: a list without it is cut off
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))


def _sums(checkpoint: Path) -> list[tuple[str, str]]:
    """The lines of a checkpoint's list of sums: digest and name."""
    lines = read_whole(checkpoint / SUMS).decode(errors="replace").splitlines()
    return [(digest, name) for digest, gap, name in (line.partition("  ") for line in lines) if gap]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(folder: Path, name: str, target: Path) -> None:
    """Let a name in the folder of a run lead to one of its checkpoints."""
    aside = folder / f".{name}"
    aside.unlink(missing_ok=True)
    aside.symlink_to(target.name)
    os.replace(aside, folder / name)


def _flush(path: Path) -> None:
    """Make the kernel write a file, or the list of names of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
        ):  # some file systems cannot flush folders, or nothing at all
            raise
    finally:
        os.close(descriptor)
