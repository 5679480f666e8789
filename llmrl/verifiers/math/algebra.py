r"""Exact arithmetic on :mod:`.values`: sums, products, powers, each brought to a normal form.

Equal quotients are equal values; two different ones are different values if neither holds an opaque atom,
because roots of distinct primes are linearly independent over the rationals.  Symbols count as positive:
:math:`\sqrt{x^2} = x`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from operator import itemgetter
from typing import Any

from llmrl.verifiers.math.parsing.limits import MAX_BITS, MAX_PRODUCTS, MAX_TERMS, TooMuch
from llmrl.verifiers.math.values import (
    IMAGINARY,
    ONE,
    ZERO,
    Atom,
    Exponent,
    Monomial,
    Polynomial,
    Value,
    add,
    factors,
    number,
    order,
    primitive,
    proportion,
    scale,
    show,
    show_monomial,
    single,
)


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
        """a + b."""
        if a.den == b.den:
            return self._tidy(add(a.num, b.num), a.den)
        return self._tidy(add(self._times(a.num, b.den), self._times(b.num, a.den)), self._times(a.den, b.den))

    def negative(self, a: Value) -> Value:
        """-a."""
        return Value({monomial: -c for monomial, c in a.num.items()}, a.den)

    def minus(self, a: Value, b: Value) -> Value:
        """a - b."""
        return self.plus(a, self.negative(b))

    def product(self, a: Value, b: Value) -> Value:
        """a b."""
        return self._tidy(self._times(a.num, b.num), self._times(a.den, b.den))

    def quotient(self, a: Value, b: Value) -> Value:
        """a / b; raises ZeroDivisionError."""
        return self.product(a, self.inverse(b))

    def inverse(self, a: Value) -> Value:
        """1 / a; raises ZeroDivisionError."""
        if not a.num:
            raise ZeroDivisionError("a division by zero")
        return self._tidy(a.den, a.num)

    def equal(self, a: Value, b: Value) -> bool:
        """Whether the two quotients are the same."""
        if a.den is b.den or a.den == b.den:
            return a.num == b.num
        return not add(self._times(a.num, b.den), scale(self._times(b.num, a.den), Fraction(-1)))

    def _tidy(self, num: Polynomial, den: Polynomial) -> Value:
        """Divide by what divides easily: monomials, and after rationalising, square roots."""
        if not num:
            return Value({}, ONE)
        if den is ONE:
            return Value(num, ONE)
        for _ in range(8):
            if len(den) == 1:
                break
            atom = next(
                (a for m in den for a, e in m if a == IMAGINARY or (a[0] == "p" and e == Fraction(1, 2))),
                None,
            )
            if atom is None or any(a == atom and a[0] == "p" and 2 * e not in (0, 1) for m in den for a, e in m):
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
                num = self._times(num, scale(self._reduce(dict(turned)), 1 / c))
            return Value(num, {kept: Fraction(1)} if kept else ONE)
        lead = den[max(den, key=order)]
        if lead != 1:
            num, den = scale(num, 1 / lead), scale(den, 1 / lead)
        if len(num) == len(den) and (ratio := proportion(num, den)) is not None:
            return number(ratio)
        return Value(num, den)

    def _times(self, p: Polynomial, q: Polynomial) -> Polynomial:
        if p is ONE or p == ONE:
            return q
        if q is ONE or q == ONE:
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
                        total = result.get(monomial, ZERO) + product * factor
                        if total:
                            result[monomial] = total
                        else:
                            result.pop(monomial, None)
                    continue
                total = result.get(m or n, ZERO) + product
                if total:
                    result[m or n] = total
                else:
                    result.pop(m or n, None)
        if any(c.numerator.bit_length() + c.denominator.bit_length() > 4 * MAX_BITS for c in result.values()):
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
        kept.sort(key=itemgetter(0))
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
        """a to the b; a root of a sum, and what has no simpler form, becomes an atom.

        Raises:
            ZeroDivisionError: 0 to the power of 0 or less.
        """
        exponent = b.rational()
        if not a.num and exponent == 0:
            raise ZeroDivisionError("zero to the power of zero")
        if exponent is not None:
            return self._rational_power(a, exponent)
        if (base := a.rational()) is not None and (base == 1 or base == 0):
            return number(base)
        if b.den != ONE or len(a.num) != 1 or a.den != ONE:
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
                    power = ("E", f"{atom[0]}{atom[1]}^{show_monomial(term)}")
                    self.inside[power] = ("power", (single(atom), Value({term: Fraction(1)}, ONE)))
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
        return result if a.den == ONE else self.quotient(result, self._polynomial_power(a.den, exponent))

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
                return Value(result, ONE)
        content, monomial, rest = primitive(p)
        outer = self._monomial_power(monomial, content, exponent)
        atom: Atom = ("r", f"({show(Value(rest, ONE))})")
        self.inside[atom] = ("base", (Value(rest, ONE),))
        return self.product(outer, Value(self._reduce({atom: exponent}), ONE))

    def _monomial_power(self, monomial: Monomial, coefficient: Fraction, exponent: Fraction) -> Value:
        powers: dict[Atom, Exponent] = {}
        sign: Value = number(1)
        whole = exponent.denominator == 1
        if coefficient < 0 or any(atom == IMAGINARY for atom, _ in monomial):
            if whole:
                sign = number(-1 if coefficient < 0 and exponent % 2 else 1)
            elif any(atom == IMAGINARY for atom, _ in monomial):
                return self.opaque("f", "power", Value({monomial: coefficient}, ONE), number(exponent))
            elif exponent.denominator % 2:
                sign = number(-1 if exponent.numerator % 2 else 1)
            elif exponent.denominator == 2:
                sign = Value(self._reduce({IMAGINARY: exponent.numerator}), ONE)
            else:
                return self.opaque("f", "power", Value({monomial: coefficient}, ONE), number(exponent))
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
        return self.product(sign, Value(self._reduce(powers), ONE))

    def replace(self, a: Value, kind: str, by: dict[str, Value] | None = None) -> Value:
        """Put values in place of atoms of one kind; those not named become 1."""
        if not any(atom[0] == kind for atom in a.atoms()):
            return a
        parts = []
        for part in a:
            total = number(0)
            for monomial, c in part.items():
                term = Value({tuple(x for x in monomial if x[0][0] != kind): c}, ONE)
                for atom, e in monomial:
                    if atom[0] == kind and by is not None:
                        new = by.get(atom[1], single(atom))
                        term = self.product(term, self._rational_power(new, Fraction(e)))
                total = self.plus(total, term)
            parts.append(total)
        return self.quotient(parts[0], parts[1])


def _terms(count: int, power: int) -> int:
    return math.comb(count + power - 1, power) if count + power < 400 else MAX_TERMS + 1
