"""Every algorithm (tests/table.py) x every property that all of them have, one test each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    GARBAGE,
    Batch,
    batches,
    make_batch,
    splits,
)
from table import ROWS, Row, assert_same, evaluate, evaluate_split, oracle_outcome

from llmrl import keys
from llmrl.algorithms import ALGORITHMS
from llmrl.testing import check_algorithm


def rows_where(holds: Callable[[Row], bool]) -> pytest.MarkDecorator:
    rows = [row for row in ROWS if holds(row)]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.id)


every = rows_where(lambda row: True)
by_token = rows_where(lambda row: not row.over_batch)
bare = rows_where(lambda row: not row.over_batch and not row.penalty)


def batch_for(row: Row, data: Any, **options: Any) -> Batch:
    """A batch; half of them with an advantage per token where the algorithm allows it."""
    per_token = row.per_token and data.draw(st.booleans(), label="advantage per token")
    return data.draw(batches(per_token=per_token, **options), label="batch")


EXCEPTIONS = {
    "clip_cov": ("ratio_one", "micro_batches"),  # which tokens are dropped depends on the whole micro-batch
    "kl_cov": ("far_ratio",),  # a penalty on few tokens is all that bounds the ratio
}


@every
def test_it_passes_the_checks_that_users_run(row: Row) -> None:
    # test_torchrl.py compiles every loss
    check_algorithm(row.make(), except_for=("compile", *EXCEPTIONS.get(row.name, ())))


def test_every_registered_algorithm_has_a_row() -> None:
    assert set(ALGORITHMS) <= {row.name for row in ROWS}


@rows_where(lambda row: row.oracle is not None)
@given(data=st.data())
def test_value_and_gradient_are_the_papers(row: Row, data: Any) -> None:
    batch = batch_for(row, data)
    theirs = oracle_outcome(row.oracle, batch)
    assert_same(evaluate(row.make(), batch), theirs, value=row.same_value)


@every
@given(data=st.data())
def test_what_lies_under_the_mask_is_never_read(row: Row, data: Any) -> None:
    batch, recipe = batch_for(row, data, at_bounds=True), row.make()
    clean = evaluate(recipe, batch)
    for value in GARBAGE:
        other = evaluate(recipe, batch.filled(value))
        assert torch.equal(other.loss, clean.loss)
        assert torch.equal(other.grad, clean.grad)
        for name, metric in clean.metrics.items():
            assert torch.equal(other.metrics[name], metric), name


@every
@given(data=st.data())
def test_no_gradient_under_the_mask(row: Row, data: Any) -> None:
    batch = batch_for(row, data, at_bounds=True, garbage=True)
    assert (evaluate(row.make(), batch).grad[~batch.mask] == 0).all()


@by_token
@given(data=st.data())
def test_columns_and_rows_without_tokens_may_be_cut_off(row: Row, data: Any) -> None:
    batch, recipe = batch_for(row, data), row.make()
    n, t = batch.mask.shape
    wide = torch.zeros(n + 1, t + 2, dtype=torch.bool)
    wide[1:, 1:-1] = batch.mask

    def pad(x: torch.Tensor) -> torch.Tensor:
        out = torch.full((n + 1, t + 2), 0.5, dtype=x.dtype)
        out[1:, 1:-1] = x
        return out

    names = ("log_prob", "old_log_prob", "advantage", "entropy", "old_entropy")
    padded = Batch(mask=wide, **{name: pad(getattr(batch, name)) for name in names})
    a, b = evaluate(recipe, batch), evaluate(recipe, padded)
    torch.testing.assert_close(a.loss, b.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.grad, b.grad[1:, 1:-1], rtol=1e-12, atol=1e-12)


@by_token
@given(data=st.data())
def test_the_order_of_rows_does_not_matter(row: Row, data: Any) -> None:
    batch, recipe = batch_for(row, data, at_bounds=True), row.make()
    order = data.draw(st.permutations(range(batch.mask.shape[0])))
    a, b = evaluate(recipe, batch), evaluate(recipe, batch.rows(order))
    torch.testing.assert_close(a.loss, b.loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.grad[order], b.grad, rtol=1e-12, atol=1e-12)


@by_token
@given(data=st.data())
def test_any_split_into_micro_batches_sums_to_the_whole(row: Row, data: Any) -> None:
    batch, recipe = batch_for(row, data, at_bounds=True), row.make()
    n = batch.mask.shape[0]
    parts = data.draw(splits(n), label="parts")
    assert_same(evaluate_split(recipe, batch, parts), evaluate(recipe, batch), atol=1e-12)


@bare
@given(data=st.data())
def test_zero_advantage_gives_zero_loss_and_gradient(row: Row, data: Any) -> None:
    batch = data.draw(batches(at_bounds=True, advantage=st.sampled_from([0.0, -0.0])))
    outcome = evaluate(row.make(), batch)
    assert (outcome.grad == 0).all()
    assert outcome.loss == 0


@by_token
@given(data=st.data())
def test_on_policy_the_gradient_is_minus_weight_times_advantage(row: Row, data: Any) -> None:
    batch, recipe = batch_for(row, data, on_policy=True, garbage=True), row.make()
    td = recipe.weigh(batch.td())
    expected = torch.where(batch.mask, -td[keys.WEIGHT] * batch.advantage, 0.0)
    assert_same_gradient(evaluate(recipe, batch).grad, expected)


def assert_same_gradient(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


@bare
@given(batch=batches())
def test_scaling_every_advantage_scales_value_and_gradient(row: Row, batch: Batch) -> None:
    recipe = row.make()
    scaled = Batch(**{**vars(batch), "advantage": batch.advantage * 4})
    a, b = evaluate(recipe, batch), evaluate(recipe, scaled)
    torch.testing.assert_close(a.grad * 4, b.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.loss * 4, b.loss, rtol=1e-12, atol=1e-12)


SMOOTH = make_batch(
    [[0.05, -0.11, 0.13, 0.02], [0.31, -0.07], [-0.29, 0.55, -0.61], [0.09]],
    [1.0, -0.7, 0.4, -1.3],
    old_log_prob=[[-1.0, -0.3, -2.0, -0.7], [-1.4, -3.0], [-0.2, -1.1, -0.9], [-2.2]],
    old_entropy=[[0.4, 1.7, 0.9, 2.3], [3.0, 0.2], [1.1, 0.6, 2.8], [1.3]],
    entropy=[[0.41, 1.72, 0.8, 2.31], [3.01, 0.3], [1.12, 0.61, 2.81], [1.3]],
)


@rows_where(lambda row: row.potential)
def test_the_gradient_is_the_derivative_of_the_value(row: Row) -> None:
    recipe = row.make()
    loss = recipe.loss()

    def value(new: torch.Tensor) -> torch.Tensor:
        out = loss(recipe.weigh(SMOOTH.td(new)))
        return sum(v for k, v in out.items() if k.startswith("loss_"))

    new = SMOOTH.log_prob.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, (new,), eps=1e-7, atol=1e-6)


# The robustness matrix. Rows of equal length keep a live token of every kind beside the bad one.

NAN, INF = float("nan"), float("inf")


def live(*log_ratio: float) -> Batch:
    """The log-ratios as a row each for a positive and a negative advantage, among good tokens."""
    rows = [[0.1, x, -0.05] for x in log_ratio] * 2 + [[x] for x in log_ratio] * 2
    k = len(log_ratio)
    return make_batch(rows, [1.0] * k + [-1.0] * k + [0.7] * k + [-0.7] * k, old_log_prob=-1.0)


def under_mask(new: float, old: float) -> Batch:
    batch = make_batch([[0.1, -0.3, 0.2], [0.05], []], [1.0, -1.0, 0.5], old_entropy=0.7)
    fill = torch.where(batch.mask, 0.0, NAN)
    return Batch(
        torch.where(batch.mask, batch.log_prob, new),
        torch.where(batch.mask, batch.old_log_prob, old),
        batch.advantage + fill,
        batch.mask,
        batch.entropy + fill,
        batch.old_entropy + fill,
    )


MATRIX: dict[str, Batch] = {
    "live token at log-ratio +100": live(100.0),
    "live token at log-ratio -100": live(-100.0),
    "live tokens at +100 and -100 in one batch": live(100.0, -100.0),
    "live token of probability zero": live(-INF),
    "-inf under the mask": under_mask(-INF, -INF),
    "new -inf under the mask": under_mask(-INF, -1.0),
    "old -inf under the mask": under_mask(-1.0, -INF),
    "NaN under the mask": under_mask(NAN, NAN),
    "+100 under the mask": under_mask(99.0, -1.0),
    "+inf under the mask": under_mask(INF, INF),
    "a fully masked row": make_batch([[0.1, 0.2], [], [-0.3]], [1.0, -1.0, -2.0], garbage=NAN),
    "all rows fully masked": make_batch([[], []], [1.0, -1.0], garbage=NAN),
    "responses of length 1": make_batch([[0.1], [-0.4], [0.9]], [1.0, -1.0, 0.3]),
    "a single element": make_batch([[0.3]], [1.0]),
    "a single element, clipped": make_batch([[-0.3]], [-1.0]),
    "no entropy anywhere": make_batch([[0.1, 0.2], [-0.3]], [1.0, -1.0], old_entropy=0.0),
    "entropy of zero becoming positive": make_batch([[0.1, 0.2], [-0.3]], [1.0, -1.0], old_entropy=0.0, entropy=2.0),
    "certain tokens": make_batch([[0.0, -0.1]], [1.0], old_log_prob=0.0, old_entropy=0.0),
    "nearly impossible tokens": make_batch([[0.1, -0.1]], [1.0], old_log_prob=-80.0),
    "large advantages": make_batch([[0.1, 3.0], [0.2, -3.0]], [1e4, -1e4]),
}


@every
@pytest.mark.parametrize("case", MATRIX)
def test_loss_and_gradient_are_finite(row: Row, case: str) -> None:
    batch, recipe = MATRIX[case], row.make()
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        outcome = evaluate(recipe, batch, dtype)
        assert outcome.finite, (dtype, outcome.loss, outcome.grad)
        assert all(metric.isfinite().all() for metric in outcome.metrics.values())
        assert (outcome.grad[~batch.mask] == 0).all()


@every
def test_half_precision_inputs_are_computed_in_float32(row: Row) -> None:
    batch = make_batch([[0.5, -0.25, 0.125], [0.25]], [1.0, -1.0], old_log_prob=-1.0, old_entropy=0.5)
    exact, half = evaluate(row.make(), batch), evaluate(row.make(), batch, torch.bfloat16)
    assert half.loss.dtype == torch.float32
    torch.testing.assert_close(half.loss.double(), exact.loss, rtol=1e-5, atol=1e-5)


@every
@given(batch=batches(at_bounds=True, garbage=True))
def test_finite_for_every_batch(row: Row, batch: Batch) -> None:
    for dtype in (torch.float64, torch.float32):
        outcome = evaluate(row.make(), batch, dtype)
        assert outcome.finite
        assert all(metric.isfinite().all() for metric in outcome.metrics.values())


@rows_where(lambda row: not row.penalty)
@given(data=st.data())
def test_the_fraction_without_gradient_is_counted(row: Row, data: Any) -> None:
    # SAPO's gradient fades and underflows at far larger ratios than these; no token is dropped.
    batch = batch_for(row, data, ratios=st.integers(-700, 700).map(lambda k: k / 2**8))
    outcome = evaluate(row.make(), batch)
    counted = (outcome.grad[batch.mask] == 0) & (batch.advantage[batch.mask] != 0)
    expected = counted.double().mean()
    torch.testing.assert_close(outcome.metrics["zero_grad_fraction"].double(), expected)


@every
def test_no_gradient_flows_into_anything_but_the_log_probability(row: Row) -> None:
    recipe, td = row.make(), SMOOTH.td(SMOOTH.log_prob.clone().requires_grad_())
    others = [
        key for key in (keys.OLD_LOG_PROB, keys.ADVANTAGE, keys.ENTROPY, keys.OLD_ENTROPY) if key in set(recipe.in_keys)
    ]
    for key in others:
        td[key] = td[key].clone().requires_grad_()
    out = recipe.loss()(recipe.weigh(td))
    loss = sum(v for k, v in out.items() if k.startswith("loss_"))
    grads = torch.autograd.grad(loss, [td[key] for key in others], allow_unused=True)
    for key, grad in zip(others, grads, strict=True):
        assert grad is None or (grad == 0).all(), key


@every
def test_a_recipe_prints_every_number_it_was_given(row: Row) -> None:
    text = str(row.make())
    for name, value in row.options.items():
        if value and name not in ("critic", "literal", "token_form", "old_token_ratio"):
            for number in value if isinstance(value, tuple) else (value,):
                assert str(number) in text
