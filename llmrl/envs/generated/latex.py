"""LaTeX helpers that the problem templates share: numbers, terms, polynomials, random choices.

Everything is written in the style of MATH: ``\\frac{3}{4}``, ``x^2 - 3x + 2``, ``3\\sqrt{2}``;
the templates add the dollar signs.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Number = int | Fraction

NAMES = (
    *("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Ines", "James"),
    *("Kira", "Leo", "Maya", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor"),
)
"""First names for word problems."""


def pick(rng: np.random.Generator, seq: Sequence[T]) -> T:
    """One element of a sequence, each as likely as the others."""
    return seq[int(rng.integers(len(seq)))]


def sample(rng: np.random.Generator, seq: Sequence[T], count: int) -> list[T]:
    """``count`` different elements of a sequence, in random order."""
    return [seq[int(i)] for i in rng.choice(len(seq), size=count, replace=False)]


def integer(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included, as a Python int."""
    return int(rng.integers(low, high + 1))


def nonzero(rng: np.random.Generator, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included, other than 0."""
    while not (value := integer(rng, low, high)):
        pass
    return value


def frac(value: Number) -> str:
    r"""An exact number: an integer or a fraction in lowest terms with its sign in front.

    >>> frac(Fraction(6, 8)), frac(Fraction(-3, 4)), frac(Fraction(8, 2)), frac(7)
    ('\\frac{3}{4}', '-\\frac{3}{4}', '4', '7')
    """
    value = Fraction(value)
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def raw_frac(numerator: int | str, denominator: int | str) -> str:
    r"""A fraction exactly as given, not reduced.

    >>> raw_frac(6, 8)
    '\\frac{6}{8}'
    """
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def reduced(numerator: int, denominator: int) -> str:
    r"""A fraction as given, and what it is in lowest terms if that is another.

    >>> reduced(6, 8), reduced(3, 4)
    ('\\frac{6}{8} = \\frac{3}{4}', '\\frac{3}{4}')
    """
    given, lowest = raw_frac(numerator, denominator), frac(Fraction(numerator, denominator))
    return given if given == lowest else f"{given} = {lowest}"


def signed(value: Number) -> str:
    r"""A number as a later summand, with its sign.

    >>> signed(3), signed(-3), signed(Fraction(-1, 2))
    ('+ 3', '- 3', '- \\frac{1}{2}')
    """
    return f"{'-' if value < 0 else '+'} {frac(abs(Fraction(value)))}"


def paren(value: Number) -> str:
    """A number as a factor or subtrahend: in parentheses when it is negative.

    >>> paren(3), paren(-3)
    ('3', '(-3)')
    """
    return f"({frac(value)})" if value < 0 else frac(value)


def term(coefficient: Number, symbol: str) -> str:
    r"""A coefficient times a symbol, as the first term of an expression; the coefficient is not 0.

    >>> term(1, "x"), term(-1, "x"), term(-5, "x^2"), term(Fraction(1, 2), "x"), term(4, "")
    ('x', '-x', '-5x^2', '\\frac{1}{2}x', '4')
    """
    if not symbol:
        return frac(coefficient)
    if abs(coefficient) == 1:
        return symbol if coefficient > 0 else f"-{symbol}"
    return f"{frac(coefficient)}{symbol}"


def terms(pairs: Sequence[tuple[Number, str]]) -> str:
    """The sum of coefficient-symbol pairs, without the zero ones.

    >>> terms([(2, "x"), (-1, "y"), (0, "z"), (5, "")])
    '2x - y + 5'
    """
    parts: list[str] = []
    for coefficient, symbol in pairs:
        if coefficient == 0:
            continue
        if parts:
            parts.append("-" if coefficient < 0 else "+")
            coefficient = abs(Fraction(coefficient))
        parts.append(term(coefficient, symbol))
    return " ".join(parts) or "0"


def power(base: str, exponent: int) -> str:
    """A symbol to a whole power, as short as MATH writes it.

    >>> power("x", 0), power("x", 1), power("x", 2), power("x", 12)
    ('', 'x', 'x^2', 'x^{12}')
    """
    if exponent == 0:
        return ""
    if exponent == 1:
        return base
    return f"{base}^{exponent}" if 0 < exponent < 10 else f"{base}^{{{exponent}}}"


def poly(coefficients: Sequence[Number], var: str = "x") -> str:
    """A polynomial from its coefficients, highest power first.

    >>> poly([1, -3, 0, 2]), poly([2, 0], "t"), poly([0])
    ('x^3 - 3x^2 + 2', '2t', '0')
    """
    degree = len(coefficients) - 1
    return terms([(c, power(var, degree - i)) for i, c in enumerate(coefficients)])


def linear(a: Number, b: Number, var: str = "x") -> str:
    """The expression a·var + b.

    >>> linear(2, -3), linear(-1, 5, "n"), linear(0, 4)
    ('2x - 3', '-n + 5', '4')
    """
    return poly([a, b], var)


def split_square(radicand: int) -> tuple[int, int]:
    """The pair (s, r) with radicand = s²·r and r free of squares.

    >>> split_square(72), split_square(49), split_square(0)
    ((6, 2), (7, 1), (0, 1))
    """
    if radicand < 0:
        raise ValueError(f"radicand must not be negative, got {radicand}.")
    if radicand == 0:
        return 0, 1
    root = next(s for s in range(math.isqrt(radicand), 0, -1) if radicand % (s * s) == 0)
    return root, radicand // (root * root)


def surd(coefficient: Number, radicand: int) -> str:
    r"""A coefficient times a square root, simplified.

    >>> surd(1, 8), surd(-1, 3), surd(2, 9), surd(Fraction(1, 2), 3), surd(Fraction(-5, 4), 8)
    ('2\\sqrt{2}', '-\\sqrt{3}', '6', '\\frac{\\sqrt{3}}{2}', '-\\frac{5\\sqrt{2}}{2}')
    """
    root, rest = split_square(radicand)
    value = Fraction(coefficient) * root
    if rest == 1 or value == 0:
        return frac(value)
    top = term(abs(value.numerator), rf"\sqrt{{{rest}}}")
    body = top if value.denominator == 1 else raw_frac(top, value.denominator)
    return f"-{body}" if value < 0 else body


def money(cents: int) -> str:
    r"""An amount of money as MATH writes it inside dollar signs.

    >>> money(500), money(505)
    ('\\$5', '\\$5.05')
    """
    whole, rest = divmod(cents, 100)
    return rf"\${whole}" + (f".{rest:02d}" if rest else "")


def decimal(value: Fraction) -> str:
    """A fraction with a finite decimal form, written as a decimal.

    >>> decimal(Fraction(5, 4)), decimal(Fraction(-3, 100)), decimal(Fraction(6))
    ('1.25', '-0.03', '6')
    """
    denominator, places = value.denominator, 0
    while 10**places % denominator:
        places += 1
        if places > denominator:
            raise ValueError(f"{value} has no finite decimal form; write it with frac().")
    digits = abs(value.numerator) * 10**places // denominator
    whole, rest = divmod(digits, 10**places)
    return ("-" if value < 0 else "") + str(whole) + (f".{rest:0{places}d}" if places else "")


def draw_until(draw: Callable[[], T], accept: Callable[[T], bool]) -> T:
    """Draw again and again until the draw is accepted."""
    while not accept(value := draw()):
        pass
    return value


def times(a: int, b: int) -> str:
    r"""The product of a one-digit number and a positive number, worked by tens and units.

    >>> times(6, 14), times(6, 7), times(5, 30)
    ('6 \\cdot 14 = 60 + 24 = 84', '6 \\cdot 7 = 42', '5 \\cdot 30 = 150')
    """
    small, large = sorted((a, b))
    tens, units = divmod(large, 10)
    middle = f"{small * tens * 10} + {small * units} = " if tens and units and small > 1 else ""
    return rf"{a} \cdot {b} = {middle}{a * b}"


def product(a: int, b: int) -> str:
    r"""A product with its value, for factors of any sign.

    >>> product(3, -4), product(3, 14)
    ('3 \\cdot (-4) = -12', '3 \\cdot 14 = 30 + 12 = 42')
    """
    if a > 0 and b > 0:
        return times(a, b)
    return rf"{frac(a)} \cdot {paren(b)} = {a * b}"


def same(answer: str, *expected: Any) -> bool:
    r"""Whether a rendered answer equals sympy's; the referees' comparison.

    ``answer`` is read back with :func:`read`, so that a slip in the rendering is noticed as well as
    one in the formula.  With several expected values the answer is a pair, an interval or a list,
    compared in order.

    >>> same(r"\frac{5\sqrt{2}}{2}", "5/sqrt(2)"), same("[0,\\infty)", 0, "oo")
    (True, True)
    >>> same("x^2 - 3xy + 2", "(x-1)*(x-2) + 3*x - 3*x*y"), same("7", 8)
    (True, False)
    """
    import sympy

    if len(expected) == 1:
        parts = [answer]
    else:
        parts = answer.replace(r"\left", "").replace(r"\right", "").strip("()[] ").split(",")
    return len(parts) == len(expected) and all(
        sympy.simplify(read(part) - sympy.sympify(value)) == 0
        if "infty" not in part
        else read(part) == sympy.sympify(value)
        for part, value in zip(parts, expected, strict=True)
    )


def read(text: str) -> Any:
    r"""The sympy expression that LaTeX text of the kind these helpers write stands for.

    >>> read(r"2 \cdot (3 + 4) - \frac{1}{2}"), read("3x^2 - x")
    (27/2, 3*x**2 - x)
    """
    import sympy

    text = text.replace(r"\pi", "pi").replace(r"\infty", "oo").replace(r"\cdot", "*").replace(r"\div", "/")
    text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text.replace(" ", ""))
    while r"\sqrt" in text or r"\frac" in text:
        before = text
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
        if text == before:
            raise ValueError(f"Cannot read {text!r} as an expression.")
    words = re.findall(r"sqrt|pi|oo|[A-Za-z]|\d+(?:\.\d+)?|.", text)
    out: list[str] = []
    for word in words:
        starts = word[0].isalnum() or word == "("
        if out and starts and out[-1] != "sqrt" and (out[-1][-1].isalnum() or out[-1] == ")"):
            out.append("*")
        out.append(word)
    names = {letter: sympy.Symbol(letter) for letter in string.ascii_letters}
    return sympy.sympify("".join(out), locals=names | {"i": sympy.I}, rational=True)
