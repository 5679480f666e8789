"""Environments and a verifier that do not return."""

from __future__ import annotations

import time
from typing import Any

import gymnasium

from llmrl.envs.problems import Problem
from llmrl.envs.text import FreeText, TextEnv
from llmrl.verifiers import Verdict

FOREVER = 600


class Hanging(gymnasium.Env[str, str]):
    """Hangs in ``where`` at every problem, or with ``once`` at problem 1 alone; ``stubborn`` swallows exceptions."""

    def __init__(self, split: str = "train", where: str = "step", once: bool = False, stubborn: bool = False) -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()
        self.where, self.once, self.stubborn = where, once, stubborn
        self.reset_options = ("problem_id",)
        self.id = 0

    def wait(self, where: str) -> None:
        if self.where != where or (self.once and self.id != 1):
            return
        while True:
            try:
                time.sleep(FOREVER)
            except Exception:
                if not self.stubborn:
                    raise

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.id = (options or {}).get("problem_id", 0)
        self.wait("reset")
        return "say it", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.wait("step")
        return "", sum(letter < "s" for letter in action) / 4, True, False, {}


class Questions:
    """One question for ever."""

    size = None

    def __getitem__(self, index: int) -> Problem:
        return Problem(id=str(index), problem="say it", answer="a", source="tests")


def grade(responses: list[str], golds: list[str]) -> list[Verdict]:
    time.sleep(FOREVER)
    return []


class Ungraded(TextEnv):
    """Its verifier hangs."""

    def __init__(self, split: str = "train") -> None:
        super().__init__(Questions(), grade)


for name in ("Hanging", "Ungraded"):
    if f"tests/{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"tests/{name}-v0", entry_point=f"hanging:{name}")
