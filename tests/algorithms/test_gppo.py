"""GPPO and CE-GPPO: PPO's value, and a bounded gradient where PPO has none."""

from __future__ import annotations

from math import log

import oracles
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Batch, batches, f64, make_batch, nonzero_advantages
from table import assert_same, evaluate, factors, oracle_outcome

from llmrl.algorithms import algorithm

LO, HI = 0.8, 1.28
NEAR = make_batch(
    [[log(LO) - 1e-9, log(LO) + 1e-9, log(HI) - 1e-9, log(HI) + 1e-9]] * 2,
    [1.0, -1.0],
    old_log_prob=0.0,
)
FAR = make_batch([[8.0, -8.0, 2.0, -2.0]] * 2, [1.0, -1.0])
CORNERS = make_batch([[1.0, -1.0]] * 2, [1.0, -1.0])
signed = batches(per_token=True, advantage=nonzero_advantages)
betas = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 2.0])


def gppo(**options):
    return algorithm("gppo", **{"clip_low": 0.2, "clip_high": 0.28, **options})


def ce_gppo(beta_low: float, beta_high: float, **options):
    widths = {"clip_low": 0.2, "clip_high": 0.28}
    return algorithm("ce_gppo", beta_low=beta_low, beta_high=beta_high, **{**widths, **options})


def ppo(**options):
    return algorithm("dapo", clip_low=0.2, clip_high=0.28, **options)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, equal_nan=True)


@given(batch=signed)
@example(batch=NEAR)
@example(batch=FAR)
def test_the_value_is_ppos_everywhere_with_and_without_dual_clip(batch: Batch) -> None:
    same(evaluate(gppo(), batch).loss, evaluate(ppo(), batch).loss)
    same(evaluate(gppo(dual_clip=3.0), batch).loss, evaluate(ppo(dual_clip=3.0), batch).loss)


@given(batch=signed)
@example(batch=NEAR)
@example(batch=FAR)
def test_the_factor_is_min_r_hi_for_positive_and_max_r_lo_for_negative_advantages(
    batch: Batch,
) -> None:
    expected = torch.where(batch.advantage > 0, batch.ratio.clamp(max=HI), batch.ratio.clamp(min=LO))
    live = batch.mask & (batch.advantage != 0)
    same(factors(gppo(), batch)[live], expected[live])


@given(batch=signed)
@example(batch=FAR)
def test_the_factor_is_at_most_hi_for_positive_and_at_least_lo_for_negative_advantages(
    batch: Batch,
) -> None:
    f = factors(gppo(), batch)
    assert (f[batch.mask & (batch.advantage > 0)] <= HI + 1e-12).all()
    assert (f[batch.mask & (batch.advantage < 0)] >= LO - 1e-12).all()


def test_the_factor_is_continuous_across_the_bounds_where_ppo_jumps_to_0() -> None:
    f, jump = factors(gppo(), NEAR), factors(ppo(), NEAR)
    torch.testing.assert_close(f[:, 0], f[:, 1], rtol=1e-8, atol=0)
    torch.testing.assert_close(f[:, 2], f[:, 3], rtol=1e-8, atol=0)
    assert jump[0, 3] == 0
    assert jump[1, 0] == 0
    assert jump[0, 2] > 1
    assert jump[1, 1] > 0.7


@given(batch=signed)
@example(batch=FAR)
def test_the_gradient_never_vanishes(batch: Batch) -> None:
    live = batch.mask & (batch.advantage != 0)
    assert (evaluate(gppo(), batch).grad[live] != 0).all()


@given(batch=signed)
@example(batch=NEAR)
def test_the_gradient_is_ppos_on_every_token_that_is_not_clipped(batch: Batch) -> None:
    plain = evaluate(ppo(), batch).grad
    kept = plain != 0
    same(evaluate(gppo(), batch).grad[kept], plain[kept])


@given(batch=signed)
@example(batch=CORNERS)
def test_the_gradient_is_cispos_where_ppo_would_clip(batch: Batch) -> None:
    clipped = (evaluate(ppo(), batch).grad == 0) & batch.mask
    cispo = algorithm("cispo", clip_low=0.2, clip_high=0.28)
    same(evaluate(gppo(), batch).grad[clipped], evaluate(cispo, batch).grad[clipped])


def test_the_gradient_is_not_cispos_on_the_two_pessimistic_corners() -> None:
    mine = factors(gppo(), CORNERS)
    cispo = factors(algorithm("cispo", clip_low=0.2, clip_high=0.28), CORNERS)
    same(mine[[0, 1], [1, 0]], CORNERS.ratio[[0, 1], [1, 0]])
    same(cispo[[0, 1], [1, 0]], f64([LO, HI]))


@given(batch=batches(per_token=True, on_policy=True))
def test_on_policy_identical_to_ppo(batch: Batch) -> None:
    assert_same(evaluate(gppo(), batch), evaluate(ppo(), batch))


@given(batch=signed)
def test_with_unbounded_widths_it_is_unclipped_importance_sampling(batch: Batch) -> None:
    recipe = gppo(clip_low=1.0, clip_high=float("inf"))
    assert_same(evaluate(recipe, batch), oracle_outcome(oracles.importance_sampling, batch))


@given(batch=signed)
@example(batch=FAR)
def test_with_dual_clip_the_gradient_is_zero_for_negative_advantages_above_c(batch: Batch) -> None:
    capped = batch.mask & (batch.advantage < 0) & (batch.ratio > 3.0)
    outcome = evaluate(gppo(dual_clip=3.0), batch)
    assert (outcome.grad[capped] == 0).all()
    same(outcome.grad[~capped], evaluate(gppo(), batch).grad[~capped])


def test_the_paper_has_no_dual_clip_and_neither_has_the_default() -> None:
    assert factors(gppo(), make_batch([[4.0]], [-1.0]))[0, 0] > 50


# CE-GPPO


@given(batch=signed)
def test_ce_gppo_with_betas_of_1_is_gppo(batch: Batch) -> None:
    assert_same(evaluate(ce_gppo(1.0, 1.0), batch), evaluate(gppo(), batch))


@given(batch=signed)
def test_ce_gppo_with_betas_of_0_has_ppos_gradient(batch: Batch) -> None:
    assert_same(evaluate(ce_gppo(0.0, 0.0), batch), evaluate(ppo(), batch))


@given(batch=signed, a=betas, b=betas)
@example(batch=CORNERS, a=0.5, b=2.0)
def test_the_gradient_is_affine_in_beta_low_which_touches_only_negative_tokens_below_the_range(
    batch: Batch, a: float, b: float
) -> None:
    own = batch.mask & (batch.advantage < 0) & (batch.ratio < LO)
    zero, one = evaluate(ce_gppo(0.0, b), batch).grad, evaluate(ce_gppo(1.0, b), batch).grad
    some = evaluate(ce_gppo(a, b), batch).grad
    same(some, zero + a * (one - zero))
    same(some[~own], zero[~own])


@given(batch=signed, a=betas, b=betas)
@example(batch=CORNERS, a=2.0, b=0.5)
def test_the_gradient_is_affine_in_beta_high_which_touches_only_positive_tokens_above_the_range(
    batch: Batch, a: float, b: float
) -> None:
    own = batch.mask & (batch.advantage > 0) & (batch.ratio > HI)
    zero, one = evaluate(ce_gppo(a, 0.0), batch).grad, evaluate(ce_gppo(a, 1.0), batch).grad
    some = evaluate(ce_gppo(a, b), batch).grad
    same(some, zero + b * (one - zero))
    same(some[~own], zero[~own])


@given(batch=signed, a=betas, b=betas)
@example(batch=CORNERS, a=0.5, b=2.0)
def test_the_factors_of_clipped_tokens_are_beta_times_the_bound(batch: Batch, a: float, b: float) -> None:
    f = factors(ce_gppo(a, b), batch)
    low = batch.mask & (batch.advantage < 0) & (batch.ratio < LO)
    high = batch.mask & (batch.advantage > 0) & (batch.ratio > HI)
    same(f[low], torch.full_like(f[low], a * LO))
    same(f[high], torch.full_like(f[high], b * HI))


@given(batch=batches(per_token=True, on_policy=True), a=betas, b=betas)
def test_on_policy_independent_of_beta(batch: Batch, a: float, b: float) -> None:
    assert_same(evaluate(ce_gppo(a, b), batch), evaluate(ppo(), batch))


@given(batch=signed, a=betas, b=betas)
def test_the_value_is_ppos_for_every_beta(batch: Batch, a: float, b: float) -> None:
    same(evaluate(ce_gppo(a, b), batch).loss, evaluate(ppo(), batch).loss)


@given(batch=signed, a=betas, b=betas)
def test_the_gradient_is_that_of_the_papers_literal_form(batch: Batch, a: float, b: float) -> None:
    def literal(batch, lp):
        return oracles.ce_gppo(batch, lp, beta_low=a, beta_high=b, high=0.28, literal=True)

    assert_same(evaluate(ce_gppo(a, b), batch), oracle_outcome(literal, batch), value=False)
