r"""Exact arithmetic on text: ``2*(3+4)/5``, also in LaTeX, with hard limits on size.

Its own parser accepts only numbers, + - * / ^ and parentheses. A caller may allow fewer operators.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

OPERATORS = "+-*/^"
"""All operators: ``**`` is read as ``^``, and a fraction of LaTeX as ``/``."""
MAX_LENGTH = 400
"""The largest number of characters of an expression."""
MAX_DEPTH = 40
"""The largest depth of nested parentheses."""
MAX_BITS = 2048
"""The largest size of an intermediate result."""

_SPELLINGS = {
    **{"×": "*", "·": "*", "⋅": "*", "\\times": "*", "\\cdot": "*", "∗": "*"},
    **{"÷": "/", "\\div": "/", "∕": "/", "−": "-", "–": "-", "**": "^"},
    **{"\\left": "", "\\right": "", "\\,": "", "\\!": "", "\\;": "", "\\ ": "", "$": ""},
    **{"\\dfrac": "\\frac", "\\tfrac": "\\frac", "[": "(", "]": ")"},
}
_SPELLING = re.compile("|".join(re.escape(k) for k in sorted(_SPELLINGS, key=len, reverse=True)))
_TOKEN = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+|\\frac|[-+*/^(){}])")


class BadExpression(ValueError):
    """The text is not an arithmetic expression, or it is too large; the message says why."""


class Arithmetic(NamedTuple):
    """An evaluated expression."""

    value: Fraction
    numbers: tuple[Fraction, ...]
    """All numbers that are written in it, in order."""


def evaluate(text: str, operators: str = OPERATORS) -> Arithmetic:
    r"""The exact value of an expression.

    Args:
        text: the expression.
        operators: the operators that it may have, of :data:`OPERATORS`.

    Raises:
        BadExpression: the text is no such expression, or it is too large.

    >>> evaluate(r"2 \times (3 + 4) - \frac{1}{2}").value
    Fraction(27, 2)
    >>> [int(n) for n in evaluate("(8-5)*7").numbers]
    [8, 5, 7]
    >>> evaluate("1/(2-2)")
    Traceback (most recent call last):
    llmrl.envs.arithmetic.BadExpression: division by zero
    >>> evaluate("2**3", operators="+-*/")
    Traceback (most recent call last):
    llmrl.envs.arithmetic.BadExpression: '^' is not one of the operators + - * /
    """
    if len(text) > MAX_LENGTH:
        raise BadExpression(f"longer than {MAX_LENGTH} characters")
    tokens = _tokens(_SPELLING.sub(lambda m: _SPELLINGS[m[0]], text))
    for operator in ("/" if token == "\\frac" else token for token in tokens):
        if operator in OPERATORS and operator not in operators:
            raise BadExpression(f"{operator!r} is not one of the operators {' '.join(operators)}")
    return _Parser(tokens).parse()


def _tokens(text: str) -> list[str]:
    text = text.strip()
    if not text:
        raise BadExpression("empty expression")
    tokens: list[str] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise BadExpression(f"cannot read {text[place:].split()[0][:20]!r}")
        tokens.append(match[1])
        place = match.end()
    return tokens


class _Parser:
    """Recursive descent: sum, product, power, atom."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0
        self.depth = 0
        self.numbers: list[Fraction] = []

    def parse(self) -> Arithmetic:
        value = self.sum()
        if self.place < len(self.tokens):
            raise BadExpression(f"unexpected {self.tokens[self.place]!r}")
        return Arithmetic(value, tuple(self.numbers))

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise BadExpression(f"expected {expected or 'a number'!r}, got {token or 'the end'!r}")
        self.place += 1
        return token

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            sign = self.take()
            right = self.product()
            value = _bounded(value + right if sign == "+" else value - right)
        return value

    def product(self) -> Fraction:
        value = self.signed()
        while self.peek() in ("*", "/"):
            if self.take() == "*":
                value = _bounded(value * self.signed())
            else:
                value = _quotient(value, self.signed())
        return value

    def signed(self) -> Fraction:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.power()
        return -value if negative else value

    def power(self) -> Fraction:
        base = self.atom()
        if self.peek() != "^":
            return base
        self.take()
        with_braces = self.peek() == "{"
        exponent = self.group("{", "}") if with_braces else self.nested(self.signed)
        return _power(base, exponent)

    def atom(self) -> Fraction:
        token = self.peek()
        if token == "(":
            return self.group("(", ")")
        if token == "{":
            return self.group("{", "}")
        if token == "\\frac":
            self.take()
            above = self.group("{", "}")
            return _quotient(above, self.group("{", "}"))
        if not token[:1].isdigit() and token[:1] != ".":
            self.take("a number")
        number = _bounded(Fraction(self.take()))
        self.numbers.append(number)
        return number

    def group(self, opening: str, closing: str) -> Fraction:
        self.take(opening)
        value = self.nested(self.sum)
        self.take(closing)
        return value

    def nested(self, part: Callable[[], Fraction]) -> Fraction:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise BadExpression(f"nested deeper than {MAX_DEPTH}")
        value = part()
        self.depth -= 1
        return value


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise BadExpression("the numbers grow too large")
    return value


def _quotient(above: Fraction, below: Fraction) -> Fraction:
    if below == 0:
        raise BadExpression("division by zero")
    return _bounded(above / below)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise BadExpression("an exponent must be a whole number")
    if base == 0 and exponent < 0:
        raise BadExpression("division by zero")
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > MAX_BITS and abs(base) not in (0, 1):
        raise BadExpression("the numbers grow too large")
    return _bounded(base ** int(exponent)) if abs(base) not in (0, 1) else _unit(base, exponent)


def _unit(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent == 0:
        return Fraction(1)
    return base if base >= 0 or exponent.numerator % 2 else -base
