"""The parts by themselves: weights, pooling, partitions, and corrections for the sampler's gap."""

from __future__ import annotations

from math import exp, log

import oracles
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import Batch, batches, f64, make_batch

from llmrl import keys
from llmrl.losses.aggregate import FixedLength, SegmentMean, SequenceMean, TokenMean
from llmrl.losses.batch import TokenBatch
from llmrl.losses.clip import (
    DualClip,
    EntropyAdaptiveClip,
    GradientPreserving,
    PPOClip,
    segment_entropy,
    token_entropy,
    token_entropy_per_segment,
    token_entropy_per_size,
)
from llmrl.losses.correction import (
    GeometricRejection,
    SequenceMIS,
    SequenceTIS,
    TokenMIS,
    TokenTIS,
)
from llmrl.losses.gate import EntropyRatioGate
from llmrl.losses.other_clips import DetachedWeight, GeometricMeanClip, SigmoidClip
from llmrl.losses.partition import (
    BatchEntropySegments,
    EntropySegments,
    EntropyThresholds,
    rank_segments,
)
from llmrl.losses.segments import segment_count, segment_mean, segment_sum, sequence_mean

INF, NAN = float("inf"), float("nan")
masks = batches().map(lambda batch: batch.mask)
AGGREGATES = (TokenMean(), SequenceMean(), SegmentMean())


@st.composite
def partitions(draw) -> tuple[torch.Tensor, torch.Tensor]:
    """A mask, and a part for each of its tokens (-1: none)."""
    mask = draw(masks)
    ids = torch.full(mask.shape, -1)
    for i, j in mask.nonzero().tolist():
        ids[i, j] = draw(st.integers(-1, 3))
    return mask, ids


# Weights


@given(mask=masks)
@example(mask=torch.zeros(2, 3, dtype=torch.bool))
def test_weights_are_those_of_the_loops(mask: torch.Tensor) -> None:
    rows, tokens = int(mask.any(1).sum()), int(mask.sum())
    for i in range(mask.shape[0]):
        own = int(mask[i].sum())
        for j in range(mask.shape[1]):
            live = bool(mask[i, j])
            expected = (1 / tokens, 1 / (rows * own), 1 / (rows * 7)) if live else (0, 0, 0)
            got = tuple(float(a(mask)[i, j]) for a in (TokenMean(), SequenceMean(), FixedLength(length=7)))
            assert got == pytest.approx(expected, rel=1e-12)


@given(case=partitions())
@example(case=(torch.ones(1, 1, dtype=torch.bool), torch.full((1, 1), -1)))
def test_group_means_are_those_of_the_loops(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    mask, ids = case
    trained = [set(ids[i].tolist()) - {-1} for i in range(len(ids))]
    rows = sum(bool(parts) for parts in trained)
    weight = SegmentMean()(mask, ids)
    for i in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            k = int(ids[i, j])
            size = int((ids[i] == k).sum())
            expected = 0.0 if k < 0 else 1 / (rows * len(trained[i]) * size)
            assert float(weight[i, j]) == pytest.approx(expected, rel=1e-12)


@given(case=partitions(), weights=st.sampled_from([(0.0, 1.0, 2.0, 0.5), (1.0, 0.0, 0.0, 0.0)]))
def test_group_weights_count_relative_to_the_parts_present(
    case: tuple[torch.Tensor, torch.Tensor], weights: tuple[float, ...]
) -> None:
    mask, ids = case
    totals = [sum(weights[k] for k in set(row.tolist()) - {-1}) for row in ids]
    rows = sum(total > 0 for total in totals)
    got = SegmentMean(segment_weights=weights)(mask, ids)
    for i in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            k = int(ids[i, j])
            size = int((ids[i] == k).sum())
            live = k >= 0 and totals[i] > 0
            expected = weights[k] / totals[i] / size / rows if live else 0.0
            assert float(got[i, j]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda a: type(a).__name__)
@given(mask=masks)
def test_weights_sum_to_1_over_sampled_tokens_and_are_0_elsewhere(aggregate, mask) -> None:
    weight = aggregate(mask, torch.where(mask, 0, -1))
    assert float(weight.sum()) == pytest.approx(1.0, rel=1e-12)
    assert (weight[~mask] == 0).all()


@pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda a: type(a).__name__)
def test_weights_of_nothing_are_0(aggregate) -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    assert (aggregate(mask, torch.full((2, 3), -1)) == 0).all()


@given(mask=masks)
def test_token_mean_equals_sequence_mean_if_all_lengths_are_equal(mask: torch.Tensor) -> None:
    full = torch.ones_like(mask)
    torch.testing.assert_close(TokenMean()(full), SequenceMean()(full))


def test_what_weights_refuse() -> None:
    with pytest.raises(ValueError, match=r"length must be 1 or more tokens, got 0"):
        FixedLength(length=0)
    with pytest.raises(ValueError, match=r"segment_weights must be 0 or more and not all 0"):
        SegmentMean(segment_weights=(0.0, 0.0))
    with pytest.raises(ValueError, match=r"segment_weights must be 0 or more and not all 0"):
        SegmentMean(segment_weights=(1.0, -1.0))
    with pytest.raises(ValueError, match=r"segment_weights has 2 numbers, got a batch with 3 segments"):
        SegmentMean(segment_weights=(1.0, 1.0))(torch.ones(1, 3, dtype=torch.bool), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"the batch has no segments"):
        SegmentMean()(torch.ones(1, 1, dtype=torch.bool))


# Pooling


@given(case=partitions(), seed=st.integers(0, 99))
def test_pooling_is_that_of_the_loops(case: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    mask, ids = case
    x = torch.randn(mask.shape, generator=torch.Generator().manual_seed(seed)).double()
    x = torch.where(mask, x, 0.0)
    for i in range(ids.shape[0]):
        assert float(segment_count(ids)[i]) == len(set(ids[i].tolist()) - {-1})
        own = x[i][mask[i]]
        mean = float(own.mean()) if len(own) else 0.0
        assert float(sequence_mean(x, mask)[i]) == pytest.approx(mean, abs=1e-12)
        for j in range(ids.shape[1]):
            same = x[i][ids[i] == ids[i, j]] if ids[i, j] >= 0 else torch.zeros(1).double()
            assert float(segment_sum(x, ids)[i, j]) == pytest.approx(float(same.sum()), abs=1e-12)
            assert float(segment_mean(x, ids)[i, j]) == pytest.approx(float(same.mean()), abs=1e-12)


def test_pooling_knows_as_many_parts_as_tokens() -> None:
    ids = torch.arange(300)[None]
    x = torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(segment_mean(x, ids), x)
    assert float(segment_count(ids)) == 300


# Partitions


@given(batch=batches(max_tokens=12), edges=st.sampled_from([(0.8,), (0.5,), (0.9,), (0.1,)]))
def test_a_partition_by_ranks_is_that_of_the_sorted_list(batch: Batch, edges: tuple[float, ...]) -> None:
    ids = rank_segments(batch.old_entropy, batch.mask, edges)
    assert (ids[~batch.mask] == -1).all()
    for i in range(len(ids)):
        own = ids[i][batch.mask[i]].tolist()
        theirs = oracles.rank_groups(batch.old_entropy[i][batch.mask[i]].tolist(), edges)
        if len(own) > 1:
            assert own == theirs
        else:
            assert len(set(own)) <= 1


@pytest.mark.parametrize("n", range(2, 60))
def test_no_part_is_empty_where_there_are_tokens_enough(n: int) -> None:
    for edges in ((0.01,), (0.99,), (0.2, 0.4, 0.6, 0.8)):
        ids = rank_segments(torch.arange(n)[None].double(), torch.ones(1, n) > 0, edges)[0]
        if n > len(edges):
            assert ids.unique().tolist() == list(range(len(edges) + 1))
        assert (ids.diff() >= 0).all()


@pytest.mark.parametrize("n", [10, 100, 300, 900, 5700])
@pytest.mark.parametrize("percent", [1, 13, 29, 53, 71, 80, 99])
def test_shares_are_exact_in_spite_of_rounding(n: int, percent: int) -> None:
    ids = rank_segments(torch.arange(n)[None].double(), torch.ones(1, n) > 0, (percent / 100,))
    low = n * percent // 100
    assert int((ids == 0).sum()) == min(max(low, 1), n - 1)


def test_garbage_under_the_mask_takes_no_rank() -> None:
    mask = torch.tensor([[True, False, True, True, False]])
    clean = torch.tensor([[0.1, 0.0, 3.0, 0.2, 0.0]])
    for value in (NAN, INF, -INF, 100.0):
        dirty = torch.where(mask, clean, value)
        for rule in (
            EntropySegments(),
            BatchEntropySegments(),
            EntropyThresholds(thresholds=(1.0,)),
        ):
            assert torch.equal(rule(dirty, mask), rule(clean, mask))
            assert rule(dirty, mask).tolist() == [[0, -1, 1, 0, -1]]


def test_a_partition_of_the_batch_ranks_all_tokens_together() -> None:
    entropy = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4], [5.0, 6.0, 7.0, 8.0, 9.0]])
    ids = BatchEntropySegments()(entropy, torch.ones(2, 5) > 0)
    assert ids.tolist() == [[0] * 5, [0, 0, 0, 1, 1]]


def test_thresholds_belong_to_the_part_above() -> None:
    rule = EntropyThresholds(thresholds=(0.5, 2.0))
    ids = rule(torch.tensor([[0.4999, 0.5, 1.9999, 2.0, 9.0]]), torch.ones(1, 5) > 0)
    assert ids.tolist() == [[0, 1, 1, 2, 2]]
    assert rule.segments == 3


@pytest.mark.parametrize("edges", [(), (0.0,), (1.0,), (0.8, 0.2), (0.5, 0.5), (1.2,)])
def test_edges_that_do_not_rise_between_0_and_1_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"EntropySegments: quantiles must rise strictly between 0 and 1"):
        EntropySegments(quantiles=edges)


def test_thresholds_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValueError, match=r"thresholds must rise strictly between 0 and inf"):
        EntropyThresholds(thresholds=(2.0, 1.0))


# Widths of the entropy-adaptive clip, by reading


def espo_step(batch: Batch, ids: torch.Tensor) -> TokenBatch:
    n = len(ids)
    return TokenBatch.of(
        mask=batch.mask,
        log_prob=batch.log_prob,
        old_log_prob=batch.old_log_prob,
        advantage=batch.advantage,
        extra={
            keys.OLD_ENTROPY: batch.old_entropy,
            keys.MAX_ENTROPY: torch.full((n, 1), batch.max_entropy, dtype=torch.float64),
            keys.SEGMENT: ids,
        },
    )


def test_the_readings_of_the_clip_width() -> None:
    batch = make_batch([[0.1] * 4], [1.0], old_entropy=[[1.0, 2.0, 3.0, 6.0]], max_entropy=10.0)
    step = espo_step(batch, torch.tensor([[0, 0, 0, 1]]))
    expected = {
        segment_entropy: [0.2, 0.2, 0.2, 0.6],
        token_entropy: [0.1, 0.2, 0.3, 0.6],
        token_entropy_per_segment: [0.05, 0.1, 0.15, 0.3],
        token_entropy_per_size: [0.1 / 3, 0.2 / 3, 0.1, 0.6],
    }
    for reading, widths in expected.items():
        low, high = EntropyAdaptiveClip(alpha=0.5, entropy=reading).bounds(step)
        torch.testing.assert_close(1 - low, f64([widths]) * 0.5)
        torch.testing.assert_close(high - 1, f64([widths]) * 0.5)


def test_a_vocabulary_of_one_word_divides_nothing_by_0() -> None:
    batch = make_batch([[0.1]], [1.0], old_entropy=0.0, max_entropy=0.0)
    low, high = EntropyAdaptiveClip().bounds(espo_step(batch, torch.tensor([[0]])))
    assert low.isfinite().all()
    assert high.isfinite().all()


# What parts refuse


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PPOClip(low=-0.1), r"low must be between 0 and 1, got -0.1"),
        (lambda: PPOClip(low=1.1), r"low must be between 0 and 1, got 1.1"),
        (lambda: PPOClip(high=-0.2), r"high must be 0 or more, got -0.2"),
        (lambda: PPOClip(low=NAN), r"low must be between 0 and 1, got nan"),
        (lambda: PPOClip(high=NAN), r"high must be 0 or more, got nan"),
        (lambda: DetachedWeight(low=2.0), r"low must be between 0 and 1"),
        (lambda: GradientPreserving(beta_low=-1.0), r"beta_low must be 0 or more, got -1.0"),
        (lambda: GradientPreserving(beta_high=NAN), r"beta_high must be 0 or more, got nan"),
        (lambda: DualClip(bound=1.0), r"bound must be above 1, got 1.0"),
        (lambda: EntropyAdaptiveClip(alpha=-0.1), r"alpha must be 0 or more, got -0.1"),
        (
            lambda: EntropyAdaptiveClip(floor=0.2, ceiling=0.1),
            r"floor must be 0 or more and not above",
        ),
        (lambda: EntropyAdaptiveClip(floor=-0.2), r"floor must be 0 or more"),
        (lambda: SigmoidClip(tau_positive=0.0), r"tau_positive must be above 0, got 0.0"),
        (lambda: SigmoidClip(tau_negative=-1.0), r"tau_negative must be above 0, got -1.0"),
        (lambda: GeometricMeanClip(low=-0.1), r"low must be 0 or more, got -0.1"),
        (lambda: EntropyRatioGate(low=1.05, high=0.95), r"low 1.05 and high 0.95"),
        (lambda: EntropyRatioGate(low=1.0, high=1.0), r"low must be 0 or more and below high"),
        (lambda: EntropyRatioGate(low=-0.5), r"low must be 0 or more and below high"),
        (lambda: EntropyRatioGate(min_entropy=-1.0), r"min_entropy must be 0 or more nats"),
        (lambda: TokenTIS(cap=0.5), r"cap must be 1 or more, got 0.5"),
        (lambda: TokenMIS(low=1.5), r"1 must lie between low and high"),
        (lambda: TokenMIS(high=0.5), r"1 must lie between low and high"),
        (lambda: SequenceMIS(low=-1.0), r"1 must lie between low and high"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_literal_betas_scale_the_value_of_clipped_tokens() -> None:
    batch = make_batch([[1.0, -1.0, 0.1]] * 2, [1.0, -1.0])
    step = TokenBatch.of(
        mask=batch.mask,
        log_prob=batch.log_prob,
        old_log_prob=batch.old_log_prob,
        advantage=batch.advantage,
    )
    betas = {"beta_low": 0.5, "beta_high": 0.25}
    kept = GradientPreserving(**betas)(step.log_ratio, step)
    literal = GradientPreserving(**betas, scale_value=True)(step.log_ratio, step)
    scale = torch.ones(2, 3).double()
    scale[0, 0], scale[1, 1] = 0.25, 0.5
    torch.testing.assert_close(literal.objective, kept.objective * scale)


# Corrections


def gaps(*rows: list[float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """old, sampler, mask with log rho = old - sampler as given."""
    batch = make_batch([*rows], [1.0] * len(rows), old_log_prob=-1.0, garbage=NAN)
    return batch.log_prob, batch.old_log_prob, batch.mask


@pytest.mark.parametrize("rule", [TokenTIS(), SequenceTIS(), TokenMIS(), SequenceMIS(), GeometricRejection()], ids=repr)
@given(batch=batches(on_policy=True, garbage=True))
def test_a_correction_is_the_identity_if_the_sampler_is_the_trainer(rule, batch: Batch) -> None:
    factor = rule(batch.old_log_prob, batch.old_log_prob.clone(), batch.mask)
    assert (factor[batch.mask] == 1).all()
    assert factor.isfinite().all()


def test_truncation_and_masking_of_tokens() -> None:
    args = gaps([0.0, log(1.5), log(2.5), log(0.1)])
    tis = TokenTIS(cap=2.0)(*args)
    torch.testing.assert_close(tis, f64([[1.0, 1.5, 2.0, 0.1]]))
    mis = TokenMIS(low=0.5, high=2.0)(*args)
    torch.testing.assert_close(mis, f64([[1.0, 1.5, 0.0, 0.0]]))


def test_truncation_and_masking_of_sequences_use_the_product() -> None:
    args = gaps([log(1.5), log(1.2)], [log(2.0), log(3.0)], [log(0.25)])
    tis = SequenceTIS(cap=2.0)(*args)[args[2]]
    torch.testing.assert_close(tis, f64([1.8, 1.8, 2.0, 2.0, 0.25]))
    mis = SequenceMIS(low=0.5, high=2.0)(*args)[args[2]]
    torch.testing.assert_close(mis, f64([1.8, 1.8, 0.0, 0.0, 0.0]))


def test_geometric_rejection_looks_at_the_mean() -> None:
    args = gaps([0.02, -0.02], [0.02, 0.004], [0.3, 0.0], [-0.3])
    keep = GeometricRejection()(*args)[args[2]]
    assert keep.tolist() == [1, 1, 0, 0, 0, 0, 0]
    wide = GeometricRejection(low=exp(-0.4), high=exp(0.4))(*args)[args[2]]
    assert wide.tolist() == [1] * 7


@given(batch=batches(at_bounds=True, garbage=True))
def test_masked_factors_are_at_most_the_truncated_ones_and_without_bound_they_agree(
    batch: Batch,
) -> None:
    args = (batch.log_prob, batch.old_log_prob, batch.mask)
    for truncate, mask in ((TokenTIS, TokenMIS), (SequenceTIS, SequenceMIS)):
        assert (mask(high=2.0)(*args) <= truncate(cap=2.0)(*args)).all()
        assert torch.equal(mask(high=INF)(*args), truncate(cap=INF)(*args))


@given(batch=batches(at_bounds=True, garbage=True))
def test_corrections_are_finite_and_carry_no_gradient(batch: Batch) -> None:
    old = batch.log_prob.clone().requires_grad_()
    for rule in (TokenTIS(), SequenceTIS(), TokenMIS(), SequenceMIS(), GeometricRejection()):
        factor = rule(old, batch.old_log_prob, batch.mask)
        assert not factor.requires_grad
        assert factor.isfinite().all()
        assert (factor >= 0).all()
