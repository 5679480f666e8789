"""Environments that are hard on a trainer: random in every way, raising, or with a verifier that dies.

Also a little program: ``python noisy.py MODULE:FUNCTION CALL HOW ARGUMENTS...`` trains, and in the given
call of that function kills its own process (``kill``) or may write only small files (``full``).
"""

from __future__ import annotations

import importlib
import os
import random
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from llmrl.envs.problems import Problem
from llmrl.envs.spaces import FreeText
from llmrl.envs.text import TextEnv
from llmrl.verifiers.pool import WorkerPool
from llmrl.verifiers.verdict import Verdict


class Noisy(gymnasium.Env[str, str]):
    """Draws from every random generator there is; ignores the seed that it is given."""

    def __init__(self, split: str = "train", fail: str = "") -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()
        self.fail = fail

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return f"say {self.np_random.integers(10)}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        draws = random.random(), np.random.random(), float(torch.rand(())), self.np_random.random()
        return "", sum(letter in "abc0123" for letter in action) / 4 + sum(draws), True, False, {}


class Raising(gymnasium.Env[str, str]):
    """Right is "a"; raises in ``step`` or ``reset`` in every environment, or in the first one alone."""

    made = 0

    def __init__(self, split: str = "train", where: str = "step", every: bool = False) -> None:
        self.observation_space = FreeText()
        self.action_space = FreeText()
        self.where = where
        self.broken = every or Raising.made == 2  # the first two only count the problems
        Raising.made += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        if self.broken and self.where == "reset":
            raise ConnectionError("no sandbox is free")
        return "say it", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if self.broken and self.where == "step":
            raise ConnectionError("the sandbox has gone")
        return "", sum(letter < "s" for letter in action) / 4, True, False, {}


class Questions:
    """One question for ever."""

    size = None

    def __getitem__(self, index: int) -> Problem:
        return Problem(id=str(index), problem="say it", answer="a", source="tests")


class DyingVerifier:
    """Grades in a worker process that dies on some of the responses."""

    def __init__(self) -> None:
        self.pool = WorkerPool("fatal:grade", size=1)

    def __call__(self, responses: list[str], golds: list[str]) -> list[Verdict]:
        outcomes = self.pool.run([(response,) for response in responses])
        return [
            Verdict(outcome.value, "correct" if outcome.value >= 1 else "wrong")
            if outcome.status == "done"
            else Verdict(0.0, "error", detail=outcome.detail)
            for outcome in outcomes
        ]


VERIFIER = DyingVerifier()


class Dying(TextEnv):
    """Graded by :class:`DyingVerifier`."""

    def __init__(self, split: str = "train") -> None:
        super().__init__(Questions(), VERIFIER)


# By name: the module may be imported twice, under two names, and tests look at the state of this one.
for name in ("Noisy", "Raising", "Dying"):
    if f"tests/{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"tests/{name}-v0", entry_point=f"noisy:{name}")


def break_at(where: str, call: int, how: str) -> None:
    """Make the given call (1, 2, ...) of ``module:function`` or ``module:Class.method`` go wrong."""
    module, _, path = where.partition(":")
    owner = importlib.import_module(module)
    *parents, last = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    function, calls = getattr(owner, last), 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if calls == call and how == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        return function(*args, **kwargs)

    setattr(owner, last, broken)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from llmrl.commands.cli import main

    break_at(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.exit(main(["train", *sys.argv[4:]]))
