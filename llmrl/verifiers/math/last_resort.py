"""Math-Verify and sympy, for answers that the exact parser cannot read; it runs inside a worker process.

Math-Verify rounds, so an answer that it accepts must also agree to many digits, or be the same expression.
"""

from __future__ import annotations

import random
from typing import Any

import sympy
from math_verify import parse, verify

DIGITS = 25
AGREEMENT = sympy.Float("1e-18", DIGITS)
"""How far two values may be apart, relative to their size."""


def equivalent(answer: str, gold: str) -> bool:
    """Whether Math-Verify takes the two answers for equal and they agree.  The caller bounds time and memory."""
    parsed_gold = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    parsed = parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
    if not verify(parsed_gold, parsed, timeout_seconds=None):
        return False
    return agree(_objects(parsed_gold), _objects(parsed))


def agree(golds: list[Any], answers: list[Any]) -> bool:
    """Whether a reading of the gold answer is a reading of the answer.

    >>> agree([sympy.E], [sympy.Float("2.718281828")]), agree([sympy.sin(1) ** 2], [1 - sympy.cos(1) ** 2])
    (False, True)
    """
    return any(_same(gold, answer) for gold in golds for answer in answers)


def _objects(parsed: list[Any]) -> list[Any]:
    return [item for item in parsed if not isinstance(item, str)]


def _same(gold: Any, answer: Any) -> bool:
    if isinstance(gold, sympy.MatrixBase) and isinstance(answer, sympy.MatrixBase):
        return gold.shape == answer.shape and all(map(_same, gold, answer))
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        return _same_value(gold, answer)
    if type(gold) is not type(answer):
        return False
    if isinstance(gold, (sympy.FiniteSet, sympy.Tuple, sympy.Interval, sympy.Union, sympy.Rel)):
        return len(gold.args) == len(answer.args) and all(map(_same, gold.args, answer.args))
    return bool(gold == answer)


def _same_value(gold: sympy.Expr, answer: sympy.Expr) -> bool:
    """Whether two expressions agree at random points, to more digits than Math-Verify looks at."""
    if gold == answer:
        return gold.is_finite is not False
    names = {symbol.name for symbol in gold.free_symbols}
    if names != {symbol.name for symbol in answer.free_symbols}:
        return False
    chance = random.Random(20_250)
    for _ in range(3 if names else 1):
        # a whole number may be the bound of a sum
        point = {name: sympy.Integer(chance.randint(3, 19)) for name in sorted(names)}
        values = []
        for expression in (gold, answer):
            value = expression.subs({symbol: point[symbol.name] for symbol in expression.free_symbols}).doit()
            values.append(sympy.N(value, DIGITS))
        first, second = values
        if not (first.is_number and second.is_number and first.is_finite and second.is_finite):
            return False
        if not bool(abs(first - second) <= AGREEMENT * max(abs(first), abs(second))):
            return False
    return True


def grade_response(response: str, gold: str) -> tuple[str, str | None]:
    """Math-Verify's own verdict on a whole response: the status, and what it took for the answer."""
    parsed_gold = parse(f"\\boxed{{{gold}}}", parsing_timeout=None)
    if not parsed_gold:
        return "unparsable_gold", None
    parsed = parse(response, parsing_timeout=None)
    if not parsed:
        return "no_answer", None
    right = verify(parsed_gold, parsed, timeout_seconds=None)
    return "correct" if right else "wrong", str(parsed[-1])


# The first comparisons load grammars and tables, which on a busy machine takes longer than an answer may.
equivalent("e", r"\sum_{k=0}^{\infty} \frac{1}{k!}")
