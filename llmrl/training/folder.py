"""The folder of a run: chosen, made and locked for one process, and the record of what was done.

Files of a run: ``run.json  config.yaml  environment.json  metrics.jsonl  rollouts/  eval/  plots/
checkpoint-*/  latest``. ``run.json`` marks a folder as a run: nothing else is ever set aside.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import torch
import yaml

from llmrl.envs.hub import commit_of
from llmrl.errors import ConfigError
from llmrl.likeness import Anything, Table, refuse_unlike
from llmrl.policies.loading import local_folder, on_hub
from llmrl.text import one_line, parse_line, read_json, read_lines, real_path, without_addresses
from llmrl.training import checkpoint
from llmrl.training.config import Config
from llmrl.training.data import Data

MARKER = "run.json"
LOCK = ".lock"
HOLDER = ".holder.json"
_STEP = re.compile(r"step_(\d+)\.")
_REPLACED = re.compile(r"replaced-\d+$")
PACKAGES = ("llmrl", "torch", "transformers", "tensordict", "torchrl", "gymnasium", "numpy", "vllm", "peft")
FREE = {"train.steps", "train.micro_batch_tokens", "threads", "policy.device"}
"""Settings that a resumed run may change: its length, and what changes numbers by rounding at most."""


def start_of(config: Config, note: Callable[[str], object]) -> Path | None:
    """The checkpoint that the run is resumed from; None: it starts at the beginning.

    ``--resume auto`` starts at the beginning where a launcher has restarted the process, or where ``--output`` names a
    folder without any checkpoint: the same command then starts a run and also continues it.

    Raises:
        ConfigError: there is no such checkpoint, or it is damaged.
    """
    if config.resume is None:
        return None
    where = _numbered(config)[0] if config.output is None else config.output
    if config.resume == "auto" and not checkpoint.list_checkpoints(where):
        if config.output is not None or "TORCHELASTIC_RESTART_COUNT" in os.environ:
            note(f"--resume auto: there is no checkpoint in {where}, so the run starts at the beginning.")
            return None
    named = Path(config.resume)
    if config.resume != "auto" and (named / MARKER).is_file():
        where, wanted = named, "auto"
    else:
        wanted = config.resume
    try:
        return checkpoint.find(where, wanted, note)
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from error


def _numbered(config: Config) -> tuple[Path, Path]:
    """runs/ALGORITHM-SEED with the last used, and with the first free number behind it."""
    stem = f"{config.algo.name.replace(':', '.')}-{config.seed}"
    numbered = [Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000)]
    free = next(i for i, path in enumerate(numbered) if not path.exists())
    return numbered[max(free - 1, 0)], numbered[free]


@contextlib.contextmanager
def claimed(config: Config, start: Path | None, note: Callable[[str], object]) -> Iterator[Path]:
    """A folder that is this process's alone within the block.

    A resumed run uses the folder of its checkpoint, or with another ``--output`` a new one. A new run takes an empty
    folder; with ``--force`` the run that is there is set aside under another name.

    Raises:
        ConfigError: another process holds it, it cannot be made, or it holds something else.
    """
    made = False
    if start is not None and (config.output is None or _same(config.output, start.parent)):
        folder = start.parent
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
        folder = _numbered(config)[1]
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
    later = [path for path in checkpoint.list_checkpoints(start.parent) if path.name > start.name]
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
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
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
        ways = "Go on with it by --resume auto, set it aside by --force, or choose" if run else "Choose"
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


def set_aside_later(folder: Path, step: int) -> None:
    """Give evaluations and rollouts of later steps than the resumed one names beginning with ``aside-``.

    They are of weights of a continuation that is being written again: no reader may take them for the new one's.
    """
    later = [
        path
        for path in (*folder.glob("eval/step_*"), *folder.glob("rollouts/step_*"))
        if (found := _STEP.match(path.name)) and int(found[1]) > step
    ]
    summary = folder / "eval" / "after.json"
    of = parse_line(summary.read_bytes()) if summary.is_file() else None
    if of is None or of.get("step") != step:
        later += folder.glob("eval/after.*")
    _rename_aside(later)


def set_aside_another_evaluation(folder: Path, name: str, settings: dict[str, Any]) -> bool:
    """Set an evaluation aside if it was made with other settings, since no other one can be compared with it.

    Args:
        folder: of the run.
        name: of the evaluation.
        settings: those of today; a summary without any is not compared.

    Returns:
        Whether it was set aside.
    """
    summary = folder / "eval" / f"{name}.json"
    was = (parse_line(summary.read_bytes()) or {}).get("settings", settings) if summary.is_file() else settings
    if was == settings:
        return False
    _rename_aside([*folder.glob(f"eval/{name}.*")])
    return True


def _rename_aside(paths: Iterable[Path]) -> None:
    for path in paths:
        path.replace(path.with_name(f"aside-{path.name}"))


def carry_over(start: Path, folder: Path, metrics_position: int) -> None:
    """Give a run that begins at another run's checkpoint what came before it: metrics and the first evaluation."""
    if _same(start.parent, folder):
        return
    old, left = start.parent / "metrics.jsonl", metrics_position
    if old.is_file():
        with (folder / "metrics.jsonl").open("wb") as new:
            for line in read_lines(old):
                new.write(line[:left])
                left = max(left - len(line), 0)
    for name in ("before.json", "before.jsonl"):
        if (path := start.parent / "eval" / name).is_file():
            (folder / "eval").mkdir(exist_ok=True)
            shutil.copyfile(path, folder / "eval" / name)


def write_record(folder: Path, config: Config, start: Path | None, data: Data, algorithm: str) -> None:
    """``config.yaml`` with the settings that are used, ``environment.json`` with what they were used on.

    Args:
        folder: of the run.
        config: the resolved settings.
        start: the checkpoint that the run is resumed from.
        data: what is asked.
        algorithm: as it prints itself: what the names in the settings mean in this version.
    """
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    record = folder / "environment.json"
    before = _sessions(record) if record.is_file() else []
    name = config.policy.path
    now = {
        **environment(),
        "algorithm": algorithm,
        "origins": config.origins,
        "base": {
            "hub": on_hub(name),
            "commit": commit_of(name, "model") if on_hub(name) else None,
        },
        "data": asdict(data),
        "resumed_from": None if start is None else str(start),
    }
    record.write_text(json.dumps({"sessions": [*before, now]}, indent=2) + "\n")
    if not (folder / MARKER).exists():
        (folder / MARKER).write_text(json.dumps({"format": 1, "started": now["date"]}) + "\n")


def _sessions(record: Path) -> list[Any]:
    """The record of a run's sessions in ``environment.json``.

    Raises:
        ConfigError: it is not such a file.
    """
    content = read_json(record)
    sessions = content.get("sessions") if isinstance(content, dict) else None
    if not isinstance(sessions, list):
        raise ConfigError(f"{record} does not hold the record of a run. Move it away, then give the command again.")
    return sessions


def environment() -> dict[str, Any]:
    """Versions, hardware, command line and date of this process."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "date": _now(),
        "command": sys.argv,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "cpus": os.cpu_count(),
        "gpus": gpus,
    }


def _commit() -> str | None:
    """The commit of llmrl's own source folder; None where it is installed without one."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def pinned(policy: str, state: dict[str, Any] | None) -> str:
    """The name of a policy without links of a run, which move while that run goes on.

    Args:
        policy: a name; ``runs/a`` and ``runs/a/latest`` become ``runs/a/checkpoint-000010``.
        state: of the checkpoint that is resumed. If its run began at a checkpoint of ``runs/a``, that one stays.
    """
    found = local_folder(policy)
    for link in () if found is None else (found, *found.parents):
        if found is not None and link.name in checkpoint.LINKS and link.is_symlink():
            rest, before = found.relative_to(link), _policy_of(state)
            if before is not None and before.is_relative_to(link.parent):
                first, *others = before.relative_to(link.parent).parts or ("",)
                if checkpoint.is_name(first) and Path(*others) == rest:
                    return str(before)
            return str(link.parent / os.readlink(link) / rest)
    return policy


def _policy_of(state: dict[str, Any] | None) -> Path | None:
    try:
        return None if state is None else Path(json.loads(state["config"])["policy"]["path"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # refuse_changes says what is wrong


def refuse_changes(config: Config, state: dict[str, Any]) -> None:
    """A resumed run must be the run that was stopped, but for its length and its files.

    Raises:
        ConfigError: settings have changed, and ``--force`` is not given.
    """
    try:
        old, new = json.loads(state["config"]), config.to_dict()
        refuse_unlike(old, Table("", Anything()), "config")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            "The checkpoint does not say with which settings its run was made. Give another --resume."
        ) from error
    changes = [
        f"  {key}: was {one_line(repr(before))}, is {one_line(repr(now))}"
        for key, before, now in _differences(old, new)
        if key not in FREE and not key.startswith(("checkpoint.", "log.", "world."))
    ]
    if changes and not config.force:
        raise ConfigError(
            "The settings differ from those of the resumed run:\n"
            + "\n".join(changes)
            + "\nGive the same settings, or --force to continue with the new ones."
        )


def refuse_other_data(config: Config, start: Path, data: Data) -> None:
    """A resumed run must ask the problems that it asked.

    Raises:
        ConfigError: the data are others, and ``--force`` is not given.
    """
    record = start.parent / "environment.json"
    if config.force or not record.is_file():
        return
    try:
        was = Data(**_sessions(record)[-1]["data"])
    except (LookupError, TypeError) as error:
        raise ConfigError(
            f"{record} has no digest of the run's data. Give --force to continue without the comparison."
        ) from error
    if was.digest != data.digest:
        commits = "" if was.commits == data.commits else f" (commits on the hub: {was.commits}, now {data.commits})"
        raise ConfigError(
            f"The data differ from those of the resumed run: their digest was {was.digest}, is {data.digest}"
            f"{commits}. Give the same data, or --force to continue with the new ones."
        )


def refuse_another_algorithm(config: Config, start: Path, algorithm: str) -> None:
    """A resumed run must have the algorithm that it had, also if it is an object or from a file of the user.

    Args:
        config: the resolved settings.
        start: the checkpoint that the run is resumed from.
        algorithm: as it prints itself.

    Raises:
        ConfigError: it is another one, and ``--force`` is not given.
    """
    record = start.parent / "environment.json"
    if config.force or not record.is_file():
        return
    last = _sessions(record)[-1:]
    was = last[0].get("algorithm") if last and isinstance(last[0], dict) else None
    old, new = (without_addresses(str(text)).splitlines() for text in (was, algorithm))
    if was is not None and old != new:
        changes = [f"  was: {one_line(line.strip())}" for line in old if line not in new]
        changes += [f"  is:  {one_line(line.strip())}" for line in new if line not in old]
        raise ConfigError(
            "The algorithm differs from that of the resumed run:\n"
            + "\n".join(changes)
            + "\nGive the same algorithm, or --force to continue with the new one."
        )


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield prefix.rstrip("."), old, new


def _same(one: Path, other: Path) -> bool:
    return real_path(one) == real_path(other)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")
