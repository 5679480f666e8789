"""``llmrl study``: a grid of tasks, algorithms and seeds, ending with a table, figures and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.studies.api import study
from llmrl.studies.grid import Row
from llmrl.studies.page import HEADER, cells
from llmrl.studies.results import Results
from llmrl.terminal import Terminal
from llmrl.training.files import read_tree


@dataclass
class StudyOptions:
    """Compare algorithms on small exact tasks, over seeds, with intervals.

    Everything but --yes may stand in a YAML file (--config); options given beside it win. The same command goes on
    with what was not finished. Tasks: docs/suite.md.
    """

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A YAML file with any of the options below, under these names."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/study")
    """Where runs, tables, figures and page go."""
    algos: tuple[str, ...] = ("dapo", "grpo", "gspo", "espo", "erc+dapo", "gppo", "cispo")
    """Algorithms, with options in brackets: "erc+dapo[low=0.9]"; module:name reaches your own."""
    tasks: tuple[str, ...] = ()
    """Tasks, or module:name; by default all exact ones."""
    seeds: int = 10
    """How many seeds; an interval needs 5."""
    baseline: str | None = None
    """The algorithm that the others are compared with; by default the first."""
    learning_rates: tuple[float, ...] = ()
    """Learning rates to cross with everything; by default each task's own."""
    updates: tuple[int, ...] = ()
    """Updates per rollout to cross with everything; by default each task's own."""
    lags: tuple[int, ...] = ()
    """How many rollouts old the sampling policy is, to cross with everything; by default each task's own."""
    rollouts: int | None = None
    """Rollouts of each run; by default each task's own."""
    jobs: int = 1
    """Runs at a time, each on one core."""
    executor: Literal["processes", "ray"] = "processes"
    """Where they run: here, or on a Ray cluster (pip install 'llmrl[ray]')."""
    rerun_shipped: bool = False
    """Run again what comes with llmrl: some of its algorithms on its own tasks, the first seeds."""
    limit_hours: float = 1.0
    """A study that would take longer is not started without --yes."""
    yes: bool = False
    """Start however long it takes."""


def parse(arguments: list[str], prog: str) -> StudyOptions:
    """The options of a command line, over those of a file.

    Raises:
        ConfigError: the file cannot be used.
    """
    given = tyro.cli(StudyOptions, args=arguments, prog=prog)
    if given.config is None:
        return given
    return tyro.cli(StudyOptions, args=arguments, prog=prog, default=read_config(given.config))


def read_config(path: Path) -> StudyOptions:
    """Options from a YAML file.

    Raises:
        ConfigError: it is no mapping, or has an unknown name or a value of another type.
    """
    content = read_tree(path)
    known = {name: value for name, value in vars(StudyOptions()).items() if name not in ("config", "yes")}
    numbers = {"learning_rates": float, "updates": int, "lags": int, "tasks": str, "algos": str}
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise ConfigError(f"{path} has the option {name!r}, which is unknown. {suggest(str(name), known)}")
        try:
            if name in numbers:
                if not isinstance(value, list):
                    raise TypeError("expected a list")
                values[name] = tuple(numbers[name](x) for x in value)
            elif isinstance(known[name], bool):
                if not isinstance(value, bool):
                    raise TypeError("expected true or false")
                values[name] = value
            elif name in ("seeds", "jobs", "rollouts"):
                values[name] = int(value)
            else:
                values[name] = type(known[name])(value) if known[name] is not None else str(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: {name} is {value!r}: {error}.") from error
    return StudyOptions(**values)


def run(options: StudyOptions, console: Terminal | None = None) -> int:
    """Run the study, show its table, say where the rest is.

    Raises:
        UserError: names or numbers that cannot be used, or a study that would take too long.
    """
    console = console or Terminal()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("checking the grid", total=None)

        def show(row: Row | None, done: int, total: int) -> None:
            name = "running" if row is None else f"{row.cell.task} {row.cell.algorithm} seed {row.cell.seed}"
            bar.update(task, completed=done, total=total, description=name)
            if row is not None and row.failed:
                console.say(f"failed: {name}: {row.error}", style="red")

        results = study(
            output=options.output,
            algorithms=options.algos,
            tasks=options.tasks,
            seeds=options.seeds,
            learning_rates=options.learning_rates,
            updates=options.updates,
            lags=options.lags,
            rollouts=options.rollouts,
            baseline=options.baseline,
            jobs=options.jobs,
            executor=options.executor,
            use_shipped=not options.rerun_shipped,
            allow_seconds=float("inf") if options.yes else 3600 * options.limit_hours,
            progress=show,
        )
        bar.update(task, description="done")
    show_table(results, console)
    if not results.table():
        raise ConfigError("No run has numbers: every one failed, see above.")
    console.say(f"Page: {options.output / 'page.html'}; also results.json, runs.csv, table.tex, figures/.")
    return 0


def show_table(results: Results, console: Terminal) -> None:
    """The table over all tasks, and what a reader must know."""
    shown = 6
    table = Table(*(name.format(baseline=results.baseline) for name in HEADER[:shown]), "runs", title="final scores")
    for line in results.table():
        table.add_row(*cells(line)[:shown], str(line.runs))
    console.print(table)
    for note in results.notes():
        console.say(f"Note: {note}")
