"""How tokens are averaged, as a weight tensor [N, T].

The weight is made once per optimiser batch. The loss is always ``-(weight * objective).sum()``, so
micro-batches and data parallelism give exact sums without a shared denominator. A row without a sampled
token does not count as a response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.segments import Segments

Aggregate = Callable[..., Tensor]
"""(mask [N, T], segment [N, T] or None) -> weight [N, T]; float64, the caller rounds it."""


PAPER_LENGTH = 3000
"""Generation budget of Dr. GRPO's paper, tokens."""


def _rows(mask: Tensor) -> Tensor:
    return mask.any(1).sum().clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class TokenMean:
    """1 / (all sampled tokens): every token counts the same. DAPO, arXiv:2503.14476."""

    def __call__(self, mask: Tensor, segment: Tensor | None = None) -> Tensor:
        """[N, T], sums to 1.

        >>> TokenMean()(torch.tensor([[True, True], [True, False]]))[0]
        tensor([0.3333, 0.3333], dtype=torch.float64)
        """
        return mask.double() / mask.sum().clamp_min(1)


@dataclass(frozen=True, kw_only=True)
class SequenceMean:
    """1 / (responses * tokens of the response): every response counts the same. GRPO, GSPO."""

    def __call__(self, mask: Tensor, segment: Tensor | None = None) -> Tensor:
        """[N, T], sums to 1.

        >>> SequenceMean()(torch.tensor([[True, True], [True, False]]))
        tensor([[0.2500, 0.2500],
                [0.5000, 0.0000]], dtype=torch.float64)
        """
        return mask.double() / (mask.sum(1, keepdim=True).clamp_min(1) * _rows(mask))


@dataclass(frozen=True, kw_only=True)
class FixedLength:
    """1 / (responses * length): a token counts the same in a short and in a long response.

    The weights do not sum to 1, but to the mean response length divided by ``length``. With the generation
    budget as length: Dr. GRPO, arXiv:2503.20783. With length 1: the sum over tokens, averaged over responses.
    """

    length: int | None = None
    """Tokens by which the sum of a response is divided; None: the response limit of the run, outside a run 3000."""

    def __post_init__(self) -> None:
        if self.length is not None and not self.length >= 1:
            raise ValueError(
                f"FixedLength: length must be 1 or more tokens, got {self.length}. Give the largest response length."
            )

    def resolve(self, max_response_length: int) -> FixedLength:
        """The component with the response limit as its length, unless a length was given.

        >>> FixedLength().resolve(256)
        FixedLength(length=256)
        """
        return replace(self, length=max_response_length) if self.length is None else self

    def __call__(self, mask: Tensor, segment: Tensor | None = None) -> Tensor:
        """[N, T]."""
        return mask.double() / (_rows(mask) * (PAPER_LENGTH if self.length is None else self.length))


@dataclass(frozen=True, kw_only=True)
class SegmentMean:
    """1 / (responses * segments of the response * tokens of the segment). ESPO, arXiv:2512.00499 eq. 5.

    Every segment of a response counts the same, however many tokens it has; absent segments do not count.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.SEGMENT,)

    segment_weights: Sequence[float] | None = None
    """Weight of segment 0, 1, ... relative to the other segments of the response; (0, 1): segment 1 alone."""

    def __post_init__(self) -> None:
        weights = self.segment_weights
        if weights is not None and (not any(w > 0 for w in weights) or min(weights) < 0):
            raise ValueError(
                "SegmentMean: segment_weights must be 0 or more and not all 0, got "
                f"{tuple(weights)}: one number per segment, such as (0, 1)."
            )

    def __call__(self, mask: Tensor, segment: Tensor | None = None) -> Tensor:
        """[N, T], sums to 1.

        >>> mask, segment = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0, 0, 1]])
        >>> SegmentMean()(mask, segment)
        tensor([[0.2500, 0.2500, 0.5000]], dtype=torch.float64)
        """
        if segment is None:
            raise ValueError(
                "SegmentMean averages over the segments of each response, but the batch has no segments. "
                "Give the algorithm a partition, such as EntropySegments(), or write 'segment'."
            )
        segments = Segments(segment, mask)
        share = segments.share(torch.float64)
        if self.segment_weights is not None:
            count = int(torch.where(segments.inside, segment, -1).max()) + 1 if segment.numel() else 0
            if count > len(self.segment_weights):
                raise ValueError(
                    f"SegmentMean: segment_weights has {len(self.segment_weights)} numbers, got a batch with "
                    f"{count} segments. Give one number for each."
                )
            table = torch.tensor([0.0, *self.segment_weights], dtype=share.dtype, device=mask.device)
            share = share * table[torch.where(segments.inside, segment + 1, 0)]
        total = share.sum(1, keepdim=True)
        rows = (total > 0).sum().clamp_min(1)
        return torch.where(total > 0, share / total.clamp_min(1e-300), 0) / rows
