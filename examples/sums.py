"""One-digit sums and products: an environment in which a 135M-parameter chat model has signal to learn from.

python -m llmrl.algorithms.run --algo espo --policy smollm2 --env examples.sums:examples/Sums-v0
"""

from __future__ import annotations

import gymnasium
import numpy as np

from llmrl.envs.problems import Problem
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.verifiers import Verdict


class Sums:
    """All sums and products of two digits from 1 to 9; every fifth one is a test problem."""

    def __init__(self, split: str) -> None:
        cells = [(a, b, sign) for a in range(1, 10) for b in range(1, 10) for sign in "+*"]
        order = np.random.default_rng(0).permutation(len(cells))
        part = order[: len(cells) // 5] if split == "test" else order[len(cells) // 5 :]
        self._cells = [cells[i] for i in part]
        self.size = len(self._cells)

    def __getitem__(self, index: int) -> Problem:
        a, b, sign = self._cells[index]
        value, word = (a + b, "plus") if sign == "+" else (a * b, "times")
        text = f"What is {a} {word} {b}? Answer with just the number."
        return Problem(id=f"sums/{index}", problem=text, answer=str(value), source="sums")


def last_number(responses: list[str], golds: list[str]) -> list[Verdict]:
    """The last number of a response is its answer: small chat models do not box anything."""
    verdicts = []
    for response, gold in zip(responses, golds, strict=True):
        numbers = "".join(c if c.isdigit() else " " for c in response).split()
        if not numbers:
            verdicts.append(Verdict(0.0, "no_answer"))
        else:
            right = numbers[-1] == gold
            verdicts.append(Verdict(float(right), "correct" if right else "wrong", numbers[-1], "last number"))
    return verdicts


class SumsEnv(TextEnv):
    """Sums and products of two digits.

    Args:
        split: ``train`` or ``test``.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(self, *, split: str = "train", render_mode: str | None = None) -> None:
        super().__init__(Sums(split), last_number, render_mode=render_mode)


SumsEnv_vector = vector_of(SumsEnv)

if "examples/Sums-v0" not in gymnasium.registry:
    gymnasium.register(
        "examples/Sums-v0",
        entry_point=f"{__name__}:SumsEnv",
        vector_entry_point=f"{__name__}:SumsEnv_vector",
    )
