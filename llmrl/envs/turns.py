"""Environments of several turns: ``llmrl/MathTool-v0`` and ``llmrl/MathRetry-v0``.

Both ask the problems of ``llmrl/MATH-v0``. In the first the model may call a calculator; in the second it
is told the verdict and tries again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmrl.envs.arithmetic import BadExpression, evaluate
from llmrl.envs.math import math_problems, resolve_math
from llmrl.envs.problems import Problem, ProblemOptions
from llmrl.envs.text import TextEnv, Turn
from llmrl.envs.vector import vector_of
from llmrl.errors import ConfigError
from llmrl.verifiers.verdict import Verdict

CALL = re.compile(r"<calc>(.*?)</calc>\s*$", re.DOTALL)


class MathToolEnv(TextEnv):
    """Mathematics with a calculator.

    A response that ends in ``<calc>12*(3+4)</calc>`` gets the reply ``<result>84</result>``, and the
    model continues. Any other response is graded, and so is a call beyond the limit.

    Args:
        source: as in ``llmrl/MATH-v0``.
        split: ``train`` or ``test``.
        subjects: which subjects; all by default.
        levels: which difficulties, 1 to 5; all by default.
        seed: seed of generated problems.
        calls: the largest number of calls of the calculator.
        call_cost: amount that each call subtracts from the reward.
        verifier: name of a verifier, or ``module:function``.
        render_mode: ``human`` or ``ansi``.
    """

    INSTRUCTION = (
        "You may use a calculator: end your turn with <calc>expression</calc>, with numbers, "
        "+ - * / ^ and parentheses, and you will get <result>value</result>."
    )

    def __init__(
        self,
        *,
        source: str = "auto",
        split: str = "train",
        subjects: tuple[str, ...] | None = None,
        levels: tuple[int, ...] | None = None,
        seed: int = 0,
        calls: int = 4,
        call_cost: float = 0.0,
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        if calls < 1:
            raise ConfigError(f"calls must be 1 or more, got {calls}: without a call there is no calculator.")
        options = ProblemOptions(
            source=source, split=split, subjects=subjects, levels=levels, seed=seed, check=verifier == "math"
        )
        problems = math_problems(options)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = problems.name
        self.calls = calls
        self.call_cost = call_cost

    @classmethod
    def resolve(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with ``local``, ``hub`` or ``generated`` in place of ``auto``."""
        return resolve_math(options)

    def prompt(self, problem: Problem) -> str:
        """The problem, and how to call the calculator."""
        return f"{problem.problem}\n\n{self.INSTRUCTION}"

    def answer_text(self, response: str) -> str | None:
        """None if the response is a call of the calculator that is still allowed, else the response."""
        return None if len(self.turns) < self.calls and CALL.search(response) else response

    def respond(self, response: str, verdict: Verdict | None) -> Turn:
        """The calculator's result, or the end of the episode."""
        if verdict is not None:
            return Turn("", {"answer": verdict.score, "calls": 0.0}, terminated=True)
        call = CALL.search(response)
        assert call is not None
        reply = f"<result>{calculate(call[1])}</result>"
        return Turn(reply, {"answer": 0.0, "calls": -self.call_cost}, terminated=False)


def calculate(expression: str) -> str:
    """The text that the calculator shows: an exact number, or an error.

    >>> calculate("12*(3+4)"), calculate("1/3+1"), calculate("2/0")
    ('84', '4/3', 'error: division by zero')
    """
    try:
        return str(evaluate(expression).value)
    except BadExpression as error:
        return f"error: {error}"


class MathRetryEnv(TextEnv):
    """Mathematics with several attempts: after a wrong answer the model is told so and tries again.

    Args:
        source: as in ``llmrl/MATH-v0``.
        split: ``train`` or ``test``.
        subjects: which subjects; all by default.
        levels: which difficulties, 1 to 5; all by default.
        seed: seed of generated problems.
        attempts: the largest number of answers.
        decay: each earlier attempt multiplies the reward of a right answer by this.
        verifier: name of a verifier, or ``module:function``.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        source: str = "auto",
        split: str = "train",
        subjects: tuple[str, ...] | None = None,
        levels: tuple[int, ...] | None = None,
        seed: int = 0,
        attempts: int = 3,
        decay: float = 1.0,
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        if attempts < 1:
            raise ConfigError(f"attempts must be 1 or more, got {attempts}.")
        if not 0 <= decay <= 1:
            raise ConfigError(f"decay must be from 0 to 1, got {decay}: it multiplies the reward.")
        options = ProblemOptions(
            source=source, split=split, subjects=subjects, levels=levels, seed=seed, check=verifier == "math"
        )
        problems = math_problems(options)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = problems.name
        self.attempts = attempts
        self.decay = decay

    @classmethod
    def resolve(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with ``local``, ``hub`` or ``generated`` in place of ``auto``."""
        return resolve_math(options)

    def respond(self, response: str, verdict: Verdict | None) -> Turn:
        """The end of the episode, or what was wrong. If there is no verdict, the episode ends."""
        assert verdict is not None
        left = self.attempts - len(self.turns) - 1
        if not verdict.valid or verdict.status == "correct" or left == 0:
            score = verdict.score * self.decay ** len(self.turns)
            return Turn("", {"answer": score}, terminated=True)
        what = (
            "I found no final answer. Put it into \\boxed{}." if verdict.status == "no_answer" else "That is not right."
        )
        again = f"Try again. {left} attempt{'s' if left > 1 else ''} left."
        return Turn(f"{what} {again}", {"answer": 0.0}, terminated=False)


MathToolEnv_vector = vector_of(MathToolEnv)
MathRetryEnv_vector = vector_of(MathRetryEnv)
