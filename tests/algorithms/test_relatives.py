"""CISPO, SAPO, GMPO, Clip-Cov, KL-Cov, ASPO, DCPO, and the weights for a sampler that differs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import exp, log

import oracles
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import Batch, batches, f64, make_batch, nonzero_advantages
from table import assert_same, evaluate, factors, oracle_outcome

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.algorithms.algorithm import term
from llmrl.losses import (
    EntropyBonus,
    GradientPreserving,
    KLToReference,
    PositiveNLL,
    PPOClip,
    SequenceMIS,
    TokenTIS,
    ValueLoss,
)

INF = float("inf")
signed = batches(per_token=True, advantage=nonzero_advantages)
by_row = batches(advantage=nonzero_advantages)
LADDER = [k / 8 for k in range(-24, 25)]
UP = make_batch([LADDER], [1.0])
DOWN = make_batch([LADDER], [-1.0])


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


# CISPO


@given(batch=signed)
@example(batch=UP)
@example(batch=DOWN)
def test_cispo_gradient_is_minus_w_a_times_the_clipped_ratio_and_never_zero(batch: Batch) -> None:
    f = factors(algorithm("cispo", clip_low=0.2, clip_high=0.28), batch)[batch.mask]
    same(f, batch.ratio.clamp(0.8, 1.28)[batch.mask])
    assert (f != 0).all()


@given(batch=signed)
@example(batch=DOWN)
def test_cispo_bounds_the_ratio_from_above_alone_by_default(batch: Batch) -> None:
    theirs = oracle_outcome(lambda b, lp: oracles.cispo(b, lp, low=INF, high=0.28), batch)
    assert_same(evaluate(algorithm("cispo", clip_high=0.28), batch), theirs)


@given(batch=batches(per_token=True, ratios=st.integers(-200, 180).map(lambda k: k / 2**10)))
def test_cispo_equals_ppo_strictly_inside_the_bounds(batch: Batch) -> None:
    cispo = evaluate(algorithm("cispo", clip_low=0.2, clip_high=0.28), batch)
    assert_same(cispo, evaluate(algorithm("dapo"), batch), value=False)


def test_cispo_value_is_minus_a_log_pi_on_policy() -> None:
    batch = make_batch([[0.0]], [2.0], old_log_prob=-1.5)
    same(evaluate(algorithm("cispo"), batch).loss, f64(3.0))


# SAPO


def test_sapo_weight_is_even_in_the_distance_of_the_ratio_from_1() -> None:
    for d in (0.1, 0.4, 0.9):
        for a in (1.0, -1.0):
            batch = make_batch([[log(1 - d), log(1 + d)]], [a], old_log_prob=0.0)
            weight = factors(algorithm("sapo"), batch) / batch.ratio
            same(weight[0, 0], weight[0, 1])


@pytest.mark.parametrize("batch", [UP, DOWN])
def test_sapo_weight_is_1_at_ratio_1_and_strictly_decreases_away_from_it(batch: Batch) -> None:
    weight = (factors(algorithm("sapo"), batch) / batch.ratio)[0]
    middle = LADDER.index(0.0)
    same(weight[middle], f64(1.0))
    assert (weight[middle:].diff() < 0).all()
    assert (weight[: middle + 1].diff() > 0).all()


@given(batch=signed)
def test_sapo_factor_is_r_times_the_squared_hyperbolic_secant(batch: Batch) -> None:
    tau = torch.where(batch.advantage > 0, f64(1.0), f64(1.05))
    r = batch.ratio
    expected = r / torch.cosh((tau * (r - 1) / 2).clamp(max=300)) ** 2
    torch.testing.assert_close(
        factors(algorithm("sapo"), batch)[batch.mask], expected[batch.mask], rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize(("a", "tau"), [(1.0, 1.0), (-1.0, 1.05)])
def test_sapo_value_at_ratio_1_is_minus_2_a_over_tau(a: float, tau: float) -> None:
    loss = evaluate(algorithm("sapo"), make_batch([[0.0]], [a])).loss
    same(loss, f64(-2 * a / tau))


@given(batch=batches(per_token=True, ratios=st.integers(-200, 200).map(lambda k: k / 2**8)))
def test_sapo_with_vanishing_tau_has_the_gradient_of_importance_sampling(batch: Batch) -> None:
    recipe = algorithm("sapo", tau_positive=1e-6, tau_negative=1e-6)
    wide = oracle_outcome(lambda b, lp: oracles.grpo(b, lp, low=INF, high=INF), batch)
    torch.testing.assert_close(evaluate(recipe, batch).grad, wide.grad, rtol=1e-8, atol=1e-10)


# GMPO


@given(batch=by_row)
def test_gmpo_gradient_is_0_on_clipped_tokens_and_shared_by_the_others(batch: Batch) -> None:
    grad = evaluate(algorithm("gmpo"), batch).grad
    d = batch.log_prob - batch.old_log_prob
    clipped = torch.where(batch.advantage > 0, d > 0.4, d < -0.4)
    rows = int((batch.lengths > 0).sum())
    for i in range(len(d)):
        m = batch.mask[i]
        if not m.any():
            continue
        a = float(batch.advantage[i][m][0])
        bounded = d[i][m].clamp(max=0.4) if a > 0 else d[i][m].clamp(min=-0.4)
        g = float(bounded.mean().exp())
        expected = torch.where(clipped[i][m], f64(0.0), f64(-a * g / (rows * int(m.sum()))))
        same(grad[i][m], expected)


@given(batch=batches(max_tokens=1, advantage=nonzero_advantages))
def test_gmpo_with_one_token_is_ppo_with_bounds_e_to_the_minus_and_plus_epsilon(
    batch: Batch,
) -> None:
    def ppo(b, lp):
        return oracles.grpo(b, lp, low=1 - exp(-0.4), high=exp(0.4) - 1)

    assert_same(evaluate(algorithm("gmpo"), batch), oracle_outcome(ppo, batch))


def test_gmpo_clips_only_the_side_that_the_advantage_pushes_to() -> None:
    f = factors(algorithm("gmpo"), make_batch([[0.5], [-0.5], [0.5], [-0.5]], [1.0, 1.0, -1.0, -1.0]))
    same(f[:, 0], f64([0.0, exp(-0.5), exp(0.5), 0.0]))


# Clip-Cov and KL-Cov


@given(batch=signed)
def test_kl_cov_penalises_the_tokens_of_the_largest_covariance(batch: Batch) -> None:
    cov = sorted(oracles.covariances(batch, batch.log_prob).values())
    assume(all(b - a > 1e-9 for a, b in pairwise(cov)))
    recipe = algorithm("kl_cov", fraction=0.3, coefficient=0.5)
    theirs = oracle_outcome(lambda b, lp: oracles.kl_cov(b, lp, ratio=0.3, coef=0.5), batch)
    assert_same(evaluate(recipe, batch), theirs)


@given(batch=batches(per_token=True, on_policy=True))
def test_kl_cov_is_inert_on_policy(batch: Batch) -> None:
    bare = oracle_outcome(oracles.importance_sampling, batch)
    assert_same(evaluate(algorithm("kl_cov"), batch), bare)


def test_kl_cov_has_no_gradient_from_rounding() -> None:
    batch = make_batch([[4e-7, -3e-7, 2e-7]], [[1.0, -1.0, 0.5]])
    bare = oracle_outcome(oracles.importance_sampling, batch)
    assert_same(evaluate(algorithm("kl_cov", fraction=1.0), batch), bare)


COV = make_batch([[0.0] * 20], [[1.0] * 10 + [-1.0] * 10], old_log_prob=[[-0.1] * 10 + [-6.0] * 10])


def test_clip_cov_drops_the_gradient_of_the_share_it_picks() -> None:
    cov = oracles.covariances(COV, COV.log_prob)
    candidates = torch.tensor([1.0 < cov[0, j] < 5.0 for j in range(20)])
    assert candidates.all()
    recipe = algorithm("clip_cov", fraction=0.25)
    grad = evaluate(recipe, COV).grad[0]
    assert int((grad == 0).sum()) == 5
    full = oracle_outcome(oracles.ppo, COV).grad[0]
    same(grad[grad != 0], full[grad != 0])


def test_clip_cov_always_drops_at_least_one_candidate() -> None:
    grad = evaluate(algorithm("clip_cov"), COV).grad[0]
    assert int((grad == 0).sum()) == 1


def test_clip_cov_draws_among_tokens_within_its_band_that_are_not_clipped() -> None:
    # Covariances, by position: clipped 4 x, within the band 4 x, above the band 4 x; the rest below.
    batch = make_batch(
        [[0.5] * 4 + [0.0] * 4 + [0.0] * 4 + [0.0] * 12],
        [[1.0] * 4 + [1.0] * 4 + [3.0] * 4 + [-1.0] * 12],
        old_log_prob=[[-0.6] * 4 + [-0.1] * 4 + [-0.1] * 4 + [-4.0] * 12],
    )
    cov = [oracles.covariances(batch, batch.log_prob)[0, j] for j in range(24)]
    low, high = min(cov[4:8]) - 0.1, max(cov[4:8]) + 0.1
    assert all(low < c < high for c in cov[:8])
    assert all(c > high for c in cov[8:12])
    recipe = algorithm("clip_cov", fraction=0.9, cov_low=low, cov_high=high, clip_low=0.2, clip_high=0.2)
    # A clip that keeps its gradient shows that the gate left the clipped tokens alone.
    recipe = replace(recipe, clip=GradientPreserving(base=PPOClip(low=0.2, high=0.2)))
    grad = evaluate(recipe, batch).grad[0]
    dropped = (grad == 0).tolist()
    assert dropped[:4] == [False] * 4
    assert dropped[4:8] == [True] * 4
    assert dropped[8:12] == [False] * 4


def test_clip_cov_leaves_covariances_outside_its_band_alone() -> None:
    calm = make_batch([[0.0] * 8], [1.0])
    assert_same(evaluate(algorithm("clip_cov"), calm), oracle_outcome(oracles.ppo, calm))


# ASPO


@given(batch=signed)
@example(batch=UP)
@example(batch=DOWN)
def test_aspo_factor_is_the_flipped_ratio_for_positive_advantages(batch: Batch) -> None:
    f, r = factors(algorithm("aspo", kl=0.0), batch), batch.ratio
    up = batch.mask & (batch.advantage > 0)
    same(f[up], torch.where(r <= 1.2, (1 / r).clamp(max=3.0), torch.zeros(()).double())[up])


@given(batch=signed)
@example(batch=UP)
@example(batch=DOWN)
def test_aspo_factor_is_the_ratio_within_lo_and_c_for_negative_advantages(batch: Batch) -> None:
    f, r = factors(algorithm("aspo", kl=0.0), batch), batch.ratio
    down = batch.mask & (batch.advantage < 0)
    same(f[down], torch.where(r >= 0.8, r.clamp(max=3.0), torch.zeros(()).double())[down])


@given(batch=batches(per_token=True, on_policy=True))
def test_aspo_on_policy_gradient_equals_the_token_means(batch: Batch) -> None:
    assert_same(evaluate(algorithm("aspo", kl=0.0), batch), oracle_outcome(oracles.ppo, batch), value=False)


# DCPO


@given(batch=signed)
def test_dcpo_clips_at_bounds_that_depend_on_the_old_probability(batch: Batch) -> None:
    f = factors(algorithm("dcpo"), batch)
    for i, j in batch.mask.nonzero().tolist():
        r, a = float(batch.ratio[i, j]), float(batch.advantage[i, j])
        lo, hi = oracles.dcpo_bounds(exp(float(batch.old_log_prob[i, j])))
        expected = 0.0 if (a > 0 and r > hi) or (a < 0 and r < lo) else r
        assert float(f[i, j]) == pytest.approx(expected, rel=1e-9)


def dcpo_edges(q: float) -> tuple[float, float]:
    """The bounds at which gradients stop, found by bisection."""
    edges = []
    for a, inside, outside in ((-1.0, 1.0, 1e-6), (1.0, 1.0, 50.0)):
        for _ in range(60):
            middle = (inside + outside) / 2
            batch = make_batch([[log(middle)]], [a], old_log_prob=log(q))
            live = float(evaluate(algorithm("dcpo"), batch).grad) != 0
            inside, outside = (middle, outside) if live else (inside, middle)
        edges.append(inside)
    return edges[0], edges[1]


def test_dcpo_lower_bound_rises_from_a_half_and_upper_falls_with_the_old_probability() -> None:
    edges = [dcpo_edges(q) for q in (0.001, 0.01, 0.7, 0.9, 1.0)]
    lows, highs = zip(*edges, strict=True)
    assert list(lows) == sorted(lows)
    assert list(highs) == sorted(highs, reverse=True)
    assert all(0.5 - 1e-9 <= low <= 1 for low in lows)
    assert all(1 <= high <= 10 + 1e-9 for high in highs)
    assert highs[0] == pytest.approx(10.0, rel=1e-6)
    assert edges[-1] == pytest.approx(oracles.dcpo_bounds(1.0), rel=1e-6)


# TIS and MIS


def corrected(recipe, batch: Batch, log_rho: float, log_prob: torch.Tensor):
    """Weights where the sampler gave every token exp(-log_rho) times the trainer's probability."""
    td = batch.td(log_prob)
    td[keys.SAMPLER_LOG_PROB] = batch.old_log_prob - log_rho
    return recipe.weigh(td)


@pytest.mark.parametrize("base", ["dapo", "gspo", "espo", "sapo"])
@pytest.mark.parametrize("name", ["tis", "mis"])
@given(batch=by_row)
def test_a_correction_is_the_identity_if_the_sampler_is_the_trainer(name: str, base: str, batch: Batch) -> None:
    assert_same(evaluate(algorithm(f"{name}+{base}"), batch), evaluate(algorithm(base), batch))


@given(batch=signed, log_rho=st.sampled_from([-1.0, 0.25, 0.5, 2.0]))
def test_the_gradient_is_the_bases_times_the_constant_weight(batch: Batch, log_rho: float) -> None:
    plain = evaluate(algorithm("dapo"), batch)
    for name, factor in (
        ("tis", min(exp(log_rho), 2.0)),
        ("mis", exp(log_rho) if exp(log_rho) <= 3 else 0.0),
    ):
        recipe = algorithm(name, **({"sequence": False} if name == "mis" else {}))
        new = batch.log_prob.clone().requires_grad_()
        td = corrected(recipe, batch, log_rho, new)
        assert not td[keys.POLICY_WEIGHT].requires_grad
        loss = recipe.loss()(td)["loss_objective"]
        (grad,) = torch.autograd.grad(loss, new)
        same(grad, plain.grad * factor)
        same(loss.detach(), plain.loss * factor)


def test_sequence_corrections_multiply_over_the_response() -> None:
    batch = make_batch([[0.1, 0.1], [0.1]], [1.0, 1.0])
    plain = algorithm("dapo").weigh(batch.td())[keys.WEIGHT]
    tis = corrected(algorithm("tis", sequence=True, cap=10.0), batch, 0.5, batch.log_prob)
    same(tis[keys.POLICY_WEIGHT], plain * f64([[exp(1.0)], [exp(0.5)]]))
    mis = corrected(algorithm("mis", correction_high=2.0), batch, 0.5, batch.log_prob)
    same(mis[keys.POLICY_WEIGHT], plain * f64([[0.0], [exp(0.5)]]))


def test_the_sampler_is_read_only_where_it_is_corrected_for() -> None:
    assert keys.SAMPLER_LOG_PROB in algorithm("tis").in_keys
    assert keys.SAMPLER_LOG_PROB not in algorithm("dapo").in_keys


@pytest.mark.parametrize("name", ["tis", "mis", "tis+mis"])
def test_corrections_weigh_the_policy_loss_alone(name: str) -> None:
    batch = make_batch([[0.1, -0.3], [0.2]], [1.0, -1.0])
    plain = Algorithm(
        name="plain",
        terms=(
            term(KLToReference, coefficient=0.5),
            term(ValueLoss, coefficient=0.5),
            term(EntropyBonus, coefficient=0.5),
            term(PositiveNLL, coefficient=0.5),
        ),
    )
    recipe = replace(plain, corrections=algorithm(f"{name}+dapo").corrections)
    outs = []
    for one in (plain, recipe):
        td = batch.td(batch.log_prob.clone())
        td[keys.SAMPLER_LOG_PROB] = batch.old_log_prob - 2.0
        td[keys.REF_LOG_PROB] = batch.old_log_prob + 0.3
        td[keys.REWARD] = f64([[1.0], [0.0]])
        for shift, key in enumerate((keys.VALUE, keys.OLD_VALUE, keys.VALUE_TARGET)):
            td[key] = batch.old_log_prob + shift
        outs.append(one.loss()(one.weigh(td)))
    without, corrected_out = outs
    assert without["loss_objective"] != corrected_out["loss_objective"]
    for entry in ("loss_kl", "loss_value", "loss_entropy", "loss_nll"):
        assert without[entry] != 0
        assert without[entry] == corrected_out[entry]


@pytest.mark.parametrize("name", ["tis+mis+grpo", "mis+tis+grpo"])
def test_a_mask_beside_a_truncation_only_leaves_out(name: str) -> None:
    batch = make_batch([[0.1, 0.1, 0.1], [0.1]], [1.0, 1.0])
    recipe = algorithm(name, sequence=name.startswith("mis"), kl=0.0)
    assert {type(c) for c in recipe.corrections} == {TokenTIS, SequenceMIS}
    plain = algorithm("grpo", kl=0.0).weigh(batch.td())[keys.WEIGHT]
    found = corrected(recipe, batch, 0.5, batch.log_prob)  # rho of the responses: exp(1.5) > 3, exp(0.5)
    same(found[keys.POLICY_WEIGHT], plain * f64([[0.0], [exp(0.5)]]))
    same(found[keys.WEIGHT], plain)


def test_responses_are_left_out_by_the_geometric_mean_of_their_factors() -> None:
    batch = make_batch([[0.1, 0.1]], [1.0])
    plain = algorithm("dapo").weigh(batch.td())[keys.WEIGHT]
    for gap, factor in ((0.009, 1.0), (0.02, 0.0), (-0.02, 0.0)):
        found = corrected(algorithm("mis", geometric=True), batch, gap, batch.log_prob)
        same(found[keys.POLICY_WEIGHT], plain * factor)
    wide = corrected(algorithm("mis", geometric=True, correction_high=1.1), batch, 0.02, batch.log_prob)
    same(wide[keys.POLICY_WEIGHT], plain)


def test_a_token_is_not_weighed_by_rho_twice() -> None:
    with pytest.raises(ValueError, match=r"would weigh a token .* twice"):
        algorithm("tis+tis+dapo")
    with pytest.raises(ValueError, match=r"weigh=False"):
        Algorithm(name="mine", corrections=(TokenTIS(), SequenceMIS()))
    assert algorithm("mis+mis+dapo").corrections[0] == SequenceMIS(high=3.0, weigh=False)
