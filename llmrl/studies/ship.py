"""Make the file of runs that come with llmrl, from a study's folder.

    python -m llmrl.studies.ship runs/study

The file has only runs of named algorithms on the exact tasks at their own settings. Their curves hold only the score.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from llmrl.studies.api import SHIPPED
from llmrl.studies.exact.tasks import EXACT
from llmrl.studies.grid import Row, read_rows


def belongs(row: Row) -> bool:
    """Whether the file has a row."""
    task = EXACT.get(row.cell.task)
    own = task is not None and row.cell.settings == task.settings
    return own and not row.failed and ":" not in row.cell.algorithm


def main() -> None:
    """Write the file next to this module."""
    rows = []
    for row in filter(belongs, read_rows(Path(sys.argv[1]))):
        kept = {**row.to_dict(), "detail": {}}
        kept["summary"] = {name: float(f"{x:.4g}") for name, x in row.summary.items()}
        kept["curves"] = {"score": [round(x, 4) for x in row.curves["score"]]}
        rows.append(kept)
    path = Path(__file__).parent / SHIPPED
    path.write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))
    print(f"{len(rows)} runs, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
