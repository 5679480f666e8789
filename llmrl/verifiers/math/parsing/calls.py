r"""Reads a function and what it applies to: ``\sqrt[3]{x}``, ``\sin^2 2x``, ``\log_2 8``, a sum with its bounds."""

from __future__ import annotations

from llmrl.verifiers.math.parsing.cursor import Reader
from llmrl.verifiers.math.parsing.tree import Node, arguments, integer, rename, symbols
from llmrl.verifiers.math.parsing.vocabulary import FUNCTIONS, ROOTS, STOP_ARGUMENT

_OTHER_NAMES = {"ceiling": "ceil", "binomial": "binom"}
_MINUS_ONE = Node("neg", (integer(1),))


def function(p: Reader, name: str) -> Node:
    r"""The function whose name was just taken, with its power, its base and its argument.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [parse(text).args[0] for text in (r"\sqrt[3]{x}", r"\sin^{-1} x", r"\log_2 8")]
    ['root', 'arcsin', 'log']
    """
    if name in ROOTS or name == "root":
        return _root(p, name)
    if p.peek().text == "=":
        return Node("sym", (name,))  # "min = 5" names what is 5
    exponent = base = None
    for _ in range(2):
        if p.accept("^"):
            exponent = p.argument() if p.peek().text == "{" else p.power()
        elif p.accept("_"):
            base = p.argument() if p.peek().text == "{" else p.atom()
    if exponent == _MINUS_ONE and name in ("sin", "cos", "tan"):
        name, exponent = "arc" + name, None
    opening = p.peek().text
    if opening in ("(", "[") or (opening == "{" and name not in ("log", "ln")):
        inner = arguments(p.atom())
    else:
        inner = (_open_argument(p),)
    if base is not None:
        inner = (*inner, base)
    node = Node("call", (_OTHER_NAMES.get(name, name), inner))
    return Node("pow", (node, exponent)) if exponent is not None else node


def big(p: Reader, name: str) -> Node:
    r"""A sum, product, limit or integral; its bounds are kept as text, because nothing works it out.

    The index is named ``#1``, so that its own name does not count.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> parse(r"\sum_{k=1}^{n} k").args[0]
    'sum[#1=1][n]'
    """
    low = high = ""
    for _ in range(2):
        if p.accept("_"):
            low = p.script()
        elif p.accept("^"):
            high = p.script()
    body = p.product()
    index, sign, start = low.partition("=")
    if sign and len(index) == 1:
        bound = f"#{sum(name.startswith('#') for name in symbols(body)) + 1}"
        low, body = f"{bound}={start}", rename(body, {index: bound})
    elif name in ("int", "iint", "oint"):
        body = _of_integral(body)
    return Node("call", (f"{name}[{low}][{high}]", (body,)))


def _of_integral(body: Node) -> Node:
    """The integrand with a name of its own for its variable, where one d says which that is."""
    factors = [body]
    while factors[0].kind == "mul":
        factors[:1] = factors[0].args
    letters = symbols(factors[-1])
    if factors[-1].kind == "word" and len(letters) == 2 and letters[0] == "d":
        return rename(body, {letters[1]: "#1"})
    return body


def _root(p: Reader, name: str) -> Node:
    degree = integer(3 if name == "cbrt" else 2)
    if p.peek().text == "[" and name == "sqrt":
        p.place += 1
        degree = p.sum()
        p.expect("]")
    braced = p.peek().text in ("{", "(")
    inside = p.atom()
    return Node("call", ("root", (inside if braced else p.postfix(inside), degree)))


def _open_argument(p: Reader) -> Node:
    """What a function without brackets applies to: ``2x`` in ``sin 2x cos x``."""
    sign = p.sign()
    node = p.power()
    while True:
        token = p.peek()
        if (
            token.kind in ("end", "text")
            or token.text in STOP_ARGUMENT
            or token.text in FUNCTIONS
            or token.text == "("
            or not p.starts_operand(token, node)
        ):
            break
        node = Node("mul", (node, p.power()))
    while p.peek().text == "/" and p.peek(1).kind == "num":
        p.place += 1
        node = Node("div", (node, p.power()))
    return Node("neg", (node,)) if sign == "-" else node
