r"""Works out trees: the exact value of an expression, whether arithmetic is left in it, whether one rounds another."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from llmrl.verifiers.math import functions, numeric
from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.tree import Node, children, numeral, unsigned
from llmrl.verifiers.math.parsing.units import CANONICAL
from llmrl.verifiers.math.values import IMAGINARY, INFINITY, Value, factors, number, single


def evaluate(node: Node, do: Algebra) -> Value:
    r"""The value of a tree that is an expression.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> evaluate(parse(r"2\frac12 + 50\%"), Algebra()).rational()
    Fraction(3, 1)
    """
    kind, args = node
    if kind == "num":
        return number(args[0])
    if kind == "sym":
        return single(("s", args[0]))
    if kind == "word":
        return functools.reduce(do.product, (evaluate(letter, do) for letter in args[1]))
    if kind == "const":
        return _constant(args[0])
    if kind == "unit":
        return _unit(args[0], do)
    if kind == "text" and len(args[0]) == 1 and args[0].isalpha():
        return single(("s", args[0]))
    if kind == "add":
        return functools.reduce(do.plus, (_finite(term, do) for term in args[0]))
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
    if kind == "based" and args[0].isdigit() and args[1].isdigit():
        return _in_base(args[0], int(args[1]))
    if kind == "list" and len(args[0]) == 1:
        return evaluate(args[0][0], do)
    if kind == "tuple" and len(args[0]) == 1 and args[1:] == ("[", "]"):
        return evaluate(args[0][0], do)
    raise Unreadable(f"a {kind} inside an expression")


def _finite(node: Node, do: Algebra) -> Value:
    """The value of an operand: infinity may be an answer, or an end, but nothing is done with it."""
    value = evaluate(node, do)
    if len(value.num) == 1 and any(atom == INFINITY for atom in value.atoms()):
        raise Unreadable("arithmetic with infinity")
    return value


def _in_base(digits: str, base: int) -> Value:
    if not int(max(digits)) < base <= 36:
        raise Unreadable(f"the digits {digits} in base {base}")
    return number(int(digits, base))


def _constant(name: str) -> Value:
    if name == "i":
        return single(IMAGINARY)
    return single(("c" if name in ("pi", "e", "oo") else "s", name))


def _unit(words: str, do: Algebra) -> Value:
    """The product of units that words such as ``km / h`` or ``square cm`` mean; unknown words are units too."""
    total, divide, power = number(1), False, 1
    for part in words.replace("per", "/ ").split():
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


def is_reduced(node: Node) -> bool:
    r"""Whether plain numbers are in lowest terms: not ``6/8``, ``\sqrt{16}``, ``2 \cdot 3``.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [is_reduced(parse(text)) for text in (r"\frac34", r"\frac68", r"\sqrt{8}", "2x")]
    [True, False, False, True]
    """
    parts = children(node)
    if node.kind in ("div", "mul", "pow") and all(part.kind == "num" for part in parts):
        (a, *_), (b, *_) = parts[0].args, parts[1].args
        return node.kind == "div" and b > 1 and math.gcd(a.numerator, b.numerator) == 1
    if node.kind == "call" and node.args[0] == "root" and parts[0].kind == parts[1].kind == "num":
        return all(abs(k) < parts[1].args[0] for k in factors(parts[0].args[0] or Fraction(1)).values())
    if node.kind == "add" and sum(part.kind == "num" for part in parts) > 1:
        return False
    return all(map(is_reduced, parts))


def has_point(node: Node) -> bool:
    """Whether a number with a decimal point stands in an expression.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> has_point(parse("0.5x")), has_point(parse("5x"))
    (True, False)
    """
    if node.kind == "num":
        return "." in node.args[1]
    return any(map(has_point, children(node)))


def unevaluated(node: Node, do: Algebra) -> bool:
    r"""Whether the text is a task: ``2 + 3``, ``\sqrt{16}``, not ``6/8``, ``2\frac12`` or ``3 \cdot 10^8``.

    Of a chain such as ``2 + 3 = 5`` the last side counts.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [unevaluated(parse(text), Algebra()) for text in ("2 + 3", "2 + 3 = 5", "6/8")]
    [True, False, False]
    """
    if node.kind == "rel":
        return unevaluated(node.args[1][-1], do)
    if numeral(node) or _large_power(node):
        return False
    parts = children(node)
    if node.kind in ("add", "neg", "mul", "div", "pow", "call"):
        try:
            values = [evaluate(part, do) for part in (node, *parts)]
        except Unreadable:
            values = []
        known = [value.rational() is not None for value in values]
        if values and (known[0] or (node.kind == "add" and sum(known) > 1)):
            return True
    return any(unevaluated(part, do) for part in parts)


def _large_power(node: Node) -> bool:
    """Whether it is a power such as ``2^{99}``, which nobody writes out."""
    if node.kind != "pow":
        return False
    base, exponent = node.args
    return base.kind == exponent.kind == "num" and base.args[0] > 1 and exponent.args[0] >= 5


def is_rounding(exact: Node, rounded: Node, do: Algebra) -> bool:
    r"""Whether a decimal is the exact value to its own last digit, rounded or cut off.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [is_rounding(parse(r"\frac23"), parse(text), Algebra()) for text in ("0.667", "0.66", "0.7", "0.65")]
    [True, True, True, False]
    """
    try:
        value = do.replace(evaluate(exact, do), "u")
        target = do.replace(evaluate(rounded, do), "u").rational()
    except Unreadable:
        return True  # nothing to compare by value
    if target is None or not value.constant():
        return True
    inner = unsigned(rounded)
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
