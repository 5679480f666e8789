"""A task whose best policy is known: answer with the letter "a".  Used by the training tests."""

from __future__ import annotations

from typing import Any

import gymnasium

from llmrl.envs.spaces import FreeText


class SayA(gymnasium.Env[str, str]):
    """The reward is the share of the goal's letters among the first four characters; 1 is the most."""

    def __init__(self, split: str = "train", goal: str = "a") -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()
        self.goal = goal

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "say it", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        reward = sum(letter in self.goal for letter in action[:4]) / 4
        return "", reward, True, False, {}


if "tests/SayA-v0" not in gymnasium.registry:
    gymnasium.register("tests/SayA-v0", entry_point=SayA)


# Options of the smallest run that there is.
SAY_A = ("--env", "tests/SayA-v0", "--eval.problems", "0", "--train.group-size", "2", "--train.prompts-per-step", "2")
SMALL = ("--policy.max-response-length", "3", "--train.updates-per-step", "1", "--threads", "1", "--algo", "grpo")
