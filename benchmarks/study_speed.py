"""How long a study takes: running the exact tasks, and loading and plotting 2,000 finished runs.

    python benchmarks/study_speed.py --jobs 2

Prints the wall time, and the CPU seconds of all processes together (user and system), which depend less on other work
of the machine. The 2,000 runs are copies of one real run per algorithm under other seeds; only their number counts.
"""

from __future__ import annotations

import dataclasses
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

import llmrl
from llmrl.studies import EXACT, load
from llmrl.studies.grid import make_grid, run_cell
from llmrl.studies.page import write_page
from llmrl.studies.store import Store

ALGORITHMS = ("dapo", "erc+dapo", "gppo", "erc+gppo", "gspo", "espo", "cispo", "grpo")


@dataclass
class Options:
    """Time a study."""

    jobs: int = 2
    """Runs at a time."""
    seeds: int = 5
    """Seeds of the tasks that are run, 8 tasks x 8 algorithms; 0: none is run."""
    runs: int = 2000
    """Finished runs to load and plot."""


def cpu_seconds() -> float:
    """User and system time so far, of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def time_tasks(options: Options) -> None:
    """Run 8 tasks x 8 algorithms."""
    with tempfile.TemporaryDirectory() as folder:
        began, used = time.perf_counter(), cpu_seconds()
        llmrl.study(
            output=folder,
            algorithms=ALGORITHMS,
            tasks=list(EXACT)[:8],
            seeds=options.seeds,
            jobs=options.jobs,
            use_shipped=False,
        )
        minutes = (time.perf_counter() - began) / 60
        print(
            f"8 tasks x 8 algorithms x {options.seeds} seeds, {options.jobs} jobs: {minutes:.1f} minutes, "
            f"{cpu_seconds() - used:.0f} CPU seconds",
            flush=True,
        )


def time_results(options: Options) -> None:
    """Load finished runs, write the tables and draw the page."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        rows = [run_cell(cell) for cell in make_grid(tasks=("hack",), algorithms=ALGORITHMS, seeds=(0,))]
        cells = []
        for number in range(options.runs):
            row = rows[number % len(rows)]
            cells.append(dataclasses.replace(row.cell, seed=number // len(rows)))
            store.write(dataclasses.replace(row, cell=cells[-1]))
        store.write_plan(cells, ALGORITHMS[0])
        began, used = time.perf_counter(), cpu_seconds()
        results = load(folder)
        loaded = time.perf_counter() - began
        results.write(Path(folder))
        write_page(results, Path(folder))
        drawn = time.perf_counter() - began
        print(
            f"{options.runs} runs: loaded in {loaded:.1f} s, with tables, figures and page in {drawn:.1f} s, "
            f"{cpu_seconds() - used:.1f} CPU seconds"
        )


def main(options: Options) -> None:
    """Print the times."""
    if options.seeds:
        time_tasks(options)
    time_results(options)


if __name__ == "__main__":
    main(tyro.cli(Options))
