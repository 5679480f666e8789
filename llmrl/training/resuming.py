"""Resuming: a resumed run is compared with the run that was stopped, and takes over what was written before."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmrl.errors import ConfigError
from llmrl.likeness import Anything, Table, refuse_unlike
from llmrl.policies.names import local_folder
from llmrl.text import one_line, parse_line, read_lines, real_path, without_addresses
from llmrl.training import checkpoint
from llmrl.training.config import Config
from llmrl.training.data import Data
from llmrl.training.record import sessions_of
from llmrl.training.resumed_settings import NAMES

_STEP = re.compile(r"step_(\d+)[._]")
FREE = {"train.steps", "train.micro_batch_tokens", "threads", "policy.device"}
"""Settings that a resumed run may change: its length, and what changes numbers by rounding at most.

The micro-batches of ``clip_cov`` and ``kl_cov`` change more: these algorithms rank the tokens of a micro-batch.
"""


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
    lines = {
        key: line
        for key, line in changes(old, new)
        if key not in FREE and not key.startswith(("checkpoint.", "log.", "world."))
    }
    if "policy.path" in lines:
        raise ConfigError(
            f"The policy is not that of the resumed run:\n{lines['policy.path']}\nThe checkpoint holds the trained "
            "weights, whatever --policy says. Leave out --policy; or leave out --resume to train another one."
        )
    for section, name in NAMES.items():
        if name in lines:  # the options of another one are others
            lines = {key: line for key, line in lines.items() if key == name or not key.startswith(f"{section}.")}
    if lines and not config.force:
        raise ConfigError(
            "The settings differ from those of the resumed run:\n"
            + "\n".join(lines.values())
            + "\nLeave them out, or give --force to continue with the new ones."
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
        was = Data(**sessions_of(record)[-1]["data"])
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
    last = sessions_of(record)[-1:]
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


def changes(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name of each setting that differs, and a line for a message.

    >>> list(changes({"env": {"levels": [1], "seed": 0}}, {"env": {"levels": [2], "seed": 0}}))
    [('env.levels', '  env.levels: was [1], is [2]')]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from changes(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        name = prefix.rstrip(".")
        yield name, f"  {name}: was {one_line(repr(old))}, is {one_line(repr(new))}"


def set_aside_later(folder: Path, step: int) -> None:
    """Give evaluations, rollouts and faults of later steps than the resumed one names beginning with ``aside-``.

    They are of weights of a continuation that is being written again: no reader may take them for the new one's.
    """
    later = [
        path
        for kind in ("eval", "rollouts", "faults")
        for path in folder.glob(f"{kind}/step_*")
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
    if real_path(start.parent) == real_path(folder):
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
