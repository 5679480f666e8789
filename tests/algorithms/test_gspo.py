"""GSPO: one ratio, one clip and one gradient a sequence."""

from __future__ import annotations

from math import log

import oracles
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Batch, batches, make_batch, nonzero_advantages
from table import assert_same, evaluate, factors, oracle_outcome

from llmrl import keys
from llmrl.algorithms import algorithm

NEAR_LOW = make_batch([[log(0.9) - 1e-9] * 2, [log(0.9) + 1e-9] * 2], [-1.0, -1.0], old_log_prob=0.0)
NEAR_HIGH = make_batch([[log(1.1) - 1e-9] * 2, [log(1.1) + 1e-9] * 2], [1.0, 1.0], old_log_prob=0.0)
signed = batches(advantage=nonzero_advantages)


def gspo(low: float = 0.1, high: float = 0.1):
    return algorithm("gspo", clip_low=low, clip_high=high)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, equal_nan=True)


def sequence_ratio(batch: Batch) -> torch.Tensor:
    """(pi(y) / pi_old(y)) ** (1 / |y|), [N]."""
    return (batch.ratio.log().sum(1) / batch.lengths.clamp(min=1)).exp()


@given(batch=signed)
@example(batch=NEAR_LOW)
@example(batch=NEAR_HIGH)
def test_gspo_equals_gspo_token(batch: Batch) -> None:
    outcome = evaluate(gspo(), batch)
    assert_same(outcome, oracle_outcome(lambda b, lp: oracles.gspo(b, lp, low=0.1, high=0.1), batch))
    assert_same(outcome, oracle_outcome(lambda b, lp: oracles.gspo_token(b, lp, low=0.1, high=0.1), batch))


@given(batch=batches(per_token=True))
def test_advantages_of_tokens_follow_the_token_form(batch: Batch) -> None:
    theirs = oracle_outcome(lambda b, lp: oracles.gspo_token(b, lp, low=0.1, high=0.1), batch)
    assert_same(evaluate(gspo(), batch), theirs)


@given(batch=signed)
def test_every_token_of_a_sequence_has_the_gradient_s_times_a_over_b_times_its_length(
    batch: Batch,
) -> None:
    grad = evaluate(gspo(1.0, float("inf")), batch).grad
    rows = (batch.lengths > 0).sum()
    first = batch.advantage.gather(1, batch.mask.long().argmax(1, keepdim=True)).squeeze(1)
    each = -sequence_ratio(batch) * first / (rows * batch.lengths.clamp(min=1))
    same(grad, torch.where(batch.mask, each[:, None], 0.0))


@given(batch=signed)
@example(batch=NEAR_LOW)
@example(batch=NEAR_HIGH)
def test_clipping_is_all_or_nothing_per_sequence(batch: Batch) -> None:
    s, grad = sequence_ratio(batch), evaluate(gspo(), batch).grad
    for i in range(len(s)):
        cells = batch.mask[i]
        if not cells.any():
            continue
        a = batch.advantage[i][cells][0]
        clipped = bool((a > 0 and s[i] > 1.1) or (a < 0 and s[i] < 0.9))
        assert ((grad[i][cells] == 0) == clipped).all()


@given(batch=signed)
def test_the_ratio_is_at_most_the_arithmetic_mean_of_the_tokens_and_within_their_range(
    batch: Batch,
) -> None:
    f = factors(gspo(1.0, float("inf")), batch)
    for i in range(batch.mask.shape[0]):
        r = batch.ratio[i][batch.mask[i]]
        for s in f[i][batch.mask[i]].tolist():
            assert s <= float(r.mean()) * (1 + 1e-9)
            assert float(r.min()) * (1 - 1e-9) <= s <= float(r.max()) * (1 + 1e-9)


@given(batch=signed, data=st.data())
def test_invariant_to_a_permutation_of_tokens(batch: Batch, data) -> None:
    n, t = batch.mask.shape
    order = torch.tensor([data.draw(st.permutations(range(t))) for _ in range(n)])
    a, b = evaluate(gspo(), batch), evaluate(gspo(), batch.tokens(order))
    same(a.loss, b.loss)
    same(a.grad.gather(1, order), b.grad)


@given(batch=signed)
def test_invariant_to_duplicating_every_token(batch: Batch) -> None:
    twice = batch.tokens(torch.arange(batch.mask.shape[1]).repeat(2).expand(len(batch.mask), -1))
    a, b = evaluate(gspo(), batch), evaluate(gspo(), twice)
    same(a.loss, b.loss)
    same(a.grad / 2, b.grad[:, : a.grad.shape[1]])


@given(batch=batches(max_tokens=1, advantage=nonzero_advantages))
def test_with_one_token_a_response_it_is_the_token_clip(batch: Batch) -> None:
    assert_same(evaluate(gspo(0.2, 0.2), batch), evaluate(algorithm("grpo", kl=0.0), batch))
    assert_same(evaluate(gspo(0.2, 0.2), batch), oracle_outcome(oracles.grpo, batch))


@given(batch=batches(on_policy=True))
def test_on_policy_it_is_grpo_with_the_mean_of_sequence_means(batch: Batch) -> None:
    assert_same(evaluate(gspo(), batch), oracle_outcome(oracles.grpo, batch))


@given(batch=signed)
def test_without_clipping_it_is_gmpo_without_clipping(batch: Batch) -> None:
    gmpo = algorithm("gmpo", clip_low=50.0, clip_high=50.0)
    assert_same(evaluate(gspo(1.0, float("inf")), batch), evaluate(gmpo, batch))


def test_the_distance_of_the_ratio_from_1_shrinks_with_the_root_of_the_length() -> None:
    noise = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0)) * 0.1

    def spread(length: int) -> float:
        rows = noise[:, :length].double()
        batch = make_batch(rows.tolist(), [1.0] * 64)
        f = factors(gspo(1.0, float("inf")), batch)[:, 0]
        return float((f - 1).std())

    assert 2.5 < spread(16) / spread(16 * 16) < 6.5  # 4 in expectation


def test_the_widths_of_the_paper_are_the_default() -> None:
    default = algorithm("gspo")
    inside = make_batch([[log(1 - 2.9e-4)] * 3, [log(1 + 3.9e-4)] * 3], [-1.0, 1.0])
    outside = make_batch([[log(1 - 3.1e-4)] * 3, [log(1 + 4.1e-4)] * 3], [-1.0, 1.0])
    assert (evaluate(default, inside).grad != 0).all()
    assert (evaluate(default, outside).grad == 0).all()


@given(batch=signed)
def test_weights_give_every_sequence_the_same_share(batch: Batch) -> None:
    weight = gspo().weigh(batch.td())[keys.WEIGHT]
    shares = weight.sum(1)[batch.lengths > 0]
    same(shares.double(), torch.full_like(shares, 1 / len(shares)).double())
