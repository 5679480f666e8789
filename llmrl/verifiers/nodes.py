"""The expression that a scalar or matrix answer is parsed into."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple


class Node(NamedTuple):
    """One operation.

    ``op`` is one of: ``num`` (value: Fraction), ``sym`` (value: name), ``add``, ``mul``, ``pow``
    (base, exponent), ``call`` (value: function name), ``sign`` (value: 1 for ±, -1 for ∓; one
    argument), ``degree``, ``mat`` (value: rows and columns; cells row by row).
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Any = None


def num(value: int | Fraction) -> Node:
    return Node("num", (), Fraction(value))


def sym(name: str) -> Node:
    return Node("sym", (), name)


def add(*args: Node) -> Node:
    return Node("add", args)


def mul(*args: Node) -> Node:
    return Node("mul", args)


def power(base: Node, exponent: Node) -> Node:
    return Node("pow", (base, exponent))


def negative(node: Node) -> Node:
    if node.op == "num":
        return num(-node.value)
    return mul(MINUS_ONE, node)


def divided(top: Node, bottom: Node) -> Node:
    return mul(top, power(bottom, MINUS_ONE))


def call(name: str, *args: Node) -> Node:
    return Node("call", args, name)


MINUS_ONE = num(-1)
INFINITY = sym("infty")


def symbols(node: Node) -> set[str]:
    """Names of all letters."""
    found: set[str] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node.op == "sym":
            found.add(node.value)
        stack.extend(node.args)
    return found


def contains(node: Node, op: str, *values: Any) -> bool:
    """Whether the operation occurs, with one of the values if any are given."""
    stack = [node]
    while stack:
        node = stack.pop()
        if node.op == op and (not values or node.value in values):
            return True
        stack.extend(node.args)
    return False


def with_sign(node: Node, sign: int) -> Node:
    """The expression with every ± read as the sign, and every ∓ as its opposite."""
    args = tuple(with_sign(arg, sign) for arg in node.args)
    if node.op == "sign":
        return args[0] if node.value * sign > 0 else negative(args[0])
    return node._replace(args=args) if args else node
