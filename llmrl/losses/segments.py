"""Means over a sequence or over the parts of a sequence, given back to every token.

A part is a set of tokens of one sequence with the same id.  Sums go through ``scatter_add``, whose
memory is [N, T] however many parts there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_PARTS = 256
"""Part ids are below this, or below T where T is larger."""


def sequence_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the sampled tokens of each row, [N, 1]; 0 for a row without any.

    Args:
        x: [N, T], 0 outside the mask.
        mask: bool [N, T].

    >>> sequence_mean(torch.tensor([[1.0, 3.0, 0.0]]), torch.tensor([[True, True, False]]))
    tensor([[2.]])
    """
    return x.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)


class Pool:
    """The parts of a batch's sequences, ready to sum over.

    Args:
        partition: int64 [N, T], the part of each token; -1: none.
        inside: bool [N, T], where ``partition`` is to be believed; by default where it is not -1.
    """

    def __init__(self, partition: Tensor, inside: Tensor | None = None) -> None:
        known = partition >= 0
        self.inside = known if inside is None else known & inside
        self.width = max(partition.shape[1], MAX_PARTS)
        # the last bucket takes the tokens of no part
        self.bucket = torch.where(self.inside, partition, self.width)

    def sum(self, x: Tensor) -> Tensor:
        """For each token the sum of ``x`` over its part, [N, T]; meaningless where it has none."""
        totals = x.new_zeros(x.shape[0], self.width + 1).scatter_add_(1, self.bucket, x)
        return totals.gather(1, self.bucket)

    def share(self, dtype: torch.dtype) -> Tensor:
        """For each token 1 / tokens of its part, [N, T]; 0 where it has none."""
        inside = self.inside.to(dtype)
        return inside / self.sum(inside).clamp_min(1)


def part_sum(x: Tensor, partition: Tensor) -> Tensor:
    """For each token the sum of ``x`` over the tokens of its part, [N, T]; 0 where the id is -1.

    >>> part_sum(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 1, 0]]))
    tensor([[6., 3., 6.]])
    """
    pool = Pool(partition)
    return torch.where(pool.inside, pool.sum(x), 0)


def part_mean(x: Tensor, partition: Tensor) -> Tensor:
    """For each token the mean of ``x`` over the tokens of its part, [N, T]; 0 where the id is -1.

    >>> part_mean(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[0, 1, 0]]))
    tensor([[3., 3., 3.]])
    """
    pool = Pool(partition)
    return pool.sum(x) * pool.share(x.dtype)


def part_count(partition: Tensor) -> Tensor:
    """How many parts each row has, [N, 1] float.

    >>> part_count(torch.tensor([[0, 0, 5, -1], [-1, -1, -1, -1]]))
    tensor([[2.],
            [0.]])
    """
    return Pool(partition).share(torch.float32).sum(1, keepdim=True).round()


def token_covariance(advantage: Tensor, log_prob: Tensor, mask: Tensor) -> Tensor:
    """(A - mean A)(log pi - mean log pi) of each token, the means over all tokens; no gradient.

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
    """bool [N, T]: the ``count`` positions of highest score among those allowed; ties by position.

    Args:
        score: [N, T].
        among: bool [N, T].
        count: 0-dim; a tensor, so that its value need not be known to compile.

    >>> among = torch.tensor([[True, False, True]])
    >>> highest(torch.tensor([[1.0, 3.0, 2.0]]), among, torch.tensor(1))
    tensor([[False, False,  True]])
    """
    flat = torch.where(among, score, -torch.inf).flatten()
    order = flat.sort(descending=True, stable=True)[1]
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=score.device))
    return (rank < count).reshape(score.shape) & among


def check_part_ids(partition: Tensor) -> None:
    """Raise if an id is too large to be pooled; not while compiling, where values are unknown."""
    if torch.compiler.is_compiling() or not partition.numel():
        return
    largest, limit = int(partition.max()), max(partition.shape[1], MAX_PARTS)
    if largest >= limit:
        raise ValueError(
            f"'partition' holds the id {largest}; ids must be below {limit}. Number the parts of "
            "each sequence 0, 1, 2, ... and use -1 for tokens that are not trained."
        )
