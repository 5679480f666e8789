"""A reward function as a verifier: prompt, response and answer in, a number out."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence

from llmrl.errors import ArgumentError
from llmrl.verifiers.verdict import Verdict

RewardFunction = Callable[[str, str, str], float]
"""A reward from prompt, response and gold answer."""


class FunctionVerifier:
    """Grades with a function that gives a number.

    If the function raises, or its result is not a finite number, the response gets no verdict and no advantage. The
    rest of its group is trained on.

    Args:
        function: from prompt, response and gold answer to a reward, such as 0 or 1.
        threshold: the smallest reward of a response that counts as correct.

    >>> verifier = FunctionVerifier(lambda prompt, response, answer: float(answer in response))
    >>> [verdict.status for verdict in verifier.grade(["2 + 2"] * 2, ["It is 4.", "5"], ["4", "4"])]
    ['correct', 'wrong']
    """

    def __init__(self, function: RewardFunction, *, threshold: float = 1.0) -> None:
        if not callable(function) or not _takes_three(function):
            given = f"a function of {inspect.signature(function)}" if callable(function) else repr(function)
            raise ArgumentError(f"A reward function takes prompt, response and answer, got {given:.80}.")
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            raise ArgumentError(
                "A reward function returns a number at once, got one that is async. Give a plain function."
            )
        self.function = function
        self.threshold = threshold

    def __call__(self, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """One verdict a response, with empty prompts."""
        return self.grade([""] * len(responses), responses, golds)

    def grade(self, prompts: Sequence[str], responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """One verdict a response."""
        return [self._one(*row) for row in zip(prompts, responses, golds, strict=True)]

    def _one(self, prompt: str, response: str, gold: str) -> Verdict:
        try:
            given = self.function(prompt, response, gold)
        except (Exception, SystemExit) as error:
            return Verdict(0.0, "error", detail=f"the reward function raised {type(error).__name__}: {error}")
        try:
            reward = math.nan if isinstance(given, str) else float(given)
        except (Exception, SystemExit):  # what it gave may be anything
            reward = math.nan
        if not math.isfinite(reward):
            return Verdict(0.0, "error", detail=f"the reward function gave {given!r:.80}, no finite number")
        return Verdict(reward, "correct" if reward >= self.threshold else "wrong")


def _takes_three(function: Callable[..., object]) -> bool:
    """Whether a function can be called with three arguments; one that does not say so may be."""
    try:
        inspect.signature(function).bind("", "", "")
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True
