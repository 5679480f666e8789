r"""What an answer is, once its tree has been evaluated: a scalar, a sequence, a matrix, pieces of the line, ...

:func:`build` makes these from a tree.  It decides notation only; what counts as equal is decided in
:mod:`llmrl.verifiers.compare`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from llmrl.verifiers import functions, numeric
from llmrl.verifiers.algebra import INFINITY, Algebra, Value, factors, number, single
from llmrl.verifiers.limits import Unreadable
from llmrl.verifiers.parser import Node
from llmrl.verifiers.units import CANONICAL


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or expression."""

    value: Value
    percent: bool = False
    decimals: int | None = None
    """Digits after the point of a plain decimal."""
    digits: str = ""
    """Those of a plain number, as written."""
    word: str | None = None
    """The letters, if nothing else is there: ``ABC`` may be a product or a name."""
    reduced: bool = True
    """Whether no arithmetic between plain numbers is left to do."""


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Items with what encloses them: ``list`` (nothing), ``set``, ``tuple``."""

    kind: str
    items: tuple[Answer, ...]
    brackets: str = ""
    joiner: str = ","


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval, or a point where both ends are the same."""

    low: Value
    low_closed: bool
    high: Value
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Pieces:
    """A union of intervals and points of the real line."""

    pieces: tuple[Piece, ...]
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class Combined:
    """An intersection or difference that is not worked out."""

    operation: str
    operands: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """Sides joined by equality signs."""

    sides: tuple[Answer, ...]
    names: tuple[str | None, ...]
    """For each side: the name it is, such as ``x`` or ``f(x)``; '' for other name-like text."""


@dataclass(frozen=True, slots=True)
class Inequality:
    """``value`` stands in ``relation`` to zero: ``<``, ``le`` or ``ne``."""

    relation: str
    value: Value


@dataclass(frozen=True, slots=True)
class Ratio:
    """Numbers between colons: a ratio, or a time of the day."""

    items: tuple[Answer, ...]
    half: str = ""
    """``timeam`` or ``timepm``."""


@dataclass(frozen=True, slots=True)
class Based:
    """Digits with the base they are in."""

    digits: str
    base: str


@dataclass(frozen=True, slots=True)
class Ellipsis_:
    """The dots in a sequence."""


Answer = (
    Scalar
    | Words
    | Sequence
    | Matrix
    | Pieces
    | Combined
    | Equation
    | Inequality
    | Ratio
    | Based
    | Ellipsis_
)
_MINUS_INFINITY = single(INFINITY, 1, -1)
_INFINITE = single(INFINITY)
LINE = Pieces((Piece(_MINUS_INFINITY, False, _INFINITE, False),))


def build(node: Node, do: Algebra) -> Answer:
    """The answer that a tree stands for."""
    if _has_pm(node) and node.kind != "list":
        both = [build(_choose(node, sign), do) for sign in (1, -1)]
        return both[0] if both[0] == both[1] else Sequence("list", tuple(both), joiner="pm")
    return _BUILDERS.get(node.kind, _scalar)(node, do)


def evaluate(node: Node, do: Algebra) -> Value:
    """The value of a tree that is an expression."""
    kind, args = node
    if kind == "num":
        return number(args[0])
    if kind == "sym":
        return single(("s", args[0]))
    if kind == "word":
        return _product(do, [evaluate(letter, do) for letter in args[1]])
    if kind == "const":
        return _constant(args[0])
    if kind == "unit":
        return _unit(args[0], do)
    if kind == "text" and len(args[0]) == 1 and args[0].isalpha():
        return single(("s", args[0]))
    if kind == "add":
        total = _finite(args[0][0], do)
        for term in args[0][1:]:
            total = do.plus(total, _finite(term, do))
        return total
    if kind == "neg":
        return do.negative(evaluate(args[0], do))
    if kind == "mul":
        return do.product(_finite(args[0], do), _finite(args[1], do))
    if kind == "div":
        return do.quotient(_finite(args[0], do), _finite(args[1], do))
    if kind == "pow":
        return functions.call(do, "power", (_finite(args[0], do), _finite(args[1], do)))
    if kind == "percent":
        return do.product(_finite(args[0], do), number(Fraction(1, 100)))
    if kind == "call":
        return functions.call(do, args[0], tuple(_finite(argument, do) for argument in args[1]))
    if kind == "based" and args[0].isdigit() and args[1].isdigit() and 2 <= int(args[1]) <= 36:
        return number(int(args[0], int(args[1])))
    if kind == "list" and len(args[0]) == 1:
        return evaluate(args[0][0], do)
    if kind == "tuple" and len(args[0]) == 1 and args[1:] == ("[", "]"):
        return evaluate(args[0][0], do)
    raise Unreadable(f"a {kind} inside an expression")


def _finite(node: Node, do: Algebra) -> Value:
    """The value of an operand: infinity may be an answer, or an end, but nothing is done with it."""
    value = evaluate(node, do)
    if len(value.num) == 1 and _infinite(value):
        raise Unreadable("arithmetic with infinity")
    return value


def _product(do: Algebra, values: list[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = do.product(total, value)
    return total


def _constant(name: str) -> Value:
    if name == "i":
        return single(("i", ""))
    if name in ("pi", "e", "oo"):
        return single(("c", name))
    return single(("s", name))


def _unit(words: str, do: Algebra) -> Value:
    parts = words.replace("per", "/ ").split()
    total, divide, power = number(1), False, 1
    for part in parts:
        if part == "/":
            divide = True
        elif part in ("square", "cubic"):
            power = 2 if part == "square" else 3
        elif part == "unit":
            continue
        elif part == "percent":
            total = do.product(total, number(Fraction(1, 100)))
        else:
            name = part if part in CANONICAL.values() else f"?{part}"
            total = do.product(total, single(("u", name), -power if divide else power))
            divide, power = False, 1
    return total


# Answers of each kind


def _scalar(node: Node, do: Algebra) -> Answer:
    if node.kind in ("mul", "div", "neg") and (scaled := _scaled_matrix(node, do)) is not None:
        return scaled
    if node.kind == "mul" and node.args[1] == Node("unit", ("percent",)):
        node = Node("percent", (node.args[0],))
    if node.kind == "mul" and _point(node):
        return build(node.args[1], do)
    inner = node.args[0] if node.kind == "neg" else node
    if inner.kind == "based" and inner is not node:
        return Based("-" + inner.args[0], inner.args[1])
    value = evaluate(node, do)
    if inner.kind == "percent":
        return Scalar(value, percent=True)
    if inner.kind == "num":
        written = inner.args[1]
        decimals = (
            len(written.partition(".")[2])
            if "(" not in written and "e" not in written.lower()
            else 0
        )
        return Scalar(
            value,
            decimals=decimals if "." in written else None,
            digits=("-" if inner is not node else "") + written,
        )
    if node.kind in ("sym", "word"):
        return Scalar(value, word=node.args[0])
    if node.kind == "mul" and [part.kind for part in node.args].count("num") == 1:
        digits, unit = sorted(node.args, key=lambda part: part.kind != "num")
        if unit.kind in ("unit", "mul", "pow") and "." in digits.args[1] and _only_units(unit):
            return Scalar(
                value, decimals=len(digits.args[1].partition(".")[2]), digits=digits.args[1]
            )
    if node.kind == "const" and (node.args[0] in ("i", "e") or node.args[0].startswith("bb")):
        return Scalar(value, word=node.args[0])
    return Scalar(value, reduced=_reduced(node))


def _point(node: Node) -> bool:
    """Whether it is ``P(2, -1)``: a capital letter before coordinates."""
    name, place = node.args
    return (
        name.kind == "sym"
        and name.args[0][0].isupper()
        and place.kind == "tuple"
        and len(place.args[0]) > 1
    )


def _only_units(node: Node) -> bool:
    return node.kind == "unit" or (
        node.kind in ("mul", "pow") and all(part.kind == "num" or _only_units(part) for part in _children(node))
    )  # fmt: skip


def _reduced(node: Node) -> bool:
    parts = _children(node)
    if node.kind in ("div", "mul", "pow") and all(part.kind == "num" for part in parts):
        (a, *_), (b, *_) = parts[0].args, parts[1].args
        return node.kind == "div" and b > 1 and math.gcd(a.numerator, b.numerator) == 1
    if node.kind == "call" and node.args[0] == "root" and parts[0].kind == parts[1].kind == "num":
        return all(
            abs(k) < parts[1].args[0] for k in factors(parts[0].args[0] or Fraction(1)).values()
        )
    if node.kind == "add" and sum(part.kind == "num" for part in parts) > 1:
        return False
    return all(map(_reduced, parts))


def unevaluated(node: Node, do: Algebra) -> bool:
    """Whether arithmetic is left to do: ``2 + 3``, ``\\sqrt{16}``, not ``6/8``, ``2\\frac12`` or ``3 \\cdot 10^8``.

    Of a chain such as ``2 + 3 = 5`` the last side counts.
    """
    if node.kind == "rel":
        return unevaluated(node.args[1][-1], do)
    if _numeral(node):
        return False
    parts = _children(node)
    if node.kind in ("add", "neg", "mul", "div", "pow", "call"):
        try:
            values = [evaluate(part, do) for part in (node, *parts)]
        except Unreadable:
            values = []
        known = [value.rational() is not None for value in values]
        if values and (known[0] or (node.kind == "add" and sum(known) > 1)):
            return True
    return any(unevaluated(part, do) for part in parts)


def _numeral(node: Node) -> bool:
    """Whether it is one way to write a rational number."""
    parts = _children(node)
    if node.kind in ("neg", "percent"):
        return _numeral(parts[0])
    if node.kind == "div":
        return all(part.kind == "num" for part in map(_inner, parts))
    if node.kind == "add":  # a mixed number
        return len(parts) == 2 and parts[0].kind == "num" and _proper(parts[1])
    if node.kind == "mul":
        return parts[0].kind == "num" and _power_of_ten(parts[1])
    return node.kind == "num" or _power_of_ten(node)


def _proper(node: Node) -> bool:
    if node.kind == "num":
        return "/" in node.args[1]
    return node.kind == "div" and all(part.kind == "num" for part in _children(node))


def _power_of_ten(node: Node) -> bool:
    if node.kind != "pow":
        return False
    base, exponent = node.args
    return base.kind == "num" and base.args[0] == 10 and _inner(exponent).kind == "num"


def _inner(node: Node) -> Node:
    return _inner(node.args[0]) if node.kind == "neg" else node


def _words(node: Node, do: Algebra) -> Answer:
    text = node.args[0].strip()
    if text.lower() in (
        "all real numbers",
        "all reals",
        "all real number",
        "real numbers",
        "reals",
    ):
        return LINE
    if text.lower() in (
        "no solution",
        "no solutions",
        "no real solutions",
        "no real solution",
        "empty set",
    ):
        return Sequence("set", ())
    return Words(text)


def _list(node: Node, do: Algebra) -> Answer:
    items, joiners = node.args
    built: list[Answer] = []
    for item in items:
        answer = build(item, do)
        if isinstance(answer, Sequence) and answer.joiner == "pm" and answer.kind == "list":
            built += answer.items
        else:
            built.append(answer)
    joiner = "or" if "or" in joiners else "and" if set(joiners) == {"and"} else ","
    if all(isinstance(item, Pieces) for item in built):
        if joiner == "or":
            return Pieces(tuple(piece for item in built for piece in item.pieces))  # type: ignore[union-attr]
        if (meet := _meet([item for item in built if isinstance(item, Pieces)], do)) is not None:
            return meet
    return Sequence("list", tuple(built), joiner=joiner)


def _tuple(node: Node, do: Algebra) -> Answer:
    items, opening, closing = node.args
    built = tuple(build(item, do) for item in items)
    if len(built) == 2 and all(isinstance(item, Scalar) for item in built):
        low, high = (item.value for item in built if isinstance(item, Scalar))
        if (opening, closing) in (("(", "]"), ("[", ")")) or _infinite(low) or _infinite(high):
            return Pieces(
                (
                    Piece(
                        low,
                        opening == "[" and not _infinite(low),
                        high,
                        closing == "]" and not _infinite(high),
                    ),
                )
            )
        if opening == "]" or closing == "[":
            return Pieces((Piece(low, opening == "[", high, closing == "]"),))
    if opening == "]" or (opening, closing) in (("(", "]"), ("[", ")")):
        raise Unreadable("brackets that do not match")
    return Sequence("tuple", built, "<>" if opening == "<" else opening + closing)


def _set(node: Node, do: Algebra) -> Answer:
    built: list[Answer] = []
    for item in node.args[0]:
        answer = build(item, do)
        built += (
            answer.items if isinstance(answer, Sequence) and answer.joiner == "pm" else [answer]
        )
    return Sequence("set", tuple(built))


def _matrix(node: Node, do: Algebra) -> Answer:
    return Matrix(tuple(tuple(build(cell, do) for cell in row) for row in node.args[0]))


def _scaled_matrix(node: Node, do: Algebra) -> Matrix | None:
    """A number times a matrix, or a matrix over a number."""
    if node.kind == "matrix":
        built = _matrix(node, do)
        return built if isinstance(built, Matrix) else None
    if node.kind == "neg":
        matrix, factor = _scaled_matrix(node.args[0], do), number(-1)
    elif node.kind not in ("mul", "div"):
        return None
    elif (matrix := _scaled_matrix(node.args[0], do)) is not None:
        other = evaluate(node.args[1], do)
        factor = do.inverse(other) if node.kind == "div" else other
    elif node.kind == "mul" and (matrix := _scaled_matrix(node.args[1], do)) is not None:
        factor = evaluate(node.args[0], do)
    if matrix is None:
        return None
    rows = []
    for row in matrix.rows:
        if not all(isinstance(cell, Scalar) for cell in row):
            return None
        rows.append(
            tuple(
                Scalar(do.product(cell.value, factor)) for cell in row if isinstance(cell, Scalar)
            )
        )
    return Matrix(tuple(rows))


def _ratio(node: Node, do: Algebra) -> Answer:
    first, *rest = node.args[0]
    if first.kind in ("text", "word") and len(first.args[0].strip("*")) > 2 and len(rest) == 1:
        return build(rest[0], do)
    return Ratio(tuple(build(item, do) for item in node.args[0]), node.args[1])


def _based(node: Node, do: Algebra) -> Answer:
    digits, base = node.args
    if digits.isdigit() and base.isdigit() and int(max(digits)) >= int(base):
        raise Unreadable(f"the digits {digits} in base {base}")
    return Based(*node.args)


def _ellipsis(node: Node, do: Algebra) -> Answer:
    return Ellipsis_()


def _where(node: Node, do: Algebra) -> Answer:
    first, condition = node.args
    if first.kind == "rel" and first.args[1][-1] not in _REALS:
        raise Unreadable("a set of numbers that are not the reals")
    return build(condition, do)


_REALS = (Node("const", ("bbR",)), Node("sym", ("R",)))


def _sets(node: Node, do: Algebra) -> Answer:
    operations, operands = node.args
    if operations[0] == "minus" and all(
        operand.kind not in ("tuple", "set", "const") for operand in operands
    ):
        raise Unreadable("a difference of things that are not sets")
    built = [build(operand, do) for operand in operands]
    total = built[0]
    for operation, operand in zip(operations, built[1:], strict=True):
        left, right = as_pieces(total), as_pieces(operand)
        if left is None or right is None:
            total = Combined(operation, (total, operand))
        elif operation == "cup":
            total = Pieces(left.pieces + right.pieces)
        elif operation == "minus":
            rest = [_outside(piece) for piece in right.pieces]
            total = _meet([left, *rest], do) or Combined(operation, (left, right))
        else:
            total = _meet([left, right], do) or Combined(operation, (left, right))
    return total


def as_pieces(answer: Answer) -> Pieces | None:
    """An answer as a set of reals, if it may be read so."""
    if isinstance(answer, Pieces):
        return answer
    if isinstance(answer, Scalar) and answer.word in ("bbR", "R"):
        return LINE
    if isinstance(answer, Sequence) and all(isinstance(item, Scalar) for item in answer.items):
        values = [item.value for item in answer.items if isinstance(item, Scalar)]
        if answer.kind == "tuple" and len(values) == 2 and answer.brackets in ("()", "[]"):
            closed = answer.brackets == "[]"
            return Pieces((Piece(values[0], closed, values[1], closed),))
        if answer.kind == "set":
            return Pieces(tuple(Piece(value, True, value, True) for value in values))
    return None


def _infinite(value: Value) -> bool:
    return any(atom == INFINITY for atom in value.atoms())


def _relation(node: Node, do: Algebra) -> Answer:
    signs, sides = node.args
    if "approx" in signs:
        cut = signs.index("approx")
        if cut or not name_like(sides[0]):
            if not all(_rounds(sides[cut], side, do) for side in sides[cut + 1 :]):
                raise Unreadable("an approximation that is none")
            return build(Node("rel", (signs[:cut], sides[: cut + 1])) if cut else sides[0], do)
        signs = tuple("=" if sign == "approx" else sign for sign in signs)
    if signs == ("in",) and not _plain(sides[0]):
        return build(sides[1], do)
    if set(signs) == {"="}:
        built = tuple(_side(side, do) for side in sides)
        return Equation(built, tuple(_name(side) for side in sides))
    if set(signs) <= {"<", "le", ">", "ge", "ne", "="}:
        return _inequality(signs, [evaluate(side, do) for side in sides], do)
    raise Unreadable(f"the relation {signs[0]!r}")


def _rounds(exact: Node, rounded: Node, do: Algebra) -> bool:
    """Whether a decimal is the exact value to its own last digit, rounded or cut off."""
    try:
        value = do.replace(evaluate(exact, do), "u")
        target = do.replace(evaluate(rounded, do), "u").rational()
    except Unreadable:
        return True  # nothing to compare by value
    if target is None or not value.constant():
        return True
    inner = _inner(rounded)
    percent = inner.kind == "percent"
    inner = inner.args[0] if percent else inner
    while inner.kind == "mul" and "unit" in (inner.args[0].kind, inner.args[1].kind):
        inner = inner.args[inner.args[0].kind == "unit"]
    if inner.kind != "num":
        distance = abs(target) / 20
    else:
        whole, _, decimals = inner.args[1].partition(".")
        zeros = len(whole) - len(whole.rstrip("0")) if not decimals else 0
        distance = Fraction(10) ** (zeros - len(decimals) - 2 * percent)
    known = value.rational()
    if known is not None:
        return abs(known - target) < distance
    return numeric.within(do, value, target, distance)


def _side(node: Node, do: Algebra) -> Answer:
    try:
        return build(node, do)
    except Unreadable:
        if _name(node) is not None:
            return Words(str(node))
        raise


def _inequality(signs: tuple[str, ...], sides: list[Value], do: Algebra) -> Answer:
    if len(signs) == 1 and (distance := _distance(signs[0], sides[0], sides[1], do)) is not None:
        return distance
    symbol = [i for i, side in enumerate(sides) if _is_symbol(side)]
    if len(symbol) == 1 and all(side.constant() for i, side in enumerate(sides) if i != symbol[0]):
        at = symbol[0]
        if len(sides) == 2 or (len(sides) == 3 and at == 1):
            variable = next(iter(sides[at].num))[0][0][1]
            bounds = [_bound(sign, i, at, sides) for i, sign in enumerate(signs)]
            pieces = [bound for bound in bounds if bound is not None]
            if len(pieces) == len(bounds):
                if len(pieces) == 1:
                    return Pieces(pieces[0].pieces, variable)
                if (meet := _meet(pieces, do)) is not None:
                    return Pieces(meet.pieces, variable)
    parts: list[Answer] = []
    for sign, left, right in zip(signs, sides, sides[1:], strict=False):
        gap = do.minus(left, right) if sign in ("<", "le", "ne", "=") else do.minus(right, left)
        parts.append(Inequality({">": "<", "ge": "le"}.get(sign, sign), gap))
    return parts[0] if len(parts) == 1 else Sequence("list", tuple(parts), joiner="and")


def _distance(sign: str, left: Value, right: Value, do: Algebra) -> Pieces | None:
    """``|c x + d| < k`` as pieces of the line."""
    if sign not in ("<", "le", ">", "ge"):
        return None
    inside = _inside_bars(left, do)
    if inside is None:
        left, right = right, left
        sign = {"<": ">", "le": "ge", ">": "<", "ge": "le"}[sign]
        inside = _inside_bars(left, do)
    bound = right.rational()
    if inside is None or bound is None or bound <= 0:
        return None
    symbols = [m for m in inside.num if m]
    if len(symbols) != 1 or inside.den != number(1).den:
        return None
    slope = inside.num[symbols[0]]
    variable = Value({symbols[0]: Fraction(1)}, inside.den)
    if not _is_symbol(variable):
        return None
    middle = -inside.num.get((), Fraction(0)) / slope
    low, high = (number(middle + k * bound / abs(slope)) for k in (-1, 1))
    closed = sign in ("le", "ge")
    name = symbols[0][0][0][1]
    if sign in ("<", "le"):
        return Pieces((Piece(low, closed, high, closed),), name)
    outer = Piece(_MINUS_INFINITY, False, low, closed), Piece(high, closed, _INFINITE, False)
    return Pieces(outer, name)


def _inside_bars(value: Value, do: Algebra) -> Value | None:
    """x + 1 of ``|x + 1|``."""
    if len(value.num) != 1 or value.den != number(1).den:
        return None
    ((monomial, coefficient),) = value.num.items()
    if coefficient != 1 or len(monomial) != 1 or monomial[0][1] != 1:
        return None
    name, arguments = do.inside.get(monomial[0][0], ("", ()))
    return arguments[0] if name == "abs" else None


def _bound(sign: str, place: int, at: int, sides: list[Value]) -> Pieces | None:
    """The half line that one sign of a chain allows the variable."""
    other = sides[place] if place != at else sides[place + 1]
    if place != at:  # the bound stands left of the variable
        sign = {"<": ">", "le": "ge", ">": "<", "ge": "le"}.get(sign, sign)
    if sign in ("<", "le"):
        return Pieces(
            (Piece(_MINUS_INFINITY, False, other, sign == "le" and not _infinite(other)),)
        )
    if sign in (">", "ge"):
        return Pieces((Piece(other, sign == "ge" and not _infinite(other), _INFINITE, False),))
    if sign == "ne":
        return Pieces(
            (Piece(_MINUS_INFINITY, False, other, False), Piece(other, False, _INFINITE, False))
        )
    return None


def _is_symbol(value: Value) -> bool:
    if len(value.num) != 1 or value.den != {(): 1}:
        return False
    ((monomial, coefficient),) = value.num.items()
    return (
        coefficient == 1 and len(monomial) == 1 and monomial[0][0][0] == "s" and monomial[0][1] == 1
    )


def _height(value: Value, do: Algebra) -> float | None:
    if _infinite(value):
        return float("inf") if value == _INFINITE else float("-inf")
    rational = value.rational()
    return (
        float(rational)
        if rational is not None and rational.numerator.bit_length() < 1_000
        else numeric.approximate(do, value)
    )


def _meet(sets: list[Pieces], do: Algebra) -> Pieces | None:
    """The intersection; None when the ends cannot be put in order."""
    total = sets[0]
    for other in sets[1:]:
        found = []
        for a in total.pieces:
            for b in other.pieces:
                heights = [_height(v, do) for v in (a.low, b.low, a.high, b.high)]
                if any(height is None for height in heights):
                    return None
                low_a, low_b, high_a, high_b = (height or 0.0 for height in heights)
                low, low_closed = (a.low, a.low_closed) if low_a > low_b else (b.low, b.low_closed)
                high, high_closed = (
                    (a.high, a.high_closed) if high_a < high_b else (b.high, b.high_closed)
                )
                if low_a == low_b:
                    low_closed = a.low_closed and b.low_closed
                if high_a == high_b:
                    high_closed = a.high_closed and b.high_closed
                bottom, top = max(low_a, low_b), min(high_a, high_b)
                if bottom < top or (bottom == top and low_closed and high_closed):
                    found.append(Piece(low, low_closed, high, high_closed))
        total = Pieces(tuple(found))
    return total


def _outside(piece: Piece) -> Pieces:
    """The line without a piece."""
    left = Piece(_MINUS_INFINITY, False, piece.low, not piece.low_closed)
    right = Piece(piece.high, not piece.high_closed, _INFINITE, False)
    return Pieces(
        (*([] if _infinite(piece.low) else [left]), *([] if _infinite(piece.high) else [right]))
    )


# Names

_NAMED = ("f", "g", "h", "F", "G")


def _name(node: Node) -> str | None:
    """The name that a side is: a symbol, a function of symbols, a word."""
    if node.kind in ("sym", "text"):
        return node.args[0]
    if node.kind == "word":
        return node.args[0].strip("*")
    if node.kind == "call" and (
        len(node.args[0]) == 1 or "_" in node.args[0] or all(map(name_like, node.args[1]))
    ):
        return f"{node.args[0]}()"
    if node.kind == "call" and node.args[0] in _NAMED:
        return str(node)
    if node.kind in ("mul", "ratio", "pow") and name_like(node) and not _plain(node):
        return str(node)
    if node.kind == "tuple" and all(part.kind in ("sym", "const") for part in node.args[0]):
        return "()"
    return "" if name_like(node) and not _plain(node) else None


def _plain(node: Node) -> bool:
    """Whether it is made of numbers only."""
    if node.kind in ("sym", "word", "text", "call"):
        return node.kind == "call" and all(_plain(part) for part in node.args[1])
    return all(_plain(part) for part in _children(node))


def name_like(node: Node) -> bool:
    """Whether a side of an equation may be dropped: it says what is asked, ``|AB|`` or ``a + b``."""
    if node.kind == "num":
        return False
    if node.kind == "pow":
        return name_like(node.args[0])
    return all(name_like(part) for part in _children(node))


def _children(node: Node) -> list[Node]:
    return _nodes(node.args)


def _nodes(parts: tuple[Any, ...]) -> list[Node]:
    found: list[Node] = []
    for part in parts:
        if isinstance(part, Node):
            found.append(part)
        elif isinstance(part, tuple):
            found += _nodes(part)
    return found


def _has_pm(node: Node) -> bool:
    return node.kind == "pm" or any(map(_has_pm, _children(node)))


def _choose(part: Any, sign: int) -> Any:
    """The tree with every plus-minus decided: all upper or all lower signs."""
    if not isinstance(part, Node):
        return tuple(_choose(inner, sign) for inner in part) if isinstance(part, tuple) else part
    if part.kind == "pm":
        inner = _choose(part.args[1], sign)
        return inner if (sign == 1) == (part.args[0] == "pm") else Node("neg", (inner,))
    return Node(part.kind, _choose(part.args, sign)) if _has_pm(part) else part


_BUILDERS = {
    "text": _words,
    "list": _list,
    "tuple": _tuple,
    "set": _set,
    "matrix": _matrix,
    "ratio": _ratio,
    "based": _based,
    "ellipsis": _ellipsis,
    "where": _where,
    "sets": _sets,
    "rel": _relation,
}
