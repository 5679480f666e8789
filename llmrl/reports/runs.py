"""The data of a run's folder for a report: settings, metrics, evaluations and the files of rollouts.

Nothing is written. An unfinished run can be read too: an incomplete last line is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.errors import ConfigError, UserError
from llmrl.evaluation.outcomes import is_outcome
from llmrl.text import DamagedFile, parse_line, read_json, read_lines, read_whole
from llmrl.training.files import read_tree, section
from llmrl.training.hints import kept
from llmrl.training.metrics_file import is_step

# Runs that differ only in these settings are the same experiment: seed, length, machine, files.
_REPEATS = re.compile(r"seed|threads|train\.steps|policy\.device|(checkpoint|eval)\..*")
_STEP = re.compile(r"step_(\d+)")


class ReportError(UserError, ValueError):
    """A report cannot be made; the message says why, and what to give instead."""


@dataclass
class Run:
    """The data of one run."""

    folder: Path
    name: str
    """Name in the report: the folder's name, with its parent's name if two are equal."""
    config: dict[str, Any]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """One dict per step, in order."""
    evaluations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The records of ``eval/NAME.jsonl`` for ``before`` and ``after``, if they exist."""
    asked: str | None = None
    """Name of the problems of these evaluations; it says which of them are training problems."""
    rollouts: dict[int, Path] = field(default_factory=dict)
    """The file of responses of each step."""
    record: dict[str, Any] = field(default_factory=dict)
    """Date, versions and hardware of its last session, from ``environment.json``; empty without that file."""
    notes: list[str] = field(default_factory=list)
    """The run's hints, and notes on files that could not be read."""

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return str(self.config["algo"]["name"])

    @property
    def settings(self) -> dict[str, Any]:
        """``config`` with dotted names."""
        return dict(_flatten(self.config))


@dataclass
class Group:
    """Runs of one experiment with different seeds."""

    label: str
    runs: list[Run]


def read_run(folder: Path) -> Run:
    """Read everything but the rollouts.

    Raises:
        ReportError: the folder is not the folder of a run.
    """
    if not folder.is_dir():
        raise ReportError(f"There is no folder {folder}. Give the folder of a run, as in runs/espo-0.")
    path = folder / "config.yaml"
    if not path.is_file():
        inside = sorted(p.parent.name for p in folder.glob("*/config.yaml"))
        hint = f" It holds runs: {', '.join(inside)}. Give these." if inside else ""
        raise ReportError(f"{folder} is not the folder of a run: it has no config.yaml.{hint}")
    try:
        config = read_tree(path)
        algo = section(path, config, "algo")
    except ConfigError as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
    if "name" not in algo:
        raise ReportError(f"{path} is not the config.yaml of a run: it names no algorithm under algo.")
    run = Run(folder, folder.resolve().name, config, notes=kept(folder))
    if (folder / "metrics.jsonl").is_file():
        rows = {row["step"]: row for row in json_lines(folder / "metrics.jsonl", is_step, run.notes)}
        run.metrics = [rows[step] for step in sorted(rows)]
    if not run.metrics:
        run.notes.append("no step is finished yet: metrics.jsonl is missing or empty")
    for name in ("before", "after"):
        if (path := folder / "eval" / f"{name}.jsonl").is_file():
            run.evaluations[name] = list(json_lines(path, is_outcome, run.notes))
            summary = path.with_suffix(".json")
            content = parse_line(read_whole(summary)) if summary.is_file() else None
            run.asked = (content or {}).get("title", run.asked)
    if (path := folder / "environment.json").is_file():
        run.record = _last_session(path, run.notes)
    for path in sorted(folder.glob("rollouts/step_*.jsonl")):
        if path.is_file() and (match := _STEP.fullmatch(path.stem)):
            run.rollouts[int(match[1])] = path
    return run


def _last_session(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        session = read_json(path)["sessions"][-1]
    except (DamagedFile, LookupError, TypeError):
        session = None
    if isinstance(session, dict):
        return session
    notes.append(f"{path.name} does not hold the record of a run")
    return {}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read several runs; equal names of folders get the names of their parents."""
    runs = [read_run(folder) for folder in dict.fromkeys(folders)]
    names = [run.name for run in runs]
    for run in runs:
        if names.count(run.name) > 1:
            run.name = f"{run.folder.resolve().parent.name}/{run.name}"
    return runs


def json_lines(path: Path, fits: Callable[[dict[str, Any]], bool], notes: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file that fit, one at a time; other lines are noted.

    >>> notes = []
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    >>> _ = path.write_text('{"step": 1}\\n{"ste')
    >>> list(json_lines(path, lambda row: True, notes)), notes
    ([{'step': 1}], ['metrics.jsonl: line 2 is damaged and left out'])
    """
    broken: list[int] = []
    for number, line in enumerate(read_lines(path), 1):
        value = parse_line(line)
        if value is None or not fits(value):
            broken.append(number)
        else:
            yield value
    if broken:
        lines = f"line {broken[0]} is" if len(broken) == 1 else f"{len(broken)} lines are"
        notes.append(f"{path.name}: {lines} damaged and left out")


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs whose settings differ only in the seed.

    A group has the name of its algorithm; if several groups share it, the settings that differ are added.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        same = {k: v for k, v in run.settings.items() if not _REPEATS.fullmatch(k)}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(run)
    labelled = []
    for members in groups.values():
        first = members[0]
        rivals = [other[0] for other in groups.values() if other[0].algorithm == first.algorithm]
        differing = [k for k in differences(rivals) if not _REPEATS.fullmatch(k)]
        marks = [f"{k.removeprefix('algo.')}={first.settings.get(k)}" for k in differing]
        labelled.append(Group(" ".join([first.algorithm, *marks]), members))
    return labelled


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The settings that differ between runs, each with its value in every run.

    If a run does not have a setting, such as an option of another algorithm, its value is None.
    """
    flat = [run.settings for run in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    table = {name: [settings.get(name) for settings in flat] for name in names}
    return {name: values for name, values in table.items() if any(v != values[0] for v in values)}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
