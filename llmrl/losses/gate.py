"""Gates: which tokens keep their gradient.

A gate is called with a :class:`~llmrl.losses.batch.TokenBatch` and what the clip returned. It returns
bool [N, T]. A token with False loses its gradient, but keeps its value and its place in the mean; a gate
is not a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.batch import TokenBatch
from llmrl.losses.clip import Clipped
from llmrl.losses.segments import highest, token_covariance

Gate = Callable[[TokenBatch, Clipped], Tensor]

_TINY = 1e-8  # as in the published code: two entropies of 0 have the ratio 1


@dataclass(frozen=True, kw_only=True)
class EntropyRatioGate:
    """Keep tokens whose entropy hardly changed: low < (H + 1e-8) / (H_old + 1e-8) < high.

    It bounds the change of the whole distribution, including tokens that were not sampled.
    Source: ERC, arXiv:2512.05591 and its code.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.ENTROPY, keys.OLD_ENTROPY)

    low: float = 0.95
    """The ratio of entropies must be above this; 0: no lower bound."""
    high: float = 1.05
    """The ratio of entropies must be below this; inf: no upper bound."""
    min_entropy: float = 0.0
    """Keep tokens whose two entropies are below this many nats: their ratio is mostly rounding error."""
    sides: Literal["both", "outward"] = "both"
    """both: the paper's. outward: of the tokens outside the band, drop only those that their own update moves further
    away, A log r > 0, as PPO's clip does; the others keep the gradient that pulls them back. Ours, in no paper."""

    def __post_init__(self) -> None:
        if self.sides not in ("both", "outward"):
            raise ValueError(f"EntropyRatioGate: sides must be 'both' or 'outward', got {self.sides!r}.")
        if not 0 <= self.low < self.high:
            raise ValueError(
                "EntropyRatioGate: low must be 0 or more and below high, got low "
                f"{self.low} and high {self.high}: an empty band would keep no token."
            )
        if not self.min_entropy >= 0:
            raise ValueError(f"EntropyRatioGate: min_entropy must be 0 or more nats, got {self.min_entropy}.")

    def __call__(self, batch: TokenBatch, clipped: Clipped) -> Tensor:
        """bool [N, T]."""
        new, old = batch.entropy.clamp_min(0), batch.old_entropy.clamp_min(0)
        ratio = (new + _TINY) / (old + _TINY)
        sure = torch.maximum(new, old) < self.min_entropy
        kept = ((ratio > self.low) & (ratio < self.high)) | sure
        return kept if self.sides == "both" else kept | (batch.advantage * batch.log_ratio.detach() <= 0)


@dataclass(frozen=True, kw_only=True)
class CovarianceGate:
    """Drop the gradient of a few tokens drawn among those of high covariance. Clip-Cov.

    The covariance of a token is

        (A - mean A) (log pi - mean log pi)

    with means over the tokens of the call. Candidates are tokens that are not clipped and have a
    covariance between ``low`` and ``high``. At least one candidate is dropped. The draw and the means
    depend on how the batch is cut into micro-batches. Source: arXiv:2505.22617. Its code sets the value
    of dropped tokens to 0; a gate keeps the value.
    """

    low: float = 1.0
    """Candidates have a covariance above this."""
    high: float = 5.0
    """Candidates have a covariance below this."""
    fraction: float = 2e-4
    """Share of the call's tokens that is dropped."""
    generator: torch.Generator | None = None
    """Random generator of the draw; by default torch's global one."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"CovarianceGate: low must be below high, got low {self.low} and high {self.high}.")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"CovarianceGate: fraction must be above 0 and at most 1, got {self.fraction}.")

    def __call__(self, batch: TokenBatch, clipped: Clipped) -> Tensor:
        """bool [N, T]."""
        covariance = token_covariance(batch.advantage, batch.log_prob, batch.mask)
        candidate = batch.mask & ~clipped.low & ~clipped.high
        candidate &= (covariance > self.low) & (covariance < self.high)
        lot = torch.rand(covariance.shape, generator=self.generator, device=covariance.device)
        count = (self.fraction * batch.mask.sum()).floor().clamp_min(1)
        return ~highest(lot, candidate, count)
