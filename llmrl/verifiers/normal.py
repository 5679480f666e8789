"""Normal forms: an expression as a quotient of polynomials with rational coefficients.

The generators are letters, pi, e, the imaginary unit, primes under roots, and opaque function values.
Roots of different primes are independent over the rationals (Besicovitch 1940), so two expressions
without opaque parts are equal exactly if cross-multiplying their normal forms leaves nothing.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, isqrt
from typing import Any

from llmrl.verifiers.nodes import Node, num

MAX_TERMS = 400
MAX_WORK = 40_000  # term products in one multiplication
MAX_EXPAND = 40
MAX_BITS = 32_768
MAX_DEGREE = 1_000_000
SMALL_PRIME = 2_000

Generator = tuple[str, Any]
Monomial = tuple[tuple[Generator, Fraction], ...]
Poly = dict[Monomial, Fraction]
ONE: Monomial = ()
I: Generator = ("i", "")
_PLAIN = frozenset("ips")  # kinds of generators that are independent: i, primes, symbols


class TooBig(ValueError):
    """The normal form would be too large, or does not exist."""


class Undefined(ArithmeticError):
    """The expression divides by zero."""


class Form:
    """``top / bottom``; ``plain`` says that no generator is opaque."""

    __slots__ = ("bottom", "plain", "top")

    def __init__(self, top: Poly, bottom: Poly, plain: bool = True) -> None:
        self.top, self.bottom, self.plain = top, bottom, plain

    def key(self) -> Any:
        """Equal for forms that are written alike, whatever the order of their terms."""
        top, bottom = self.top, self.bottom
        lead = bottom[min(bottom, key=repr)]
        return tuple(
            frozenset((mono, c / lead) for mono, c in part.items()) for part in (top, bottom)
        )

    def rational(self) -> Fraction | None:
        """The value, where it is a rational number."""
        if not self.top:
            return Fraction(0)
        if self.top.keys() == {ONE} and self.bottom.keys() == {ONE}:
            return self.top[ONE] / self.bottom[ONE]
        return None


UNIT: Poly = {ONE: Fraction(1)}


def _constant(value: Fraction) -> Form:
    return Form({ONE: value} if value else {}, UNIT)


def _add(a: Poly, b: Poly, scale: int = 1) -> Poly:
    out = dict(a)
    for mono, c in b.items():
        total = out.get(mono, Fraction(0)) + scale * c
        if total:
            out[mono] = total
        else:
            out.pop(mono, None)
    if len(out) > MAX_TERMS:
        raise TooBig
    return out


def _times_mono(a: Monomial, b: Monomial) -> tuple[Monomial, Fraction]:
    """The product of two monomials and the rational factor that comes out of it."""
    if not a:
        return b, Fraction(1)
    if not b:
        return a, Fraction(1)
    exponents = dict(a)
    for generator, exponent in b:
        exponents[generator] = exponents.get(generator, Fraction(0)) + exponent
    scale = Fraction(1)
    for generator, exponent in list(exponents.items()):
        kind, value = generator
        if kind == "p":
            whole = exponent.numerator // exponent.denominator
            if whole:
                scale *= Fraction(value) ** whole
                exponent -= whole
        elif kind == "i":
            turn = int(exponent) % 4
            if turn >= 2:
                scale = -scale
            exponent = Fraction(turn % 2)
        if exponent:
            exponents[generator] = exponent
        else:
            del exponents[generator]
    return tuple(sorted(exponents.items(), key=repr)), scale


def _times(a: Poly, b: Poly) -> Poly:
    if a is UNIT:
        return b
    if b is UNIT:
        return a
    if len(a) * len(b) > MAX_WORK:
        raise TooBig
    out: Poly = {}
    for mono_a, c_a in a.items():
        for mono_b, c_b in b.items():
            mono, scale = _times_mono(mono_a, mono_b)
            total = out.get(mono, Fraction(0)) + c_a * c_b * scale
            _check(total)
            if total:
                out[mono] = total
            else:
                out.pop(mono, None)
    if len(out) > MAX_TERMS:
        raise TooBig
    return out


def _check(value: Fraction) -> None:
    if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
        raise TooBig


def _sum(a: Form, b: Form) -> Form:
    plain = a.plain and b.plain
    if a.bottom == b.bottom:
        return Form(_add(a.top, b.top), a.bottom, plain)
    top = _add(_times(a.top, b.bottom), _times(b.top, a.bottom))
    return Form(top, _times(a.bottom, b.bottom), plain)


def _product(a: Form, b: Form) -> Form:
    return Form(_times(a.top, b.top), _times(a.bottom, b.bottom), a.plain and b.plain)


def _inverse(a: Form) -> Form:
    if not a.top:
        raise Undefined("division by zero")
    if len(a.top) == 1:  # a monomial is moved over, which keeps denominators small
        ((mono, c),) = a.top.items()
        flipped, scale = _times_mono(ONE, tuple((g, -e) for g, e in mono)) if mono else (ONE, Fraction(1))
        flipped, more = _reduce(flipped)
        return Form(_times({flipped: scale * more / c}, a.bottom), UNIT, a.plain)
    return Form(a.bottom, a.top, a.plain)


def _reduce(mono: Monomial) -> tuple[Monomial, Fraction]:
    """The monomial with every exponent in its range: [0, 1) for primes, 0 or 1 for i."""
    out, scale = ONE, Fraction(1)
    for generator, exponent in mono:
        # Multiplying by the generator's zeroth power runs the reduction.
        out, more = _times_mono(out or ((generator, Fraction(0)),), ((generator, exponent),))
        scale *= more
    return out, scale


def _power(a: Form, n: int) -> Form:
    if n < 0:
        return _power(_inverse(a), -n)
    if abs(n) > MAX_DEGREE:
        raise TooBig
    if len(a.top) <= 1 and a.bottom is UNIT:
        if not a.top:
            return _constant(Fraction(0 if n else 1))
        ((mono, c),) = a.top.items()
        _check_power(c, n)
        raised, scale = _reduce(tuple((g, e * n) for g, e in mono))
        return Form({raised: c**n * scale}, UNIT, a.plain)
    if n > MAX_EXPAND:
        raise TooBig
    out = Form(UNIT, UNIT)
    while n:
        if n & 1:
            out = _product(out, a)
        n >>= 1
        if n:
            a = _product(a, a)
    return out


def _check_power(base: Fraction, n: int) -> None:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits > 1 and (bits * abs(n)) > MAX_BITS:
        raise TooBig


@lru_cache(maxsize=1_024)
def _factor(n: int) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Prime factors of ``n``; the flag says whether the last one is known to be prime."""
    if n.bit_length() > 512:
        raise TooBig
    found = []
    p = 2
    while p * p <= n and p < SMALL_PRIME:
        count = 0
        while n % p == 0:
            n //= p
            count += 1
        if count:
            found.append((p, count))
        p += 1 if p == 2 else 2
    if n > 1:
        certain = n < SMALL_PRIME**2
        root = isqrt(n)
        if not certain and root * root == n:
            found.append((root, 2))
            certain = root < SMALL_PRIME**2
        else:
            found.append((n, 1))
        return tuple(found), certain
    return tuple(found), True


def _rational_root(value: Fraction, exponent: Fraction) -> Form:
    """``value ** exponent`` for a positive rational value: a product of roots of primes."""
    if abs(exponent) > MAX_DEGREE:
        raise TooBig
    plain = True
    mono: dict[Generator, Fraction] = {}
    for number, sign in ((value.numerator, 1), (value.denominator, -1)):
        factors, certain = _factor(number)
        plain = plain and certain
        for prime, count in factors:
            mono[("p", prime)] = mono.get(("p", prime), Fraction(0)) + sign * count * exponent
    for (_, prime), e in mono.items():
        if prime.bit_length() * abs(e) > MAX_BITS:
            raise TooBig
    reduced, scale = _reduce(tuple(sorted(mono.items(), key=repr)))
    return Form({reduced: scale}, UNIT, plain)


def _raised(base: Form, exponent: Form) -> Form | None:
    """``base ** exponent`` where that is exact, else None."""
    value = exponent.rational()
    if value is None:
        return None
    if value.denominator == 1:
        return _power(base, int(value))
    constant = base.rational()
    if constant is not None:
        if constant > 0:
            return _rational_root(constant, value)
        if constant == 0:
            if value < 0:
                raise Undefined("division by zero")
            return base
        if value.denominator == 2:  # (-a)^(n/2) is i^n a^(n/2)
            turned, sign = _reduce(((I, Fraction(value.numerator)),))
            root = _rational_root(-constant, value)
            return _product(root, Form({turned: sign}, UNIT))
        return None
    if len(base.top) == 1 and base.bottom is UNIT:
        ((mono, c),) = base.top.items()
        # A single positive generator: pi, e; or one letter, whose root is a generator itself.
        if c > 0 and len(mono) == 1 and mono[0][0][0] == "s":
            generator, e = mono[0]
            if e == 1 or generator[1] in ("pi", "e"):
                root = _rational_root(c, value)
                return _product(root, Form({((generator, e * value),): Fraction(1)}, UNIT))
    return None


def normal(node: Node) -> Form:
    """The normal form of an expression without ±.

    Raises:
        TooBig: it would be too large.
        Undefined: the expression divides by zero.
    """
    op = node.op
    if op == "num":
        return _constant(node.value)
    if op == "sym":
        if node.value in ("i", "I"):
            return Form({((I, Fraction(1)),): Fraction(1)}, UNIT)
        if node.value == "infty":
            raise TooBig
        return Form({((("s", node.value), Fraction(1)),): Fraction(1)}, UNIT)
    if op == "add":
        total = normal(node.args[0])
        for arg in node.args[1:]:
            total = _sum(total, normal(arg))
        return total
    if op == "mul":
        product = normal(node.args[0])
        for arg in node.args[1:]:
            product = _product(product, normal(arg))
        return product
    if op == "degree":
        pi = Form({((("s", "pi"), Fraction(1)),): Fraction(1, 180)}, UNIT)
        return _product(normal(node.args[0]), pi)
    if op == "pow":
        base, exponent = (normal(arg) for arg in node.args)
        found = _raised(base, exponent)
        return found if found is not None else _opaque("pow", base, exponent)
    if op == "call":
        return _call(node)
    raise TooBig


def _opaque(name: str, *args: Form) -> Form:
    generator = ("f", (name, *(arg.key() for arg in args)))
    return Form({((generator, Fraction(1)),): Fraction(1)}, UNIT, plain=False)


def _call(node: Node) -> Form:
    name = node.value
    args = [normal(arg) for arg in node.args]
    values = [arg.rational() for arg in args]
    if name == "root":
        base, degree = args
        n = values[1]
        if n is None or n == 0:
            return _opaque("root", base, degree)
        value = values[0]
        if value is not None and value < 0 and n.denominator == 1 and n % 2 == 1:
            return _product(_constant(Fraction(-1)), _rational_root(-value, 1 / n))
        found = _raised(base, _constant(1 / n))
        return found if found is not None else _opaque("pow", base, _constant(1 / n))
    if all(value is not None for value in values):
        exact = _exact_call(name, [value for value in values if value is not None])
        if exact is not None:
            return _constant(exact)
    return _opaque(name, *args)


def _exact_call(name: str, values: list[Fraction]) -> Fraction | None:
    """Functions of rational numbers whose value is rational."""
    value = values[0]
    whole = all(v.denominator == 1 for v in values)
    if name == "abs":
        return abs(value)
    if name == "floor":
        return Fraction(value.numerator // value.denominator)
    if name == "ceil":
        return Fraction(-(-value.numerator // value.denominator))
    if name == "factorial" and whole and 0 <= value <= 2_500:
        return Fraction(factorial(int(value)))
    if name == "binom" and whole and 0 <= values[1] <= value <= 10_000:
        if min(values[1], value - values[1]) > 2_500:
            raise TooBig
        return Fraction(comb(int(value), int(values[1])))
    if name in ("max", "min"):
        return (max if name == "max" else min)(values)
    if name == "ln" and value == 1:
        return Fraction(0)
    return None


def known_equal(a: Node, b: Node) -> bool | None:
    """Whether two expressions are equal; None where normal forms cannot tell.

    >>> from llmrl.verifiers.parse import Parser
    >>> from llmrl.verifiers.tokens import tokenize
    >>> def read(text): return Parser(tokenize(text)).whole()
    >>> known_equal(read("(x+1)^2"), read("x^2+2x+1")), known_equal(read("sqrt(8)"), read("3"))
    (True, False)
    """
    try:
        left, right = normal(a), normal(b)
        difference = _add(_times(left.top, right.bottom), _times(right.top, left.bottom), -1)
    except TooBig:
        return None
    if not difference:
        return True
    return False if left.plain and right.plain else None


def value(node: Node) -> Fraction | None:
    """The rational value of an expression, or None."""
    try:
        return normal(node).rational()
    except (TooBig, Undefined):
        return None


def proportional(a: Node, b: Node) -> bool | None:
    """Whether the numerators are non-zero constant multiples of each other; None where unknown."""
    try:
        left, right = normal(a), normal(b)
    except TooBig:
        return None
    if not left.top or not right.top:
        return not left.top and not right.top
    lead = min(left.top, key=repr)
    if left.top.keys() == right.top.keys():
        ratio = right.top[lead] / left.top[lead]
        if all(right.top[mono] == c * ratio for mono, c in left.top.items()):
            return True
    constants = all(_is_constant(mono) for mono in left.top) or all(_is_constant(m) for m in right.top)
    if constants or not (left.plain and right.plain):
        return None
    return None if _has_roots(left) or _has_roots(right) else False


def _is_constant(mono: Monomial) -> bool:
    return all(generator[0] in "pi" or generator[1] in ("pi", "e") for generator, _ in mono)


def _has_roots(form: Form) -> bool:
    return any(g[0] in "pi" or g[1] in ("pi", "e") for mono in form.top for g, _ in mono)


ZERO = num(0)
