"""Functions of exact values: trigonometric tables, logarithms, integer functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.parsing.limits import TooMuch, Unreadable
from llmrl.verifiers.math.values import EULER, IMAGINARY, PI, Atom, Value, factors, number, show, single

MAX_FACTORIAL = 2_500


def call(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    """The value of a function, in closed form where there is one.

    >>> call(Algebra(), "binom", (number(5), number(2))).rational()
    Fraction(10, 1)
    """
    if not arguments or len(arguments) > _MOST_ARGUMENTS.get(name, len(arguments)):
        raise Unreadable(f"{name} of {len(arguments)} values")
    if name in ("root", "log", "ln", "lg", "exp", "binom", "power") or name in _INTEGER:
        return _SPECIAL[name](do, name, arguments)
    if name in _TRIG and len(arguments) == 1:
        return _trigonometric(do, name, arguments[0])
    if name == "mod":
        return _residue(do, *arguments)
    name = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sgn": "sign"}.get(name, name)
    return do.opaque("f", name, *arguments)


def sine_of_pi(do: Algebra, q: Fraction) -> Value:
    """sin(q pi), exact for multiples of 15, 18 and 22.5 degrees.

    >>> sine_of_pi(Algebra(), Fraction(7, 6)).rational()
    Fraction(-1, 2)
    """
    q %= 2
    sign = 1
    if q >= 1:
        q, sign = q - 1, -1
    q = min(q, 1 - q)
    value = _sine_table(do, q)
    return value if sign == 1 else do.negative(value)


def cosine_of_pi(do: Algebra, q: Fraction) -> Value:
    """cos(q pi), exact where the sine is.

    >>> cosine_of_pi(Algebra(), Fraction(2, 3)).rational()
    Fraction(-1, 2)
    """
    return sine_of_pi(do, Fraction(1, 2) - q)


def _sine_table(do: Algebra, q: Fraction) -> Value:
    def root(n: int | Value) -> Value:
        return do.power(number(n) if isinstance(n, int) else n, number(Fraction(1, 2)))

    def over(value: Value, n: int) -> Value:
        return do.product(value, number(Fraction(1, n)))

    if q in (0, Fraction(1, 6), Fraction(1, 2)):
        return number({0: Fraction(0), 6: Fraction(1, 2), 2: Fraction(1)}[0 if q == 0 else q.denominator])
    if q in (Fraction(1, 4), Fraction(1, 3)):
        return over(root(2 if q.denominator == 4 else 3), 2)
    if q in (Fraction(1, 12), Fraction(5, 12)):
        return over((do.minus if q.numerator == 1 else do.plus)(root(6), root(2)), 4)
    if q in (Fraction(1, 10), Fraction(3, 10)):
        return over(do.plus(root(5), number(-1 if q.numerator == 1 else 1)), 4)
    if q in (Fraction(1, 5), Fraction(2, 5)):
        twice = do.product(number(-2 if q.numerator == 1 else 2), root(5))
        return over(root(do.plus(number(10), twice)), 4)
    if q in (Fraction(1, 8), Fraction(3, 8)):
        surd = root(2)
        return over(root(do.plus(number(2), do.negative(surd) if q.numerator == 1 else surd)), 2)
    return do.opaque("f", "sin", single(PI, 1, q))


_TRIG = ("sin", "cos", "tan", "cot", "sec", "csc", "cis")


def _trigonometric(do: Algebra, name: str, argument: Value) -> Value:
    argument = do.replace(argument, "u", {"deg": single(PI, 1, Fraction(1, 180))})
    turn = Fraction(0) if not argument.num else None
    if len(argument.num) == 1 and ((PI, 1),) in argument.num and not argument.den.keys() - {()}:
        turn = argument.num[((PI, 1),)]
    if turn is not None:
        sine, cosine = sine_of_pi(do, turn), cosine_of_pi(do, turn)
    else:
        lead = argument.num[max(argument.num, key=str)]
        if lead < 0:
            argument = do.negative(argument)
        sine, cosine = do.opaque("f", "sin", argument), do.opaque("f", "cos", argument)
        sine = do.negative(sine) if lead < 0 else sine
    if name == "cis":
        return do.plus(cosine, do.product(single(IMAGINARY), sine))
    return {
        "sin": lambda: sine,
        "cos": lambda: cosine,
        "tan": lambda: do.quotient(sine, cosine),
        "cot": lambda: do.quotient(cosine, sine),
        "sec": lambda: do.inverse(cosine),
        "csc": lambda: do.inverse(sine),
    }[name]()


def _root(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    if len(arguments) == 1:
        return do.power(arguments[0], number(Fraction(1, 2)))
    return do.power(arguments[0], do.inverse(arguments[1]))


def _logarithm(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    if len(arguments) == 2:
        return do.quotient(_logarithm(do, "ln", arguments[:1]), _logarithm(do, "ln", arguments[1:]))
    (value,) = arguments
    if not value.num:
        raise ZeroDivisionError("the logarithm of zero")
    if name == "lg":
        return _logarithm(do, "log", (value, number(10)))
    if name == "ln" and value.num == {((EULER, 1),): 1}:
        return number(1)
    rational = value.rational()
    if rational is None and len(value.num) == 1 and value.den == {(): 1}:
        ((monomial, coefficient),) = value.num.items()
        if coefficient > 0 and all(atom[0] in ("p", "c") or _real_power(do, atom) for atom, _ in monomial):
            total = _logarithm(do, name, (number(coefficient),))
            for atom, exponent in monomial:
                if atom == EULER and name == "ln":
                    part = number(1)
                elif atom[0] == "E":
                    base, power = do.inside[atom][1]
                    part = do.product(power, _logarithm(do, name, (base,)))
                else:
                    inner = number(int(atom[1], 16)) if atom[0] == "p" else single(atom)
                    part = do.opaque("v", name, inner)
                total = do.plus(total, do.product(number(Fraction(exponent)), part))
            return total
    if rational is None or rational <= 0:
        return do.opaque("f", name, value)
    total = number(0)
    for prime, exponent in factors(rational).items():
        total = do.plus(total, do.product(number(exponent), do.opaque("v", name, number(prime))))
    return total


def _real_power(do: Algebra, atom: Atom) -> bool:
    """Whether it is ``e^x`` or ``2^x`` with no imaginary unit in the exponent."""
    if atom[0] != "E":
        return False
    base, power = do.inside[atom][1]
    return IMAGINARY not in power.atoms() and all(kind in ("p", "c") for kind, _ in base.atoms())


def _exponential(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    return _power(do, name, (single(EULER), arguments[0]))


def _binomial(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    if len(arguments) != 2:
        raise Unreadable("a binomial coefficient of one value")
    n, k = (value.rational() for value in arguments)
    if n is not None and k is not None and n.denominator == k.denominator == 1 and 0 <= k <= n <= MAX_FACTORIAL:
        return number(math.comb(int(n), int(k)))
    return do.opaque("f", "binom", *arguments)


def _power(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    base, exponent = arguments
    if base.num == {((EULER, 1),): 1} and len(exponent.num) == 1:
        ((monomial, turn),) = exponent.num.items()
        if dict(monomial) == {IMAGINARY: 1, PI: 1}:  # e^(i pi q)
            return do.plus(cosine_of_pi(do, turn), do.product(single(IMAGINARY), sine_of_pi(do, turn)))
        if len(monomial) == 1 and monomial[0][1] == 1:  # e^(q ln a)
            name, inner = do.inside.get(monomial[0][0], ("", ()))
            if name == "ln":
                return do.power(inner[0], number(turn))
    return do.power(base, exponent)


def _residue(do: Algebra, value: Value, modulus: Value) -> Value:
    n, m = value.rational(), modulus.rational()
    if n is not None and m is not None and n.denominator == m.denominator == 1 and m > 1:
        value = number(int(n) % int(m))
    return do.opaque("f", "mod", value, modulus)


def _integer_function(do: Algebra, name: str, arguments: tuple[Value, ...]) -> Value:
    values = [value.rational() for value in arguments]
    known = [value for value in values if value is not None]
    if (not known or len(known) < len(values)) and name in ("gcd", "lcm", "min", "max"):
        arguments = tuple(sorted(arguments, key=show))
    if not known or len(known) < len(values):
        return _magnitude(do, arguments[0]) if name == "abs" else do.opaque("f", name, *arguments)
    first = known[0]
    if name == "factorial":
        if first.denominator == 1 and first < 0:
            raise ZeroDivisionError("the factorial of a negative number")
        if first.denominator != 1 or first > MAX_FACTORIAL:
            return do.opaque("f", name, *arguments)
        return number(math.factorial(int(first)))
    if name == "doublefactorial":
        if first.denominator != 1 or not -1 <= first <= MAX_FACTORIAL:
            raise Unreadable("a double factorial of what is no whole number")
        return number(math.prod(range(int(first), 0, -2)))
    if name in ("gcd", "lcm"):
        if any(value.denominator != 1 for value in known):
            raise Unreadable(f"{name} of a fraction")
        if sum(value.numerator.bit_length() for value in known) > 20_000:
            raise TooMuch(f"{name} of very large numbers")
        return number((math.gcd if name == "gcd" else math.lcm)(*map(int, known)))
    if name in ("min", "max"):
        ordered: list[Fraction] = sorted(known)
        return number(ordered[0] if name == "min" else ordered[-1])
    table: dict[str, Callable[[Fraction], int | Fraction]] = {
        "floor": math.floor,
        "ceil": math.ceil,
        "abs": abs,
        "sign": lambda x: (x > 0) - (x < 0),
    }
    return number(table[name](first))


def _magnitude(do: Algebra, value: Value) -> Value:
    if not value.constant() or value.den != {(): 1}:
        return do.opaque("f", "abs", value)
    real = Value({m: c for m, c in value.num.items() if all(a != IMAGINARY for a, _ in m)}, value.den)
    other = do.quotient(do.minus(value, real), single(IMAGINARY))
    squares = do.plus(do.product(real, real), do.product(other, other))
    return do.power(squares, number(Fraction(1, 2)))


_MOST_ARGUMENTS = {"root": 2, "log": 2, "ln": 1, "lg": 1, "exp": 1, "binom": 2, "power": 2, "mod": 2} | dict.fromkeys(
    ("floor", "ceil", "abs", "factorial", "doublefactorial", "sign"), 1
)
_INTEGER = ("floor", "ceil", "abs", "factorial", "doublefactorial", "gcd", "lcm", "min", "max", "sign")
_SPECIAL = {
    "root": _root,
    "power": _power,
    "log": _logarithm,
    "ln": _logarithm,
    "lg": _logarithm,
    "exp": _exponential,
    "binom": _binomial,
    **dict.fromkeys(_INTEGER, _integer_function),
}
