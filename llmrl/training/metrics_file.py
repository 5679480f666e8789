"""The file of metrics of a run, ``metrics.jsonl``: written step by step, and read."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmrl.likeness import MOST
from llmrl.text import parse_line, read_lines

log = logging.getLogger(__name__)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the run; an error of the system, such as a full disk, gets a helpful message."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error}). Checkpoints are intact: free some space, then go on "
            "with --resume auto."
        ) from error


class MetricsFile:
    """``metrics.jsonl``: one line per step, flushed at once.

    Args:
        path: the file; lines after ``position`` are cut off, so that a resumed run has no line twice.
        position: length in bytes to keep; None: all. A shorter file, such as after a checkpoint was moved
            without its run, is kept, and lines are appended.
    """

    def __init__(self, path: Path, position: int | None = None) -> None:
        self.path = path
        # Unbuffered, so that closing the file does not repeat a failed write.
        self._file = path.open("ab", buffering=0)
        if position is not None:
            # Beyond the end, truncate would fill the file with zeros.
            self._file.truncate(min(position, path.stat().st_size))
            self._file.seek(0, os.SEEK_END)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line."""
        line: dict[str, Any] = {"step": step}
        line.update({k: v if math.isfinite(v) else None for k, v in metrics.items()})
        left = json.dumps(line).encode() + b"\n"
        if os.fstat(self._file.fileno()).st_size != self.position:  # somebody cut it, perhaps within a line
            left = b"\n" + left
        with writing(self.path):
            if os.fstat(self._file.fileno()).st_nlink == 0 or not self.path.exists():
                raise FileNotFoundError("the folder of the run was removed or moved during the run")
            while left:
                left = left[self._file.write(left) :]

    def flush(self) -> None:
        """Make the kernel write the file to the disk, since a checkpoint relies on its length."""
        os.fsync(self._file.fileno())

    @property
    def position(self) -> int:
        """Number of bytes written, for the checkpoint."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; those that hold no step, as a full disk or a hand leaves them, are left out."""
    read = [parse_line(line) for line in read_lines(path)]
    rows = [row for row in read if row is not None and is_step(row)]
    if len(rows) < len(read):
        log.warning("%s: %d damaged lines are left out.", path, len(read) - len(rows))
    return rows


def is_step(row: dict[str, Any]) -> bool:
    """Whether a line of ``metrics.jsonl`` is that of a step: its number, and numbers or None."""
    numbers = all(value is None or type(value) in (int, float) for value in row.values())
    return numbers and type(row.get("step")) is int and 0 <= row["step"] <= MOST
