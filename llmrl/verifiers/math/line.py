r"""Sets of real numbers as pieces of the line: answers read as sets, inequalities, intersection, complement."""

from __future__ import annotations

from fractions import Fraction

from llmrl.verifiers.math import numeric
from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.answers import Answer, Inequality, Piece, Pieces, Scalar, Sequence
from llmrl.verifiers.math.values import INFINITY, Value, number, single

_MINUS_INFINITY = single(INFINITY, 1, -1)
_INFINITE = single(INFINITY)
LINE = Pieces((Piece(_MINUS_INFINITY, False, _INFINITE, False),))
"""All real numbers."""
_TURNED = {"<": ">", "le": "ge", ">": "<", "ge": "le"}
"""What a sign is when its sides change places."""


def infinite(value: Value) -> bool:
    """Whether infinity is in a value.

    >>> infinite(single(INFINITY, 1, -1)), infinite(number(2))
    (True, False)
    """
    return any(atom == INFINITY for atom in value.atoms())


def between(low: Value, high: Value, brackets: str) -> Pieces:
    """An interval; an infinite end is open, whatever its bracket.

    >>> between(number(1), single(INFINITY), "[]").pieces[0].high_closed
    False
    """
    return Pieces(
        (
            Piece(
                low,
                brackets[0] == "[" and not infinite(low),
                high,
                brackets[1] == "]" and not infinite(high),
            ),
        )
    )


def as_pieces(answer: Answer) -> Pieces | None:
    r"""An answer as a set of reals, if it may be read so: ``(1, 2)``, ``\{3\}``, ``\mathbb{R}``.

    >>> as_pieces(Scalar(number(2))) is None, as_pieces(Sequence("set", ())).pieces
    (True, ())
    """
    if isinstance(answer, Pieces):
        return answer
    if isinstance(answer, Scalar) and answer.word in ("bbR", "R"):
        return LINE
    if isinstance(answer, Sequence):
        values = [item.value for item in answer.items if isinstance(item, Scalar)]
        if len(values) < len(answer.items):
            return None
        if answer.kind == "tuple" and len(values) == 2 and answer.brackets in ("()", "[]"):
            return between(values[0], values[1], answer.brackets)
        if answer.kind == "set":
            return Pieces(tuple(Piece(value, True, value, True) for value in values))
    return None


def meet(sets: list[Pieces], do: Algebra) -> Pieces | None:
    """The intersection; None when the ends cannot be put in order.

    >>> whole = between(number(0), number(2), "[]")
    >>> half = between(number(1), number(5), "()")
    >>> meet([whole, half], Algebra()) == Pieces((Piece(number(1), False, number(2), True),))
    True
    """
    total = sets[0]
    for other in sets[1:]:
        found = []
        for a in total.pieces:
            for b in other.pieces:
                heights = [_height(value, do) for value in (a.low, b.low, a.high, b.high)]
                if any(height is None for height in heights):
                    return None
                low_a, low_b, high_a, high_b = (height or 0.0 for height in heights)
                low, low_closed = (a.low, a.low_closed) if low_a > low_b else (b.low, b.low_closed)
                high, high_closed = (a.high, a.high_closed) if high_a < high_b else (b.high, b.high_closed)
                if low_a == low_b:
                    low_closed = a.low_closed and b.low_closed
                if high_a == high_b:
                    high_closed = a.high_closed and b.high_closed
                bottom, top = max(low_a, low_b), min(high_a, high_b)
                if bottom < top or (bottom == top and low_closed and high_closed):
                    found.append(Piece(low, low_closed, high, high_closed))
        total = Pieces(tuple(found))
    return total


def outside(piece: Piece) -> Pieces:
    """The line without a piece.

    >>> len(outside(Piece(number(1), True, number(2), False)).pieces)
    2
    """
    left = Piece(_MINUS_INFINITY, False, piece.low, not piece.low_closed)
    right = Piece(piece.high, not piece.high_closed, _INFINITE, False)
    return Pieces((*([] if infinite(piece.low) else [left]), *([] if infinite(piece.high) else [right])))


def inequality(signs: tuple[str, ...], sides: list[Value], do: Algebra) -> Answer:
    """``-1 < x <= 2`` and ``|x - 1| < 3`` as pieces of the line; else one inequality for each sign.

    >>> x = single(("s", "x"))
    >>> inequality(("<", "le"), [number(-1), x, number(2)], Algebra()).variable
    'x'
    """
    pieces = _distance(signs, sides, do) or _bounds(signs, sides, do) or _linear(signs, sides, do)
    if pieces is not None:
        return pieces
    parts: list[Answer] = []
    for sign, left, right in zip(signs, sides, sides[1:], strict=False):
        gap = do.minus(left, right) if sign in ("<", "le", "ne", "=") else do.minus(right, left)
        parts.append(Inequality({">": "<", "ge": "le"}.get(sign, sign), gap))
    return parts[0] if len(parts) == 1 else Sequence("list", tuple(parts), joiner="and")


def _distance(signs: tuple[str, ...], sides: list[Value], do: Algebra) -> Pieces | None:
    """``|c x + d| < k``."""
    if len(signs) != 1 or signs[0] not in _TURNED:
        return None
    sign, (left, right) = signs[0], sides
    inside = _inside_bars(left, do)
    if inside is None:
        sign, inside, right = _TURNED[sign], _inside_bars(right, do), left
    bound = right.rational()
    if inside is None or bound is None or bound <= 0:
        return None
    symbols = [monomial for monomial in inside.num if monomial]
    if len(symbols) != 1 or (variable := _symbol(Value({symbols[0]: Fraction(1)}, inside.den))) is None:
        return None
    slope = inside.num[symbols[0]]
    middle = -inside.num.get((), Fraction(0)) / slope
    low, high = (number(middle + k * bound / abs(slope)) for k in (-1, 1))
    if sign in ("<", "le"):
        return Pieces(between(low, high, "()" if sign == "<" else "[]").pieces, variable)
    inner = between(low, high, "()" if sign == "ge" else "[]")
    return Pieces(outside(inner.pieces[0]).pieces, variable)


def _linear(signs: tuple[str, ...], sides: list[Value], do: Algebra) -> Pieces | None:
    """``2x + 1 > 7``: a half-line."""
    if len(signs) != 1 or signs[0] not in _TURNED:
        return None
    gap = do.minus(sides[0], sides[1])
    slopes = [monomial for monomial in gap.num if monomial]
    if (
        gap.den != {(): 1}
        or len(slopes) != 1
        or (variable := _symbol(Value({slopes[0]: Fraction(1)}, gap.den))) is None
    ):
        return None
    slope = gap.num[slopes[0]]
    sign = signs[0] if slope > 0 else _TURNED[signs[0]]
    half = _half_line(sign, number(-gap.num.get((), Fraction(0)) / slope))
    return None if half is None else Pieces(half.pieces, variable)


def _inside_bars(value: Value, do: Algebra) -> Value | None:
    """x + 1 of ``|x + 1|``."""
    if len(value.num) != 1 or value.den != {(): 1}:
        return None
    ((monomial, coefficient),) = value.num.items()
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    name, arguments = do.inside.get(monomial[0][0], ("", ()))
    return arguments[0] if name == "abs" else None


def _bounds(signs: tuple[str, ...], sides: list[Value], do: Algebra) -> Pieces | None:
    """A symbol between constants, or next to one."""
    named = [(at, name) for at, side in enumerate(sides) if (name := _symbol(side)) is not None]
    if len(named) != 1 or len(sides) > 3:
        return None
    ((at, variable),) = named
    if (len(sides) == 3 and at != 1) or not all(side.constant() for side in (*sides[:at], *sides[at + 1 :])):
        return None
    bounds = []
    for place, sign in enumerate(signs):
        if place == at:
            bound = _half_line(sign, sides[place + 1])
        else:  # the bound stands left of the variable
            bound = _half_line(_TURNED.get(sign, sign), sides[place])
        if bound is None:
            return None
        bounds.append(bound)
    total = meet(bounds, do)
    return None if total is None else Pieces(total.pieces, variable)


def _half_line(sign: str, bound: Value) -> Pieces | None:
    """What a variable may be that stands in a relation to its bound."""
    if sign in ("<", "le"):
        return between(_MINUS_INFINITY, bound, "(]" if sign == "le" else "()")
    if sign in (">", "ge"):
        return between(bound, _INFINITE, "[)" if sign == "ge" else "()")
    return outside(Piece(bound, True, bound, True)) if sign == "ne" else None


def _symbol(value: Value) -> str | None:
    """The name of a value that is one symbol."""
    if len(value.num) != 1 or value.den != {(): 1}:
        return None
    ((monomial, coefficient),) = value.num.items()
    if coefficient != 1 or len(monomial) != 1:
        return None
    (((kind, name), exponent),) = monomial
    return name if kind == "s" and exponent == 1 else None


def _height(value: Value, do: Algebra) -> float | None:
    """Where an end lies; None if that is not known."""
    if infinite(value):
        return float("inf") if value == _INFINITE else float("-inf")
    rational = value.rational()
    if rational is not None and rational.numerator.bit_length() < 1_000:
        return float(rational)
    return numeric.approximate(do, value)
