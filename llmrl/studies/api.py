"""The function :func:`study`: check the grid, estimate the time, make the missing runs, write the results."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from pathlib import Path

from llmrl.algorithms import algorithm
from llmrl.errors import ArgumentError, ConfigError
from llmrl.registry import refuses_unknown_arguments
from llmrl.studies.grid import Row, make_grid
from llmrl.studies.page import write_page
from llmrl.studies.results import Results
from llmrl.studies.running import check_executor, estimate_seconds, run_cells
from llmrl.studies.store import Store, find_shipped
from llmrl.training.folder import refuse_traps

MOST_SEEDS = 10_000
"""A study may have as many."""


@refuses_unknown_arguments
def study(
    *,
    output: Path | str,
    algorithms: Sequence[str],
    tasks: Sequence[str] = (),
    seeds: int | Sequence[int] = 10,
    learning_rates: Sequence[float] = (),
    updates: Sequence[int] = (),
    lags: Sequence[int] = (),
    rollouts: int | None = None,
    baseline: str | None = None,
    jobs: int = 1,
    executor: str = "processes",
    use_shipped: bool = True,
    allow_seconds: float = float("inf"),
    progress: Callable[[Row | None, int, int], object] | None = None,
) -> Results:
    """Make the missing runs of a study, and write its tables, figures and page.

    Args:
        output: the study's folder. Finished runs in it are kept; failed ones, and those of an algorithm or a task
            that has changed since, run again.
        algorithms: names, with options in brackets: ``"erc+dapo[low=0.9]"``, ``"my_module:mine"``.
        tasks: by default the exact tasks.
        seeds: the number of seeds 0, 1, ..., or a list of seeds.
        learning_rates: every combination is run. By default, here and in the next three, each task's own.
        updates: updates per rollout.
        lags: age of the sampling policy in rollouts.
        rollouts: number of rollouts of each run.
        baseline: the algorithm to compare with; by default the first.
        jobs: number of parallel runs; with more than one, call this under ``if __name__ == "__main__"``.
        executor: ``"processes"`` or ``"ray"``.
        use_shipped: use runs that come with llmrl instead of repeating them.
        allow_seconds: a study with a larger estimate raises an error and does not start.
        progress: called with a row (None at the start), the number of finished runs and the number of all.

    Raises:
        UserError: a name or a number cannot be used, or the estimate is above ``allow_seconds``.
    """
    for value, name, what in (
        (algorithms, "algorithms", "names"),
        (tasks, "tasks", "names"),
        (learning_rates, "learning_rates", "numbers"),
        (updates, "updates", "whole numbers"),
        (lags, "lags", "whole numbers"),
        (() if isinstance(seeds, int) else seeds, "seeds", "whole numbers"),
    ):
        _check_list(value, name, what)
    if not isinstance(jobs, int):
        raise ArgumentError(f"jobs must be a whole number, got {jobs!r:.80}.")
    for number, name in ((jobs, "jobs"), (seeds if isinstance(seeds, int) else len(seeds), "seeds")):
        if number < 1:
            raise ConfigError(f"{name} must be 1 or more, got {number}.")
    if isinstance(seeds, int) and seeds > MOST_SEEDS:
        raise ConfigError(f"seeds must be at most {MOST_SEEDS}, got {seeds}.")
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    cells = make_grid(
        tasks=tasks,
        algorithms=algorithms,
        seeds=chosen,
        learning_rates=learning_rates,
        updates=updates,
        lags=lags,
        rollouts=rollouts,
    )
    if baseline is not None and baseline not in algorithms:
        algorithm(baseline)
        raise ConfigError(f"The baseline {baseline!r} is not among the algorithms. Add it to them.")
    check_executor(executor)
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output must be a folder, and {folder} is a file. Give another name.")
    refuse_traps(folder)
    store = Store(folder)
    found = {cell: row for cell, row in store.read(cells).items() if use_shipped or not row.shipped}
    shipped = find_shipped(cell for cell in cells if cell not in found) if use_shipped else {}
    left = [cell for cell in cells if cell not in found and cell not in shipped]
    if left:
        seconds = estimate_seconds(left, jobs)
        if seconds > allow_seconds:
            raise ConfigError(
                f"{len(left)} runs would take about {duration(seconds)}, more than the limit of "
                f"{duration(allow_seconds)}. Give --yes to run them, more --jobs, or fewer seeds, tasks or algorithms."
            )
    store.write_plan(cells, baseline or algorithms[0])
    for cell, row in shipped.items():
        store.write(row)
        found[cell] = row
    done = len(cells) - len(left)
    if progress is not None:
        progress(None, done, len(cells))
    for row in run_cells(left, jobs=jobs, executor=executor):
        store.write(row)
        found[row.cell] = row
        done += 1
        if progress is not None:
            progress(row, done, len(cells))
    results = Results([found[cell] for cell in cells], baseline)
    if not all(row.failed for row in results.rows):
        results.write(folder)
        write_page(results, folder)
    return results


KINDS: dict[str, type] = {"names": str, "numbers": numbers.Real, "whole numbers": numbers.Integral}


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (str, int, float)) else type(value).__name__


def _check_list(given: object, name: str, what: str) -> None:
    """Raise unless an argument of :func:`study` is a list of the right kind."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ArgumentError(f"{name} must be a list of {what}, got {_shown(given)}.")
    for one in given:
        if not isinstance(one, KINDS[what]):
            raise ArgumentError(f"{name} must be a list of {what}, got one with {_shown(one)}.")


def duration(seconds: float) -> str:
    """Seconds in a suitable unit.

    >>> duration(7300)
    '2.0 hours'
    """
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"
