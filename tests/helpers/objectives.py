"""Recipes that studies in tests reach as ``objectives:name``: one that works, and some that do not."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from llmrl.algorithms import Algorithm, dapo


@dataclass(frozen=True)
class Breaking:
    """A gate that fails when it is asked."""

    deadly: bool = False

    def __call__(self, batch: Any, clipped: Any) -> Tensor:
        if self.deadly:
            os._exit(9)
        raise ArithmeticError("this objective cannot count")


def working(*, high: float = 0.3) -> Algorithm:
    """DAPO with another bound."""
    return dapo(clip_high=high)


def failing() -> Algorithm:
    """Raises in its first update."""
    return replace(dapo(), gates=(Breaking(),))


def deadly() -> Algorithm:
    """Ends its process in its first update."""
    return replace(dapo(), gates=(Breaking(deadly=True),))
