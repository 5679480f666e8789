r"""Makes an answer of a tree: decides what notation means, and leaves what is equal to :mod:`.compare`."""

from __future__ import annotations

from collections.abc import Callable

from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.answers import (
    Answer,
    Based,
    Builder,
    Combined,
    Dots,
    Equation,
    Matrix,
    Pieces,
    Ratio,
    Scalar,
    Sequence,
    Words,
)
from llmrl.verifiers.math.evaluate import evaluate, is_rounding
from llmrl.verifiers.math.line import LINE, as_pieces, between, inequality, infinite, meet, outside
from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.tree import (
    Node,
    children,
    choose,
    has_pm,
    name,
    name_like,
    plain,
    rename,
    symbols,
    unsigned,
)
from llmrl.verifiers.math.values import number

_EVERYTHING = ("all real numbers", "all reals", "all real number", "real numbers", "reals")
_INTEGERS = Node("const", ("bbZ",))
_REALS = (Node("const", ("bbR",)), Node("sym", ("R",)))


def build(node: Node, do: Algebra) -> Answer:
    r"""The answer that a tree stands for.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [type(build(parse(text), Algebra())).__name__ for text in ("2x", "(1, 2]", "x = 3", "1, 2")]
    ['Scalar', 'Pieces', 'Equation', 'Sequence']
    """
    if has_pm(node) and node.kind not in ("list", "set"):
        both = [build(choose(node, sign), do) for sign in (1, -1)]
        return both[0] if both[0] == both[1] else Sequence("list", tuple(both), joiner="pm")
    return _BUILDERS.get(node.kind, _value)(node, do)


# Values


def _value(node: Node, do: Algebra) -> Answer:
    if node.kind in ("mul", "div", "neg") and (scaled := _scaled(node, do)) is not None:
        return scaled
    if node.kind == "mul" and _point(node):
        return build(Node("rel", (("=",), node.args)), do)
    return _scalar(node, do)


def _scalar(node: Node, do: Algebra) -> Answer:
    """A value with what else its notation says: percent, decimals, digits, letters."""
    if node.kind == "mul" and node.args[1] == Node("unit", ("percent",)):
        node = Node("percent", (node.args[0],))
    inner = unsigned(node)
    if inner is not node and inner.kind == "based":
        return Based("-" + inner.args[0], inner.args[1])
    value = evaluate(node, do)
    if inner.kind == "percent":
        return Scalar(value, percent=True)
    if inner.kind == "num":
        written = inner.args[1]
        decimals = _decimals(written) if "." in written else None
        return Scalar(value, decimals=decimals, digits=("-" if inner is not node else "") + written)
    if node.kind in ("sym", "word"):
        return Scalar(value, word=node.args[0])
    if node.kind == "const" and (node.args[0] in ("i", "e") or node.args[0].startswith("bb")):
        return Scalar(value, word=node.args[0])
    if node.kind == "mul" and [part.kind for part in node.args].count("num") == 1:
        digits, unit = sorted(node.args, key=lambda part: part.kind != "num")
        if _only_units(unit) and "." in (written := digits.args[1]):
            return Scalar(value, decimals=len(written.partition(".")[2]), digits=written)
    return Scalar(value, written=node)


def _decimals(written: str) -> int:
    """Digits after the point; none where a period or an exponent follows."""
    if "(" in written or "e" in written.lower():
        return 0
    return len(written.partition(".")[2])


def _only_units(node: Node) -> bool:
    if node.kind in ("mul", "pow"):
        return all(part.kind == "num" or _only_units(part) for part in children(node))
    return node.kind == "unit"


def _point(node: Node) -> bool:
    """Whether it is ``P(2, -1)``: a capital letter before coordinates."""
    letter, place = node.args
    capital = letter.kind == "sym" and letter.args[0][0].isupper()
    return capital and place.kind == "tuple" and len(place.args[0]) > 1


def _words(node: Node, do: Algebra) -> Answer:
    text = node.args[0].strip()
    if text.lower() in _EVERYTHING:
        return LINE
    return Words(text)


def _ratio(node: Node, do: Algebra) -> Answer:
    first, *rest = node.args[0]
    if first.kind in ("text", "word") and len(first.args[0].strip("*")) > 2 and len(rest) == 1:
        label = first.args[0].strip("* :").lower()  # "Area: 5"
        return Equation((Words(label), build(rest[0], do)), (label, None))
    return Ratio(tuple(build(item, do) for item in node.args[0]), node.args[1], _clock(node.args[0]))


def _clock(items: tuple[Node, ...]) -> bool:
    """Whether the numbers are written as a time of the day is: 9:05, 12:30:00."""
    written = [item.args[1] if item.kind == "num" else "" for item in items]
    hours, *rest = written
    if not rest or len(rest) > 2 or not (hours.isdigit() and len(hours) <= 2 and int(hours) <= 24):
        return False
    return all(part.isdigit() and len(part) == 2 and int(part) < 60 for part in rest)


def _based(node: Node, do: Algebra) -> Answer:
    digits, base = node.args
    if base.isdigit() and not 2 <= int(base[:4]) <= 36:
        raise Unreadable(f"the base {base}")
    if digits.isdigit() and base.isdigit() and int(max(digits)) >= int(base):
        raise Unreadable(f"the digits {digits} in base {base}")
    return Based(digits, base)


def _date(node: Node, do: Algebra) -> Answer:
    return Words("date " + " ".join(map(str, node.args)))


def _dots(node: Node, do: Algebra) -> Answer:
    return Dots()


# Several items


def _items(nodes: tuple[Node, ...], do: Algebra) -> tuple[Answer, ...]:
    """Each item built; a plus-minus is two items."""
    built: list[Answer] = []
    for node in nodes:
        answer = build(node, do)
        two = isinstance(answer, Sequence) and answer.joiner == "pm"
        built += answer.items if isinstance(answer, Sequence) and two else [answer]
    return tuple(built)


def _list(node: Node, do: Algebra) -> Answer:
    items, joiners = node.args
    if not items:
        raise Unreadable("nothing is there")
    if set(joiners) == {","} and (family := _family(items, do)) is not None:
        return family
    built = _items(items, do)
    joiner = next((sign for sign in ("lor", "or") if sign in joiners), None)
    joiner = joiner or (joiners[0] if len(set(joiners)) == 1 else ",")
    sets = [pieces for item in built if (pieces := _as_set(item, joiner)) is not None]
    if any(isinstance(item, Pieces) for item in built) and len(sets) == len(built):
        if joiner in ("or", "lor"):
            return Pieces(tuple(piece for item in sets for piece in item.pieces))
        if (common := meet(sets, do)) is not None:
            return common
    return Sequence("list", built, joiner=joiner)


def _as_set(item: Answer, joiner: str) -> Pieces | None:
    """An item of a list as a set of reals: ``x = 1`` is one next to others that "or" joins to it."""
    if isinstance(item, Equation) and joiner in ("or", "lor") and len(item.sides) == 2 and item.names[1] is None:
        points = as_pieces(Sequence("set", item.sides[1:]))
        return None if points is None else Pieces(points.pieces, item.names[0])
    return item if isinstance(item, Pieces) else None


def _set(node: Node, do: Algebra) -> Answer:
    return Sequence("set", _items(node.args[0], do))


def _tuple(node: Node, do: Algebra) -> Answer:
    items, opening, closing = node.args
    built = tuple(build(item, do) for item in items)
    half_open = opening == "]" or (opening, closing) in (("(", "]"), ("[", ")"))
    values = [item.value for item in built if isinstance(item, Scalar)]
    if len(values) == len(built) == 2:
        if half_open or closing == "[" or any(map(infinite, values)):
            return between(values[0], values[1], opening + closing)
    if half_open:
        raise Unreadable("brackets that do not match")
    return Sequence("tuple", built, "<>" if opening == "<" else opening + closing)


def _matrix(node: Node, do: Algebra) -> Matrix:
    return Matrix(tuple(tuple(build(cell, do) for cell in row) for row in node.args[0]))


def _scaled(node: Node, do: Algebra) -> Matrix | None:
    """A number times a matrix, or a matrix over a number."""
    if node.kind == "matrix":
        return _matrix(node, do)
    if node.kind == "neg":
        matrix, factor = _scaled(node.args[0], do), number(-1)
    elif node.kind not in ("mul", "div"):
        return None
    elif (matrix := _scaled(node.args[0], do)) is not None:
        other = evaluate(node.args[1], do)
        factor = do.inverse(other) if node.kind == "div" else other
    elif node.kind == "mul" and (matrix := _scaled(node.args[1], do)) is not None:
        factor = evaluate(node.args[0], do)
    if matrix is None:
        return None
    rows = tuple(
        tuple(Scalar(do.product(cell.value, factor)) for cell in row if isinstance(cell, Scalar)) for row in matrix.rows
    )
    return Matrix(rows) if list(map(len, rows)) == list(map(len, matrix.rows)) else None


# Sets of reals and relations


def _where(node: Node, do: Algebra) -> Answer:
    first, condition = node.args
    domain: tuple[Node, ...] = ()
    if first.kind == "rel" and first.args[0] == ("in",) and first.args[1][0].kind == "sym":
        domain = () if first.args[1][1] in _REALS else (first,)
        first = first.args[1][0]
    if first.kind == "sym" and not domain and symbols(condition) == [first.args[0]]:
        built = build(condition, do)
        if isinstance(built, Pieces):
            return Pieces(built.pieces)
        if isinstance(built, Equation) and built.names[:1] == first.args and len(built.sides) == 2:
            return Sequence("set", built.sides[1:])
    if condition.kind == "list":
        return _builder(first, (*domain, *condition.args[0]), do)
    return _builder(first, (*domain, condition), do)


def _builder(element: Node, conditions: tuple[Node, ...], do: Algebra) -> Answer:
    """An element and what its parameters meet; the names of the parameters do not count."""
    bound = [name for name in symbols(element) if name in symbols(conditions)]
    if not bound:
        raise Unreadable("a set whose condition says nothing of its element")
    names = {name: f"#{place}" for place, name in enumerate(bound, 1)}
    whole = len(bound) == 1 and conditions == (Node("rel", (("in",), (Node("sym", (bound[0],)), _INTEGERS))),)
    return Builder(
        build(rename(element, names), do), tuple(_condition(rename(part, names), do) for part in conditions), whole
    )


def _condition(node: Node, do: Algebra) -> Answer:
    """A condition with both its sides: of ``k in Z`` the domain alone would forget the k."""
    if node.kind == "rel" and node.args[0] == ("in",):
        return Combined("in", tuple(build(side, do) for side in node.args[1]))
    return build(node, do)


def _family(items: tuple[Node, ...], do: Algebra) -> Answer | None:
    """``k pi, k in Z``: a value for each of its parameter's."""
    last = items[-1]
    if len(items) != 2 or last.kind != "rel" or last.args[0] != ("in",) or last.args[1][0].kind != "sym":
        return None
    element = items[0]
    if element.kind == "rel" and element.args[0] == ("=",) and element.args[1][0].kind == "sym":
        element = element.args[1][-1]  # x = k pi
    return _builder(element, items[1:], do) if last.args[1][0].args[0] in symbols(element) else None


def _sets(node: Node, do: Algebra) -> Answer:
    operations, operands = node.args
    if operations[0] == "minus" and all(operand.kind not in ("tuple", "set", "const") for operand in operands):
        raise Unreadable("a difference of things that are not sets")
    total, *others = (build(operand, do) for operand in operands)
    for operation, operand in zip(operations, others, strict=True):
        left, right = as_pieces(total), as_pieces(operand)
        if left is None or right is None:
            total = Combined(operation, (total, operand))
        elif operation == "cup":
            total = Pieces(left.pieces + right.pieces)
        else:
            rest = [right] if operation == "cap" else [outside(piece) for piece in right.pieces]
            total = meet([left, *rest], do) or Combined(operation, (left, right))
    return total


def _piecewise(node: Node, do: Algebra) -> Answer:
    """Values with the conditions under which they hold."""
    return Combined("piecewise", tuple(Sequence("tuple", tuple(build(part, do) for part in row)) for row in node.args))


def _relation(node: Node, do: Algebra) -> Answer:
    signs, sides = node.args
    if "approx" in signs:
        cut = signs.index("approx")
        if cut or not name_like(sides[0]):
            if not all(is_rounding(sides[cut], side, do) for side in sides[cut + 1 :]):
                raise Unreadable("an approximation that is none")
            return build(Node("rel", (signs[:cut], sides[: cut + 1])) if cut else sides[0], do)
        signs = tuple("=" if sign == "approx" else sign for sign in signs)
    if signs == ("in",) and not plain(sides[0]):
        return build(sides[1], do)
    if signs == ("notin",) and (without := as_pieces(build(sides[1], do))) is not None:
        rest = meet([outside(piece) for piece in without.pieces], do)
        if rest is not None:
            return Pieces(rest.pieces, name(sides[0]))
    if set(signs) == {"="}:
        return Equation(tuple(_side(side, do) for side in sides), tuple(map(name, sides)))
    if set(signs) <= {"<", "le", ">", "ge", "ne", "="}:
        return inequality(signs, [evaluate(side, do) for side in sides], do)
    raise Unreadable(f"the relation {signs[0]!r}")


def _side(node: Node, do: Algebra) -> Answer:
    """A side of an equation; one that cannot be built may still be a name."""
    try:
        return build(node, do)
    except Unreadable:
        if name(node) is not None:
            return Words(str(node))
        raise


_BUILDERS: dict[str, Callable[[Node, Algebra], Answer]] = {
    "text": _words,
    "list": _list,
    "tuple": _tuple,
    "set": _set,
    "matrix": _matrix,
    "ratio": _ratio,
    "based": _based,
    "ellipsis": _dots,
    "date": _date,
    "where": _where,
    "piecewise": _piecewise,
    "sets": _sets,
    "rel": _relation,
}
