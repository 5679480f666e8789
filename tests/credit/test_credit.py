"""From rewards to advantages: group baselines, GAE, the overlong penalty, which groups are kept."""

from __future__ import annotations

from math import sqrt

import oracles
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tensordict import TensorDict

from llmrl import keys
from llmrl.credit import (
    GAE,
    Credit,
    GroupAdvantage,
    KeepAll,
    LeaveOneOut,
    MixedRewards,
    OverlongFilter,
    SoftOverlong,
)

NAN = float("nan")
Groups = list[list[float]]
rewards = st.one_of(st.sampled_from([0.0, 1.0, 0.1, -1.0]), st.integers(-64, 64).map(lambda k: k / 16))
groups = st.lists(st.lists(rewards, min_size=2, max_size=5), min_size=1, max_size=4)


def rollouts(groups: Groups, *, dtype=torch.float64, length: int = 3, **entries) -> TensorDict:
    """One row a response; the groups' ids are neither sorted nor dense."""
    flat = [r for group in groups for r in group]
    n = len(flat)
    td = TensorDict(batch_size=[n])
    td[keys.GROUP] = torch.tensor([97 - 13 * g for g, group in enumerate(groups) for _ in group])
    td[keys.REWARD] = torch.tensor(flat, dtype=dtype)[:, None]
    mask = torch.ones(n, length, dtype=torch.bool)
    mask[:, -1] = torch.arange(n) % 2 == 0
    td[keys.MASK] = mask
    for name, value in entries.items():
        td[getattr(keys, name)] = value
    return td


def first(advantage: TensorDict) -> torch.Tensor:
    """The advantage of each row, [N]."""
    return advantage[keys.ADVANTAGE][:, 0]


def close(a: torch.Tensor, b: object, **tolerance: float) -> None:
    b = b if isinstance(b, torch.Tensor) else torch.tensor(b, dtype=torch.float64)
    tolerance = tolerance or {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(a.double(), b.double(), **tolerance)


RULES = [
    GroupAdvantage(),
    GroupAdvantage(ddof=0),
    GroupAdvantage(divide_by_std=False),
    LeaveOneOut(),
]
every = pytest.mark.parametrize("rule", RULES, ids=repr)


# Group baselines


@given(groups=groups, ddof=st.sampled_from([0, 1]), eps=st.sampled_from([1e-6, 1e-4, 0.0]))
def test_the_advantage_is_the_z_score_within_the_group(groups: Groups, ddof: int, eps: float) -> None:
    expected = [a for group in groups for a in oracles.z_scores(group, ddof=ddof, eps=eps)]
    close(first(GroupAdvantage(ddof=ddof, eps=eps)(rollouts(groups))), expected)


@given(groups=groups)
def test_without_std_the_advantage_is_the_distance_from_the_mean(groups: Groups) -> None:
    expected = [r - sum(group) / len(group) for group in groups for r in group]
    close(first(GroupAdvantage(divide_by_std=False)(rollouts(groups))), expected)


@given(groups=groups)
def test_leave_one_out_is_the_distance_from_the_mean_of_the_others(groups: Groups) -> None:
    expected = [a for group in groups for a in oracles.leave_one_out(group)]
    close(first(LeaveOneOut()(rollouts(groups))), expected)


@given(groups=groups)
def test_leave_one_out_is_g_over_g_minus_1_times_dr_grpos_advantage(groups: Groups) -> None:
    td = rollouts(groups)
    size = torch.tensor([float(len(group)) for group in groups for _ in group]).double()
    centred = first(GroupAdvantage(divide_by_std=False)(td))
    close(first(LeaveOneOut()(td)), size / (size - 1) * centred)


@every
@given(groups=groups)
def test_advantages_of_a_group_sum_to_0(rule, groups: Groups) -> None:
    td = rollouts(groups)
    advantage = first(rule(td))
    for group in td[keys.GROUP].unique():
        close(advantage[td[keys.GROUP] == group].sum(), 0.0)


@every
@given(groups=groups, shift=st.sampled_from([-3.0, 0.5, 8.0]))
def test_invariant_to_a_shift_of_the_rewards(rule, groups: Groups, shift: float) -> None:
    shifted = [[r + shift for r in group] for group in groups]
    close(first(rule(rollouts(shifted))), first(rule(rollouts(groups))), rtol=1e-9, atol=1e-9)


@given(groups=groups, scale=st.sampled_from([0.25, 2.0, 16.0]))
def test_invariant_to_the_scale_of_the_rewards_up_to_eps(groups: Groups, scale: float) -> None:
    scaled = [[r * scale for r in group] for group in groups]
    rule = GroupAdvantage(eps=1e-9)
    close(first(rule(rollouts(scaled))), first(rule(rollouts(groups))), rtol=1e-6, atol=1e-9)


@every
@given(groups=groups)
def test_negating_the_rewards_negates_the_advantage(rule, groups: Groups) -> None:
    negated = [[-r for r in group] for group in groups]
    close(first(rule(rollouts(negated))), -first(rule(rollouts(groups))))


@pytest.mark.parametrize(("size", "right"), [(2, 1), (4, 1), (8, 3), (16, 15)])
def test_binary_rewards_give_the_closed_forms_of_the_success_rate(size: int, right: int) -> None:
    p = right / size
    td = rollouts([[1.0] * right + [0.0] * (size - right)])
    population = first(GroupAdvantage(ddof=0, eps=0.0)(td))
    close(population[0], sqrt((1 - p) / p))
    close(population[-1], -sqrt(p / (1 - p)))
    close(first(GroupAdvantage(ddof=1, eps=0.0)(td)), population * sqrt((size - 1) / size))


@every
@given(groups=groups, data=st.data())
def test_equivariant_to_a_permutation_of_rows_within_and_across_groups(rule, groups: Groups, data) -> None:
    td = rollouts(groups)
    order = data.draw(st.permutations(range(len(td))))
    close(first(rule(td[order])), first(rule(td))[order])


@every
@given(
    reward=st.floats(-10, 10, allow_nan=False, width=32),
    size=st.integers(2, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@example(reward=0.1, size=7, dtype=torch.float32)
def test_a_group_of_equal_rewards_has_exactly_0_advantage(rule, reward, size, dtype) -> None:
    td = rollouts([[reward] * size, [0.0, 1.0]], dtype=dtype)
    advantage = rule(td)[keys.ADVANTAGE]
    assert (advantage[:size] == 0).all()
    assert (advantage[size:, 0] != 0).all()


@every
def test_rewards_that_differ_by_rounding_alone_are_equal(rule) -> None:
    almost = float(torch.tensor(0.1).nextafter(torch.tensor(1.0)))
    td = rollouts([[0.1, almost, 0.1]], dtype=torch.float32)
    assert (rule(td)[keys.ADVANTAGE] == 0).all()


@every
def test_small_differences_are_differences(rule) -> None:
    td = rollouts([[0.5, 0.5001, 0.5]], dtype=torch.float32)
    assert (first(rule(td)) != 0).all()


@every
@given(groups=groups, bad=st.sampled_from([0.0, 1e6, -3.0]))
def test_rows_without_a_verdict_get_0_and_stay_out_of_the_statistics(rule, groups: Groups, bad: float) -> None:
    with_bad = [[bad, *group] for group in groups]
    valid = torch.tensor([k > 0 for group in with_bad for k in range(len(group))])
    got = first(rule(rollouts(with_bad, VALID=valid)))
    assert (got[~valid] == 0).all()
    close(got[valid], first(rule(rollouts(groups))))


@every
def test_a_group_without_any_verdict_has_no_advantage(rule) -> None:
    td = rollouts([[1.0, 0.0], [1.0, 0.0]], VALID=torch.tensor([False, False, True, True]))
    assert (first(rule(td))[:2] == 0).all()
    assert (first(rule(td))[2:] != 0).all()


@every
def test_one_verdict_in_a_group_is_no_comparison(rule) -> None:
    td = rollouts([[1.0, 0.0, 0.5]], VALID=torch.tensor([True, False, False]))
    assert (rule(td)[keys.ADVANTAGE] == 0).all()


@every
@given(groups=groups)
def test_the_advantage_is_the_rows_on_its_tokens_and_0_elsewhere(rule, groups: Groups) -> None:
    td = rollouts(groups)
    advantage, mask = rule(td)[keys.ADVANTAGE], td[keys.MASK]
    assert advantage.shape == mask.shape
    assert (advantage[~mask] == 0).all()
    close(advantage, torch.where(mask, advantage[:, :1], 0.0))


@every
def test_the_input_is_left_alone(rule) -> None:
    td = rollouts([[0.0, 1.0]])
    before = set(td.keys(True, True))
    out = rule(td)
    assert set(td.keys(True, True)) == before
    assert out is not td


@every
def test_a_group_of_one_is_refused_with_what_to_do(rule) -> None:
    with pytest.raises(ValueError, match=r"group of 1.*at least 2 responses per prompt \(group_size\)"):
        rule(rollouts([[1.0], [0.0, 1.0]]))


@pytest.mark.parametrize("options", [{"ddof": 2}, {"ddof": -1}, {"eps": -1.0}])
def test_group_advantage_refuses(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        GroupAdvantage(**options)


# Which groups are kept


@given(groups=groups)
def test_mixed_rewards_keeps_whole_groups_whose_rewards_differ(groups: Groups) -> None:
    expected = [max(group) > min(group) for group in groups for _ in group]
    assert MixedRewards()(rollouts(groups)).tolist() == expected


def test_mixed_rewards_keeps_a_group_of_one_and_drops_all_right_and_all_wrong() -> None:
    td = rollouts([[1.0] * 3, [0.0] * 3, [0.5], [1.0, 0.0]])
    assert MixedRewards()(td).tolist() == [False] * 6 + [True] + [True] * 2


def test_rows_without_a_verdict_do_not_make_a_group_mixed() -> None:
    td = rollouts([[1.0, 0.0, 1.0]], VALID=torch.tensor([True, False, True]))
    assert MixedRewards()(td).tolist() == [False] * 3


@given(groups=groups)
def test_dropping_uniform_groups_leaves_the_direction_and_changes_the_denominator(
    groups: Groups,
) -> None:
    td = rollouts([*groups, [0.5, 0.5]])
    advantage = GroupAdvantage()(td)[keys.ADVANTAGE]
    keep = MixedRewards()(td)
    assume(bool(keep.any()))
    whole = advantage / td[keys.MASK].sum()
    kept = GroupAdvantage()(td[keep])[keys.ADVANTAGE] / td[keys.MASK][keep].sum()
    ratio = td[keys.MASK].sum().double() / td[keys.MASK][keep].sum()
    close(kept, whole[keep] * ratio)
    assert (whole[~keep] == 0).all()
    assert ratio > 1


def test_keep_all_keeps_all() -> None:
    assert KeepAll()(rollouts([[1.0, 1.0]])).tolist() == [True, True]


# The overlong penalty


def penalty(length: int, **options) -> float:
    td = TensorDict(batch_size=[1])
    td[keys.MASK] = torch.zeros(1, 64, dtype=torch.bool)
    td[keys.MASK][:, 7 : 7 + length] = True  # a prompt before it
    td[keys.REWARD] = torch.tensor([[1.0]], dtype=torch.float64)
    return float(SoftOverlong(**{"limit": 20, "window": 8, **options})(td)) - 1


@given(length=st.integers(0, 50))
@example(length=12)
@example(length=13)
@example(length=20)
@example(length=21)
def test_the_overlong_penalty_is_equation_13(length: int) -> None:
    expected = oracles.soft_overlong(length, limit=20, window=8)
    assert penalty(length) == pytest.approx(expected)
    assert -1 <= penalty(length) <= 0
    assert penalty(length) >= penalty(length + 1)
    assert abs(penalty(length) - penalty(length + 1)) <= 1 / 8 + 1e-12


def test_the_overlong_penalty_is_0_at_limit_minus_window_and_minus_1_at_the_limit() -> None:
    assert penalty(12) == 0
    assert penalty(13) == pytest.approx(-1 / 8)
    assert penalty(20) == -1
    assert penalty(16, penalty=0.5) == pytest.approx(-0.25)


def test_a_window_is_compared_with_the_limit_of_the_run() -> None:
    long = SoftOverlong(window=25_000)
    assert long.resolve(32_768) == SoftOverlong(limit=32_768, window=25_000)
    with pytest.raises(ValueError, match=r"got window 25000 and limit 20480"):
        long.resolve(20_480)
    with pytest.raises(ValueError, match=r"window must be above 0"):
        SoftOverlong(window=0)


@pytest.mark.parametrize("window", [0, -1, 21])
def test_a_window_that_does_not_fit_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match=r"window must be above 0 and at most limit"):
        SoftOverlong(limit=20, window=window)


def test_the_overlong_filter_empties_the_mask_of_cut_off_responses_after_the_comparison() -> None:
    td = rollouts([[1.0, 0.0, 0.0]], TRUNCATED=torch.tensor([[False], [False], [True]]))
    out, plain = OverlongFilter()(td), GroupAdvantage()(td)
    assert not out[keys.MASK][2].any()
    assert torch.equal(out[keys.MASK][:2], td[keys.MASK][:2])
    assert td[keys.MASK][2].any()
    assert (out[keys.ADVANTAGE][2] == 0).all()
    assert torch.equal(out[keys.ADVANTAGE][:2], plain[keys.ADVANTAGE][:2])
    assert keys.TRUNCATED in OverlongFilter().in_keys


# GAE


def episode(values: list[float], reward: float, holes: tuple[int, ...] = ()) -> TensorDict:
    """One row with tokens at all positions but `holes`; the values are theirs, in order."""
    width = len(values) + len(holes) + 1
    mask = torch.tensor([[t not in holes and t < width - 1 for t in range(width)]])
    td = TensorDict(batch_size=[1])
    td[keys.MASK] = mask
    td[keys.REWARD] = torch.tensor([[reward]], dtype=torch.float64)
    value = torch.full(mask.shape, NAN, dtype=torch.float64)
    value[mask] = torch.tensor(values, dtype=torch.float64)
    td[keys.VALUE] = value
    return td


cases = st.tuples(
    st.lists(rewards, min_size=1, max_size=6),
    rewards,
    st.sets(st.integers(0, 5), max_size=3).map(tuple),
)
numbers = st.sampled_from([0.0, 0.5, 0.95, 1.0])


@given(case=cases, gamma=numbers, lam=numbers)
@example(case=([0.5, -1.0], 1.0, (0, 1)), gamma=0.5, lam=0.5)
def test_gae_is_the_discounted_sum_of_temporal_differences(case, gamma: float, lam: float) -> None:
    values, reward, holes = case
    holes = tuple(h for h in holes if h < len(values))
    td = episode(values, reward, holes)
    out = GAE(gamma=gamma, lam=lam, whiten=False)(td)
    expected = oracles.gae([0.0] * (len(values) - 1) + [reward], values, gamma, lam)
    close(out[keys.ADVANTAGE][td[keys.MASK]], expected)
    close(
        out[keys.VALUE_TARGET][td[keys.MASK]],
        [a + v for a, v in zip(expected, values, strict=True)],
    )
    assert (out[keys.ADVANTAGE][~td[keys.MASK]] == 0).all()
    assert (out[keys.VALUE_TARGET][~td[keys.MASK]] == 0).all()


@given(case=cases, gamma=numbers)
def test_with_lambda_1_it_is_the_discounted_return_minus_the_value(case, gamma: float) -> None:
    values, reward, _ = case
    out = GAE(gamma=gamma, lam=1.0, whiten=False)(episode(values, reward))
    n = len(values)
    expected = [gamma ** (n - 1 - t) * reward - values[t] for t in range(n)]
    close(out[keys.ADVANTAGE][0, :n], expected)


@given(case=cases, gamma=numbers)
def test_with_lambda_0_it_is_the_temporal_difference(case, gamma: float) -> None:
    values, reward, _ = case
    out = GAE(gamma=gamma, lam=0.0, whiten=False)(episode(values, reward))
    after = [*values[1:], 0.0]
    n = len(values)
    expected = [(reward if t == n - 1 else 0.0) + gamma * after[t] - values[t] for t in range(n)]
    close(out[keys.ADVANTAGE][0, :n], expected)


@given(case=cases, scale=st.sampled_from([-2.0, 0.5, 3.0]))
def test_linear_in_rewards_and_values(case, scale: float) -> None:
    values, reward, _ = case
    rule = GAE(gamma=0.9, lam=0.8, whiten=False)
    one = rule(episode(values, reward))[keys.ADVANTAGE]
    other = rule(episode([scale * v for v in values], scale * reward))[keys.ADVANTAGE]
    close(other, scale * one)
    zero = [0.0] * len(values)
    parts = rule(episode(values, 0.0))[keys.ADVANTAGE] + rule(episode(zero, reward))[keys.ADVANTAGE]
    close(parts, one)


def test_tokens_that_were_not_sampled_are_transparent() -> None:
    rule = GAE(gamma=0.9, lam=0.8, whiten=False)
    plain = rule(episode([0.1, 0.2, 0.3], 1.0))[keys.ADVANTAGE][0, :3]
    holes = rule(episode([0.1, 0.2, 0.3], 1.0, (1, 2)))
    close(holes[keys.ADVANTAGE][0, [0, 3, 4]], plain)


def test_whitened_advantages_have_mean_0_and_variance_1_and_leave_the_target_alone() -> None:
    td = torch.cat([episode([0.1, 0.7, 0.3], 1.0), episode([0.5, 0.2, 0.9], 0.0)])
    white, plain = GAE(lam=0.9)(td), GAE(lam=0.9, whiten=False)(td)
    advantage = white[keys.ADVANTAGE][td[keys.MASK]]
    close(advantage.mean(), 0.0)
    close(advantage.var(), 1.0, rtol=1e-6, atol=0.0)
    close(white[keys.VALUE_TARGET], plain[keys.VALUE_TARGET])
    raw = plain[keys.ADVANTAGE][td[keys.MASK]]
    close(advantage, (raw - raw.mean()) / raw.std(), rtol=1e-6, atol=1e-6)


def test_rows_without_a_verdict_teach_neither_policy_nor_critic() -> None:
    td = torch.cat([episode([0.1, 0.7], 1.0), episode([0.5, 0.2], 0.0)])
    td[keys.VALID] = torch.tensor([True, False])
    out = GAE(whiten=False)(td)
    assert (out[keys.ADVANTAGE][1] == 0).all()
    close(out[keys.VALUE_TARGET][1, :2], [0.5, 0.2])
    alone = GAE(whiten=True)(td[:1])
    both = GAE(whiten=True)(td)
    close(both[keys.ADVANTAGE][:1], alone[keys.ADVANTAGE])


@pytest.mark.parametrize("options", [{"gamma": 1.1}, {"gamma": -0.1}, {"lam": 1.5}, {"lam": -1.0}])
def test_gae_refuses(options: dict) -> None:
    with pytest.raises(ValueError, match=r"must be between 0 and 1"):
        GAE(**options)


# Credit


def test_one_shape_is_given_as_a_tuple() -> None:
    with pytest.raises(TypeError, match=r"shape must be a tuple"):
        Credit(shape=SoftOverlong())


def test_a_negative_number_of_refills_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_refills must be 0 or more"):
        Credit(max_refills=-1)
