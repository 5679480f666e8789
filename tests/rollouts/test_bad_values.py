"""What an environment or a verifier returns and nobody can use: its group is left out, the others go on."""

import json
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from tiny import tiny_policy

from llmrl import keys
from llmrl.envs.vector import TextVectorEnv
from llmrl.rollouts.collect import collect
from llmrl.rollouts.environments import Environments
from llmrl.training.faults import split_faults

GOOD = ("", 1.0, True, False, {})
BAD: dict[str, Any] = {
    "nan": ("", float("nan"), True, False, {}),
    "infinite": ("", -float("inf"), True, False, {}),
    "too large for float32": ("", 1e300, True, False, {}),
    "a text": ("", "1.0", True, False, {}),
    "nothing": ("", None, True, False, {}),
    "a tensor": ("", torch.ones(2), True, False, {}),
    "four values": ("", 1.0, True, {}),
    "no tuple": None,
    "a set in info": ("", 1.0, True, False, {"seen": {1, 2}}),
    "an object in info": ("", 1.0, True, False, {"deep": {"list": [object()]}}),
    "parts of the reward are no numbers": ("", 1.0, True, False, {"reward_parts": {"answer": "x"}}),
    "info is no dict": ("", 1.0, True, False, None),
    "observation is no text": (3, 1.0, True, False, {}),
    "system exit": SystemExit(3),
    "an error": ZeroDivisionError("x"),
}


class Answers(gymnasium.Env[str, str]):
    """Problem 1 is answered by the bad value, the others by a good one."""

    reset_options = ("problem_id",)

    def __init__(self, bad: str) -> None:
        self.observation_space = self.action_space = gymnasium.spaces.Text(1000)
        self.bad = bad

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        self.problem = (options or {}).get("problem_id", 0)
        return "a problem", {}

    def step(self, action: str) -> Any:
        value = BAD[self.bad] if self.problem == 1 else GOOD
        if isinstance(value, BaseException):
            raise value
        return value


gymnasium.register("tests/BadAnswers-v0", entry_point=Answers)


@pytest.mark.parametrize("bad", BAD)
def test_the_group_is_left_out_and_the_others_are_kept(bad):
    environments = Environments("tests/BadAnswers-v0", {"bad": bad})
    rollouts = collect(tiny_policy(), environments, [0, 1, 2], seed=0, group_size=2)
    whole, broken = split_faults(rollouts)
    assert [record["problem_id"] for record in whole.records] == [0, 0, 2, 2]
    assert [record["problem_id"] for record in broken] == [1, 1]
    assert whole.data[keys.REWARD].tolist() == [[1.0]] * 4
    assert json.loads(json.dumps(broken))[0]["fault"]


@pytest.mark.parametrize("bad", [name for name in BAD if name != "system exit"])
def test_who_steps_an_environment_alone_is_told(bad):
    env = TextVectorEnv.make("tests/BadAnswers-v0", 1, bad=bad)
    env.reset(options={"problem_id": 1})
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        env.step(["anything"])


class Reports(Answers):
    """Pays 1 and reports the info of its problem."""

    infos: ClassVar[list[dict[str, Any]]] = []

    def __init__(self) -> None:
        super().__init__("")

    def step(self, action: str) -> Any:
        return "", 1.0, True, False, self.infos[self.problem]


gymnasium.register("tests/Reports-v0", entry_point=Reports)

PAIRS: list[tuple[Any, Any]] = [
    (0, 0.5),
    (1, 10**30),
    (1, None),
    (1.5, "late"),
    (True, 2),
    ({"a": 1}, "x"),
    ({"a": 1}, {"a": 0.5}),
    ({"a": 1}, {"b": 2}),
    (np.float32(0.5), 1),
]


@pytest.mark.parametrize("values", PAIRS, ids=str)
def test_each_row_keeps_what_its_environment_reported(values, monkeypatch):
    monkeypatch.setattr(Reports, "infos", [{"value": value, "_own": 1} for value in values])
    records = collect(tiny_policy(), Environments("tests/Reports-v0", {}), [0, 1], seed=0).records
    kept = [record["value"] for record in records]
    assert kept == list(values)
    assert [type(value) for value in kept] == [float if v == 0.5 else type(v) for v in values]
    assert [record["_own"] for record in records] == [1, 1]


def test_what_is_measured_is_not_replaced_by_what_the_environment_reports(monkeypatch):
    info = {"reward": 100.0, "turns": 7, "group": 5, "step": 3, "problem_id": 9, "verdict": "correct"}
    monkeypatch.setattr(Reports, "infos", [info])
    (record,) = collect(tiny_policy(), Environments("tests/Reports-v0", {}), [0], seed=0).records
    assert (record["reward"], record["turns"], record["group"], record["problem_id"]) == (1.0, 1, 0, 0)
    assert (record["info.reward"], record["info.step"], record["verdict"]) == (100.0, 3, "correct")
