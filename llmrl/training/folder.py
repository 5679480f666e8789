"""The folder of a run: chosen, made and locked for one process.

Files of a run: ``run.json  config.yaml  environment.json  metrics.jsonl  rollouts/  eval/  plots/
checkpoint-*/  latest``. ``run.json`` marks a folder as a run: nothing else is ever set aside.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from llmrl.errors import ConfigError
from llmrl.text import real_path
from llmrl.training import checkpoint
from llmrl.training.config import Config
from llmrl.training.files import MARKER

LOCK = ".lock"
HOLDER = ".holder.json"
_REPLACED = re.compile(r"replaced-\d+$")


def start_of(config: Config, note: Callable[[str], object]) -> Path | None:
    """The checkpoint that the run is resumed from; None: it starts at the beginning.

    ``--resume auto`` starts at the beginning where a launcher has restarted the process, or where ``--output`` names a
    folder without any checkpoint: the same command then starts a run and also continues it.

    Raises:
        ConfigError: there is no such checkpoint, or it is damaged.
    """
    if config.resume is None:
        return None
    where = run_meant(config.resume, config.output, config.algo.name, config.seed)
    if config.resume == "auto" and not checkpoint.list_checkpoints(where):
        if config.output is not None or "TORCHELASTIC_RESTART_COUNT" in os.environ:
            note(f"--resume auto: there is no checkpoint in {where}, so the run starts at the beginning.")
            return None
    if config.resume == "auto" or (Path(config.resume) / MARKER).is_file():
        return newest(where, config.resume, note)
    return named(config.resume)


def newest(folder: Path, resume: str, note: Callable[[str], object]) -> Path:
    """The newest checkpoint of a run that is not damaged.

    Args:
        folder: of the run.
        resume: the value of ``--resume``, for messages.
        note: called with a message for every damaged checkpoint that was skipped.

    Raises:
        ConfigError: there is none.
        DamagedCheckpoint: all are damaged.
    """
    found = checkpoint.list_checkpoints(folder)
    if not found:
        raise ConfigError(
            f"--resume {resume}: there is no checkpoint in {folder}. Leave out --resume to start a new run."
        )
    for path in reversed(found):
        wrong = checkpoint.damages(path)
        if not wrong:
            return path
        note(f"{path} is damaged ({'; '.join(wrong)}): resuming from the one before it.")
    raise checkpoint.DamagedCheckpoint(
        f"--resume {resume}: every checkpoint in {folder} is damaged: {_names(found)}. Start a new run with "
        "another --output, or give --policy one of them if its weights load."
    )


def named(resume: str) -> Path:
    """The checkpoint that ``--resume PATH`` names, by its own name if a link leads to it.

    Raises:
        ConfigError: it is none.
        DamagedCheckpoint: it is damaged.
    """
    path = Path(resume)
    if not (path / checkpoint.STATE).is_file() and not (path / checkpoint.SUMS).is_file():
        raise ConfigError(
            f"--resume {resume}: not a checkpoint (no {checkpoint.STATE} in it). Give a folder such as "
            "runs/espo-0/checkpoint-000100, or auto."
        )
    path = _by_own_name(path)
    if wrong := checkpoint.damages(path):
        others = [p for p in checkpoint.list_checkpoints(path.parent) if p != path]
        hint = f"Others in the same folder: {_names(others)}. " if others else ""
        raise checkpoint.DamagedCheckpoint(
            f"--resume {resume}: the checkpoint is damaged ({'; '.join(wrong)}). {hint}--resume auto "
            "takes the newest one that is not damaged."
        )
    if not checkpoint.is_name(path.name):
        raise ConfigError(
            f"--resume {resume}: {path} does not have the name of a checkpoint, which holds its step. Call it such as "
            "checkpoint-000100."
        )
    return path


def _by_own_name(path: Path) -> Path:
    """A folder without links, except that a checkpoint that was moved, with a link in its place, stays its run's."""
    while path.is_dir() and path.is_symlink() and not checkpoint.is_name(path.name):
        path = path.parent / path.readlink()
    return real_path(path.parent) / path.name if checkpoint.is_name(path.name) else real_path(path)


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def run_meant(resume: str, output: Path | None, algo: str, seed: int | str) -> Path:
    """The folder of the run that ``--resume`` means, with the other options that decide about it."""
    if resume == "auto":
        return _numbered(algo, seed)[0] if output is None else output
    path = Path(resume)
    return path if (path / MARKER).is_file() else _by_own_name(path).parent


def _numbered(algo: str, seed: int | str) -> tuple[Path, Path]:
    """runs/ALGORITHM-SEED with the last used, and with the first free number behind it."""
    stem = f"{algo.replace(':', '.')}-{seed}"
    numbered = [Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000)]
    free = next(i for i, path in enumerate(numbered) if not path.exists())
    return numbered[max(free - 1, 0)], numbered[free]


@contextlib.contextmanager
def claimed(config: Config, start: Path | None, note: Callable[[str], object]) -> Iterator[Path]:
    """A folder that is this process's alone within the block.

    A resumed run uses the folder of its checkpoint, which must be a run's, or with another ``--output`` a new one. A
    new run takes an empty folder; with ``--force`` the run that is there is set aside under another name.

    Raises:
        ConfigError: another process holds it, it cannot be made, or it holds something else.
    """
    made = False
    if start is not None and (config.output is None or _same(config.output, start.parent)):
        folder = start.parent
        if not (folder / MARKER).is_file():  # checkpoints that were kept there would be renamed and removed
            raise ConfigError(
                f"{folder} holds {start.name}, but no run (no {MARKER} in it). Give another --output for the run that "
                "goes on from this checkpoint."
            )
    elif config.output is not None:
        folder = config.output
        made = not folder.exists()
        _make(folder)
    else:
        folder, made = _first_free(config), True
    with held(folder):
        if start is not None and _same(folder, start.parent):
            _still_newest(config, start)
        else:
            # A run that broke off before its first checkpoint has nothing to resume from; it is kept anyway.
            hopeless = config.resume == "auto" and not checkpoint.list_checkpoints(folder)
            _empty(folder, config.force or hopeless, note)
        try:
            _try_link(folder)
            yield folder
        finally:
            if made and not (folder / MARKER).exists():  # it ended before anything was done
                shutil.rmtree(folder, ignore_errors=True)


def _try_link(folder: Path) -> None:
    """Raise if links cannot be made, as on some file systems: the first checkpoint would be the last."""
    link = folder / ".latest"
    try:
        link.unlink(missing_ok=True)
        link.symlink_to("checkpoint")
        link.unlink()
    except OSError as error:
        raise ConfigError(
            f"No link can be made in {folder} ({error.strerror}), and every run needs latest, a link to its newest "
            "checkpoint. Choose another --output."
        ) from error


def _first_free(config: Config) -> Path:
    """Of two processes that ask at once each gets a folder of its own."""
    while True:
        folder = _numbered(config.algo.name, config.seed)[1]
        _make(folder.parent)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _cannot_be_made(folder, error) from error
        return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_made(folder, error) from error


def _cannot_be_made(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(f"The output folder {folder} cannot be made: {error.strerror}. Choose another --output.")


def _still_newest(config: Config, start: Path) -> None:
    """Raise if another process went on with the run since ``start`` was chosen."""
    explicit = config.resume is not None and _same(Path(config.resume), start)  # by a link, perhaps
    later = checkpoint.later_than(start)
    if not start.is_dir() or (not explicit and any(not checkpoint.damages(path) for path in later)):
        raise ConfigError(
            f"Another process has continued the run in {start.parent} in the meantime. Give the same command again to "
            "continue from there."
        )


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a folder that exists for this process.

    Raises:
        ConfigError: another process holds it; the message says which, where and since when. Or a link in it leads out:
            what is written to a folder that came from elsewhere must not replace a file of the user.
    """
    refuse_traps(folder)
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise ConfigError(f"{folder} is in use{_holder(folder)}. Wait for it, or choose another --output.") from error
    except OSError as error:
        raise ConfigError(f"The output folder {folder} is not writable: {error.strerror}.") from error
    try:
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": timestamp()}
        (folder / HOLDER).write_text(json.dumps(holder))
        yield
    finally:
        with contextlib.suppress(OSError):  # what was done is done, even if this cannot be removed
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def refuse_traps(folder: Path) -> None:
    """Refuse a folder from elsewhere in which writing would replace a file of the user, or wait for ever.

    Checkpoints and links to them may lead out: they are renamed and removed, never written through.

    Raises:
        ConfigError: a link in it leads out, or it holds a pipe, a socket or a device.
    """
    home = real_path(folder)
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if not path.is_symlink():
                if path.exists() and not path.is_file() and not path.is_dir():
                    raise ConfigError(
                        f"{path} is a pipe, a socket or a device, none of which llmrl makes. Remove it, or choose "
                        "another --output."
                    )
            elif checkpoint.is_name(path.name) or path.name in checkpoint.LINKS:
                continue
            elif not real_path(path).is_relative_to(home):
                raise ConfigError(
                    f"{path} is a link that leads out of {folder}; it would be written through. Remove the link, or "
                    "choose another --output."
                )


def _holder(folder: Path) -> str:
    try:
        who = json.loads((folder / HOLDER).read_text())
        return f" by process {int(who['pid'])} on {who['host']!s} since {who['since']!s}"
    except (OSError, ValueError, KeyError, TypeError):
        return " by another process"


def _empty(folder: Path, force: bool, note: Callable[[str], object]) -> None:
    """Raise unless the folder is empty, or a run that may be set aside."""
    if not content_of(folder):
        return
    run = (folder / MARKER).is_file()
    if not force or not run:
        what = "holds a run" if run else "is not empty, and what it holds is no run of llmrl"
        ways = "Continue it with --resume auto, move it aside with --force, or choose" if run else "Choose"
        raise ConfigError(f"The output folder {folder} {what}. {ways} another --output.")
    note(f"The run that was in {folder} is now in {set_aside(folder)}.")


def content_of(folder: Path) -> list[Path]:
    """The entries of a folder, except the lock and runs that were set aside before."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, HOLDER) and not _REPLACED.match(path.name)]


def set_aside(folder: Path) -> Path:
    """Move what is in a folder into a new folder ``replaced-N`` in it; returns that one."""
    aside = next(path for n in range(1, 10_000) if not (path := folder / f"replaced-{n}").exists())
    aside.mkdir()
    for path in content_of(folder):
        path.rename(aside / path.name)
    return aside


def _same(one: Path, other: Path) -> bool:
    return real_path(one) == real_path(other)


def timestamp() -> str:
    """The local time in ISO 8601, to the second and with its offset from UTC."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
