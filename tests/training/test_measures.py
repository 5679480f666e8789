"""Measures of a step's rollouts."""

import pytest
import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.envs.wrappers import FormatReward
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.environments import Environments
from llmrl.training.measures import describe
from llmrl.training.preflight import _gold_check


def rollouts(groups: list[list[str]]) -> Rollouts:
    """Responses with these verdicts, group by group."""
    verdicts = [(number, verdict) for number, group in enumerate(groups) for verdict in group]
    valid = [verdict != "timeout" for _, verdict in verdicts]
    reward = [float(verdict == "correct") for _, verdict in verdicts]
    ones = torch.ones(len(verdicts), 1)
    data = TensorDict({keys.MASK: ones > 0, keys.ATTENTION: ones > 0, keys.TRUNCATED: ones < 0}, [len(verdicts)])
    data[keys.VALID] = torch.tensor(valid)
    data[keys.SHAPED_REWARD] = torch.tensor(reward)[:, None]
    records = [
        {"group": group, "verdict": verdict, "valid": ok, "reward": paid, "turns": 1}
        for (group, verdict), ok, paid in zip(verdicts, valid, reward, strict=True)
    ]
    return Rollouts(data, records)


@pytest.mark.parametrize(
    ("groups", "mixed", "solved"),
    [
        ([["wrong"] * 4], 0.0, 0.0),
        ([["correct"] * 4, ["wrong", "correct"]], 0.5, 0.5),
        ([["correct", "correct", "timeout"]], 0.0, 1.0),
        ([["timeout", "timeout"], ["wrong", "timeout"]], 0.0, 0.0),
    ],
)
def test_groups_are_judged_by_their_verdicts(groups, mixed, solved):
    found = describe(rollouts(groups))
    assert (found["groups/mixed"], found["groups/solved_all"]) == (mixed, solved)


@pytest.mark.parametrize("wrappers", [(), (FormatReward,)])
def test_a_gold_answer_is_accepted_by_its_verdict_and_not_by_a_further_part(wrappers):
    rows = [{"problem": "1 + 1", "answer": "2"}, {"problem": "2 + 2", "answer": "{"}]
    environments = Environments("llmrl/Data-v0", {"source": rows, "bad_gold": "keep"}, wrappers)
    assert _gold_check(environments, [{"problem_id": i, "answer": row["answer"]} for i, row in enumerate(rows)]) == (
        1,
        2,
    )
