r"""Exact arithmetic on expressions: a quotient of polynomials in atoms, with rational coefficients.

Atoms are symbols, units, pi and e, roots of primes, the imaginary unit, powers with a symbol in the exponent,
and whatever has no simpler form here (roots of sums, functions).  Equal quotients are equal values; two
different ones are different values if neither holds an opaque atom, because roots of distinct primes are
linearly independent over the rationals.  Symbols count as positive: :math:`\sqrt{x^2} = x`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

from llmrl.verifiers.limits import MAX_BITS, MAX_PRODUCTS, MAX_TERMS, TooMuch

Atom = tuple[str, str]
Exponent = int | Fraction
Monomial = tuple[tuple[Atom, Exponent], ...]
Polynomial = dict[Monomial, Fraction]

IMAGINARY: Atom = ("i", "")
PI: Atom = ("c", "pi")
EULER: Atom = ("c", "e")
INFINITY: Atom = ("c", "oo")
DEGREE: Atom = ("u", "deg")
_ONE: Polynomial = {(): Fraction(1)}
_OPAQUE = ("f", "r", "v")
_PRIMES = [n for n in range(2, 1000) if all(n % d for d in range(2, math.isqrt(n) + 1))]


class Value(NamedTuple):
    """A quotient of two polynomials."""

    num: Polynomial
    den: Polynomial

    def rational(self) -> Fraction | None:
        """The value if it is a rational number."""
        if not self.num:
            return Fraction(0)
        if len(self.num) == 1 and () in self.num and self.den == _ONE:
            return self.num[()]
        return None

    def atoms(self) -> set[Atom]:
        return {atom for part in self for monomial in part for atom, _ in monomial}

    def constant(self) -> bool:
        """Whether no symbol is directly in it."""
        return not any(kind in ("s", "E", "f", "r", "v") for kind, _ in self.atoms())

    def opaque(self) -> bool:
        """Whether an equal value may look different."""
        return any(kind in _OPAQUE for kind, _ in self.atoms())


def number(value: Fraction | int) -> Value:
    """A rational number as a value."""
    return Value({(): Fraction(value)} if value else {}, _ONE)


def single(atom: Atom, exponent: Exponent = 1, coefficient: Fraction | int = 1) -> Value:
    """One atom."""
    return Value({((atom, exponent),): Fraction(coefficient)}, _ONE)


class Algebra:
    """The operations, within one budget of work, and what is known of opaque atoms.

    >>> do = Algebra()
    >>> root = do.power(number(8), number(Fraction(1, 2)))
    >>> do.equal(do.product(root, root), number(8))
    True
    """

    def __init__(self, budget: int = MAX_PRODUCTS) -> None:
        self.left = budget
        self.inside: dict[Atom, tuple[str, tuple[Value, ...]]] = {}
        """For each opaque atom what it stands for: a function's name and arguments."""

    # Ring operations

    def plus(self, a: Value, b: Value) -> Value:
        if a.den == b.den:
            return self._tidy(_add(a.num, b.num), a.den)
        return self._tidy(
            _add(self._times(a.num, b.den), self._times(b.num, a.den)), self._times(a.den, b.den)
        )

    def negative(self, a: Value) -> Value:
        return Value({monomial: -c for monomial, c in a.num.items()}, a.den)

    def minus(self, a: Value, b: Value) -> Value:
        return self.plus(a, self.negative(b))

    def product(self, a: Value, b: Value) -> Value:
        return self._tidy(self._times(a.num, b.num), self._times(a.den, b.den))

    def quotient(self, a: Value, b: Value) -> Value:
        return self.product(a, self.inverse(b))

    def inverse(self, a: Value) -> Value:
        if not a.num:
            raise ZeroDivisionError("a division by zero")
        return self._tidy(a.den, a.num)

    def equal(self, a: Value, b: Value) -> bool:
        """Whether the two quotients are the same."""
        if a.den == b.den:
            return a.num == b.num
        return not _add(self._times(a.num, b.den), _scale(self._times(b.num, a.den), Fraction(-1)))

    def _tidy(self, num: Polynomial, den: Polynomial) -> Value:
        """Divide by what divides easily: monomials, and after rationalising, square roots."""
        if not num:
            return Value({}, _ONE)
        for _ in range(8):
            if len(den) == 1:
                break
            atom = next(
                (
                    a
                    for m in den
                    for a, e in m
                    if a == IMAGINARY or (a[0] == "p" and e == Fraction(1, 2))
                ),
                None,
            )
            if atom is None or any(
                a == atom and a[0] == "p" and 2 * e not in (0, 1) for m in den for a, e in m
            ):
                break
            other = {m: -c if any(a == atom for a, _ in m) else c for m, c in den.items()}
            num, den = self._times(num, other), self._times(den, other)
            if not den:
                raise ZeroDivisionError("a division by zero")
        if len(den) == 1:
            ((monomial, c),) = den.items()
            kept = tuple((a, e) for a, e in monomial if a[0] in ("r", "f", "v"))
            turned = tuple((a, -e) for a, e in monomial if a[0] not in ("r", "f", "v"))
            if turned or c != 1:
                num = self._times(num, _scale(self._reduce(dict(turned)), 1 / c))
            return Value(num, {kept: Fraction(1)} if kept else _ONE)
        lead = den[max(den, key=_order)]
        if lead != 1:
            num, den = _scale(num, 1 / lead), _scale(den, 1 / lead)
        if len(num) == len(den) and (ratio := proportion(num, den)) is not None:
            return number(ratio)
        return Value(num, den)

    def _times(self, p: Polynomial, q: Polynomial) -> Polynomial:
        if p is _ONE or p == _ONE:
            return q
        if q is _ONE or q == _ONE:
            return p
        self.left -= len(p) * len(q)
        if self.left < 0 or len(p) * len(q) > MAX_PRODUCTS:
            raise TooMuch("the expression is too large to expand")
        result: Polynomial = {}
        for m, c in p.items():
            for n, d in q.items():
                product = c * d
                if m and n:
                    for monomial, factor in self._merge(m, n).items():
                        total = result.get(monomial, 0) + product * factor
                        if total:
                            result[monomial] = Fraction(total)
                        else:
                            result.pop(monomial, None)
                    continue
                total = result.get(m or n, 0) + product
                if total:
                    result[m or n] = Fraction(total)
                else:
                    result.pop(m or n, None)
        if any(
            c.numerator.bit_length() + c.denominator.bit_length() > 4 * MAX_BITS
            for c in result.values()
        ):
            raise TooMuch("a number is too large to work with")
        return result

    def _merge(self, m: Monomial, n: Monomial) -> Polynomial:
        exponents: dict[Atom, Exponent] = dict(m)
        for atom, exponent in n:
            exponents[atom] = exponents.get(atom, 0) + exponent
        return self._reduce(exponents)

    def _reduce(self, exponents: dict[Atom, Exponent]) -> Polynomial:
        """The polynomial that a product of powers of atoms is."""
        coefficient = Fraction(1)
        kept: list[tuple[Atom, Exponent]] = []
        further: list[tuple[Polynomial, int]] = []
        for atom, exponent in exponents.items():
            kind, key = atom
            if kind == "p" and not 0 <= exponent < 1:
                whole = math.floor(exponent)
                prime = int(key, 16)
                if abs(whole) * prime.bit_length() <= MAX_BITS:
                    coefficient *= Fraction(prime) ** whole
                    exponent -= whole
            elif kind == "i":
                turns = int(exponent) % 4
                coefficient *= -1 if turns >= 2 else 1
                exponent = turns % 2
            elif kind == "r" and exponent >= 1 and exponent < 9:
                whole = math.floor(exponent)
                further.append((self.inside[atom][1][0].num, whole))
                exponent -= whole
            if exponent:
                if isinstance(exponent, Fraction) and exponent.denominator == 1:
                    exponent = int(exponent)
                kept.append((atom, exponent))
        kept.sort(key=_first)
        result: Polynomial = {tuple(kept): coefficient}
        for base, whole in further:
            for _ in range(whole):
                result = self._times(result, base)
        return result

    # Powers and functions

    def opaque(self, kind: str, name: str, *arguments: Value) -> Value:
        """An atom for what has no simpler form."""
        atom = (kind, f"{name}({', '.join(map(show, arguments))})")
        self.inside[atom] = (name, arguments)
        return single(atom)

    def power(self, a: Value, b: Value) -> Value:
        """a to the b."""
        exponent = b.rational()
        if exponent is not None:
            return self._rational_power(a, exponent)
        if (base := a.rational()) is not None and (base == 1 or base == 0):
            return number(base)
        if b.den != _ONE or len(a.num) != 1 or a.den != _ONE:
            return self.opaque("f", "power", a, b)
        ((monomial, coefficient),) = a.num.items()
        if coefficient < 0 or any(atom[0] in ("i", "u") for atom, _ in monomial):
            return self.opaque("f", "power", a, b)
        result = number(1)
        bases: list[Any] = [*monomial]
        bases += ((("p", f"{p:x}"), k) for p, k in factors(coefficient).items())
        for term, factor in b.num.items():
            for atom, exponent in bases:
                if not term:
                    part = self._rational_power(single(atom, exponent), factor)
                else:
                    power = ("E", f"{atom[0]}{atom[1]}^{_show_monomial(term)}")
                    self.inside[power] = ("power", (single(atom), Value({term: Fraction(1)}, _ONE)))
                    part = single(power, factor * exponent)
                result = self.product(result, part)
        return result

    def _rational_power(self, a: Value, exponent: Fraction) -> Value:
        if exponent == 0:
            return number(1)
        if exponent < 0:
            return self._rational_power(self.inverse(a), -exponent)
        if exponent == 1 or not a.num:
            return a
        result = self._polynomial_power(a.num, exponent)
        return (
            result
            if a.den == _ONE
            else self.quotient(result, self._polynomial_power(a.den, exponent))
        )

    def _polynomial_power(self, p: Polynomial, exponent: Fraction) -> Value:
        if len(p) == 1:
            ((monomial, coefficient),) = p.items()
            return self._monomial_power(monomial, coefficient, exponent)
        if exponent.denominator == 1:
            count = int(exponent)
            if count <= 64 and _terms(len(p), count) <= MAX_TERMS:
                result = p
                for _ in range(count - 1):
                    result = self._times(result, p)
                return Value(result, _ONE)
        content, monomial, rest = _primitive(p)
        outer = self._monomial_power(monomial, content, exponent)
        atom: Atom = ("r", f"({show(Value(rest, _ONE))})")
        self.inside[atom] = ("base", (Value(rest, _ONE),))
        return self.product(outer, Value(self._reduce({atom: exponent}), _ONE))

    def _monomial_power(
        self, monomial: Monomial, coefficient: Fraction, exponent: Fraction
    ) -> Value:
        powers: dict[Atom, Exponent] = {}
        sign: Value = number(1)
        whole = exponent.denominator == 1
        if coefficient < 0 or any(atom == IMAGINARY for atom, _ in monomial):
            if whole:
                sign = number(-1 if coefficient < 0 and exponent % 2 else 1)
            elif any(atom == IMAGINARY for atom, _ in monomial):
                return self.opaque(
                    "f", "power", Value({monomial: coefficient}, _ONE), number(exponent)
                )
            elif exponent.denominator % 2:
                sign = number(-1 if exponent.numerator % 2 else 1)
            elif exponent.denominator == 2:
                sign = Value(self._reduce({IMAGINARY: exponent.numerator}), _ONE)
            else:
                return self.opaque(
                    "f", "power", Value({monomial: coefficient}, _ONE), number(exponent)
                )
        for atom, e in monomial:
            powers[atom] = e * exponent
        size = abs(coefficient)
        bits = size.numerator.bit_length() + size.denominator.bit_length()
        if whole and bits * exponent <= MAX_BITS:
            sign = self.product(sign, number(size ** int(exponent)))
        elif size != 1:
            for prime, k in factors(size).items():
                atom = ("p", f"{prime:x}")
                powers[atom] = powers.get(atom, 0) + k * exponent
        return self.product(sign, Value(self._reduce(powers), _ONE))

    def replace(self, a: Value, kind: str, by: dict[str, Value] | None = None) -> Value:
        """Put values in place of atoms of one kind; those not named become 1."""
        if not any(atom[0] == kind for atom in a.atoms()):
            return a
        parts = []
        for part in a:
            total = number(0)
            for monomial, c in part.items():
                term = Value({tuple(x for x in monomial if x[0][0] != kind): c}, _ONE)
                for atom, e in monomial:
                    if atom[0] == kind and by is not None:
                        new = by.get(atom[1], single(atom))
                        term = self.product(term, self._rational_power(new, Fraction(e)))
                total = self.plus(total, term)
            parts.append(total)
        return self.quotient(parts[0], parts[1])


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


def proportion(p: Polynomial, q: Polynomial) -> Fraction | None:
    """c with p = c q, if there is one."""
    if p.keys() != q.keys() or not p:
        return None
    key = next(iter(p))
    ratio = p[key] / q[key]
    return ratio if all(p[m] == ratio * q[m] for m in p) else None


def show(value: Value) -> str:
    """A canonical text of the quotient, for a key; integers are hexadecimal."""
    text = _show(value.num)
    return text if value.den == _ONE else f"({text})/({_show(value.den)})"


def _show(p: Polynomial) -> str:
    terms = ((p[m].numerator, p[m].denominator, _show_monomial(m)) for m in sorted(p, key=_order))
    # hexadecimal: Python refuses to write very long integers in decimal
    return " + ".join(f"{above:x}/{below:x}{rest}" for above, below, rest in terms) or "0"


def _show_monomial(monomial: Monomial) -> str:
    return "".join(
        f"*{kind}:{key}^{exponent.numerator:x}/{exponent.denominator:x}"
        for (kind, key), exponent in monomial
    )


def _order(monomial: Monomial) -> list[tuple[str, str, float]]:
    return [
        (kind, key, float(exponent) if -1e300 < exponent < 1e300 else 1e300)
        for (kind, key), exponent in monomial
    ]


def _first(pair: tuple[Atom, Exponent]) -> Atom:
    return pair[0]


def _add(p: Polynomial, q: Polynomial) -> Polynomial:
    result = dict(p)
    for monomial, c in q.items():
        total = result.get(monomial, 0) + c
        if total:
            result[monomial] = Fraction(total)
        else:
            result.pop(monomial, None)
    return result


def _scale(p: Polynomial, factor: Fraction) -> Polynomial:
    return {monomial: c * factor for monomial, c in p.items()}


def _terms(count: int, power: int) -> int:
    return math.comb(count + power - 1, power) if count + power < 400 else MAX_TERMS + 1


def _primitive(p: Polynomial) -> tuple[Fraction, Monomial, Polynomial]:
    """Positive content, common monomial, and the rest."""
    content = Fraction(
        math.gcd(*(c.numerator for c in p.values())), math.lcm(*(c.denominator for c in p.values()))
    )
    common = dict(next(iter(p)))
    for monomial in p:
        here = dict(monomial)
        common = {
            a: min(e, here[a]) for a, e in common.items() if a in here and a[0] in ("s", "c", "p")
        }
    rest: Polynomial = {}
    for monomial, c in p.items():
        left = [(a, e - common.get(a, 0)) for a, e in monomial]
        rest[tuple((a, e) for a, e in left if e)] = c / content
    return content, tuple(sorted(common.items())), rest
