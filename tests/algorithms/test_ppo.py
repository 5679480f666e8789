"""PPO's clip and dual clip, the relation to DAPO's wider upper bound, and the KL penalty."""

from __future__ import annotations

from math import log

import oracles
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Batch, batches, make_batch, nonzero_advantages
from table import assert_same, evaluate, factors, oracle_outcome

from llmrl import keys
from llmrl.algorithms import algorithm

# Powers of two are bounds that exp(log(bound)) hits exactly.
ON_BOUNDS = make_batch([[log(0.5), log(2.0)], [log(0.5), log(2.0)]], [1.0, -1.0], old_log_prob=0.0)
JUST_INSIDE = make_batch([[log(0.8) + 1e-9, log(1.2) - 1e-9]] * 2, [1.0, -1.0], old_log_prob=0.0)
JUST_OUTSIDE = make_batch([[log(0.8) - 1e-9, log(1.2) + 1e-9]] * 2, [1.0, -1.0], old_log_prob=0.0)
signed = batches(per_token=True, advantage=nonzero_advantages)
widths = st.sampled_from([0.05, 0.1, 0.2, 0.28, 0.5, 0.9])


def ppo(low: float = 0.2, high: float = 0.2, **options):
    return algorithm("dapo", clip_low=low, clip_high=high, **options)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, equal_nan=True)


@given(batch=batches(per_token=True, on_policy=True))
def test_value_at_ratio_1_is_minus_the_weighted_advantage_and_gradient_is_minus_w_a(
    batch: Batch,
) -> None:
    recipe = ppo()
    weighted = recipe.weigh(batch.td())[keys.WEIGHT] * batch.advantage
    outcome = evaluate(recipe, batch)
    same(outcome.loss, -weighted.sum())
    same(outcome.grad, -weighted)


@given(batch=signed)
@example(batch=JUST_INSIDE)
@example(batch=JUST_OUTSIDE)
def test_gradient_is_exactly_0_iff_clipped_on_the_side_that_the_advantage_pushes_to(
    batch: Batch,
) -> None:
    a, r = batch.advantage, batch.ratio
    clipped = ((a > 0) & (r > 1.2)) | ((a < 0) & (r < 0.8))
    live = batch.mask & (a != 0)
    assert torch.equal((evaluate(ppo(), batch).grad == 0)[live], clipped[live])


@given(batch=signed)
@example(batch=JUST_OUTSIDE)
def test_a_positive_below_the_range_and_a_negative_above_it_are_not_clipped(batch: Batch) -> None:
    a, r = batch.advantage, batch.ratio
    pessimistic = ((a > 0) & (r < 0.8)) | ((a < 0) & (r > 1.2))
    same(factors(ppo(), batch)[pessimistic], r[pessimistic])


def test_a_ratio_exactly_on_a_bound_is_inside() -> None:
    same(factors(ppo(0.5, 1.0), ON_BOUNDS), ON_BOUNDS.ratio)


@given(batch=signed)
def test_the_loss_is_pointwise_at_least_that_of_the_unclipped_ratio(batch: Batch) -> None:
    for i, j in batch.mask.nonzero().tolist():
        one = make_batch(
            [[float(batch.log_prob[i, j] - batch.old_log_prob[i, j])]],
            [float(batch.advantage[i, j])],
        )
        bare = float(-one.ratio[0, 0] * one.advantage[0, 0])
        assert float(evaluate(ppo(), one).loss) >= bare - 1e-9 * abs(bare)


@given(batch=signed, a=widths, b=widths)
def test_gradients_of_negative_advantages_do_not_depend_on_the_upper_width(batch: Batch, a: float, b: float) -> None:
    negative = batch.mask & (batch.advantage < 0)
    same(evaluate(ppo(0.2, a), batch).grad[negative], evaluate(ppo(0.2, b), batch).grad[negative])


@given(batch=signed, a=widths, b=widths)
def test_gradients_of_positive_advantages_do_not_depend_on_the_lower_width(batch: Batch, a: float, b: float) -> None:
    positive = batch.mask & (batch.advantage > 0)
    same(evaluate(ppo(a, 0.2), batch).grad[positive], evaluate(ppo(b, 0.2), batch).grad[positive])


@given(batch=signed, width=widths, more=st.sampled_from([0.0, 0.05, 0.09]))
def test_widening_the_range_never_enlarges_the_clipped_set(batch: Batch, width: float, more: float) -> None:
    narrow = evaluate(ppo(width, width), batch).grad == 0
    wide = evaluate(ppo(width + more, width + more), batch).grad == 0
    assert not (wide & ~narrow).any()


@given(batch=signed, scale=st.sampled_from([0.25, 2.0, 8.0]))
def test_positively_homogeneous_in_the_advantage(batch: Batch, scale: float) -> None:
    scaled = Batch(**{**vars(batch), "advantage": batch.advantage * scale})
    a, b = evaluate(ppo(), batch), evaluate(ppo(), scaled)
    same(a.loss * scale, b.loss)
    same(a.grad * scale, b.grad)


@given(batch=signed)
def test_widths_of_1_and_infinity_give_unclipped_importance_sampling(batch: Batch) -> None:
    assert_same(evaluate(ppo(1.0, float("inf")), batch), oracle_outcome(oracles.importance_sampling, batch))


@given(batch=signed)
@example(batch=make_batch([[log(3.0) - 1e-9, log(3.0) + 1e-9]], [-1.0], old_log_prob=0.0))
def test_dual_clip_has_no_gradient_where_the_advantage_is_negative_and_the_ratio_above_c(
    batch: Batch,
) -> None:
    recipe = ppo(dual_clip=3.0)
    capped = batch.mask & (batch.advantage < 0) & (batch.ratio > 3.0)
    outcome, plain = evaluate(recipe, batch), evaluate(ppo(), batch)
    assert (outcome.grad[capped] == 0).all()
    same(outcome.grad[~capped], plain.grad[~capped])
    assert_same(outcome, oracle_outcome(lambda b, lp: oracles.ppo(b, lp, dual=3.0), batch))


@given(batch=signed)
def test_dual_clip_is_inert_for_advantages_that_are_not_negative(batch: Batch) -> None:
    positive = Batch(**{**vars(batch), "advantage": batch.advantage.abs()})
    assert_same(evaluate(ppo(dual_clip=3.0), positive), evaluate(ppo(), positive))


@given(batch=signed)
def test_dual_clip_at_infinity_is_ppo(batch: Batch) -> None:
    assert_same(evaluate(ppo(dual_clip=1e300), batch), evaluate(ppo(), batch))


@given(batch=signed)
def test_dapo_with_equal_widths_is_ppo(batch: Batch) -> None:
    assert_same(evaluate(ppo(0.2, 0.2), batch), oracle_outcome(oracles.ppo, batch))


@pytest.mark.parametrize("low", [-0.1, 1.5])
def test_a_lower_width_outside_0_and_1_is_refused(low: float) -> None:
    with pytest.raises(ValueError, match=r"low"):
        ppo(low=low)


def test_a_negative_upper_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"high"):
        ppo(high=-0.1)


def test_a_dual_clip_of_at_most_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"bound must be above 1"):
        ppo(dual_clip=0.9)
