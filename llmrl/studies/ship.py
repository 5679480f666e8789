"""Make the file of runs that come with llmrl.

    python -m llmrl.studies.ship runs/study   adds the runs of a study to it, in place of those of equal cells
    python -m llmrl.studies.ship              gives its runs the digests of today

The file has only runs of named algorithms on the exact tasks at their own settings. Their curves hold only the score.
A study uses a run only if its digest is that of today, so a change of an algorithm's components asks for one of these
commands: the second if the runs are the same with it, otherwise a study with ``--rerun-shipped`` and the first.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from llmrl.algorithms import algorithm
from llmrl.studies.exact.tasks import EXACT
from llmrl.studies.grid import Row, find_task, recipe_digest
from llmrl.studies.results import load
from llmrl.studies.store import SHIPPED, shipped_rows


def belongs(row: Row) -> bool:
    """Whether the file has a row."""
    task = EXACT.get(row.cell.task)
    own = task is not None and row.cell.settings == task.settings
    return own and not row.failed and ":" not in row.cell.algorithm


def short(row: Row) -> Row:
    """A row as the file has it."""
    return dataclasses.replace(
        row,
        summary={name: float(f"{x:.4g}") for name, x in row.summary.items()},
        curves={"score": [round(x, 4) for x in row.curves["score"]]},
        detail={},
        shipped=True,
    )


def of_today(row: Row) -> Row:
    """A row with the digest of today."""
    spec, task = row.cell.algorithm, row.cell.task
    recipe = recipe_digest(spec, algorithm(spec), task, find_task(task))
    return dataclasses.replace(row, cell=dataclasses.replace(row.cell, recipe=recipe))


def write(rows: Iterable[Row], path: Path) -> None:
    """Write the file."""
    content = [row.to_dict() for row in rows]
    path.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))
    print(f"{len(content)} runs, {path.stat().st_size / 1024:.0f} KiB")


def main(folders: list[str]) -> None:
    """Write the file next to this module."""
    rows = shipped_rows()
    if folders:
        added = [short(row) for folder in folders for row in load(folder).rows if belongs(row)]
        rows = rows | {row.cell: row for row in added}
    else:
        rows = {cell: of_today(row) for cell, row in rows.items()}
    write(rows.values(), Path(__file__).parent / SHIPPED)


if __name__ == "__main__":
    main(sys.argv[1:])
