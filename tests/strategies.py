"""Hypothesis strategies of a batch as a loss sees it.

Rows are ragged, empty or have holes; advantages have both signs; ratios lie inside, at and far
beyond every bound; entropies tie and vanish; whatever lies under the mask is garbage.

Log-probabilities lie on a dyadic grid, so that differences and sums of them are exact in float64 in
any order: whether a mean log-ratio is exactly 0 does not depend on who adds it up.  No bound of any
algorithm lies on that grid; `at_bounds=True` puts tokens on the bounds on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import log

import torch
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys

GARBAGE = (float("nan"), float("inf"), float("-inf"), 100.0, -100.0, 0.0)
BOUNDS = (0.8, 1.2, 1.28, 0.9997, 1.0004, 3.0, 10.0, 0.6, 1.4918246976412703, 20.0)
LN_V = log(151_936)
FLOATS = ("log_prob", "old_log_prob", "advantage", "entropy", "old_entropy")


def f64(values: object) -> Tensor:
    """A float64 tensor; what goes through float32 first is not exact."""
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True)
class Batch:
    """What is known of a batch before the loss, [N, T] each; `max_entropy` is the log of |V|."""

    log_prob: Tensor
    old_log_prob: Tensor
    advantage: Tensor
    mask: Tensor
    entropy: Tensor
    old_entropy: Tensor
    max_entropy: float = LN_V

    def td(self, log_prob: Tensor | None = None, dtype: torch.dtype = torch.float64) -> TensorDict:
        """As the loss reads it, with every entry that any algorithm asks for."""
        n, _ = self.mask.shape
        new = (self.log_prob if log_prob is None else log_prob).to(dtype)
        old = self.old_log_prob.to(dtype)
        td = TensorDict(batch_size=[n])
        td[keys.MASK] = self.mask
        td[keys.ADVANTAGE] = self.advantage.to(dtype)
        td[keys.LOG_PROB] = new
        td[keys.OLD_LOG_PROB] = old
        td[keys.SAMPLER_LOG_PROB] = old
        td[keys.REF_LOG_PROB] = old
        td[keys.ENTROPY] = self.entropy.to(dtype)
        td[keys.OLD_ENTROPY] = self.old_entropy.to(dtype)
        td[keys.MAX_ENTROPY] = torch.full((n, 1), self.max_entropy, dtype=dtype)
        zeros = torch.zeros_like(old)
        for key in (keys.VALUE, keys.OLD_VALUE, keys.VALUE_TARGET):
            td[key] = zeros
        return td

    def rows(self, index: list[int] | Tensor) -> Batch:
        """Some rows, in the given order."""
        return replace(self, mask=self.mask[index], **{name: getattr(self, name)[index] for name in FLOATS})

    def tokens(self, order: Tensor) -> Batch:
        """Every row's tokens rearranged by the [N, T] indices `order`."""
        return replace(
            self,
            mask=self.mask.gather(1, order),
            **{name: getattr(self, name).gather(1, order) for name in FLOATS},
        )

    def filled(self, value: float) -> Batch:
        """With `value` in every cell under the mask."""
        return replace(
            self,
            **{
                name: torch.where(self.mask, getattr(self, name), torch.full_like(self.log_prob, value))
                for name in FLOATS
            },
        )

    def on_policy(self) -> Batch:
        return replace(self, log_prob=self.old_log_prob, entropy=self.old_entropy)

    @property
    def ratio(self) -> Tensor:
        """pi / pi_old, 1 where there is no token."""
        d = torch.where(self.mask, self.log_prob - self.old_log_prob, torch.zeros(()).double())
        return d.exp()

    @property
    def lengths(self) -> Tensor:
        return self.mask.sum(1)


def make_batch(
    log_ratio: list[list[float]],
    advantage: list[float] | list[list[float]],
    *,
    old_log_prob: list[list[float]] | float = -2.0,
    old_entropy: list[list[float]] | float = 1.0,
    entropy: list[list[float]] | float | None = None,
    max_entropy: float = LN_V,
    garbage: float = 0.0,
) -> Batch:
    """A batch by hand: ragged lists, one advantage a row or a token.

    >>> make_batch([[0.5], [0.25, 0.0]], [1.0, -1.0]).mask.tolist()
    [[True, False], [True, True]]
    """
    n, t = len(log_ratio), max(1, *(len(row) for row in log_ratio))

    def table(cells) -> Tensor:
        out = torch.full((n, t), garbage, dtype=torch.float64)
        for i, row in enumerate(log_ratio):
            for j in range(len(row)):
                value = cells[i] if isinstance(cells, list) else cells
                out[i, j] = value[j] if isinstance(value, list) else value
        return out

    mask = torch.tensor([[j < len(row) for j in range(t)] for row in log_ratio])
    old = table(old_log_prob)
    new = torch.where(mask, old + table(log_ratio), torch.full_like(old, garbage))
    h_old = table(old_entropy)
    h = h_old if entropy is None else table(entropy)
    return Batch(new, old, table(advantage), mask, h, h_old, max_entropy)


small = st.integers(-32, 32).map(lambda k: k / 2**14)
inside = st.integers(-120, 120).map(lambda k: k / 2**10)
beyond = st.integers(-800, 800).map(lambda k: k / 2**8)
far = st.sampled_from([-8.0, -3.0, 2.5, 8.0])
at_bound = st.sampled_from([log(b) for b in BOUNDS] + [-20.0, 20.0])
log_ratios = st.one_of(st.just(0.0), small, inside, beyond, far)
advantages = st.one_of(st.sampled_from([1.0, -1.0, 0.0, 0.5, -0.25]), st.integers(-192, 192).map(lambda k: k / 64))
nonzero_advantages = advantages.filter(bool)
old_log_probs = st.integers(-384, -1).map(lambda k: k / 64)
entropies = st.one_of(st.sampled_from([0.0, 0.25, 1.0, 5.0]), st.integers(0, 704).map(lambda k: k / 64))
entropy_ratios = st.sampled_from([1.0, 1.0, 1.0, 0.97, 1.03, 0.9, 1.1, 0.5, 4.0])


@st.composite
def batches(
    draw,
    *,
    max_rows: int = 4,
    max_tokens: int = 6,
    at_bounds: bool = False,
    per_token: bool = False,
    on_policy: bool = False,
    garbage: bool = False,
    holes: bool = True,
    empty_rows: bool = True,
    ratios: st.SearchStrategy[float] | None = None,
    advantage: st.SearchStrategy[float] = advantages,
) -> Batch:
    """A batch with at least one sampled token; `per_token` gives every token its own advantage."""
    n = draw(st.integers(1, max_rows))
    t = draw(st.integers(1, max_tokens))
    if ratios is None:
        ratios = st.one_of(log_ratios, at_bound) if at_bounds else log_ratios
    mask = torch.zeros(n, t, dtype=torch.bool)
    for i in range(n):
        if holes and draw(st.booleans()):
            mask[i] = torch.tensor(draw(st.lists(st.booleans(), min_size=t, max_size=t)))
        else:
            mask[i, : draw(st.integers(0, t))] = True
        if not empty_rows and not mask[i].any():
            mask[i, 0] = True
    if not mask.any():
        mask[0, 0] = True

    def table(cells: st.SearchStrategy[float]) -> Tensor:
        out = torch.zeros(n, t, dtype=torch.float64)
        for i, j in mask.nonzero().tolist():
            out[i, j] = draw(cells)
        return out

    old, h_old = table(old_log_probs), table(entropies)
    new = old if on_policy else old + table(ratios)
    h = h_old if on_policy else h_old * table(entropy_ratios)
    if per_token:
        a = table(advantage)
    else:
        rows = [draw(advantage) for _ in range(n)]
        a = torch.tensor(rows, dtype=torch.float64)[:, None] * mask
    batch = Batch(new, old, a, mask, h, h_old)
    return batch.filled(draw(st.sampled_from(GARBAGE))) if garbage else batch


@st.composite
def permutations(draw, n: int) -> list[int]:
    return draw(st.permutations(range(n)))


@st.composite
def splits(draw, n: int) -> list[list[int]]:
    """Consecutive micro-batches of the rows 0 to n - 1."""
    cuts = sorted(draw(st.sets(st.integers(1, n - 1)))) if n > 1 else []
    edges = [0, *cuts, n]
    return [list(range(a, b)) for a, b in pairwise(edges)]
