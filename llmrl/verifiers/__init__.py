"""Graders of responses: what they return, how they are found by name, and the one for mathematics.

A verifier is any callable ``(responses, golds) -> verdicts``.  A name leads to one that was registered
here or by an installed package (entry point group ``llmrl.verifiers``); ``module:function`` reaches any.

>>> verifier("math")([r"So it is \\boxed{0.5}."], [r"\\frac12"])[0].status
'correct'
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from llmrl.registry import Registry, UnknownName
from llmrl.verifiers.math.rules import GradingRules
from llmrl.verifiers.math.verifier import MathVerifier, check_gold, grade_answer
from llmrl.verifiers.reference import MathVerify
from llmrl.verifiers.verdict import STATUSES, Status, Verdict, Verifier

VERIFIERS: Registry[Verifier | type[Verifier]] = Registry("verifier", "llmrl.verifiers")
"""Verifiers, and classes of which one is made when it is asked for."""
VERIFIERS.add("math", MathVerifier)
VERIFIERS.add("math_verify", MathVerify)


@functools.cache
def _made(kind: type[Verifier]) -> Verifier:
    """The one verifier of a registered class; a worker of its own starts at once, because a cold one takes seconds."""
    made = kind()
    if isinstance(made, MathVerifier):
        made.pool.start()
    return made


def verifier(name: str) -> Verifier:
    """The verifier of this name; ``module:function`` is imported.

    >>> verifier("math:pi")
    Traceback (most recent call last):
    llmrl.registry.UnknownName: 'math:pi' is of type float, no verifier. Name a function (responses, golds) -> verdicts.
    """
    found = VERIFIERS[name]
    if isinstance(found, type) and ":" not in name:
        return _made(found)
    if isinstance(found, type) or not callable(found):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise UnknownName(f"{name!r} is {what}, no verifier. Name a function (responses, golds) -> verdicts.")
    return found


def register_verifier(name: str) -> Callable[[Verifier], Verifier]:
    """Decorate a function ``(responses, golds) -> verdicts`` to give it a name.

    >>> @register_verifier("example/says-yes")
    ... def says_yes(responses, golds):
    ...     return [Verdict(float("yes" in text), "correct") for text in responses]
    >>> verifier("example/says-yes")(["yes"], ["-"])[0].score
    1.0
    """

    def add(grade: Verifier) -> Verifier:
        VERIFIERS.add(name, grade)
        return grade

    return add


__all__ = [
    "STATUSES",
    "VERIFIERS",
    "GradingRules",
    "MathVerifier",
    "MathVerify",
    "Status",
    "Verdict",
    "Verifier",
    "check_gold",
    "grade_answer",
    "register_verifier",
    "verifier",
]
