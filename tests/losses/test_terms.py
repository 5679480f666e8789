"""The losses beside the policy loss: value, KL to a reference, entropy, correct answers."""

from __future__ import annotations

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Batch, batches, f64, make_batch
from tensordict import TensorDict

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.losses import (
    EntropyBonus,
    KLToReference,
    OffPolicy,
    PositiveNLL,
    TokenMean,
    ValueLoss,
    absolute,
    k1,
    k2,
    k3,
    k3_straight_through,
)

INF, NAN = float("inf"), float("nan")


def weighed(batch: Batch, **entries: torch.Tensor) -> TensorDict:
    td = batch.td()
    for name, value in entries.items():
        td[getattr(keys, name)] = value
    td[keys.WEIGHT] = TokenMean()(batch.mask)
    return td


# KL. Over a categorical everything can be summed exactly: the "tokens" are all its words, the
# weight of each is its probability under the policy that sampled.

LOGITS = torch.tensor([0.3, -0.7, 1.1, 0.0], dtype=torch.float64)
REF = torch.tensor([-0.2, 0.4, 0.5, -1.0], dtype=torch.float64).log_softmax(0)
OLD = torch.tensor([0.1, 0.1, 0.6, 0.3], dtype=torch.float64).log_softmax(0)


def expected_kl(estimator, sampled_from: torch.Tensor | None = None):
    """Value and gradient with respect to the logits, in expectation over one sampled token."""
    logits = LOGITS.clone().requires_grad_()
    log_pi = logits.log_softmax(0)
    old = log_pi.detach() if sampled_from is None else sampled_from
    td = TensorDict(batch_size=[1])
    td[keys.MASK] = torch.ones(1, 4, dtype=torch.bool)
    td[keys.LOG_PROB], td[keys.OLD_LOG_PROB], td[keys.REF_LOG_PROB] = (
        log_pi[None],
        old[None],
        REF[None],
    )
    td[keys.WEIGHT] = old.exp()[None]
    loss = KLToReference(estimator=estimator, coefficient=1.0)(td)["loss_kl"]
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


def true_kl(forward: bool = True):
    logits = LOGITS.clone().requires_grad_()
    log_pi = logits.log_softmax(0)
    kl = (log_pi.exp() * (log_pi - REF)).sum() if forward else (REF.exp() * (REF - log_pi)).sum()
    return kl.detach(), torch.autograd.grad(kl, logits)[0]


@pytest.mark.parametrize("estimator", [k1, k3, k3_straight_through])
def test_k1_and_k3_are_the_kl_in_expectation(estimator) -> None:
    torch.testing.assert_close(expected_kl(estimator)[0], true_kl()[0])


def test_k2_is_not_the_kl_in_expectation() -> None:
    assert abs(expected_kl(k2)[0] - true_kl()[0]) > 1e-3


def test_as_a_loss_k1_has_no_gradient_in_expectation() -> None:
    torch.testing.assert_close(expected_kl(k1)[1], torch.zeros(4).double())


@pytest.mark.parametrize("estimator", [k2, k3_straight_through])
def test_as_a_loss_k2_has_the_gradient_of_kl_of_the_policy_to_the_reference(estimator) -> None:
    torch.testing.assert_close(expected_kl(estimator)[1], true_kl()[1])


def test_as_a_loss_k3_has_the_gradient_of_kl_of_the_reference_to_the_policy() -> None:
    torch.testing.assert_close(expected_kl(k3)[1], true_kl(forward=False)[1])


@pytest.mark.parametrize("base", [k1, k3])
def test_off_policy_corrected_it_is_the_kl_and_its_gradient_on_samples_of_the_old_policy(
    base,
) -> None:
    value, grad = expected_kl(OffPolicy(base), OLD)
    torch.testing.assert_close(value, true_kl()[0])
    torch.testing.assert_close(grad, true_kl()[1])


@given(new=st.floats(-8, 0), ref=st.floats(-8, 0))
def test_estimators_are_their_formulas(new: float, ref: float) -> None:
    batch = make_batch([[0.0]], [1.0], old_log_prob=new)
    td = weighed(batch, REF_LOG_PROB=f64([[ref]]))
    for name, estimator in (("k1", k1), ("k2", k2), ("k3", k3), ("k3", k3_straight_through), ("abs", absolute)):
        out = KLToReference(estimator=estimator, coefficient=0.5)(td)
        expected = oracles.kl_terms(new, ref)[name]
        assert float(out["loss_kl"]) == pytest.approx(0.5 * expected, rel=1e-9, abs=1e-12)
        assert float(out["kl_to_ref"]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(batch=batches(at_bounds=True, garbage=True), value=st.sampled_from([-1.0, -50.0, -INF]))
@pytest.mark.parametrize("estimator", [k1, k2, k3, absolute, k3_straight_through, OffPolicy(k3)])
def test_kl_is_finite_for_every_batch(estimator, batch: Batch, value: float) -> None:
    new = batch.log_prob.clone().requires_grad_()
    td = weighed(batch, LOG_PROB=new, REF_LOG_PROB=torch.full_like(new, value))
    loss = KLToReference(estimator=estimator)(td)["loss_kl"]
    (grad,) = torch.autograd.grad(loss, new)
    assert loss.isfinite()
    assert grad.isfinite().all()
    assert (grad[~batch.mask] == 0).all()


@given(batch=batches())
def test_kl_is_averaged_with_the_weights_of_the_policy_loss(batch: Batch) -> None:
    ref = torch.full_like(batch.log_prob, -1.5)
    td = weighed(batch, REF_LOG_PROB=ref)
    d = ref - batch.log_prob
    terms = torch.where(batch.mask, torch.expm1(d) - d, 0.0)
    expected = 0.04 * (terms.sum() / batch.mask.sum())
    torch.testing.assert_close(KLToReference()(td)["loss_kl"], expected)


# The value


values = st.integers(-64, 64).map(lambda k: k / 16)


@st.composite
def value_batches(draw):
    batch = draw(batches())
    cells = [torch.zeros_like(batch.log_prob) for _ in range(3)]
    for i, j in batch.mask.nonzero().tolist():
        for x in cells:
            x[i, j] = draw(values)
    return batch, *cells


@given(case=value_batches(), width=st.sampled_from([0.2, 0.5, 1.0]))
def test_the_value_loss_is_half_the_larger_of_the_two_squared_errors(case, width: float) -> None:
    batch, value, old, target = case
    value = value.requires_grad_()
    td = weighed(batch, VALUE=value, OLD_VALUE=old, VALUE_TARGET=target)
    loss = ValueLoss(clip=width, coefficient=1.0)(td)["loss_value"]
    cells = batch.mask.nonzero().tolist()
    theirs = sum(
        oracles.value_loss(value[i, j], float(old[i, j]), float(target[i, j]), width=width) for i, j in cells
    ) / len(cells)
    torch.testing.assert_close(loss, theirs)
    (mine,) = torch.autograd.grad(loss, value)
    other = torch.autograd.grad(theirs, value)[0] if theirs.requires_grad else None
    tie = (value - target).square() == ((old + (value - old).clamp(-width, width)) - target).square()
    other = torch.zeros_like(mine) if other is None else other
    torch.testing.assert_close(
        mine[~tie | ((value - old).abs() <= width)], other[~tie | ((value - old).abs() <= width)]
    )


@given(case=value_batches())
def test_the_clipped_value_loss_is_at_least_the_unclipped(case) -> None:
    batch, value, old, target = case
    td = weighed(batch, VALUE=value, OLD_VALUE=old, VALUE_TARGET=target)
    clipped = ValueLoss(clip=0.5)(td)["loss_value"]
    assert clipped >= ValueLoss(clip=None)(td)["loss_value"] - 1e-12


@given(case=value_batches())
def test_no_gradient_where_the_clipped_branch_strictly_dominates_and_the_value_moved_too_far(
    case,
) -> None:
    batch, value, old, target = case
    value = value.requires_grad_()
    td = weighed(batch, VALUE=value, OLD_VALUE=old, VALUE_TARGET=target)
    out = ValueLoss(clip=0.5)(td)
    (grad,) = torch.autograd.grad(out["loss_value"], value)
    held = old + (value.detach() - old).clamp(-0.5, 0.5)
    dominated = (held - target).square() > (value.detach() - target).square()
    assert (grad[dominated & batch.mask] == 0).all()
    fraction = dominated[batch.mask].double().mean()
    torch.testing.assert_close(out["value_clip_fraction"].double(), fraction)


def test_the_value_loss_reads_nothing_under_the_mask() -> None:
    batch = make_batch([[0.1, 0.2], [0.3]], [1.0, 1.0])
    dirty = torch.where(batch.mask, 0.5, NAN).double()
    value = dirty.clone().requires_grad_()
    td = weighed(batch, VALUE=value, OLD_VALUE=dirty, VALUE_TARGET=dirty + 1)
    loss = ValueLoss()(td)["loss_value"]
    (grad,) = torch.autograd.grad(loss, value)
    assert loss.isfinite()
    assert (grad[~batch.mask] == 0).all()


# Entropy and correct answers


@given(batch=batches(garbage=True))
def test_the_entropy_bonus_is_minus_the_weighted_entropy(batch: Batch) -> None:
    entropy = batch.entropy.clone().requires_grad_()
    loss = EntropyBonus(coefficient=0.5)(weighed(batch, ENTROPY=entropy))["loss_entropy"]
    (grad,) = torch.autograd.grad(loss, entropy)
    weight = TokenMean()(batch.mask)
    torch.testing.assert_close(loss.detach(), -0.5 * batch.entropy[batch.mask].sum() / batch.mask.sum())
    torch.testing.assert_close(grad, -0.5 * weight)


@given(batch=batches(garbage=True))
def test_the_nll_imitates_correct_responses_alone(batch: Batch) -> None:
    new = batch.log_prob.clone().requires_grad_()
    n = len(batch.mask)
    reward = torch.tensor([[float(i % 2)] for i in range(n)])
    td = weighed(batch, LOG_PROB=new, REWARD=reward)
    term = PositiveNLL(coefficient=0.1)
    td.update(term.prepare(td))
    loss = term(td)["loss_nll"]
    (grad,) = torch.autograd.grad(loss, new)
    chosen = batch.mask & (reward >= 1)
    count = chosen.sum().clamp_min(1)  # of the correct responses alone
    torch.testing.assert_close(grad, -0.1 * chosen.double() / count)
    torch.testing.assert_close(loss.detach(), -0.1 * batch.log_prob[chosen].sum() / count)


@pytest.mark.parametrize("right", [1, 2, 6])
def test_the_strength_of_imitation_does_not_depend_on_the_share_of_correct_responses(right: int) -> None:
    batch = make_batch([[0.1, 0.2], [0.3], [0.1], [0.1, 0.1, 0.1], [0.2], [0.3]], [1.0] * 6)
    td, recipe = batch.td(), algorithm("gppo", positive_nll=0.1)
    td[keys.REWARD] = (torch.arange(6) < right)[:, None].double()
    whole = recipe.weigh(td)
    assert float(whole[keys.POSITIVE_WEIGHT].sum()) == pytest.approx(1.0)
    loss = recipe.loss()
    parts = [loss(whole[rows])["loss_nll"] for rows in ([0], [1, 2], [3, 4, 5])]
    torch.testing.assert_close(sum(parts), loss(whole)["loss_nll"], rtol=1e-12, atol=0)
    chosen = batch.mask & (td[keys.REWARD] >= 1)
    torch.testing.assert_close(sum(parts), -0.1 * batch.log_prob[chosen].mean())


def test_without_a_correct_response_nothing_is_imitated() -> None:
    batch = make_batch([[0.1]], [1.0])
    td, recipe = batch.td(), algorithm("gppo", positive_nll=0.1)
    td[keys.REWARD] = torch.zeros(1, 1)
    assert float(recipe.loss()(recipe.weigh(td))["loss_nll"]) == 0
    assert keys.REWARD in recipe.in_keys
    assert keys.POSITIVE_WEIGHT not in recipe.in_keys


@pytest.mark.parametrize("term", [KLToReference, EntropyBonus, PositiveNLL, ValueLoss])
def test_a_negative_coefficient_is_refused(term) -> None:
    with pytest.raises(ValueError, match=r"coefficient"):
        term(coefficient=-1.0)
