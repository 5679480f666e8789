"""``llmrl study``: runs of a grid of tasks, algorithms and seeds, with a table, figures and a page."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from llmrl.algorithms.spelling import split_names
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
    """Compare algorithms on small exact tasks, over several seeds, with intervals.

    A YAML file (--config) may hold every option except --yes; the command line overrides it. The same command
    continues an unfinished study. docs/suite.md describes the tasks.
    """

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """YAML file with any of the options below, under the same names."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/study")
    """Folder for runs, tables, figures and the page."""
    algos: Annotated[tuple[str, ...], tyro.conf.arg(aliases=("--algo",))] = (
        "dapo",
        "grpo",
        "gspo",
        "espo",
        "erc+dapo",
        "gppo",
        "cispo",
    )
    """Algorithms, with options in brackets, such as "erc+dapo[low=0.9]"; module:name for one of your own."""
    tasks: tuple[str, ...] = ()
    """Tasks, or module:name for one of your own; by default all exact tasks."""
    seeds: int = 10
    """Number of seeds; intervals need at least 5."""
    baseline: str | None = None
    """The algorithm that the others are compared with; by default the first."""
    learning_rates: tuple[float, ...] = ()
    """Learning rates; every combination is run. By default each task's own."""
    updates: tuple[int, ...] = ()
    """Updates per rollout; every combination is run. By default each task's own."""
    lags: tuple[int, ...] = ()
    """Age of the sampling policy in rollouts; every combination is run. By default each task's own."""
    rollouts: int | None = None
    """Number of rollouts of each run; by default each task's own."""
    jobs: int = 1
    """Number of parallel runs, each on one core."""
    executor: Literal["processes", "ray"] = "processes"
    """Run in processes on this machine, or on a Ray cluster (pip install 'llmrl[ray]')."""
    rerun_shipped: bool = False
    """Do not use the results that come with llmrl; run these algorithms, tasks and seeds again."""
    limit_hours: float = 1.0
    """Refuse a study that would take longer, unless --yes is given."""
    yes: bool = False
    """Start the study even if it takes longer than --limit-hours."""


def parse(arguments: list[str], prog: str) -> StudyOptions:
    """The options of a command line, which override those of a file.

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
        ConfigError: the file is not a mapping, or has an unknown name or a value of another type.
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
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"{path}: {name} is {value!r}: {error}.") from error
    return StudyOptions(**values)


def run(options: StudyOptions, console: Terminal | None = None) -> int:
    """Run the study, show its table, and print the paths of the other files.

    Returns:
        The exit status: 1 if a run failed.

    Raises:
        UserError: names or numbers that cannot be used, or a study that would take too long.
    """
    console = console or Terminal()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console)
    with contextlib.ExitStack() as stack:
        task = bar.add_task("running", total=None)

        def show(row: Row | None, done: int, total: int) -> None:
            if not bar.live.is_started:  # not before names and numbers are checked
                stack.enter_context(bar)
            name = "running" if row is None else f"{row.cell.task} {row.cell.algorithm} seed {row.cell.seed}"
            bar.update(task, completed=done, total=total, description=name)
            if row is not None and row.failed:
                console.say(f"failed: {name}: {row.error}", style="red")

        results = study(
            output=options.output,
            algorithms=split_names(options.algos),
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
    if all(row.failed for row in results.rows):
        raise ConfigError("Every run failed, so there are no results. The errors are shown above.")
    console.say(f"Page: {options.output / 'page.html'}; also results.json, runs.csv, table.tex, figures/.")
    return 1 if any(row.failed for row in results.rows) else 0


def show_table(results: Results, console: Terminal) -> None:
    """The table over all tasks, and notes for its reader."""
    shown = 6
    title = "final scores: interquartile means over tasks and seeds"
    table = Table(*(name.format(baseline=results.baseline) for name in HEADER[:shown]), "runs", title=title)
    for line in results.table():
        table.add_row(*cells(line)[:shown], str(line.runs))
    console.print(table)
    for note in results.notes():
        console.say(f"Note: {note}")
