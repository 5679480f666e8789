r"""The tree of an answer, and what can be said of one without working it out.

A tree is a :class:`Node`: its kind and its parts.  Kinds of values: ``num`` (Fraction, text), ``sym``, ``const``,
``add``, ``neg``, ``mul``, ``div``, ``pow``, ``pm``, ``call``, ``unit``, ``percent``, ``based``.  Kinds of answers:
``list`` (items, joiners), ``tuple`` (items, opening, closing), ``set``, ``matrix``, ``rel`` (signs, sides),
``sets`` (operations, operands), ``ratio``, ``text``, ``word`` (letters as text, and as trees), ``ellipsis``,
``where`` (set-builder).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.vocabulary import BIG, FUNCTIONS


class Node(NamedTuple):
    """A part of an answer."""

    kind: str
    args: tuple[Any, ...] = ()


# Making


def integer(n: int) -> Node:
    """The tree of a whole number.

    >>> integer(7).args[1]
    '7'
    """
    return Node("num", (Fraction(n), str(n)))


def letter(name: str) -> Node:
    """A letter: i and e are the constants.

    >>> letter("i").kind, letter("x").kind
    ('const', 'sym')
    """
    if name in ("i", "I"):
        return Node("const", ("i",))
    return Node("const", ("e",)) if name == "e" else Node("sym", (name,))


def degrees(node: Node) -> Node:
    """A value with a degree sign."""
    return Node("mul", (node, Node("unit", ("deg",))))


# Taking apart


def children(node: Node | tuple[Any, ...]) -> list[Node]:
    """The trees directly below, in order, those in tuples included.

    >>> children(Node("list", ((integer(1), integer(2)), (",",)))) == [integer(1), integer(2)]
    True
    """
    found: list[Node] = []
    for part in node.args if isinstance(node, Node) else node:
        if isinstance(part, Node):
            found.append(part)
        elif isinstance(part, tuple):
            found += children(part)
    return found


def elements(node: Node) -> tuple[Node, ...]:
    """The items of a list, or the one item that stands alone."""
    return node.args[0] if node.kind == "list" else (node,)


def arguments(node: Node) -> tuple[Node, ...]:
    """What a function before a bracket takes: one value, or the items of a tuple."""
    if node.kind == "tuple" and node.args[1:] not in (("(", ")"), ("[", "]")):
        raise Unreadable("brackets that do not match")
    return node.args[0] if node.kind in ("tuple", "list") else (node,)


def unsigned(node: Node) -> Node:
    """The tree without minus signs before it.

    >>> unsigned(Node("neg", (integer(2),))) == integer(2)
    True
    """
    return unsigned(node.args[0]) if node.kind == "neg" else node


# Asking


def unworked(node: Node) -> bool:
    """Whether a sum, product, limit or integral is in it, which nothing here works out."""
    if node.kind == "call" and node.args[0].partition("[")[0] in BIG:
        return True
    return any(map(unworked, children(node)))


def numeric(node: Node) -> bool:
    """Whether a unit may follow: the value holds no letters but pi."""
    if node.kind in ("num", "unit", "percent", "based"):
        return True
    if node.kind == "const":
        return node.args[0] == "pi"
    if node.kind in ("mul", "div", "neg", "pow", "add", "call", "pm"):
        return all(map(numeric, children(node)))
    return False


def ends_with_unit(node: Node) -> bool:
    """Whether the last factor is a unit, so that a number after it begins another amount.

    >>> ends_with_unit(Node("mul", (integer(2), Node("unit", ("h",))))), ends_with_unit(integer(2))
    (True, False)
    """
    return node.kind == "mul" and node.args[1].kind == "unit"


def plain(node: Node) -> bool:
    """Whether it is made of numbers only."""
    if node.kind in ("sym", "word", "text"):
        return False
    return all(map(plain, children(node)))


def numeral(node: Node) -> bool:
    r"""Whether it is one way to write a rational number: ``6/8``, ``2\frac12``, ``3 \cdot 10^8``, ``-5\%``."""
    parts = children(node)
    if node.kind in ("neg", "percent"):
        return numeral(parts[0])
    if node.kind == "div":
        return all(unsigned(part).kind == "num" for part in parts)
    if node.kind == "add":  # a mixed number
        return len(parts) == 2 and parts[0].kind == "num" and _proper(parts[1])
    if node.kind == "mul":
        return parts[0].kind == "num" and _power_of_ten(parts[1])
    return node.kind == "num" or _power_of_ten(node)


def _proper(node: Node) -> bool:
    if node.kind == "num":
        return "/" in node.args[1]
    return node.kind == "div" and all(part.kind == "num" for part in children(node))


def _power_of_ten(node: Node) -> bool:
    if node.kind != "pow":
        return False
    base, exponent = node.args
    return base.kind == "num" and base.args[0] == 10 and unsigned(exponent).kind == "num"


# Names: sides of an equation that say what is asked


def name_like(node: Node) -> bool:
    """Whether a side of an equation may be dropped: it says what is asked, ``|AB|`` or ``a + b``."""
    if node.kind == "num":
        return False
    if node.kind == "pow":
        return name_like(node.args[0])
    return all(map(name_like, children(node)))


def name(node: Node) -> str | None:
    """The name that a side is: a symbol, a function of symbols, a word; '' for other name-like text.

    >>> name(letter("x")), name(Node("call", ("f", (letter("x"),)))), name(integer(2))
    ('x', 'f()', None)
    """
    if node.kind in ("sym", "text"):
        return node.args[0]
    if node.kind == "word":
        return node.args[0].strip("*")
    if node.kind == "call" and (len(node.args[0]) == 1 or "_" in node.args[0] or all(map(name_like, node.args[1]))):
        if node.args[0] in FUNCTIONS:
            return str(node)
        inner = node.args[1]
        return f"{node.args[0]}()" if all(map(_variable, inner)) else f"{node.args[0]}{inner}"
    if node.kind == "div" and all(part.kind == "word" for part in node.args):
        return str(node)
    if node.kind in ("mul", "ratio", "pow") and name_like(node) and not plain(node):
        return str(node)
    if node.kind == "tuple" and all(part.kind in ("sym", "const") for part in node.args[0]):
        return "()"
    return "" if name_like(node) and not plain(node) else None


def _variable(node: Node) -> bool:
    return node.kind == "sym" and node.args[0].islower()


# Bound variables


def rename(part: Any, names: dict[str, str]) -> Any:
    """The tree with other names for some symbols.

    >>> rename(letter("k"), {"k": "#1"}) == Node("sym", ("#1",))
    True
    """
    if not isinstance(part, Node):
        return tuple(rename(inner, names) for inner in part) if isinstance(part, tuple) else part
    if part.kind == "sym":
        return Node("sym", (names.get(part.args[0], part.args[0]),))
    if part == Node("const", ("i",)) and "i" in names:
        return Node("sym", (names["i"],))
    if part.kind == "word":
        letters = rename(part.args[1], names)
        return part if letters == part.args[1] else Node("word", ("*", letters))
    return Node(part.kind, rename(part.args, names))


def symbols(part: Any) -> list[str]:
    """The names of the symbols in a tree, in the order of their first places.

    >>> symbols(Node("mul", (letter("b"), letter("a"))))
    ['b', 'a']
    """
    if not isinstance(part, Node):
        found = [name for inner in part for name in symbols(inner)] if isinstance(part, tuple) else []
    elif part.kind == "sym":
        found = [part.args[0]]
    else:
        found = symbols(part.args[1] if part.kind == "word" else part.args)
    return list(dict.fromkeys(found))


# Plus-minus


def has_pm(node: Node) -> bool:
    """Whether a plus-minus sign is in it."""
    return node.kind == "pm" or _any_pm(node.args)


def _any_pm(parts: tuple[Any, ...]) -> bool:
    for part in parts:
        if isinstance(part, Node):
            if part.kind == "pm" or (part.kind not in ("num", "sym", "const") and _any_pm(part.args)):
                return True
        elif isinstance(part, tuple) and _any_pm(part):
            return True
    return False


def choose(part: Any, sign: int) -> Any:
    r"""The tree with every plus-minus decided: all upper signs, or all lower ones.

    >>> choose(Node("pm", ("pm", letter("x"))), -1).kind
    'neg'
    """
    if not isinstance(part, Node):
        return tuple(choose(inner, sign) for inner in part) if isinstance(part, tuple) else part
    if part.kind == "pm":
        inner = choose(part.args[1], sign)
        return inner if (sign == 1) == (part.args[0] == "pm") else Node("neg", (inner,))
    return Node(part.kind, choose(part.args, sign)) if has_pm(part) else part
