"""One-sided ERC: a gate and a recipe in one file, as the claims' runs use them.

llmrl study --algos dapo benchmarks.one_sided_erc:one_sided
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from llmrl.algorithms import Algorithm, dapo
from llmrl.losses import EntropyRatioGate


@dataclass(frozen=True, kw_only=True)
class OutwardGate(EntropyRatioGate):
    """Drop a token only if its entropy left the band and its probability moved the way its advantage pushes it."""

    def __call__(self, batch: Any, clipped: Any) -> Tensor:
        """bool [N, T]."""
        outward = batch.advantage * batch.log_ratio.detach() > 0
        return super().__call__(batch, clipped) | ~outward


def one_sided(*, low: float = 0.95, high: float = 1.05) -> Algorithm:
    """DAPO with the gate."""
    return replace(dapo(), name="one-sided ERC", gates=(OutwardGate(low=low, high=high),))
