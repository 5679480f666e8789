r"""Countdown: reach a target with given numbers, each used once: ``llmrl/Countdown-v0``.

The generator makes the target from the numbers, so every problem has a solution. The checker
evaluates the response's expression exactly and needs no other verifier.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from fractions import Fraction

import numpy as np

from llmrl.envs.arithmetic import BadExpression, evaluate
from llmrl.envs.columns import last_box
from llmrl.envs.problems import SPLITS, Problem, split_of
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.verifiers.verdict import Verdict

MAX_DRAWS = 10_000
TRIED = 8
"""This many problems are made at once, to refuse settings that give none."""
OPERATORS = "+-*/"
"""The operators that a problem names."""


class CountdownProblems:
    """An unlimited number of problems. A hash of the problem's text divides train and test.

    Args:
        split: ``train`` or ``test``.
        numbers: how many numbers are given, 2 to 8.
        largest: the largest number that may be given.
        target: the largest target.
        seed: another seed gives other problems.

    >>> print(CountdownProblems(numbers=3)[0].problem)
    Using the numbers 85, 64, 51, each exactly once, and + - * / with parentheses, make 72.
    """

    size = None

    def __init__(
        self,
        split: str = "train",
        *,
        numbers: int = 4,
        largest: int = 99,
        target: int = 999,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"There is no split {split!r}. {suggest(split, SPLITS)}")
        if not 2 <= numbers <= 8:
            raise ConfigError(f"numbers must be from 2 to 8, got {numbers}.")
        if largest < 10 or target < 10:
            raise ConfigError(
                f"largest and target must be 10 or more, got {largest} and {target}: below that "
                "there are too few problems to divide into train and test."
            )
        self.split = split
        self.numbers = numbers
        self.largest = largest
        self.target = target
        self.seed = seed
        if not _has_problems(split, numbers, largest, target, seed):
            raise ConfigError(
                f"Too few expressions of {numbers} numbers up to {largest} have a value of at most {target}. Give a "
                "larger target or fewer numbers."
            )

    def __str__(self) -> str:
        return f"generated {self.split} problems of {self.numbers} numbers, seed {self.seed}"

    def __getitem__(self, index: int) -> Problem:
        if index < 0:
            raise IndexError(f"A problem id must be 0 or more, got {index}.")
        drawn = _drawn(self.split, self.numbers, self.largest, self.target, self.seed, index)
        if drawn is None:
            raise LookupError(f"No problem with target up to {self.target} in {MAX_DRAWS} draws.")
        numbers, solution, value = drawn
        listed, signs = ", ".join(map(str, numbers)), " ".join(OPERATORS)
        return Problem(
            id=f"countdown/{self.split}/{self.seed}/{index}",
            problem=f"Using the numbers {listed}, each exactly once, and {signs} with parentheses, make {value}.",
            answer=solution,
            solution=f"${solution} = {value}$. The answer is $\\boxed{{{solution}}}$.",
            subject="countdown",
            level=min(max(self.numbers - 2, 1), 5),
            source="generated",
        )


Drawn = tuple[list[int], str, int]
"""Numbers, an expression that uses them, and its value."""


def _drawn(split: str, numbers: int, largest: int, target: int, seed: int, index: int) -> Drawn | None:
    """The numbers of problem ``index``; None if no draw fits."""
    rng = np.random.default_rng([seed, index])
    for _ in range(MAX_DRAWS):
        given, solution, value = _draw(rng, numbers, largest)
        fits = 1 <= value <= target and value not in given
        if fits and split_of(f"{sorted(given)} {value}") == split:
            return given, solution, value
    return None


@functools.lru_cache(maxsize=32)
def _has_problems(split: str, numbers: int, largest: int, target: int, seed: int) -> bool:
    return all(_drawn(split, numbers, largest, target, seed, index) for index in range(TRIED))


def _draw(rng: np.random.Generator, count: int, largest: int) -> Drawn:
    """``count`` numbers and an expression; every intermediate result is a whole number."""
    numbers = [int(n) for n in rng.integers(1, largest + 1, count)]
    parts = [(n, str(n)) for n in numbers]
    while len(parts) > 1:
        i, j = (int(k) for k in rng.choice(len(parts), 2, replace=False))
        (a, left), (b, right) = parts[i], parts[j]
        choices = [(a + b, "+"), (a * b, "*")]
        choices += [(a - b, "-")] if a > b else []
        choices += [(a // b, "/")] if b and a % b == 0 else []
        value, sign = choices[int(rng.integers(len(choices)))]
        parts = [part for k, part in enumerate(parts) if k not in (i, j)]
        parts.append((value, f"({left} {sign} {right})"))
    value, solution = parts[0]
    return numbers, solution[1:-1], value


def check_countdown(responses: list[str], golds: list[str]) -> list[Verdict]:
    r"""Whether each response uses the numbers of the gold expression and reaches its value.

    The last ``\boxed{}`` counts, else the last ``<answer>``; ``= target`` may follow the
    expression.

    >>> [v.status for v in check_countdown([r"\boxed{(8-5)*7=21}", r"\boxed{21}"], ["7*(8-5)"] * 2)]
    ['correct', 'wrong']
    """
    return [_check(response, gold) for response, gold in zip(responses, golds, strict=True)]


def _check(response: str, gold: str) -> Verdict:
    tagged = re.findall(r"<answer>(.*?)</answer>", response, re.DOTALL)
    boxed = last_box(response)
    answer = boxed if boxed is not None else (tagged[-1].strip() if tagged else "")
    return grade_expression(answer, gold, "boxed" if boxed is not None else "answer tag", OPERATORS)


def grade_expression(answer: str, gold: str, rule: str, operators: str) -> Verdict:
    """Whether an expression uses the numbers of the gold expression and reaches its value.

    Args:
        answer: the expression; ``= target`` may follow it.
        gold: an expression that reaches the target.
        rule: name of the rule that found the answer in the response.
        operators: the operators that the problem allows.
    """
    try:
        expected = evaluate(gold)
    except BadExpression as error:
        return Verdict(0.0, "unparsable_gold", detail=f"{gold!r}: {error}")
    if not answer:
        return Verdict(0.0, "no_answer")
    try:
        sides = [evaluate(side, operators) for side in answer.split("=")]
    except BadExpression:
        return Verdict(0.0, "wrong", extracted=answer, rule=rule)
    numbers: Counter[Fraction] = Counter(sides[0].numbers)
    right = numbers == Counter(expected.numbers) and all(s.value == expected.value for s in sides)
    return Verdict(float(right), "correct" if right else "wrong", extracted=answer, rule=rule)


class CountdownEnv(TextEnv):
    """Reach a target with given numbers, each used exactly once.

    Args:
        split: ``train`` or ``test``; the two never overlap.
        numbers: how many numbers are given, 2 to 8.
        largest: the largest of them.
        target: the largest target.
        seed: another seed gives other problems.
        verifier: by default the exact checker of this game.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        split: str = "train",
        numbers: int = 4,
        largest: int = 99,
        target: int = 999,
        seed: int = 0,
        verifier: str = "llmrl.envs.countdown:check_countdown",
        render_mode: str | None = None,
    ) -> None:
        problems = CountdownProblems(split, numbers=numbers, largest=largest, target=target, seed=seed)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = "generated"


CountdownEnv_vector = vector_of(CountdownEnv)
