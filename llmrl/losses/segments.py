"""Sums and means over a sequence or over its segments, returned for every token.

A segment is a set of tokens of one sequence with the same id. Sums go through ``scatter_add``, whose
memory is [N, T] however many segments there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_SEGMENTS = 256
"""Segment ids are below this, or below T where T is larger."""


def sequence_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the sampled tokens of each row, [N, 1]; 0 for a row without sampled tokens.

    Args:
        x: [N, T], 0 outside the mask.
        mask: bool [N, T].

    >>> sequence_mean(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    return x.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)


class Segments:
    """The segments of the sequences of a batch, and sums over them.

    Args:
        segment: int64 [N, T], the segment of each token; -1: none.
        inside: bool [N, T], where ``segment`` is used; by default where it is not -1.
    """

    def __init__(self, segment: Tensor, inside: Tensor | None = None) -> None:
        known = segment >= 0
        self.inside = known if inside is None else known & inside
        self.width = max(segment.shape[1], MAX_SEGMENTS)
        # the last bucket takes the tokens of no segment
        self.bucket = torch.where(self.inside, segment, self.width)

    def sum(self, x: Tensor) -> Tensor:
        """For each token the sum of ``x`` over its segment, [N, T]; undefined for tokens without a segment."""
        totals = x.new_zeros(x.shape[0], self.width + 1).scatter_add_(1, self.bucket, x)
        return totals.gather(1, self.bucket)

    def share(self, dtype: torch.dtype) -> Tensor:
        """For each token 1 / number of tokens of its segment, [N, T]; 0 for tokens without a segment."""
        inside = self.inside.to(dtype)
        return inside / self.sum(inside).clamp_min(1)


def segment_sum(x: Tensor, segment: Tensor) -> Tensor:
    """For each token the sum of ``x`` over the tokens of its segment, [N, T]; 0 where the id is -1.

    >>> segment_sum(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 1, 0]]))
    tensor([[6., 3., 6.]])
    """
    segments = Segments(segment)
    return torch.where(segments.inside, segments.sum(x), 0)


def segment_mean(x: Tensor, segment: Tensor) -> Tensor:
    """For each token the mean of ``x`` over the tokens of its segment, [N, T]; 0 where the id is -1.

    >>> segment_mean(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 1, 0]]))
    tensor([[3., 3., 3.]])
    """
    segments = Segments(segment)
    return segments.sum(x) * segments.share(x.dtype)


def segment_count(segment: Tensor) -> Tensor:
    """How many segments each row has, [N, 1] float.

    >>> segment_count(torch.tensor([[0, 0, 5, -1], [-1, -1, -1, -1]]))
    tensor([[2.],
            [0.]])
    """
    return Segments(segment).share(torch.float32).sum(1, keepdim=True).round()


def token_covariance(advantage: Tensor, log_prob: Tensor, mask: Tensor) -> Tensor:
    """(A - mean A)(log pi - mean log pi) of each token, [N, T]; means over all sampled tokens, no gradient.

    Args:
        advantage: [N, T], 0 outside the mask.
        log_prob: [N, T], 0 outside the mask.
        mask: bool [N, T].
    """
    count = mask.sum().clamp_min(1)
    advantage, log_prob = advantage.detach(), log_prob.detach()
    product = (advantage - advantage.sum() / count) * (log_prob - log_prob.sum() / count)
    return torch.where(mask, product, 0)


def highest(score: Tensor, among: Tensor, count: Tensor) -> Tensor:
    """bool [N, T]: the ``count`` highest scores among the allowed positions; of equal ones the first.

    Args:
        score: [N, T].
        among: bool [N, T], the allowed positions.
        count: 0-dim tensor, so that ``torch.compile`` need not know its value.

    >>> among = torch.tensor([[True, False, True]])
    >>> highest(torch.tensor([[1.0, 3.0, 2.0]]), among, torch.tensor(1))
    tensor([[False, False,  True]])
    """
    flat = torch.where(among, score, -torch.inf).flatten()
    order = flat.sort(descending=True, stable=True)[1]
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=score.device))
    return (rank < count).reshape(score.shape) & among


def check_segment_ids(segment: Tensor) -> None:
    """Raise if an id is too large to be summed over; skipped while compiling, where values are unknown."""
    if torch.compiler.is_compiling() or not segment.numel():
        return
    largest, limit = int(segment.max()), max(segment.shape[1], MAX_SEGMENTS)
    if largest >= limit:
        raise ValueError(
            f"'segment' holds the id {largest}; ids must be below {limit}. Number the segments of "
            "each sequence 0, 1, 2, ... and use -1 for tokens that are not trained."
        )
