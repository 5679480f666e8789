"""A new environment and a new verifier in a file of one's own.

Play some episodes:              python examples/custom_environment.py
Train on it, in this folder:     llmrl train --env custom_environment:mine/Sorting-v0
Grade something else with it:    --env.verifier custom_environment:same_numbers_in_order

The environment is a source of problems and a verifier; `TextEnv` does the rest.
"""

from __future__ import annotations

import re

import gymnasium
import numpy as np

from llmrl.envs.problems import Problem, split_of
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.verifiers.verdict import Verdict


def same_numbers_in_order(responses: list[str], golds: list[str]) -> list[Verdict]:
    """A verifier: the numbers in the last line, in this order, must be those of the gold answer."""
    verdicts = []
    for response, gold in zip(responses, golds, strict=True):
        lines = response.strip().splitlines()
        found = re.findall(r"-?\d+", lines[-1]) if lines else []
        if not found:
            verdicts.append(Verdict(0.0, "no_answer"))
            continue
        right = found == re.findall(r"-?\d+", gold)
        verdicts.append(Verdict(float(right), "correct" if right else "wrong", extracted=" ".join(found)))
    return verdicts


class SortingProblems:
    """A source: problem i is always the same; its text decides between train and test."""

    size = None  # there is always another one

    def __init__(self, split: str, length: int) -> None:
        self.split = split
        self.length = length

    def __getitem__(self, index: int) -> Problem:
        rng = np.random.default_rng(index)
        while True:
            numbers = [int(n) for n in rng.integers(100, size=self.length)]
            text = f"Sort in ascending order: {' '.join(map(str, numbers))}"
            if split_of(text) == self.split:
                answer = " ".join(map(str, sorted(numbers)))
                return Problem(id=f"sorting/{index}", problem=text, answer=answer, source="sorting")


class SortingEnv(TextEnv):
    """Sort some numbers.

    Args:
        split: ``train`` or ``test``.
        length: how many numbers.
        verifier: name of a verifier, or ``module:function``; by default the one above.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        length: int = 4,
        verifier: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        problems = SortingProblems(split, length)
        super().__init__(problems, verifier or same_numbers_in_order, render_mode=render_mode)


SortingEnv_vector = vector_of(SortingEnv)

gymnasium.register(
    "mine/Sorting-v0",
    entry_point=f"{__name__}:SortingEnv",
    vector_entry_point=f"{__name__}:SortingEnv_vector",
)


def main() -> None:
    """Play three episodes with a policy that gets every other one right."""
    env = gymnasium.make("mine/Sorting-v0", render_mode="human")
    for problem_id in range(3):
        problem, info = env.reset(options={"problem_id": problem_id})
        numbers = re.findall(r"\d+", problem)
        env.step(" ".join(numbers[::-1]) if problem_id % 2 else f"Let me see.\n{info['answer']}")
    env.close()


if __name__ == "__main__":
    main()
