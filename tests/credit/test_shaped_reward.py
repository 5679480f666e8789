"""Raw and shaped rewards are two entries, and each reader takes its own."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.credit import GroupAdvantage, MixedRewards
from llmrl.losses.clip import DualClip
from llmrl.losses.terms import PositiveNLL
from llmrl.training.past_rewards import PastRewards


def group(rewards: list[float], lengths: list[int]) -> TensorDict:
    """One group, its responses of these lengths."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    td = TensorDict({keys.MASK: mask, keys.GROUP: torch.zeros(len(rewards), dtype=torch.long)}, [len(rewards)])
    td[keys.REWARD] = torch.tensor(rewards)[:, None]
    return td


def test_dapo_on_rewards_of_0_and_1_has_the_papers_advantages() -> None:
    td = group([1.0, 0.0, 0.0, 1.0], [20, 5, 20, 5])
    recipe = algorithm("dapo", max_length=20, soft_length=8)
    for shape in recipe.credit.shape:
        td[keys.SHAPED_REWARD] = shape(td)
    got = recipe.credit.advantage(td)[keys.ADVANTAGE][:, 0]
    plus_minus = group([1.0, -1.0, -1.0, 1.0], [20, 5, 20, 5])
    paper = algorithm("dapo", max_length=20, soft_length=8, overlong_penalty=1.0)
    plus_minus[keys.SHAPED_REWARD] = paper.credit.shape[0](plus_minus)
    torch.testing.assert_close(got, paper.credit.advantage(plus_minus)[keys.ADVANTAGE][:, 0], rtol=0, atol=1e-5)
    assert got.tolist() == pytest.approx([0.39, -0.39, -1.16, 1.16], abs=0.005)


def test_what_is_shaped_is_compared_and_what_was_paid_decides_what_is_kept_and_imitated() -> None:
    td = group([1.0, 1.0], [1, 1])
    td[keys.SHAPED_REWARD] = torch.tensor([[0.999], [0.0]])
    assert not MixedRewards()(td).any()
    assert GroupAdvantage()(td)[keys.ADVANTAGE][0] > 0
    td[keys.LOG_PROB] = torch.tensor([[-1.0], [-3.0]])
    td.update(PositiveNLL().prepare(td))
    assert float(PositiveNLL(coefficient=1.0)(td)["loss_nll"]) == 2.0


def test_two_groups_of_one_problem_are_two_visits() -> None:
    td = group([1.0, 1.0, 0.0, 0.0], [1, 1, 1, 1])
    td[keys.GROUP] = torch.tensor([3, 3, 4, 4])
    past = PastRewards()
    assert past.recall([7, 7, 7, 7], td).tolist() == [[0.0, 0.0, 0.0]] * 4
    assert past.of_problem[7] == (2.0, 0.5, 0.5)


def test_gmpo_refuses_advantages_of_both_signs_in_a_response() -> None:
    recipe = algorithm("gmpo")
    td = TensorDict({keys.MASK: torch.ones(1, 2, dtype=torch.bool)}, [1])
    td[keys.LOG_PROB] = td[keys.OLD_LOG_PROB] = torch.full((1, 2), -1.0)
    td[keys.ADVANTAGE] = torch.tensor([[1.0, -1.0]])
    with pytest.raises(ValueError, match="1 responses have tokens with advantages of both signs"):
        recipe.weigh(td)
    wrapped = dataclasses.replace(recipe, clip=DualClip(base=recipe.clip))
    with pytest.raises(ValueError, match="1 responses have tokens"):
        wrapped.weigh(td)
    td[keys.MASK] = torch.tensor([[True, False]])  # what lies outside the mask does not count
    assert recipe.weigh(td)[keys.WEIGHT].sum() == 1
