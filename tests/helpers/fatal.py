"""A grader that kills the process it runs in.  Alone in its file, so that a worker starts quickly."""

from __future__ import annotations

import os


def grade(response: str) -> float:
    """The share of different characters among the first four, if it survives."""
    if response[:1] < "P":
        os._exit(9)
    return len(set(response)) / 4
