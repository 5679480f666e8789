"""ESPO: groups of like entropy, a ratio and a clip width for each.

The numbered sections follow the list of ESPO's invariants; a test is about the default reading
unless its name says otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log

import oracles
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import LN_V, Batch, batches, f64, make_batch, nonzero_advantages, splits
from table import Outcome, assert_same, evaluate, evaluate_split, factors, oracle_outcome

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.losses import (
    BatchEntropySegments,
    EntropyAdaptiveClip,
    EntropyThresholds,
    SequenceMean,
    token_entropy,
)

INF = float("inf")
ONE = EntropyThresholds(thresholds=(1e9,))  # nats: all tokens are below, in one segment
signed = batches(advantage=nonzero_advantages)
gentle = batches(advantage=nonzero_advantages, ratios=st.integers(-64, 64).map(lambda k: k / 2**12))
FIVE = make_batch([[0.02, -0.01, 0.03, 0.01, -0.02]], [1.0], old_entropy=[[0.5, 3.0, 0.1, 0.2, 0.4]])


def espo(**options):
    return algorithm("espo", **options)


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)


def partition(recipe, batch: Batch) -> torch.Tensor:
    return recipe.weigh(batch.td())[keys.SEGMENT]


def evaluate_ids(recipe, batch: Batch, ids: torch.Tensor) -> Outcome:
    """Value and gradient with the groups that the batch brings."""
    new = batch.log_prob.clone().requires_grad_()
    td = batch.td(new)
    td[keys.SEGMENT] = ids
    loss = recipe.loss()(recipe.weigh(td))["loss_objective"]
    return Outcome(loss.detach(), torch.autograd.grad(loss, new)[0])


def groups_of(recipe, batch: Batch) -> list[torch.Tensor]:
    """A mask of cells for every group of every sequence."""
    ids = partition(recipe, batch)
    out = []
    for i in range(ids.shape[0]):
        for k in ids[i][batch.mask[i]].unique():
            cells = torch.zeros_like(batch.mask)
            cells[i] = batch.mask[i] & (ids[i] == k)
            out.append(cells)
    return out


def with_entropy(batch: Batch, old_entropy: torch.Tensor) -> Batch:
    return replace(batch, old_entropy=old_entropy)


# 1


@given(batch=signed)
@example(batch=FIVE)
def test_one_group_with_fixed_widths_is_gspo(batch: Batch) -> None:
    one = espo(partition=ONE, fixed_clip=(3e-4, 4e-4))
    assert_same(evaluate(one, batch), oracle_outcome(oracles.gspo, batch))
    assert_same(evaluate(one, batch), evaluate(algorithm("gspo"), batch))


@given(batch=gentle)
@example(batch=FIVE)
def test_one_group_with_adaptive_width_is_gspo_of_alpha_times_mean_entropy_over_log_vocabulary(
    batch: Batch,
) -> None:
    for i in range(len(batch.mask)):
        row = batch.rows([i])
        if not row.mask.any():
            continue
        width = 0.02 * float(row.old_entropy[row.mask].mean()) / LN_V
        gspo = oracle_outcome(lambda b, lp, e=width: oracles.gspo(b, lp, low=e, high=e), row)
        assert_same(evaluate(espo(partition=ONE, alpha=0.02), row), gspo)


# 2


@given(batch=signed)
def test_one_token_a_group_with_fixed_widths_is_the_token_clip_with_sequence_means(
    batch: Batch,
) -> None:
    ids = torch.arange(batch.mask.shape[1]).expand_as(batch.mask)
    theirs = oracle_outcome(oracles.grpo, batch)
    assert_same(evaluate_ids(espo(partition=None, fixed_clip=(0.2, 0.2)), batch, ids), theirs)


def test_one_token_a_group_has_the_gradient_r_squared_under_the_literal_reading() -> None:
    batch = make_batch([[0.25], [-0.125]], [1.0, -1.0])
    literal = espo(old_token_ratio=True, fixed_clip=(1.0, INF))
    same(factors(literal, batch), batch.ratio**2)


# 3


@given(batch=signed)
@example(batch=FIVE)
def test_the_gradient_is_s_a_over_b_k_and_size_or_exactly_0_and_all_or_nothing_per_group(
    batch: Batch,
) -> None:
    recipe = espo()
    grad = evaluate(recipe, batch).grad
    groups = groups_of(recipe, batch)
    rows = int((batch.lengths > 0).sum())
    for cells in groups:
        i = int(cells.any(1).nonzero())
        k = sum(bool(other[i].any()) for other in groups)
        size = int(cells.sum())
        log_s = float((batch.log_prob - batch.old_log_prob)[cells].mean())
        s = f64(log_s).exp()
        a = float(batch.advantage[cells][0])
        width = 0.02 * float(batch.old_entropy[cells].mean()) / LN_V
        clipped = (a > 0 and s > 1 + width) or (a < 0 and s < 1 - width)
        expected = 0.0 if clipped else float(-a * s / (rows * k * size))
        same(grad[cells], torch.full_like(grad[cells], expected))
        assert clipped == bool((grad[cells] == 0).all())


# 4


@given(batch=signed, data=st.data())
def test_changing_a_log_probability_in_one_group_changes_no_gradient_in_another(batch: Batch, data) -> None:
    recipe = espo()
    cells = data.draw(st.sampled_from(groups_of(recipe, batch)))
    moved = replace(batch, log_prob=torch.where(cells, batch.log_prob + 0.25, batch.log_prob))
    a, b = evaluate(recipe, batch).grad, evaluate(recipe, moved).grad
    assert torch.equal(a[~cells], b[~cells])


# 5


@given(batch=batches(on_policy=True))
def test_on_policy_the_value_is_minus_the_mean_advantage_of_sequences(batch: Batch) -> None:
    means = [float(a[m].mean()) for a, m in zip(batch.advantage, batch.mask, strict=True) if m.any()]
    loss = evaluate(espo(), batch).loss
    same(loss, f64(-sum(means) / len(means)))


@given(batch=batches(on_policy=True))
def test_on_policy_the_weights_of_every_sequence_sum_to_1_over_b(batch: Batch) -> None:
    unit = replace(batch, advantage=batch.mask.double())
    shares = -evaluate(espo(), unit).grad.sum(1)[batch.lengths > 0]
    same(shares, torch.full_like(shares, 1 / len(shares)))


@given(batch=batches(on_policy=True))
def test_on_policy_the_current_and_the_literal_reading_coincide(batch: Batch) -> None:
    assert_same(evaluate(espo(), batch), evaluate(espo(old_token_ratio=True), batch))


# 6


@given(batch=batches(on_policy=True, max_tokens=6, holes=False))
def test_on_policy_with_groups_of_equal_size_it_is_grpos_mean_of_sequence_means(
    batch: Batch,
) -> None:
    even = batch.lengths % 2 == 0
    assume(bool((even & (batch.lengths > 0)).any()))
    batch = batch.rows(even.nonzero().squeeze(1))
    assert_same(evaluate(espo(partition=(0.5,)), batch), oracle_outcome(oracles.grpo, batch))


def test_a_split_of_20_to_80_weighs_uncertain_tokens_4_times_as_much() -> None:
    batch = make_batch([[0.0] * 10], [1.0], old_entropy=[[float(k) for k in range(10)]])
    weight = espo().weigh(batch.td())[keys.WEIGHT][0]
    same(weight[8:].double(), torch.full((2,), 2.5 / 10, dtype=torch.float64))
    same(weight[:8].double(), torch.full((8,), 0.625 / 10, dtype=torch.float64))


# 7


def clip_width(batch: Batch, **options) -> list[float]:
    """The width at which each group starts to be clipped, found from the gradient by bisection."""
    recipe, widths = espo(**options), []
    on = batch.on_policy()
    for cells in groups_of(recipe, on):
        low, high = 0.0, 0.5
        for _ in range(40):
            middle = (low + high) / 2
            pushed = torch.where(cells, on.log_prob + log(1 + middle), on.log_prob)
            grad = evaluate(recipe, replace(on, log_prob=pushed)).grad[cells]
            low, high = (low, middle) if (grad == 0).all() else (middle, high)
        widths.append(low)
    return widths


UNIT = make_batch(
    [[0.0] * 5, [0.0] * 5],
    [1.0, 1.0],
    old_log_prob=0.0,
    old_entropy=[[0.5, 3.0, 0.1, 0.2, 0.4], [2.0, 2.5, 1.5, 4.0, 1.0]],
)


def test_the_width_is_linear_in_alpha_and_in_entropy() -> None:
    base = torch.tensor(clip_width(UNIT))
    torch.testing.assert_close(torch.tensor(clip_width(UNIT, alpha=0.06)), 3 * base, rtol=1e-6, atol=1e-9)
    doubled = with_entropy(UNIT, UNIT.old_entropy * 2)
    torch.testing.assert_close(torch.tensor(clip_width(doubled)), 2 * base, rtol=1e-6, atol=1e-9)


def test_the_width_is_alpha_times_the_groups_mean_entropy_over_log_vocabulary() -> None:
    expected = [0.02 * e / LN_V for e in (0.3, 3.0, 1.75, 4.0)]
    torch.testing.assert_close(torch.tensor(clip_width(UNIT)), torch.tensor(expected), rtol=1e-6, atol=1e-9)


def test_the_width_lies_between_0_and_alpha_and_is_alpha_for_the_uniform_distribution() -> None:
    uniform = with_entropy(UNIT, torch.full_like(UNIT.old_entropy, LN_V))
    torch.testing.assert_close(torch.tensor(clip_width(uniform)), torch.full((4,), 0.02), rtol=1e-6, atol=1e-9)
    assert all(0 <= w <= 0.02 + 1e-9 for w in clip_width(UNIT))


def test_the_uncertain_group_has_at_least_the_width_of_the_certain_one() -> None:
    first, second, third, fourth = clip_width(UNIT)
    assert second >= first
    assert fourth >= third


def test_the_width_can_have_a_floor_and_a_ceiling() -> None:
    assert all(w >= 0.01 - 1e-9 for w in clip_width(UNIT, clip_floor=0.01))
    assert all(w <= 1e-3 + 1e-9 for w in clip_width(UNIT, clip_ceiling=1e-3))


# 8


@given(batch=signed)
@example(batch=FIVE)
def test_with_unbounded_alpha_nothing_is_clipped(batch: Batch) -> None:
    some = with_entropy(batch, torch.where(batch.mask, batch.old_entropy + 0.5, 0.0))
    recipe = espo(alpha=1e12)
    f = factors(recipe, some)
    for cells in groups_of(recipe, some):
        s = (some.log_prob - some.old_log_prob)[cells].mean().exp()
        same(f[cells], torch.full_like(f[cells], float(s)))


@given(batch=signed)
@example(batch=FIVE)
@example(batch=make_batch([[0.25, -0.25], [0.0]], [1.0, -1.0], old_entropy=[[1.0, 1.0], [0.0]]))
def test_with_alpha_0_the_gradient_is_0_exactly_where_advantage_and_step_have_one_sign(
    batch: Batch,
) -> None:
    recipe = espo(alpha=0.0)
    grad = evaluate(recipe, batch).grad
    for cells in groups_of(recipe, batch):
        step = float((batch.log_prob - batch.old_log_prob)[cells].sum())
        a = float(batch.advantage[cells][0])
        assert bool((grad[cells] == 0).all()) == (a * step > 0)


@given(batch=batches(on_policy=True, advantage=nonzero_advantages))
def test_with_alpha_0_the_on_policy_gradient_is_whole(batch: Batch) -> None:
    assert_same(evaluate(espo(alpha=0.0), batch), evaluate(espo(alpha=1.0), batch))


# 9


@given(batch=signed, data=st.data())
def test_permuting_tokens_with_their_entropies_permutes_the_gradient(batch: Batch, data) -> None:
    n, t = batch.mask.shape
    untied = batch.old_entropy + torch.where(batch.mask, torch.arange(t).double() / 2**20, torch.zeros(()))
    batch = with_entropy(batch, untied)
    order = torch.tensor([data.draw(st.permutations(range(t))) for _ in range(n)])
    a, b = evaluate(espo(), batch), evaluate(espo(), batch.tokens(order))
    same(a.loss, b.loss)
    same(a.grad.gather(1, order), b.grad)


@given(batch=signed)
def test_relabelling_groups_changes_nothing(batch: Batch) -> None:
    recipe = espo()
    ids = partition(recipe, batch)
    given_ids = espo(partition=None)
    a = evaluate_ids(given_ids, batch, ids)
    b = evaluate_ids(given_ids, batch, torch.where(ids >= 0, 1 - ids, ids))
    assert_same(a, b)
    assert_same(a, evaluate(recipe, batch))


@given(batch=signed)
def test_rank_grouping_is_invariant_to_strictly_increasing_transforms_of_entropy(
    batch: Batch,
) -> None:
    other = with_entropy(batch, torch.where(batch.mask, batch.old_entropy**3 + 1, 0.0))
    assert torch.equal(partition(espo(), batch), partition(espo(), other))


def test_the_width_is_not_invariant_to_transforms_of_entropy() -> None:
    other = with_entropy(UNIT, UNIT.old_entropy + 1)
    assert clip_width(UNIT) != pytest.approx(clip_width(other), rel=0.01)


# 10


@given(batch=batches(garbage=True))
def test_what_lies_under_the_mask_is_irrelevant_entropy_included(batch: Batch) -> None:
    clean = batch.filled(0.0)
    assert torch.equal(evaluate(espo(), batch).grad, evaluate(espo(), clean).grad)
    ids = partition(espo(), batch)
    assert torch.equal(ids, partition(espo(), clean))
    assert (ids[~batch.mask] == -1).all()


@given(batch=signed, data=st.data())
def test_grouping_by_sequence_is_exact_under_micro_batches(batch: Batch, data) -> None:
    parts = data.draw(splits(len(batch.mask)))
    assert_same(evaluate_split(espo(), batch, parts), evaluate(espo(), batch))
    ids = partition(espo(), batch)
    for rows in parts:
        assert torch.equal(partition(espo(), batch.rows(rows)), ids[rows])


def test_quantiles_of_the_batch_are_not_exact_when_a_micro_batch_groups_for_itself() -> None:
    batch = make_batch(
        [[0.1] * 5, [0.1] * 5],
        [1.0, 1.0],
        old_entropy=[[0.0, 0.1, 0.2, 0.3, 0.4], [5.0, 6.0, 7.0, 8.0, 9.0]],
    )
    recipe = espo(partition=BatchEntropySegments())
    whole = partition(recipe, batch)
    assert whole[0].tolist() == [0] * 5
    assert whole[1].tolist() == [0, 0, 0, 1, 1]
    assert not torch.equal(partition(recipe, batch.rows([0])), whole[:1])
    assert_same(evaluate_split(recipe, batch, [[0], [1]]), evaluate(recipe, batch))


# 11


@given(batch=signed)
def test_no_gradient_flows_into_the_entropy(batch: Batch) -> None:
    td = batch.td(batch.log_prob.clone().requires_grad_())
    entropy = batch.old_entropy.clone().requires_grad_()
    td[keys.OLD_ENTROPY] = entropy
    recipe = espo()
    loss = recipe.loss()(recipe.weigh(td))["loss_objective"]
    (grad,) = torch.autograd.grad(loss, entropy, allow_unused=True)
    assert grad is None or (grad == 0).all()


@given(batch=signed)
def test_the_literal_reading_has_the_gradient_r_times_the_defaults_when_nothing_clips(
    batch: Batch,
) -> None:
    default = evaluate(espo(fixed_clip=(1.0, INF)), batch)
    literal = evaluate(espo(old_token_ratio=True, fixed_clip=(1.0, INF)), batch)
    same(literal.grad, default.grad * batch.ratio)


@given(batch=gentle)
def test_the_literal_reading_is_the_papers_equation_9(batch: Batch) -> None:
    def literal(b, lp):
        return oracles.espo(b, lp, token_ratio="old", eps=(0.01, 0.01))

    recipe = espo(old_token_ratio=True, fixed_clip=(0.01, 0.01))
    assert_same(evaluate(recipe, batch), oracle_outcome(literal, batch))


# 12


@given(batch=gentle)
@example(batch=FIVE)
def test_the_width_does_not_depend_on_the_base_of_the_logarithm(batch: Batch) -> None:
    bits = replace(batch, old_entropy=batch.old_entropy / log(2), max_entropy=LN_V / log(2))
    # Rounding may decide about a width that a ratio meets exactly.
    assume(not (batch.old_entropy[batch.mask] == 0).any())
    assert_same(evaluate(espo(), bits), evaluate(espo(), batch))


# The grouping itself, and the other readings.


@given(batch=signed)
@example(batch=make_batch([[0.0] * 5], [1.0], old_entropy=0.0))
def test_the_top_fifth_of_each_response_by_entropy_is_one_group(batch: Batch) -> None:
    ids = partition(espo(), batch)
    for i in range(len(ids)):
        n = int(batch.lengths[i])
        if n == 0:
            continue
        own = ids[i][batch.mask[i]]
        top = own == own.max()
        if n == 1:
            continue
        assert int(top.sum()) == max(1, ceil(0.2 * n - 1e-9))
        e = batch.old_entropy[i][batch.mask[i]]
        assert e[top].min() >= e[~top].max()


@pytest.mark.parametrize(("n", "top"), [(2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_the_share_of_the_uncertain_group_is_rounded_up(n: int, top: int) -> None:
    batch = make_batch([[0.0] * n], [1.0], old_entropy=[[float(k) for k in range(n)]])
    assert partition(espo(), batch)[0].tolist() == [0] * (n - top) + [1] * top


def test_responses_without_any_entropy_are_still_split_by_rank() -> None:
    batch = make_batch([[0.0] * 10], [1.0], old_entropy=0.0)
    assert sorted(partition(espo(), batch)[0].tolist()) == [0] * 8 + [1] * 2


def test_equal_entropies_are_ordered_by_position() -> None:
    batch = make_batch([[0.0] * 5], [1.0], old_entropy=1.0)
    assert partition(espo(), batch)[0].tolist() == [0, 0, 0, 0, 1]


@given(batch=signed)
def test_several_edges_make_several_groups(batch: Batch) -> None:
    edges = (0.2, 0.4, 0.6, 0.8)
    ids = partition(espo(partition=edges), batch)
    for i in range(len(ids)):
        n = int(batch.lengths[i])
        if n >= 5:
            own = ids[i][batch.mask[i]]
            counts = torch.bincount(own, minlength=5)
            assert int(counts.sum()) == n
            e = batch.old_entropy[i][batch.mask[i]]
            for k in range(4):
                if (own == k).any() and (own == k + 1).any():
                    assert e[own == k].max() <= e[own == k + 1].min()


@given(batch=signed)
def test_training_the_uncertain_tokens_alone(batch: Batch) -> None:
    recipe = espo(segment_weights=(0.0, 1.0))
    grad, ids = evaluate(recipe, batch).grad, partition(espo(), batch)
    longer = (batch.lengths > 1)[:, None]
    assert (grad[(ids == 0) & longer] == 0).all()


@pytest.mark.parametrize(("quantiles", "weights"), [((0.5, 0.8), (1.0, 1.0)), ((0.8,), (0.0, 0.0, 1.0))])
def test_there_is_a_weight_for_each_segment(quantiles, weights):
    with pytest.raises(
        ValueError, match=rf"segment_weights has {len(weights)} numbers for {len(quantiles) + 1} segments"
    ):
        espo(partition=quantiles, segment_weights=weights)


def test_absolute_thresholds_in_nats() -> None:
    batch = make_batch([[0.0] * 4, [0.0] * 2], [1.0, 1.0], old_entropy=[[0.1, 0.6, 2.0, 0.4], [0.1, 0.2]])
    ids = partition(espo(partition=EntropyThresholds(thresholds=(0.5,))), batch)
    assert ids.tolist() == [[0, 1, 1, 0], [0, 0, -1, -1]]
    weight = espo(partition=EntropyThresholds(thresholds=(0.5,))).weigh(batch.td())[keys.WEIGHT]
    same(weight.double(), f64([[0.125] * 4, [0.25, 0.25, 0, 0]]))


def test_weights_by_token_ignore_the_sizes_of_groups() -> None:
    recipe = replace(espo(), aggregate=SequenceMean())
    batch = make_batch([[0.0] * 10, [0.0] * 4], [1.0, 1.0])
    weight = recipe.weigh(batch.td())[keys.WEIGHT]
    same(weight[0].double(), torch.full((10,), 1 / 20, dtype=torch.float64))


@given(batch=gentle)
def test_a_width_per_token(batch: Batch) -> None:
    recipe = replace(espo(), clip=EntropyAdaptiveClip(entropy=token_entropy))

    def per_token(b, lp):
        return oracles.espo(b, lp, per_token_eps=True)

    assume(not (batch.old_entropy[batch.mask] == 0).any())
    assert_same(evaluate(recipe, batch), oracle_outcome(per_token, batch))
