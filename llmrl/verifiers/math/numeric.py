"""Values to many digits, for pairs that the normal form proves neither equal nor different.

Two expressions count as equal here only if they agree to 60 digits, and to 120 when worked out again with
more, at several random points.  No value is ever compared at the precision of a float.
"""

from __future__ import annotations

import random
import threading
from fractions import Fraction
from typing import Any

from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.values import Polynomial, Value

DIGITS = (60, 120)
POINTS = 3
MAX_MAGNITUDE = 10**5
"""Exponents and arguments beyond this are not worked out."""


class _Local(threading.local):
    """What each thread has of its own."""

    context: Any = None


_LOCAL = _Local()


def _context(digits: int) -> Any:
    """This thread's own numbers, so that nothing else sees their precision; making them takes a millisecond."""
    from mpmath.ctx_mp import MPContext

    if _LOCAL.context is None:
        _LOCAL.context = MPContext()
    context = _LOCAL.context
    context.dps = digits
    return context


class Unknown(ArithmeticError):
    """The value cannot be worked out here."""


def agree(do: Algebra, a: Value, b: Value) -> bool:
    """Whether two values are equal to all digits, at random positive points.

    >>> from llmrl.verifiers.math.values import number
    >>> do = Algebra()
    >>> half = number(Fraction(1, 2))
    >>> nested = do.power(do.plus(number(3), do.power(number(8), half)), half)
    >>> agree(do, nested, do.plus(number(1), do.power(number(2), half)))
    True
    """
    chance = random.Random(20_250)
    symbols = sorted(_symbols(do, a) | _symbols(do, b))
    for turn in range(2 * POINTS if symbols else 1):
        point = {name: _chosen(chance, turn) for name in symbols}
        for digits in DIGITS:
            context = _context(digits + 30)
            try:
                evaluation = Evaluation(do, context, point)
                x, y = (evaluation.value(v) for v in (a, b))
                if turn >= POINTS and evaluation.unreal:
                    break  # roots of negative numbers have several values
                if not (context.isfinite(x) and context.isfinite(y)):
                    return False  # a logarithm of zero is no number, and so equal to nothing
                if not abs(x - y) <= context.mpf(10) ** -digits * max(abs(x), abs(y)):
                    return False
            except (ArithmeticError, ValueError, TypeError):
                return False
    return True


def within(do: Algebra, value: Value, target: Fraction, distance: Fraction) -> bool:
    """Whether a real constant lies within a distance of a rational number.

    >>> from llmrl.verifiers.math.values import PI, single
    >>> within(Algebra(), single(PI), Fraction(22, 7), Fraction(1, 500))
    True
    """
    if _symbols(do, value):
        return False
    context = _context(60)
    evaluation = Evaluation(do, context, {})
    try:
        gap = evaluation.value(value) - context.mpf(target.numerator) / target.denominator
        return bool(abs(gap) <= context.mpf(distance.numerator) / distance.denominator)
    except (ArithmeticError, ValueError, TypeError):
        return False


def approximate(do: Algebra, value: Value) -> float | None:
    """A float for putting endpoints in order; None if it is not real.

    >>> from llmrl.verifiers.math.values import IMAGINARY, PI, single
    >>> round(approximate(Algebra(), single(PI)), 3), approximate(Algebra(), single(IMAGINARY))
    (3.142, None)
    """
    context = _context(40)
    try:
        number = Evaluation(do, context, {}).value(value)
        real = context.isfinite(number) and not abs(number.imag)
        return float(number.real) if real else None
    except (ArithmeticError, ValueError, TypeError):
        return None


def _chosen(chance: random.Random, turn: int) -> Fraction:
    """A coordinate: positive at first, then of either sign; of growing size."""
    sign = chance.choice((-1, 1)) if turn >= POINTS else 1
    return sign * Fraction(chance.randint(1_000, 9_999), 1_009) / 3 * 4 ** (turn % POINTS)


def _symbols(do: Algebra, value: Value) -> set[str]:
    found: set[str] = set()
    for atom in value.atoms():
        if atom[0] in ("s", "u"):
            found.add(atom[1])
        elif atom in do.inside:
            found.update(*(_symbols(do, inner) for inner in do.inside[atom][1]))
    return found


class Evaluation:
    """One point and one precision."""

    def __init__(self, do: Algebra, context: Any, point: dict[str, Fraction]) -> None:
        self.do, self.context, self.point = do, context, point
        self.unreal = False
        """Whether a negative number was raised to something other than a whole number."""

    def value(self, value: Value) -> Any:
        """A quotient."""
        return self.polynomial(value.num) / self.polynomial(value.den)

    def polynomial(self, p: Polynomial) -> Any:
        """A sum of monomials."""
        total = self.context.mpf(0)
        for monomial, c in p.items():
            term = self.context.mpf(c.numerator) / c.denominator
            for atom, exponent in monomial:
                if exponent == 1:
                    term *= self.atom(atom)
                else:
                    term *= self.root(self.atom(atom), Fraction(exponent))
            total += term
        return total

    def root(self, base: Any, exponent: Fraction) -> Any:
        """A power with a rational exponent; a cube root of a negative number is the real one."""
        power = self.context.mpf(exponent.numerator) / exponent.denominator
        if exponent.denominator % 2 and exponent.denominator > 1 and not base.imag and base.real < 0:
            size = self.raised(-base, power)
            return -size if exponent.numerator % 2 else size
        return self.raised(base, power)

    def raised(self, base: Any, exponent: Any) -> Any:
        """A power, if it is not too large."""
        if abs(exponent) > MAX_MAGNITUDE or not base or abs(self.context.log(abs(base)) * exponent) > MAX_MAGNITUDE:
            raise Unknown("a power too large")
        if exponent != self.context.floor(exponent) and base.real < 0:
            self.unreal = True
        return base**exponent

    def atom(self, atom: tuple[str, str]) -> Any:
        """A constant, a symbol at this point, or what an opaque atom stands for."""
        kind, key = atom
        if kind == "p":
            return self.context.mpf(int(key, 16))
        if kind == "i":
            return self.context.j
        if kind == "c":
            if key == "oo":
                raise Unknown("infinity")
            return self.context.pi if key == "pi" else self.context.e
        if atom not in self.do.inside:
            return self.context.mpf(self.point[key].numerator) / self.point[key].denominator
        name, arguments = self.do.inside[atom]
        return self.function(name, [self.value(argument) for argument in arguments])

    def function(self, name: str, arguments: list[Any]) -> Any:
        """A function of numbers."""
        if any(abs(argument) > MAX_MAGNITUDE for argument in arguments) and name != "base":
            raise Unknown("an argument too large")
        if name == "base":
            return arguments[0]
        if name == "power":
            return self.raised(*arguments)
        if name not in _FUNCTIONS:
            raise Unknown(name)
        return getattr(self.context, _FUNCTIONS[name])(*arguments)


_FUNCTIONS = {
    "sin": "sin",
    "cos": "cos",
    "ln": "ln",
    "log": "log10",
    "abs": "fabs",
    "floor": "floor",
    "ceil": "ceil",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arccot": "acot",
    "arcsec": "asec",
    "arccsc": "acsc",
    "sinh": "sinh",
    "cosh": "cosh",
    "tanh": "tanh",
    "factorial": "factorial",
    "binom": "binomial",
    "sign": "sign",
}
