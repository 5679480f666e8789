r"""Reads what starts with a LaTeX command: fractions, fences, constants, letters with marks over them."""

from __future__ import annotations

from llmrl.verifiers.math.parsing import calls
from llmrl.verifiers.math.parsing.brackets import environment
from llmrl.verifiers.math.parsing.cursor import Reader
from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.tokens import Token
from llmrl.verifiers.math.parsing.tree import Node, elements
from llmrl.verifiers.math.parsing.vocabulary import (
    BIG,
    BINOMIALS,
    CONSTANTS,
    CURRENCIES,
    DECORATIONS,
    DEGREES,
    DOTS,
    FENCES,
    FRACTIONS,
    FUNCTIONS,
    GREEK,
    KNOWN,
    NO_OPERAND,
    ROOTS,
)
from llmrl.verifiers.math.parsing.words import symbol


def command(p: Reader, name: str) -> Node:
    r"""The command just taken, with its arguments.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [parse(text).kind for text in (r"\frac12", r"\lfloor 2.5 \rfloor", r"\infty", r"\emptyset")]
    ['div', 'call', 'const', 'set']
    """
    if name in FRACTIONS:
        return Node("div", (p.argument(), p.argument()))
    if name in BINOMIALS:
        return Node("call", ("binom", (p.argument(), p.argument())))
    if name in FUNCTIONS or name in ROOTS:
        return calls.function(p, name)
    if name in CONSTANTS:
        return Node("const", (CONSTANTS[name],))
    if name in GREEK:
        return symbol(p, name)
    if name in FENCES:
        return _fence(p, *FENCES[name])
    if name in ("angle", "measuredangle", "triangle"):
        return Node("sym", (f"{name} {p.letters()}",))
    if name in DOTS:
        return Node("ellipsis")
    if name in ("emptyset", "varnothing"):
        return Node("set", ((),))
    if name == "mathbb":
        return Node("const", ("bb" + p.letters(),))
    if name == "begin":
        return environment(p)
    if name in DEGREES or name in CURRENCIES:
        return Node("unit", (name if name in CURRENCIES else "deg",))
    if name in BIG:
        return calls.big(p, name)
    if name in DECORATIONS:
        return _decorated(p, name)
    if name in NO_OPERAND:
        raise Unreadable(f"\\{name} where a value is expected")
    for size in range(len(name) - 1, 1, -1):
        if name[:size] in KNOWN:
            p.replace(Token("cmd", name[:size]), Token("word", name[size:]))
            return p.atom()
    raise Unreadable(f"the command \\{name}")


def _fence(p: Reader, closer: str, meaning: str) -> Node:
    node = p.items((closer,))
    p.expect(closer)
    if meaning == "vector":
        return Node("tuple", (elements(node), "<", ">"))
    return Node("call", (meaning, (node,)))


def _decorated(p: Reader, name: str) -> Node:
    r"""``\vec{v}_1``, ``\overline{AB}``: the letters, as one name; over digits it would mean something else."""
    node = p.argument()
    if node.kind == "num":
        raise Unreadable(f"\\{name} over a number")
    if node.kind == "word":
        node = Node("sym", (node.args[0],))
    if node.kind == "sym" and p.accept("_"):
        node = Node("sym", (f"{node.args[0]}_{p.script()}",))
    return node
