"""Rewards of earlier steps: DCPO's smoothed advantage, and what a run remembers of each problem."""

from __future__ import annotations

import contextlib
import statistics

import gymnasium
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import resumed_from
from tensordict import TensorDict
from tiny import tiny_folder

from llmrl import keys
from llmrl.credit import GroupAdvantage
from llmrl.credit.history import SmoothGroupAdvantage
from llmrl.envs.problems import Problem
from llmrl.envs.text import TextEnv
from llmrl.training import run_state
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.metrics_file import MetricsFile
from llmrl.training.past_rewards import PastRewards
from llmrl.verifiers import Verdict


class Three:
    """Three problems."""

    size = 3

    def __getitem__(self, index: int) -> Problem:
        return Problem(id=str(index), problem=f"say {index}", answer="a")


class Letters(TextEnv):
    """Right if the response begins with a character of the lower half."""

    def __init__(self, split: str = "train") -> None:
        super().__init__(
            Three(),
            lambda responses, golds: [
                Verdict(float(r[:1] < "@"), "correct" if r[:1] < "@" else "wrong") for r in responses
            ],
        )


if "tests/Letters-v0" not in gymnasium.registry:
    gymnasium.register("tests/Letters-v0", entry_point=Letters)

rewards = st.lists(st.sampled_from([0.0, 1.0, 0.25, -2.0]), min_size=2, max_size=5)
visits = st.lists(rewards, min_size=1, max_size=4)


def group(values: list[float], **entries: torch.Tensor) -> TensorDict:
    td = TensorDict(batch_size=[len(values)])
    td[keys.GROUP] = torch.full((len(values),), 3)
    td[keys.REWARD] = torch.tensor(values, dtype=torch.float64)[:, None]
    td[keys.MASK] = torch.ones(len(values), 2, dtype=torch.bool)
    for name, value in entries.items():
        td[name] = value
    return td


def advantages(history: list[list[float]]) -> list[float]:
    """Of the last visit, after the earlier ones have passed through the memory."""
    memory = PastRewards()
    for values in history:
        td = group(values)
        td[keys.PAST_REWARDS] = memory.recall([8] * len(values), td)
    return SmoothGroupAdvantage()(td)[keys.ADVANTAGE][:, 0].tolist()


def standardised(reward: float, mean: float, std: float) -> float:
    return (reward - mean) / std if std > 1e-12 else 0.0


def scores(history: list[list[float]]) -> list[tuple[float, float]]:
    """z over the last visit and Z over all of them, by the authors' running update."""
    mean = std = 0.0
    for times, values in enumerate(history, 1):
        new, spread = statistics.fmean(values), statistics.stdev(values)
        between = (times - 1) / times * (new - mean) ** 2
        std = (((times - 1) * std**2 + spread**2 + between) / times) ** 0.5
        mean = ((times - 1) * mean + new) / times
    return [(standardised(r, new, spread), standardised(r, mean, std)) for r in history[-1]]


def by_the_paper(history: list[list[float]]) -> list[float]:
    """The smaller of the two blends."""
    new = 1 / len(history)
    return [min(total * new + z * (1 - new), z * new + total * (1 - new), key=abs) for z, total in scores(history)]


@given(visits)
def test_the_smoothed_advantage_is_the_papers(history):
    assert advantages(history) == pytest.approx(by_the_paper(history), abs=1e-9)


@given(rewards)
def test_a_first_visit_is_the_groups_advantage(values):
    expected = GroupAdvantage(eps=0.0)(group(values))[keys.ADVANTAGE][:, 0].tolist()
    assert advantages([values]) == pytest.approx(expected, abs=1e-12)
    assert SmoothGroupAdvantage()(group(values))[keys.ADVANTAGE][:, 0].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_group_of_equal_rewards_teaches_where_it_differs_from_before():
    # Mean 1/2 and deviation 1/2 over both visits: Z = 1, z = 0, both blends are 1/2.
    assert advantages([[0.0, 0.0], [1.0, 1.0]]) == pytest.approx([0.5, 0.5])
    assert advantages([[1.0, 1.0], [1.0, 1.0]]) == [0.0, 0.0]


def test_equal_rewards_stay_without_advantage_though_their_mean_is_rounded():
    assert sum([0.1] * 3) / 3 != 0.1
    assert advantages([[0.1] * 3]) == [0.0] * 3
    assert advantages([[0.1] * 3, [0.1] * 3]) == [0.0] * 3


@pytest.mark.parametrize("reward", [0.1, 0.9, -1.1])
def test_equal_rewards_of_many_visits_stay_without_advantage(reward):
    for visits in range(2, 30):  # the mean over visits is rounded at some of them
        assert advantages([[reward] * 8] * visits) == [0.0] * 8


@given(visits)
def test_the_smoothed_advantage_lies_between_the_groups_own_and_the_overall_one(history):
    parts = scores(history)
    for found, (z, total) in zip(advantages(history), parts, strict=True):
        assert min(z, total) - 1e-9 <= found <= max(z, total) + 1e-9


def test_rows_without_a_verdict_are_left_out_of_advantage_and_memory():
    memory = PastRewards()
    td = group([1.0, 0.0, 7.0], valid=torch.tensor([True, True, False]))
    td[keys.PAST_REWARDS] = memory.recall([4, 4, 4], td)
    assert memory.of_problem == {4: pytest.approx((1.0, 0.5, 0.5**0.5))}
    assert SmoothGroupAdvantage()(td)[keys.ADVANTAGE][:, 0].tolist() == pytest.approx([0.5**0.5, -(0.5**0.5), 0.0])
    nothing = group([1.0, 0.0], valid=torch.tensor([False, False]))
    memory.recall([4, 4], nothing)
    assert memory.of_problem == {4: pytest.approx((1.0, 0.5, 0.5**0.5))}


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match=r"SmoothGroupAdvantage compares .* group of 1\."):
        SmoothGroupAdvantage()(group([1.0]))


def test_a_run_remembers_what_its_problems_were_given(tmp_path):
    tiny = tiny_folder(tmp_path / "tiny", sharpness=1.0)
    config = parse(
        [
            "--algo",
            "dcpo",
            "--policy",
            str(tiny),
            "--env",
            "tests/Letters-v0",
            "--threads",
            "1",
            "--policy.max-response-length",
            "4",
            "--train.prompts-per-step",
            "2",
            "--train.group-size",
            "4",
            "--train.learning-rate",
            "1e-3",
            "--eval.problems",
            "0",
        ]
    )
    trainer, _ = build(config)
    seen: list[tuple[int, float]] = []
    for _ in range(3):
        _, rollouts = trainer.step()
        past = rollouts.data[keys.PAST_REWARDS]
        assert past[:, 0].tolist() == [float(sum(i == r["problem_id"] for i, _ in seen)) for r in rollouts.records]
        for first in range(0, 8, 4):
            rows = rollouts.records[first : first + 4]
            seen.append((rows[0]["problem_id"], statistics.fmean(r["reward"] for r in rows)))
    for problem, (count, mean, _) in trainer.past_rewards.of_problem.items():
        given_to_it = [reward for i, reward in seen if i == problem]
        assert (count, mean) == (len(given_to_it), pytest.approx(statistics.fmean(given_to_it)))
    with contextlib.closing(MetricsFile(tmp_path / "metrics.jsonl")) as metrics:
        saved = run_state.save(trainer, tmp_path, metrics)
    resumed = resumed_from(saved, config)
    assert resumed.past_rewards.of_problem == trainer.past_rewards.of_problem
