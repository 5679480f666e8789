"""Tasks of a few characters, for policies that train in a minute on one core.

``llmrl/NanoCarry-v0`` adds, ``llmrl/NanoCountdown-v0`` reaches a target, ``llmrl/NanoGuess-v0`` takes two turns.
Problems are generated without end; one in ten is a test problem.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from llmrl.envs.countdown import grade_expression
from llmrl.envs.problems import SPLITS, Problem, split_of
from llmrl.envs.text import TextEnv, Turn
from llmrl.envs.vector import vector_of
from llmrl.registry import suggest
from llmrl.verifiers.verdict import Status, Verdict

MAX_DRAWS = 1000


class Task(NamedTuple):
    """The question, and a right answer."""

    text: str
    answer: str


class NanoRules(Protocol):
    """Draws the tasks of one kind."""

    name: ClassVar[str]
    """Prefix of problem ids."""

    def draw(self, rng: np.random.Generator) -> Task:
        """Any task of this kind."""


class NanoProblems:
    """Problems without end, drawn by rules. Train and test are divided by the text of the problem.

    Args:
        rules: what is drawn.
        split: ``train`` or ``test``.
        seed: another seed gives other problems.

    >>> NanoProblems(Sums(digits=3), "train")[0].problem
    '568+376='
    """

    size = None

    def __init__(self, rules: NanoRules, split: str, seed: int = 0) -> None:
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}. {suggest(split, SPLITS)}")
        self.rules = rules
        self.split = split
        self.seed = seed

    def __str__(self) -> str:
        return f"generated {self.split} problems of {self.rules.name}, seed {self.seed}"

    def __getitem__(self, index: int) -> Problem:
        if index < 0:
            raise IndexError(f"A problem id must be 0 or more, got {index}.")
        rng = np.random.default_rng([self.seed, index])
        for _ in range(MAX_DRAWS):
            text, answer = self.rules.draw(rng)
            if split_of(text) == self.split:
                return Problem(
                    id=f"{self.rules.name}/{self.split}/{self.seed}/{index}",
                    problem=text,
                    answer=answer,
                    subject=self.rules.name,
                    source="generated",
                )
        raise LookupError(f"No {self.split} problem of {self.rules.name} in {MAX_DRAWS} draws.")


def check_text(responses: list[str], golds: list[str]) -> list[Verdict]:
    """Whether each response is exactly the gold answer, except for blanks around it.

    >>> [v.status for v in check_text(["751", " 751", "", "157"], ["751"] * 4)]
    ['correct', 'correct', 'no_answer', 'wrong']
    """
    verdicts = []
    for response, gold in zip(responses, golds, strict=True):
        said = response.strip()
        right = said == gold
        status: Status = "correct" if right else "wrong" if said else "no_answer"
        verdicts.append(Verdict(float(right), status, extracted=said or None, rule="text"))
    return verdicts


class Sums:
    """Two numbers of equally many digits, written lowest digit first, as is their sum.

    Args:
        digits: how many, 1 to 12.

    >>> Sums(digits=2).draw(np.random.default_rng(0))
    Task(text='68+76=', answer='351')
    """

    name: ClassVar[str] = "carry"

    def __init__(self, digits: int) -> None:
        if not 1 <= digits <= 12:
            raise ValueError(f"digits must be from 1 to 12, got {digits}.")
        self.digits = digits

    def draw(self, rng: np.random.Generator) -> Task:
        """Both numbers have no leading zero."""
        low = 10 ** (self.digits - 1)
        a, b = (int(n) for n in rng.integers(low, 10 * low, 2))
        return Task(f"{_lowest_first(a)}+{_lowest_first(b)}=", _lowest_first(a + b))


def _lowest_first(number: int) -> str:
    return str(number)[::-1]


class NanoCarryEnv(TextEnv):
    """Add two numbers; all digits are written lowest first, so that the carry goes with the text.

    Args:
        digits: of both numbers, 1 to 12.
        split: ``train`` or ``test``; they never overlap.
        seed: another seed gives other problems.
        verifier: by default the comparison of the texts.
        render_mode: ``human`` or ``ansi``.
    """

    source_name = "generated"

    def __init__(
        self,
        *,
        digits: int = 4,
        split: str = "train",
        seed: int = 0,
        verifier: str = "llmrl.envs.nano:check_text",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(NanoProblems(Sums(digits), split, seed), verifier, render_mode=render_mode)


class Targets:
    """Numbers of one digit, highest first, and a target that + - * make of them.

    Args:
        numbers: how many are given, 2 to 4.
        largest: of the numbers, at most 9.
        target: the largest target.

    >>> Targets(numbers=3).draw(np.random.default_rng(1))
    Task(text='755=30', answer='7*5-5')
    """

    name: ClassVar[str] = "countdown"

    def __init__(self, numbers: int, largest: int = 9, target: int = 30) -> None:
        if not 2 <= numbers <= 4:
            raise ValueError(f"numbers must be from 2 to 4, got {numbers}.")
        if not 4 <= largest <= 9 or target < 10:
            raise ValueError(f"largest must be from 4 to 9 and target 10 or more, got {largest} and {target}.")
        self.numbers = numbers
        self.largest = largest
        self.target = target

    def draw(self, rng: np.random.Generator) -> Task:
        """Numbers, one of the targets that they reach, and its shortest expression."""
        while True:
            numbers = sorted((int(n) for n in rng.integers(1, self.largest + 1, self.numbers)), reverse=True)
            ways = self.ways(numbers)
            if ways:
                value = list(ways)[int(rng.integers(len(ways)))]
                return Task(f"{''.join(map(str, numbers))}={value}", ways[value])

    def ways(self, numbers: Sequence[int]) -> dict[int, str]:
        """All targets that these numbers reach, each with its shortest expression.

        >>> Targets(numbers=2).ways([5, 2])
        {3: '5-2', 7: '5+2', 10: '5*2'}
        """
        ways = reachable(tuple(numbers))
        return {value: text for value, text in ways.items() if 1 <= value <= self.target and value not in numbers}


class _Part(NamedTuple):
    value: int
    text: str
    product: bool
    """Binds tighter than a sum."""


@functools.cache
def reachable(numbers: tuple[int, ...]) -> dict[int, str]:
    """Every value of 0 or more that + - * make of all the numbers, with its shortest expression, values ascending.

    >>> reachable((5, 2))
    {3: '5-2', 7: '5+2', 10: '5*2'}
    """
    found: dict[int, str] = {}
    for part in _expressions([_Part(n, str(n), True) for n in numbers]):
        known = found.get(part.value)
        if known is None or (len(part.text), part.text) < (len(known), known):
            found[part.value] = part.text
    return dict(sorted(found.items()))


def _expressions(parts: list[_Part]) -> Iterator[_Part]:
    if len(parts) == 1:
        yield parts[0]
    for i, j in combinations(range(len(parts)), 2):
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        a, b = sorted((parts[i], parts[j]), reverse=True)
        subtrahend = b.text if b.product else f"({b.text})"
        factors = [part.text if part.product else f"({part.text})" for part in (a, b)]
        for made in (
            _Part(a.value + b.value, f"{a.text}+{b.text}", False),
            _Part(a.value - b.value, f"{a.text}-{subtrahend}", False),
            _Part(a.value * b.value, "*".join(factors), True),
        ):
            yield from _expressions([*rest, made])


def check_expression(responses: list[str], golds: list[str]) -> list[Verdict]:
    """Whether the last part of each response is an expression of the gold expression's numbers and value.

    Blanks divide a response into parts. An expression may be followed by its value.

    >>> [v.status for v in check_expression(["7*2-3", "7+3+1 7*2-3=11", "7*2-3 7+3+1", "11", ""], ["2*7-3"] * 5)]
    ['correct', 'correct', 'wrong', 'wrong', 'no_answer']
    """
    lasts = [(said.split() or [""])[-1] for said in responses]
    return [grade_expression(last, gold, "last part", "+-*") for last, gold in zip(lasts, golds, strict=True)]


class NanoCountdownEnv(TextEnv):
    """Reach a target with given digits, each used exactly once, and + - * with parentheses.

    A response may hold several expressions, divided by blanks. The last one counts.

    Args:
        numbers: how many digits are given, 2 to 4.
        largest: of the digits, at most 9.
        target: the largest target.
        split: ``train`` or ``test``; they never overlap.
        seed: another seed gives other problems.
        verifier: by default the exact checker of this game.
        render_mode: ``human`` or ``ansi``.
    """

    source_name = "generated"

    def __init__(
        self,
        *,
        numbers: int = 4,
        largest: int = 9,
        target: int = 30,
        split: str = "train",
        seed: int = 0,
        verifier: str = "llmrl.envs.nano:check_expression",
        render_mode: str | None = None,
    ) -> None:
        problems = NanoProblems(Targets(numbers, largest, target), split, seed)
        super().__init__(problems, verifier, render_mode=render_mode)


class Hidden:
    """Three different digits in any order, one of which is meant.

    >>> Hidden().draw(np.random.default_rng(0))
    Task(text='5 9 6', answer='5')
    """

    name: ClassVar[str] = "guess"

    def draw(self, rng: np.random.Generator) -> Task:
        """The digits, and the one that is meant."""
        digits = [str(n) for n in rng.choice(10, 3, replace=False)]
        return Task(" ".join(digits), digits[int(rng.integers(3))])


class NanoGuessEnv(TextEnv):
    """Guess which of three digits is meant: a wrong guess is answered by ``<`` or ``>``, and there is a second one.

    ``<``: the digit is smaller than the guess. ``>``: it is larger. ``?``: the guess is no number. A policy that
    guesses the middle one first can always find it.

    Args:
        split: ``train`` or ``test``; they never overlap.
        seed: another seed gives other problems.
        verifier: by default the comparison of the texts.
        render_mode: ``human`` or ``ansi``.
    """

    source_name = "generated"

    def __init__(
        self,
        *,
        split: str = "train",
        seed: int = 0,
        verifier: str = "llmrl.envs.nano:check_text",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(NanoProblems(Hidden(), split, seed), verifier, render_mode=render_mode)

    def respond(self, response: str, verdict: Verdict | None) -> Turn:
        """The end, or a hint after the first wrong guess.  A verifier without a verdict ends the episode."""
        assert verdict is not None
        assert self.problem is not None
        if self.turns or not verdict.valid or verdict.status == "correct":
            return Turn("", {"answer": verdict.score}, terminated=True)
        return Turn(hint(response, self.problem.answer), {"answer": 0.0}, terminated=False)


def hint(guess: str, answer: str) -> str:
    """The reply to a wrong guess.

    >>> hint("5", "6"), hint("7", "6"), hint("many", "6")
    ('>', '<', '?')
    """
    said = guess.strip()
    if not re.fullmatch("[0-9]{1,9}", said) or int(said) == int(answer):
        return "?"
    return "<" if int(answer) < int(said) else ">"


NanoCarryEnv_vector = vector_of(NanoCarryEnv)
NanoCountdownEnv_vector = vector_of(NanoCountdownEnv)
NanoGuessEnv_vector = vector_of(NanoGuessEnv)
