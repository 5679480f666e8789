r"""Reads what starts with a digit: decimals, recurring ones, mixed numbers, digits in a base."""

from __future__ import annotations

from fractions import Fraction

from llmrl.verifiers.math.parsing.cursor import Reader
from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.tree import Node
from llmrl.verifiers.math.parsing.vocabulary import DOTS, FRACTIONS


def numeral(p: Reader, text: str) -> Node:
    r"""The number whose digits were just taken.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [parse(text).kind for text in (r"2\frac12", "2.5", "101_2", r"0.\overline{3}")]
    ['add', 'num', 'based', 'num']
    """
    mantissa, _, exponent = text.replace("E", "e").partition("e")
    whole, _, decimals = mantissa.partition(".")
    following = p.peek()
    if not exponent and "." in text and following.text in ("overline", "bar", "dot", "overset"):
        return recurring(p, whole, decimals)
    if decimals and following.text in DOTS and not following.spaced:
        p.take()
        return _continued(whole, decimals)
    if p.accept("_"):
        base = p.script()
        if not base:
            raise Unreadable("digits in no base")
        return Node("based", (text.lstrip("0") or "0", base))
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
    if exponent:
        value *= Fraction(10) ** int(exponent)
    node = Node("num", (value, text))
    return node if "." in text or exponent else _mixed(p, node)


def recurring(p: Reader, whole: str, decimals: str) -> Node:
    r"""``0.1\overline{6}``, from its bar on.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> parse(r"0.1\overline{6}").args[0]
    Fraction(1, 6)
    """
    p.take()
    node = p.argument()
    if node.kind != "num" or not node.args[1].isdigit():
        raise Unreadable("a bar over something other than digits")
    return _repeat(whole, decimals, node.args[1])


def _continued(whole: str, decimals: str) -> Node:
    """``0.333...``: a period is there three times, or twice where it is longer than a digit."""
    for size in range(1, len(decimals) // 2 + 1):
        period = decimals[-size:]
        if decimals.endswith(period * (3 if size == 1 else 2)):
            return _repeat(whole, decimals, period)
    raise Unreadable("a decimal that goes on unsaid")


def _repeat(whole: str, decimals: str, period: str) -> Node:
    shift = 10 ** len(decimals)
    value = Fraction(int((whole + decimals) or "0"), shift)
    value += Fraction(int(period), shift * (10 ** len(period) - 1))
    return Node("num", (value, f"{whole}.{decimals}({period})"))


def _mixed(p: Reader, whole: Node) -> Node:
    r"""``2\frac12`` and ``2 1/2`` are sums; a whole number before anything else stands alone."""
    if p.peek().kind == "cmd" and p.peek().text in FRACTIONS:
        back = p.place
        p.place += 1
        above, below = p.argument(), p.argument()
        if _digits(above) and _digits(below) and below.args[0]:
            return Node("add", ((whole, Node("div", (above, below))),))
        p.place = back
    first, slash, second = p.peek(), p.peek(1), p.peek(2)
    if first.kind == second.kind == "num" and slash.text == "/" and first.spaced:
        if first.text.isdigit() and second.text.isdigit() and int(second.text):
            p.place += 3
            fraction = Fraction(int(first.text), int(second.text))
            part = Node("num", (fraction, f"{first.text}/{second.text}"))
            return Node("add", ((whole, part),))
    return whole


def _digits(node: Node) -> bool:
    return node.kind == "num" and node.args[1].isdigit()
