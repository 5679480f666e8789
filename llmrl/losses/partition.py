"""Partitions: how the tokens of a response are divided into segments, by the old policy's entropy.

A partition is called with old entropies [N, T] and the mask [N, T]. It returns int64 [N, T]: 0 for the
lowest entropies, then 1, and so on; -1 outside the mask. ``segments`` is the largest number of segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.segments import MAX_SEGMENTS


class Partition(Protocol):
    """A rule that divides responses into segments."""

    @property
    def segments(self) -> int:
        """The largest number of segments."""

    def __call__(self, entropy: Tensor, mask: Tensor, /) -> Tensor:
        """int64 [N, T]; -1 outside the mask."""


def rank_segments(entropy: Tensor, mask: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Cut each row at quantiles of its ranks, ordered by (entropy, position).

    Ranks, not values: where most entropies are 0, their 0.8-quantile is 0 too, and every token is at or
    above it. Of two segments, segment 1 takes the highest ceil((1 - q) n) of n tokens. With two tokens
    or more, each of the two has at least one; a single token is in segment 1.

    Args:
        entropy: [N, T].
        mask: bool [N, T].
        quantiles: rising edges in (0, 1).

    >>> e = torch.tensor([[0.1, 3.0, 0.2, 0.0, 9.9]])
    >>> rank_segments(e, torch.tensor([[True, True, True, True, False]]), (0.8,))
    tensor([[ 0,  1,  0,  0, -1]])
    """
    key = torch.where(mask, entropy.detach().double(), torch.inf)
    order = key.sort(dim=1, stable=True)[1]
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, positions)
    count = mask.sum(1, keepdim=True)  # [N, 1]
    segments = len(quantiles) + 1
    index = torch.zeros_like(rank)
    for k, quantile in enumerate(quantiles):
        cut = (count.double() * quantile + 1e-9).floor().long()  # 0.29 * 100 is a little below 29
        room = count >= segments
        cut = torch.where(room, cut.clamp_min(k + 1).minimum(count - (segments - 1 - k)), cut)
        index += rank >= cut
    return torch.where(mask, index, -1)


def _check_rising(owner: object, name: str, edges: Sequence[float], low: float, high: float) -> None:
    if not isinstance(edges, Sequence):
        raise TypeError(f"{type(owner).__name__}: {name} must be a list of numbers such as (0.8,), got {edges!r}.")
    bounds = [low, *edges, high]
    if not edges or not all(a < b for a, b in pairwise(bounds)):
        raise ValueError(
            f"{type(owner).__name__}: {name} must rise strictly between {low:g} and {high:g}, got {tuple(edges)}."
        )
    if len(edges) >= MAX_SEGMENTS:
        raise ValueError(f"{type(owner).__name__}: at most {MAX_SEGMENTS} segments, got {len(edges) + 1} by {name}.")


@dataclass(frozen=True, kw_only=True)
class EntropySegments:
    """Segments by rank of entropy within each response; (0.8,) separates the fifth with the highest entropies. ESPO."""

    in_keys: ClassVar[tuple[Key, ...]] = (keys.OLD_ENTROPY,)

    quantiles: Sequence[float] = (0.8,)
    """Edges between the segments, as shares of the response's tokens."""

    def __post_init__(self) -> None:
        _check_rising(self, "quantiles", self.quantiles, 0.0, 1.0)

    @property
    def segments(self) -> int:
        """The largest number of segments."""
        return len(self.quantiles) + 1

    def __call__(self, old_entropy: Tensor, mask: Tensor) -> Tensor:
        """int64 [N, T]."""
        return rank_segments(old_entropy, mask, self.quantiles)


@dataclass(frozen=True, kw_only=True)
class BatchEntropySegments(EntropySegments):
    """Segments by rank of entropy over the batch: a response of low entropy may have no token in the upper one.

    The segments then depend on the other responses, so call it on a whole batch, not on micro-batches.
    """

    def __call__(self, old_entropy: Tensor, mask: Tensor) -> Tensor:
        """int64 [N, T]."""
        flat = rank_segments(old_entropy.reshape(1, -1), mask.reshape(1, -1), self.quantiles)
        return flat.reshape(mask.shape)


@dataclass(frozen=True, kw_only=True)
class EntropyThresholds:
    """Segments by fixed entropies in nats: segment k holds thresholds[k-1] <= entropy < thresholds[k]."""

    in_keys: ClassVar[tuple[Key, ...]] = (keys.OLD_ENTROPY,)

    thresholds: Sequence[float]
    """Edges between the segments, nats."""

    def __post_init__(self) -> None:
        _check_rising(self, "thresholds", self.thresholds, 0.0, float("inf"))

    @property
    def segments(self) -> int:
        """The largest number of segments."""
        return len(self.thresholds) + 1

    def __call__(self, old_entropy: Tensor, mask: Tensor) -> Tensor:
        """int64 [N, T].

        >>> EntropyThresholds(thresholds=(0.5,))(torch.tensor([[0.5, 0.1]]), torch.ones(1, 2) > 0)
        tensor([[1, 0]])
        """
        edges = torch.tensor(self.thresholds, dtype=torch.float64, device=mask.device)
        index = torch.bucketize(old_entropy.detach().double(), edges, right=True)
        return torch.where(mask, index, -1)
