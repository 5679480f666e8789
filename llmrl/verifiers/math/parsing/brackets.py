r"""Reads what stands between brackets: groups, tuples and intervals, sets and set-builders, matrices."""

from __future__ import annotations

from llmrl.verifiers.math.parsing.cursor import Reader
from llmrl.verifiers.math.parsing.limits import MAX_CELLS, TooMuch, Unreadable
from llmrl.verifiers.math.parsing.tree import Node, elements
from llmrl.verifiers.math.parsing.vocabulary import MATRICES


def fenced(p: Reader, opening: str, closers: tuple[str, ...]) -> Node:
    """From after an opening bracket to one of its closers: several items or other brackets make a tuple.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [parse(text).kind for text in ("(2)", "(2, 3)", "[2]")], parse("[1, 5)").args[1:]
    (['num', 'tuple', 'tuple'], ('[', ')'))
    """
    bars, p.bars = p.bars, 0
    p.fences.append(opening)
    node = p.group(closers)
    p.fences.pop()
    p.bars = bars
    closing = p.peek().text
    if not p.accept(*closers):
        raise Unreadable(f"{closing!r} where {closers[0]!r} is expected")
    if node.kind == "list" and len(node.args[0]) != 1:
        return Node("tuple", (node.args[0], opening, closing))
    if opening == "(" and closing == ")":
        return node
    return Node("tuple", ((node,), opening, closing))


def curly(p: Reader) -> Node:
    r"""From after ``\{`` to ``\}``: a set, or a set-builder with its bar or colon.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> parse(r"\{1, 2\}").kind, parse(r"\{x \mid x > 2\}").kind, parse(r"\{x : x > 2\}").kind
    ('set', 'where', 'where')
    """
    bars, p.bars = p.bars, 1
    node = p.items(("\\}", "|", "mid"))
    p.bars = bars
    if p.accept("|", "mid"):
        built = Node("where", (node, p.items(("\\}",))))
    elif node.kind == "ratio":
        built = Node("where", _two(node))
    elif node.kind == "rel" and any(side.kind == "ratio" for side in node.args[1][:2]):
        built = _colon_between_relations(node)
    else:
        built = Node("set", (elements(node),))
    p.expect("\\}")
    return built


def environment(p: Reader) -> Node:
    r"""A matrix, from after ``\begin``.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> len(parse(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}").args[0])
    2
    """
    name = p.letters()
    if name == "array":
        p.script()
    if name not in MATRICES and name != "cases":
        raise Unreadable(f"the environment {name!r}")
    rows: list[list[Node]] = [[]]
    while not p.accept("end"):
        if p.accept("newline"):
            rows.append([])
        elif p.accept("hline"):
            continue
        else:
            rows[-1].append(p.relation())
            if not p.accept("&"):
                p.accept(",")
                p.accept("&")
        if sum(map(len, rows)) > MAX_CELLS:
            raise TooMuch(f"a matrix of more than {MAX_CELLS} entries")
    p.letters()
    if not rows[-1]:
        rows.pop()
    if not rows or len({len(row) for row in rows}) != 1:
        raise Unreadable("a matrix with rows of different lengths")
    if name == "cases":
        if len(rows[0]) == 2:
            return Node("piecewise", tuple(map(tuple, rows)))
        return Node("list", (tuple(row[0] for row in rows), ("and",) * (len(rows) - 1)))
    node = Node("matrix", (tuple(map(tuple, rows)),))
    return Node("call", ("det", (node,))) if name == "vmatrix" else node


def _two(ratio: Node) -> tuple[Node, Node]:
    """What stands left and right of a colon in a set."""
    if len(ratio.args[0]) != 2:
        raise Unreadable("a set with two conditions")
    return ratio.args[0]


def _colon_between_relations(node: Node) -> Node:
    r"""``x : 1 < x < 2`` and ``x \in R : x > 1`` are read as relations that have a ratio for a side."""
    signs, sides = node.args
    at = int(sides[0].kind != "ratio")
    if signs[:at] not in ((), ("in",)):
        raise Unreadable("a set with two conditions")
    domain, start = _two(sides[at])
    first = Node("rel", (("in",), (sides[0], domain))) if at else domain
    if len(signs) == at:
        return Node("where", (first, start))
    return Node("where", (first, Node("rel", (signs[at:], (start, *sides[at + 1 :])))))
