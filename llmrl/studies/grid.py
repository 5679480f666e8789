"""The grid of a study: task, algorithm, settings and seed of each cell, and the row of its results.

Names are checked before anything runs.  A cell that fails becomes a row with its error.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import math
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.algorithms import Algorithm, algorithm
from llmrl.errors import ConfigError
from llmrl.likeness import Each, Some, Table, refuse_unlike
from llmrl.studies.exact.run import as_dict, compared
from llmrl.studies.exact.task import TASKS, ExactTask, Settings
from llmrl.studies.exact.tasks import EXACT
from llmrl.studies.nano.task import NanoTask
from llmrl.text import one_line, read_json, without_addresses

Task = ExactTask | NanoTask


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study."""

    task: str
    """The task's name."""
    algorithm: str
    """The algorithm, with its options in brackets: ``erc+dapo[low=0.9]``."""
    settings: Settings
    """The settings of the training."""
    seed: int
    """The seed of the run."""
    version: int = 1
    """The task's version."""
    recipe: str = field(default="", compare=False)
    """A digest of what algorithm and task are today; see :func:`recipe_digest`."""

    @property
    def key(self) -> str:
        """The name of the cell's file: a digest of all but the recipe, so that a changed recipe replaces the file."""
        named = {name: value for name, value in self.to_dict().items() if name != "recipe"}
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:20]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of a cell: numbers, or the error that ended it."""

    cell: Cell
    summary: dict[str, float] = field(default_factory=dict)
    """The numbers of the run; empty if it failed."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """The numbers of each rollout."""
    detail: dict[str, list[float]] = field(default_factory=dict)
    """The numbers by update and by decile of entropy."""
    seconds: float = 0.0
    """Wall time."""
    error: str = ""
    """The error of a run that failed; empty for others."""
    shipped: bool = False
    """Whether the run came with llmrl and was not made on this machine."""

    @property
    def failed(self) -> bool:
        """Whether the run failed and has no numbers."""
        return bool(self.error)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cell": self.cell.to_dict(),
            "summary": self.summary,
            "curves": self.curves,
            "detail": self.detail,
            "seconds": self.seconds,
            "error": self.error,
            "shipped": self.shipped,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Row:
        """A row from a result of :meth:`to_dict`."""
        given = content["cell"]
        cell = Cell(**{**given, "settings": Settings(**given["settings"])})
        return cls(**{**content, "cell": cell})

    @classmethod
    def read(cls, path: Path) -> Row:
        """From the file of a cell.

        Raises:
            ConfigError: the file holds something else.
        """
        numbers = Table("", Each(0.0))
        settings = Some(dataclasses.asdict(Settings()))
        cell = Some({"task": "", "algorithm": "", "settings": settings, "seed": 0, "version": 0, "recipe": ""})
        form = {"cell": cell, "summary": Table("", 0.0), "curves": numbers, "detail": numbers, "seconds": 0.0}
        try:
            content = read_json(path)
            refuse_unlike(content, Some({**form, "error": "", "shipped": False}), "the cell")
            if not content["error"] and "final" not in content["summary"]:
                raise ValueError("it has neither an error nor a final score")
            return cls.from_dict(content)
        except (ValueError, KeyError, TypeError) as error:
            reason = one_line(str(error))
            raise ConfigError(
                f"{path} cannot be read ({reason}). Delete it; the study runs that cell again."
            ) from error


def recipe_digest(spec: str, recipe: Algorithm, name: str, task: Task) -> str:
    """A digest of an algorithm and a task: every number that studies use, and the code of modules that are named.

    A run counts as done only if it was made with the same. Modules that those import are not in it. It is the same
    on every machine, and comments do not change it.

    >>> def digest(spec):
    ...     return recipe_digest(spec, algorithm(spec), "carry", find_task("carry"))
    >>> digest("dapo") == digest("dapo[clip_high=0.28]") != digest("dapo[clip_high=0.5]")
    True
    """
    _, _, components = str(compared(recipe)).partition("\n")
    rules = repr(dataclasses.replace(task, asks="", settings=Settings()))  # the settings are in the cell
    digest = hashlib.sha256(without_addresses(components + rules).encode())
    for one in (*spec.partition("[")[0].split("+"), name):
        module, colon, _ = one.strip().partition(":")
        if colon:
            digest.update(_code(module))
    return digest.hexdigest()[:20]


@functools.cache
def _code(module: str) -> bytes:
    """The code of an imported module's file, as it was at the first call: a later edit has no effect in this
    process."""
    path = vars(sys.modules[module]).get("__file__")
    if path is None:
        return b""
    content = Path(path).read_bytes()
    return ast.dump(ast.parse(content)).encode() if path.endswith(".py") else content


def find_task(name: str) -> Task:
    """A task by its name, or ``module:name``.

    Raises:
        UserError: there is no such task.
    """
    task = TASKS[name]
    if not isinstance(task, Task):
        raise ConfigError(f"{name} must be an llmrl.studies.ExactTask or NanoTask, got {type(task).__name__}.")
    return task


def make_grid(
    *,
    tasks: Sequence[str] = (),
    algorithms: Sequence[str],
    seeds: Sequence[int],
    learning_rates: Sequence[float] = (),
    updates: Sequence[int] = (),
    lags: Sequence[int] = (),
    rollouts: int | None = None,
) -> list[Cell]:
    """All combinations, seed by seed, so that an unfinished study has complete seeds.

    Args:
        tasks: by default the exact tasks of this version.
        algorithms: names with options, see :func:`llmrl.algorithms.find_algorithm`.
        seeds: seeds of the runs.
        learning_rates: by default each task's own.
        updates: updates per rollout; by default each task's own.
        lags: age of the sampling policy in rollouts; by default each task's own.
        rollouts: number of rollouts; by default each task's own.

    Raises:
        UserError: a name, an option or a number cannot be used.
    """
    for kind, given in (("task", tasks), ("algorithm", algorithms), ("seed", seeds)):
        if len(set(given)) != len(given):
            twice = next(x for x in given if list(given).count(x) > 1)
            raise ConfigError(f"The {kind} {twice} is given twice. Give each once.")
    if not algorithms:
        raise ConfigError("No algorithm is given. Name at least one: --algos dapo erc+dapo.")
    made = {spec: algorithm(spec) for spec in algorithms}
    found = {name: find_task(name) for name in tasks or EXACT}
    recipes = {
        (spec, name): recipe_digest(spec, recipe, name, task)
        for spec, recipe in made.items()
        for name, task in found.items()
    }
    cells = []
    for seed in seeds:
        for name, task in found.items():
            settings = task.settings
            for rate in learning_rates or (settings.learning_rate,):
                for count in updates or (settings.updates,):
                    for lag in lags or (settings.lag,):
                        changed = dataclasses.replace(
                            settings,
                            learning_rate=float(rate),
                            updates=count,
                            lag=lag,
                            rollouts=settings.rollouts if rollouts is None else rollouts,
                        )
                        check_settings(changed)
                        for spec, recipe in made.items():
                            task.check(recipe, spec, changed)
                        cells += [
                            Cell(
                                task=name,
                                algorithm=spec,
                                settings=changed,
                                seed=seed,
                                version=task.version,
                                recipe=recipes[spec, name],
                            )
                            for spec in algorithms
                        ]
    return cells


def check_settings(settings: Settings) -> None:
    """Raise ConfigError unless a run is possible with these settings."""
    rows = settings.prompts * settings.group_size
    if not settings.learning_rate > 0:
        raise ConfigError(f"A learning rate must be above 0, got {settings.learning_rate}.")
    if not 1 <= settings.updates <= rows:
        raise ConfigError(f"updates must be 1 to {rows} (the responses of a rollout), got {settings.updates}.")
    if settings.lag < 0 or settings.rollouts < 1:
        raise ConfigError(
            f"lag must be 0 or more and rollouts 1 or more, got lag {settings.lag}, rollouts {settings.rollouts}."
        )


def run_cell(cell: Cell) -> Row:
    """Run one cell; any exception becomes the row's error, and so does a number that is not finite."""
    try:
        result = find_task(cell.task).run(algorithm(cell.algorithm), cell.seed, cell.settings)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        return Row(cell=cell, error=text)
    row = Row(cell=cell, **as_dict(result))
    numbers = {**{name: [x] for name, x in row.summary.items()}, **row.curves, **row.detail}
    broken = [name for name, values in numbers.items() if not all(map(math.isfinite, values))]
    return Row(cell=cell, error=f"Not finite: {', '.join(broken)}.") if broken else row
