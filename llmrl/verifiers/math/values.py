r"""Values: quotients of polynomials in atoms with rational coefficients, and what can be done without simplifying.

An atom is a kind and a key: ``s`` symbol, ``u`` unit, ``c`` pi, e and infinity, ``i`` the imaginary unit, ``p`` a prime
that is raised to a fraction, ``E`` a power with a symbol in its exponent; and, opaque, ``r`` a root of a sum,
``f`` a function, ``v`` a logarithm of a prime or of pi.  A monomial is a sorted tuple of (atom, exponent).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

Atom = tuple[str, str]
Exponent = int | Fraction
Monomial = tuple[tuple[Atom, Exponent], ...]
Polynomial = dict[Monomial, Fraction]

IMAGINARY: Atom = ("i", "")
PI: Atom = ("c", "pi")
EULER: Atom = ("c", "e")
INFINITY: Atom = ("c", "oo")
ZERO = Fraction(0)
ONE: Polynomial = {(): Fraction(1)}
_OPAQUE = ("f", "r", "v")
_PRIMES = [n for n in range(2, 1000) if all(n % d for d in range(2, math.isqrt(n) + 1))]


class Value(NamedTuple):
    """A quotient of two polynomials.

    >>> number(Fraction(1, 2)).rational(), single(PI).constant(), single(("s", "x")).constant()
    (Fraction(1, 2), True, False)
    """

    num: Polynomial
    den: Polynomial

    def rational(self) -> Fraction | None:
        """The value if it is a rational number."""
        if not self.num:
            return Fraction(0)
        if len(self.num) == 1 and () in self.num and self.den == ONE:
            return self.num[()]
        return None

    def atoms(self) -> set[Atom]:
        """The atoms above and below."""
        return {atom for part in self for monomial in part for atom, _ in monomial}

    def constant(self) -> bool:
        """Whether no symbol is directly in it."""
        return not any(kind in ("s", "E", "f", "r", "v") for kind, _ in self.atoms())

    def opaque(self) -> bool:
        """Whether an equal value may look different."""
        return any(kind in _OPAQUE for kind, _ in self.atoms())


def number(value: Fraction | int) -> Value:
    """A rational number as a value.

    >>> number(0).num, number(3).num
    ({}, {(): Fraction(3, 1)})
    """
    return Value({(): value if isinstance(value, Fraction) else Fraction(value)} if value else {}, ONE)


def single(atom: Atom, exponent: Exponent = 1, coefficient: Fraction | int = 1) -> Value:
    """One atom, raised and multiplied.

    >>> show(single(PI, 2, 5))
    '5/1*c:pi^2/1'
    """
    return Value({((atom, exponent),): Fraction(coefficient)}, ONE)


def add(p: Polynomial, q: Polynomial) -> Polynomial:
    """The sum; terms that cancel are left out.

    >>> add({(): Fraction(1)}, {(): Fraction(-1)})
    {}
    """
    result = dict(p)
    for monomial, c in q.items():
        total = result.get(monomial, ZERO) + c
        if total:
            result[monomial] = total
        else:
            result.pop(monomial, None)
    return result


def scale(p: Polynomial, factor: Fraction) -> Polynomial:
    """Every coefficient times a factor other than zero.

    >>> scale(ONE, Fraction(2))
    {(): Fraction(2, 1)}
    """
    return {monomial: c * factor for monomial, c in p.items()}


def proportion(p: Polynomial, q: Polynomial) -> Fraction | None:
    """c with p = c q, if there is one.

    >>> proportion({(): Fraction(6)}, {(): Fraction(4)})
    Fraction(3, 2)
    """
    if p.keys() != q.keys() or not p:
        return None
    key = next(iter(p))
    ratio = p[key] / q[key]
    return ratio if all(p[m] == ratio * q[m] for m in p) else None


def primitive(p: Polynomial) -> tuple[Fraction, Monomial, Polynomial]:
    """Positive content, common monomial, and the rest.

    >>> x = ("s", "x")
    >>> primitive({((x, 2),): Fraction(4), ((x, 1),): Fraction(6)})
    (Fraction(2, 1), ((('s', 'x'), 1),), {((('s', 'x'), 1),): Fraction(2, 1), (): Fraction(3, 1)})
    """
    content = Fraction(math.gcd(*(c.numerator for c in p.values())), math.lcm(*(c.denominator for c in p.values())))
    common = dict(next(iter(p)))
    for monomial in p:
        here = dict(monomial)
        common = {a: min(e, here[a]) for a, e in common.items() if a in here and a[0] in ("s", "c", "p")}
    rest: Polynomial = {}
    for monomial, c in p.items():
        left = [(a, e - common.get(a, 0)) for a, e in monomial]
        rest[tuple((a, e) for a, e in left if e)] = c / content
    return content, tuple(sorted(common.items())), rest


def factors(value: Fraction) -> dict[int, int]:
    """Prime to exponent; a cofactor without small divisors counts as prime unless it is a power.

    >>> factors(Fraction(12, 25))
    {2: 2, 3: 1, 5: -2}
    """
    found: dict[int, int] = {}
    for n, sign in ((value.numerator, 1), (value.denominator, -1)):
        n = abs(n)
        for prime in _PRIMES:
            if prime * prime > n and n < 1_000_000:
                break
            while n % prime == 0:
                found[prime] = found.get(prime, 0) + sign
                n //= prime
        if n > 1:
            k = 1
            for degree in (2, 3, 5):
                while (root := _integer_root(n, degree)) ** degree == n:
                    n, k = root, k * degree
            found[n] = found.get(n, 0) + sign * k
    return found


def _integer_root(n: int, degree: int) -> int:
    if degree == 2:
        return math.isqrt(n)
    guess = 1 << -(-n.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + n // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def show(value: Value) -> str:
    """A canonical text of the quotient, for a key; integers are hexadecimal.

    >>> show(number(Fraction(-17, 2)))
    '-11/2'
    """
    text = _show(value.num)
    return text if value.den == ONE else f"({text})/({_show(value.den)})"


def _show(p: Polynomial) -> str:
    terms = ((p[m].numerator, p[m].denominator, show_monomial(m)) for m in sorted(p, key=order))
    # hexadecimal: Python refuses to write very long integers in decimal
    return " + ".join(f"{above:x}/{below:x}{rest}" for above, below, rest in terms) or "0"


def show_monomial(monomial: Monomial) -> str:
    """The canonical text of a monomial.

    >>> show_monomial(((PI, 2),))
    '*c:pi^2/1'
    """
    return "".join(
        f"*{kind}:{key}^{exponent.numerator:x}/{exponent.denominator:x}" for (kind, key), exponent in monomial
    )


def order(monomial: Monomial) -> list[tuple[str, str, float]]:
    """What monomials are sorted by.

    >>> order(((PI, Fraction(1, 2)),))
    [('c', 'pi', 0.5)]
    """
    return [(kind, key, float(exponent) if -1e300 < exponent < 1e300 else 1e300) for (kind, key), exponent in monomial]
