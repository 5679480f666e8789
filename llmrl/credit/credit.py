"""How rewards become advantages, as one object: shape, keep, compare.

The trainer calls, in this order, ``keep`` and ``shape`` when responses come in and ``advantage``
once per step. All of them take a TensorDict with entries of :mod:`llmrl.keys`, one row per response.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrl.credit.advantage import Advantage, GroupAdvantage
from llmrl.credit.groups import Keep, KeepAll
from llmrl.credit.rewards import Shape


@dataclass(frozen=True, kw_only=True)
class Credit:
    """How rewards become advantages; a component of an algorithm."""

    shape: tuple[Shape, ...] = ()
    """Functions that change the rewards, applied in this order."""
    keep: Keep = field(default_factory=KeepAll)
    """Chooses the groups that are trained on."""
    advantage: Advantage = field(default_factory=GroupAdvantage)
    """Returns the batch with ``"advantage"`` [N, T]: how much each token's probability should rise."""
    max_refills: int = 0
    """How often per step the groups that were not kept are replaced by new ones."""

    def __post_init__(self) -> None:
        if callable(self.shape):
            raise TypeError(f"Credit: shape must be a tuple of callables: ({self.shape!r},).")
        if not self.max_refills >= 0:
            raise ValueError(f"Credit: max_refills must be 0 or more, got {self.max_refills}.")
