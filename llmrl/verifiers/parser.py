r"""Reads an answer into a tree, with precedence as in print; nothing is evaluated.

A tree is a :class:`Node`: its kind and its parts.  Kinds of values: ``num`` (Fraction, text), ``sym``, ``const``,
``add``, ``neg``, ``mul``, ``div``, ``pow``, ``pm``, ``call``, ``unit``, ``percent``, ``based``.  Kinds of answers:
``list`` (items, joiners), ``tuple`` (items, opening, closing), ``set``, ``matrix``, ``rel`` (signs, sides),
``sets`` (operations, operands), ``ratio``, ``text``, ``word``, ``ellipsis``, ``where`` (set-builder).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, NamedTuple

from llmrl.verifiers.limits import (
    MAX_CELLS,
    MAX_DEPTH,
    MAX_FACTORS,
    MAX_POSTFIX,
    TooMuch,
    Unreadable,
)
from llmrl.verifiers.tokens import Token, tokens
from llmrl.verifiers.units import CANONICAL, WORDS, canonical


class Node(NamedTuple):
    """A part of an answer."""

    kind: str
    args: tuple[Any, ...] = ()


FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "arcsec",
        "arccsc",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "log",
        "ln",
        "lg",
        "exp",
        "gcd",
        "lcm",
        "min",
        "max",
        "det",
        "sgn",
        "sign",
        "floor",
        "ceil",
        "ceiling",
        "abs",
        "cis",
    ]
)
_WORD_FUNCTIONS = FUNCTIONS | {"sqrt", "cbrt", "root", "binomial", "binom", "factorial", "frac"}
_CONSTANTS = {"pi": "pi", "infty": "oo", "infinity": "oo", "inf": "oo", "oo": "oo"}
_RELATIONS = {
    "=": "=", "==": "=", ":=": "=", "<": "<", ">": ">", "<=": "le", ">=": "ge", "!=": "ne",
    "lt": "<", "gt": ">", "le": "le", "leq": "le", "leqslant": "le", "leqq": "le", "ge": "ge", "geq": "ge",
    "geqslant": "ge", "geqq": "ge", "ne": "ne", "neq": "ne", "in": "in", "notin": "notin", "approx": "approx",
    "equiv": "=", "sim": "approx", "simeq": "approx", "thickapprox": "approx", "to": "to", "rightarrow": "to",
    "implies": "to", "Rightarrow": "to", "=>": "to", "propto": "propto", "subset": "subset", "mid": "mid",
}  # fmt: skip
_SETS = {"cup": "cup", "cap": "cap", "setminus": "minus", "backslash": "minus", "bigcup": "cup"}
_TIMES = {"*": "*", "cdot": "*", "times": "*", "ast": "*", "bullet": "*", "/": "/", "div": "/"}
_JOINERS = {",": ",", ";": ";", "and": "and", "or": "or", "land": "and", "wedge": "and", "lor": "or", "vee": "or",
            "newline": ","}  # fmt: skip
_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Pi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
        "partial",
        "nabla",
        "aleph",
        "square",
        "star",
    ]
)
_DECORATIONS = frozenset(
    [
        "vec",
        "hat",
        "widehat",
        "tilde",
        "widetilde",
        "overrightarrow",
        "overleftarrow",
        "overline",
        "bar",
        "dot",
        "ddot",
        "check",
        "not",
        "color",
        "mathbf",
        "mathrm",
        "boldsymbol",
        "overset",
        "underset",
        "arc",
        "overarc",
        "wideparen",
        "overparen",
    ]
)
_FENCES = {
    "lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil"), "lvert": ("rvert", "abs"),
    "lVert": ("rVert", "abs"), "langle": ("rangle", "vector"),
}  # fmt: skip
_MATRICES = frozenset(
    [
        "pmatrix",
        "bmatrix",
        "Bmatrix",
        "matrix",
        "smallmatrix",
        "array",
        "vmatrix",
        "Vmatrix",
        "psmallmatrix",
        "bsmallmatrix",
    ]
)
_BIG = frozenset(["sum", "prod", "int", "lim", "iint", "oint", "bigoplus"])
_KNOWN = (
    FUNCTIONS | _GREEK | _DECORATIONS | _BIG | set(_CONSTANTS) | set(_FENCES)
    | {"frac", "dfrac", "tfrac", "cfrac", "sqrt", "surd", "cbrt", "binom", "dbinom", "tbinom", "angle", "triangle", "circ", "degree", "prime", "begin", "ldots", "cdots", "dots", "dotsc", "vdots", "mathbb", "emptyset", "varnothing", "measuredangle", "overline", "Re", "Im", "checkmark", "mathbf", "degrees", "arg", "deg", "Pr", "mathrm", "cdotp", "colon", "dollar", "perp", "parallel"}
)  # fmt: skip
_SMALL_WORDS = frozenset(
    [
        "is",
        "as",
        "if",
        "of",
        "to",
        "in",
        "on",
        "at",
        "by",
        "an",
        "so",
        "be",
        "no",
        "do",
        "we",
        "it",
        "or",
        "us",
    ]
)
_STOP_ARGUMENT = {"+", "-", "pm", "mp", ",", ";", ")", "]", "}", "\\}", "|", "&", "newline", "rfloor", "rceil", "rvert",
                  "rangle", "rVert", "*", "/", "times", "cdot"}  # fmt: skip
_NO_OPERAND = set(_RELATIONS) | set(_SETS) | set(_TIMES) | set(_JOINERS) | {
    "pm", "mp", "rfloor", "rceil", "rvert", "rangle", "rVert", "end", "mod", "bmod", "pmod", "prime", "colon",
    "over", "choose", "timeam", "timepm",
}  # fmt: skip


def parse(text: str, *, thousands: bool = True) -> Node:
    r"""The tree of an answer in LaTeX or plain text.

    >>> parse(r"\frac12 x").kind
    'mul'
    >>> parse("x +* 2")
    Traceback (most recent call last):
    llmrl.verifiers.limits.Unreadable: '*' where a value is expected
    """
    found = tokens(text, thousands=thousands)
    while found and found[-1].text in (".", ",", ";", ":", "newline", '"', "!!", "..", "\\"):
        found.pop()
    while found and found[0].text in (":", '"', ",", "newline", "=", "approx"):
        found.pop(0)
    if not found:
        raise Unreadable("nothing is there")
    parser = Parser(found)
    node = parser.group(None)
    if parser.place < len(found):
        raise Unreadable(f"{parser.peek().text!r} is left over")
    return node


_DIGITS = re.compile(r"\w*\d\w*|[A-F]{2,}")
_HEDGE = re.compile(r"\d|\b(?:or|not|if|maybe|perhaps|possibly|unless|to|and)\b", re.IGNORECASE)
_MULTIPLES = {"hundred": 100, "thousand": 1_000, "million": 10**6, "billion": 10**9, "trillion": 10**12,
              "dozen": 12}  # fmt: skip
_END = Token("end", "")
_MODULO = ("pmod", "bmod", "mod", "pod")


class Parser:
    """Recursive descent over tokens; the nesting was bounded beforehand."""

    def __init__(self, found: list[Token]) -> None:
        self.found = found
        self.place = 0
        self.bars = 0
        self.depth = 0
        self.fences: list[str] = []

    def peek(self, ahead: int = 0) -> Token:
        place = self.place + ahead
        return self.found[place] if place < len(self.found) else _END

    def take(self) -> Token:
        token = self.peek()
        self.place += 1
        return token

    def accept(self, *signs: str) -> bool:
        token = self.peek()
        if token.kind != "text" and token.text in signs:
            self.place += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        if not self.accept(sign):
            raise Unreadable(f"{self.peek().text!r} where {sign!r} is expected")

    # Lists and relations

    def joiner(self) -> str | None:
        """What separates two items here, if anything does."""
        token = self.peek()
        if token.kind == "text":
            words = token.text.strip(" ,;.").lower()
            return (
                words
                if words in ("and", "or")
                else ","
                if not words and token.text.strip()
                else None
            )
        return _JOINERS.get(token.text)

    def items(self, closers: tuple[str, ...] | None) -> Node:
        """One item, or a list of several up to a closer or the end."""
        items: list[Node] = []
        joiners: list[str] = []
        while True:
            while self.joiner() is not None and items and len(joiners) < len(items):
                joiners.append(self.joiner() or ",")
                self.place += 1
                while (more := self.joiner()) is not None:
                    joiners[-1] = more if more in ("and", "or") else joiners[-1]
                    self.place += 1
            if self.peek() is _END or (closers and self.peek().text in closers):
                break
            if items and len(joiners) < len(items):
                if not self.peek().spaced or not self._starts_item():
                    break
                joiners.append(",")
            items.append(self.relation())
            if len(items) > MAX_CELLS:
                raise TooMuch(f"more than {MAX_CELLS} items")
        if len(items) == 1:
            return items[0]
        if ";" in joiners and "," in joiners[: len(items) - 1]:
            return _grouped(items, joiners)
        return Node("list", (tuple(items), tuple(joiners[: len(items) - 1])))

    def _starts_item(self) -> bool:
        """Whether blank space may separate items here: only before a bracket or an assignment."""
        return self.peek().text in ("(",) and self.found[self.place - 1].text == ")"

    def relation(self) -> Node:
        sides = [self.sets()]
        signs: list[str] = []
        self._modulus(sides)
        while self.peek().kind != "text" and (sign := _RELATIONS.get(self.peek().text)) is not None:
            if sign == "mid":
                break
            self.place += 1
            signs.append(sign)
            sides.append(self.sets())
            self._modulus(sides)
        return Node("rel", (tuple(signs), tuple(sides))) if signs else sides[0]

    def _modulus(self, sides: list[Node]) -> None:
        """``3 \\pmod 7``, ``3 (\\bmod 7)``: the last side is a residue."""
        bracket = self.peek().text == "(" and self.peek(1).text in _MODULO
        self.place += bracket
        if self.accept(*_MODULO):
            sides[-1] = Node("call", ("mod", (sides[-1], self.product())))
            if bracket:
                self.expect(")")

    def sets(self) -> Node:
        operands = [self.ratio()]
        operations: list[str] = []
        while True:
            token = self.peek()
            operation = _SETS.get(token.text) if token.kind == "cmd" else None
            if token.text in ("U", "u", "union") and self.peek(1).text in ("(", "[", "\\{"):
                operation = "cup"
            if token.kind == "text" and token.text.strip() == "\\":
                operation = "minus"
            if operation is None:
                break
            self.place += 1
            operations.append(operation)
            operands.append(self.ratio())
        return Node("sets", (tuple(operations), tuple(operands))) if operations else operands[0]

    def ratio(self) -> Node:
        items = [self.sum()]
        while self.accept(":", "colon") or self._says_to():
            items.append(self.sum())
        half = self.take().text if self.peek().text in ("timeam", "timepm") else ""
        return Node("ratio", (tuple(items), half)) if len(items) > 1 or half else items[0]

    def _says_to(self) -> bool:
        """Whether the text ``to`` parts two numbers here, as in "2 to 5"; then it is taken."""
        token = self.peek()
        to = token.kind == "text" and token.text.strip() == "to"
        self.place += to
        return to

    # Arithmetic

    def sum(self) -> Node:
        terms: list[Node] = []
        sign = self._sign()
        while True:
            node = self.product()
            if sign in ("pm", "mp"):
                node = Node("pm", (sign, node))
            terms.append(Node("neg", (node,)) if sign == "-" else node)
            if self.peek().kind == "text" or self.peek().text not in ("+", "-", "pm", "mp"):
                break
            sign = self._sign()
        return Node("add", (tuple(terms),)) if len(terms) > 1 else terms[0]

    def _sign(self) -> str:
        sign = ""
        while self.peek().text in ("+", "-", "pm", "mp") and self.peek().kind != "text":
            token = self.take().text
            sign = {"": token, "+": token}.get(sign, "+" if token == sign == "-" else sign)
        return sign

    def product(self) -> Node:
        left = self.power()
        for _ in range(MAX_FACTORS):
            token = self.peek()
            if token.kind == "text":
                if self.joiner() is not None or token.text.strip() == "to":
                    return left
                left = Node("mul", (left, self._unit_or_symbol(self.take())))
                continue
            operation = _TIMES.get(token.text)
            if operation is not None:
                self.place += 1
                sign = self._sign()
                following = self.peek().kind == "text" and self.joiner() is None
                right = self._unit_or_symbol(self.take()) if following else self.power(after=left)
                right = Node("neg", (right,)) if sign == "-" else right
                left = Node("mul" if operation == "*" else "div", (left, right))
            elif self._starts_operand(token, left):
                right = self.power(after=left)
                named = left.kind == "sym" and right.kind == "tuple" and len(right.args[0]) > 1
                left = right if named else Node("mul", (left, right))  # P(1, 2) is a point
            else:
                return left
        raise TooMuch(f"a product of more than {MAX_FACTORS} factors")

    def _starts_operand(self, token: Token, left: Node) -> bool:
        if token.kind == "num":
            if left.kind == "num":
                raise Unreadable("two numbers side by side")
            return True
        if token.kind == "word":
            return token.text not in ("and", "or") and not (
                token.text in ("U", "u", "union") and self.peek(1).text in ("(", "[", "\\{")
            )
        if token.kind == "cmd":
            return token.text not in _NO_OPERAND
        if token.text == "(":
            return self.peek(1).text not in _MODULO
        if token.text == "[" and self.fences and self.fences[-1] in "[]":
            return self._starts_value(self.peek(1))
        return token.text in ("{", "\\{", "[") or (token.text == "|" and self.bars == 0)

    @staticmethod
    def _starts_value(token: Token) -> bool:
        """Whether a bracket before this opens something; ``[0, 5[`` ends with one that does not."""
        if token.kind in ("num", "word"):
            return token.text not in ("U", "and", "or")
        return (token.kind == "cmd" and token.text not in _NO_OPERAND) or token.text in (
            "(",
            "-",
            "{",
        )

    def power(self, after: Node | None = None) -> Node:
        """An atom with what is raised over it; the only way to nest without a loop."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooMuch(f"nested deeper than {MAX_DEPTH}")
        node = self._power(after)
        self.depth -= 1
        return node

    def _power(self, after: Node | None) -> Node:
        base = self.postfix(self.atom(after))
        bare = self.peek(-1).kind == "word"
        if not self.accept("^", "**"):
            return base
        token = self.peek()
        if (
            token.text == "{"
            and self.peek(1).text in ("circ", "prime", "degree")
            and self.peek(2).text == "}"
        ):
            self.place += 3
            mark = self.found[self.place - 2].text
            return self.postfix(
                base if mark == "prime" else Node("mul", (base, Node("unit", ("deg",))))
            )
        if token.text in ("circ", "degree"):
            self.place += 1
            return self.postfix(Node("mul", (base, Node("unit", ("deg",)))))
        if token.kind == "text" or (
            token.text == "{" and self.peek(1).kind == "text" and self.peek(2).text == "}"
        ):
            self.place += 1 if token.kind == "text" else 3
            words = token.text if token.kind == "text" else self.found[self.place - 2].text
            if words in ("st", "nd", "rd", "th", "o"):
                return base
            raise Unreadable(f"the exponent {words!r}")
        if token.text in ("prime", "'"):
            self.place += 1
            return base
        if token.text in ("*", "+", "-") and self.peek(1).kind == "end":
            raise Unreadable("an exponent without a value")
        sign = self._sign()
        exponent = self.power()
        exponent = Node("neg", (exponent,)) if sign == "-" else exponent
        # ab^2 is a b^2
        if bare and base.kind == "word" and len(base.args[0]) == len(base.args[1]) > 1:
            *letters, last = base.args[1]
            first = Node("word", (base.args[0][:-1], tuple(letters)))
            return Node("mul", (first, self.postfix(Node("pow", (last, exponent)))))
        return self.postfix(Node("pow", (base, exponent)))

    def postfix(self, node: Node) -> Node:
        for _ in range(MAX_POSTFIX):
            token = self.peek()
            if token.text == "!" and self.peek(1).text != "=" and token.kind == "op":
                self.place += 1
                node = Node("call", ("factorial", (node,)))
            elif token.text == "%" and token.kind == "op":
                self.place += 1
                node = Node("percent", (node,))
            elif token.text in ("circ", "degree", "degrees") and token.kind == "cmd":
                self.place += 1
                node = Node("mul", (node, Node("unit", ("deg",))))
            elif token.text == "'" and node.kind == "sym":
                self.place += 1
                node = Node("sym", (node.args[0] + "'",))
            else:
                return node
        raise TooMuch(f"more than {MAX_POSTFIX} signs after a value")

    # Atoms

    def atom(self, after: Node | None = None) -> Node:
        token = self.take()
        kind, text = token.kind, token.text
        if kind == "num":
            return self._number(text)
        if kind == "word":
            return self._word(token, after)
        if kind == "text":
            return self._text(token)
        if kind == "cmd":
            return self._command(text)
        if text == "(":
            return self._fenced("(", (")", "]"))
        if text == "[":
            return self._fenced("[", ("]", ")", "["))
        if text == "]":
            return self._fenced("]", ("[", "]"))
        if text == "\\{":
            return self._set()
        if text == "{":
            node = self.group(("}",))
            self.expect("}")
            return node
        if text == "|":
            self.bars += 1
            node = self.sum()
            self.bars -= 1
            self.expect("|")
            return Node("call", ("abs", (node,)))
        if text == "norm":
            node = self.sum()
            self.expect("norm")
            return Node("call", ("abs", (node,)))
        if text == "<":
            node = self.items((">",))
            self.expect(">")
            return Node("tuple", (_elements(node), "<", ">"))
        if text == "...":
            return Node("ellipsis")
        if text == "." and self.peek().text in ("overline", "bar"):
            return self._recurring("", "")
        raise Unreadable(f"{text!r} where a value is expected" if text else "it ends too early")

    def group(self, closers: tuple[str, ...] | None) -> Node:
        """Items, or two of them with plain TeX's ``\\over`` or ``\\choose`` between."""
        node = self.items(closers)
        if self.accept("over"):
            return Node("div", (node, self.items(closers)))
        if self.accept("choose"):
            return Node("call", ("binom", (node, self.items(closers))))
        return node

    def _number(self, text: str) -> Node:
        mantissa, _, exponent = text.replace("E", "e").partition("e")
        whole, _, decimals = mantissa.partition(".")
        if (
            not exponent
            and self.peek().text in ("overline", "bar", "dot", "overset")
            and "." in text
        ):
            return self._recurring(whole, decimals)
        if (
            self.peek().text in ("...", "ldots", "dots", "cdots")
            and decimals
            and not self.peek().spaced
        ):
            return self._continued(whole, decimals)
        value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals))
        if exponent:
            value *= Fraction(10) ** int(exponent)
        if self.accept("_"):
            base = self._script()
            return Node("based", (text.lstrip("0") or "0", base))
        node = Node("num", (value, text))
        return node if "." in text or exponent else self._mixed(node)

    def _mixed(self, whole: Node) -> Node:
        """``2\\frac12`` and ``2 1/2`` are sums."""
        if self.peek().text in ("frac", "dfrac", "tfrac", "cfrac") and self.peek().kind == "cmd":
            back = self.place
            self.place += 1
            above, below = self._argument(), self._argument()
            if (
                above.kind == below.kind == "num"
                and _integer(above)
                and _integer(below)
                and below.args[0]
            ):
                return Node("add", ((whole, Node("div", (above, below))),))
            self.place = back
        first, slash, second = self.peek(), self.peek(1), self.peek(2)
        if first.kind == second.kind == "num" and slash.text == "/" and first.spaced:
            if first.text.isdigit() and second.text.isdigit() and int(second.text):
                self.place += 3
                fraction = Fraction(int(first.text), int(second.text))
                return Node(
                    "add", ((whole, Node("num", (fraction, first.text + "/" + second.text))),)
                )
        return whole

    def _recurring(self, whole: str, decimals: str) -> Node:
        self.take()
        node = self._argument()
        if node.kind != "num" or not node.args[1].isdigit():
            raise Unreadable("a bar over something other than digits")
        return _repeat(whole, decimals, node.args[1])

    def _continued(self, whole: str, decimals: str) -> Node:
        self.take()
        for size in range(1, len(decimals) // 2 + 1):
            period = decimals[-size:]
            if decimals.endswith(period * (3 if size == 1 else 2)):
                return _repeat(whole, decimals, period)
        raise Unreadable("a decimal that goes on unsaid")

    def _word(self, token: Token, after: Node | None) -> Node:
        text = token.text
        if text in _CONSTANTS:
            return Node("const", (_CONSTANTS[text],))
        if text in _WORD_FUNCTIONS and (text not in ("min", "sec") or self.peek().text == "("):
            return self._function(text)
        if len(text) == 1:
            if (
                after is not None
                and (token.spaced or self._per() or self._after_unit(after))
                and text in CANONICAL
                and _numeric(after)
                and self._ends_item()
                and self._no_terms()
            ):
                return Node("unit", (CANONICAL[text],))
            return self._symbol(text)
        if after is not None and text.lower() in _MULTIPLES and _numeric(after):
            return Node("num", (Fraction(_MULTIPLES[text.lower()]), text))
        if after is not None and text in WORDS and _numeric(after):
            return Node("unit", (canonical(text),))
        if (
            self.peek().text in ("^", "**", "!", "'") and text not in WORDS
        ):  # only the last letter is raised
            self.place -= 1
            self.found[self.place : self.place + 1] = [
                Token("word", text[:-1], token.spaced), Token("word", text[-1])
            ]  # fmt: skip
            return self.atom(after)
        self._check_prose(token, after)
        for name in (
            "sqrt",
            "arcsin",
            "arccos",
            "arctan",
            "sin",
            "cos",
            "tan",
            "cot",
            "sec",
            "csc",
            "log",
            "ln",
            "pi",
        ):
            if text.startswith(name) and len(text) - len(name) <= 2:
                self.place -= 1
                self.found[self.place : self.place + 1] = [
                    Token("word", name, token.spaced), Token("word", text[len(name) :])
                ]  # fmt: skip
                return self.atom(after)
        if self.peek().text == "(" and not self.peek().spaced and len(text) > 3:
            raise Unreadable(f"the function {text!r}")
        if self.peek().text == "_" or self.peek().text == "(":
            letters = [Node("sym", (letter,)) for letter in text[:-1]] + [self._symbol(text[-1])]
            return Node("word", (text + "*", tuple(letters)))
        return Node("word", (text, tuple(_letter(letter) for letter in text)))

    def _check_prose(self, token: Token, after: Node | None) -> None:
        """A sentence is not a product of its letters."""
        following = self.peek()
        if len(token.text) > 2 and following.spaced and following.text not in _JOINERS:
            if following.kind in ("word", "num", "text") or (
                following.kind == "cmd"
                and len(token.text) > 3
                and following.text not in _NO_OPERAND
            ):
                raise Unreadable("a sentence")
        if after is None:
            return
        if len(token.text) > 4 or (
            token.spaced and (len(token.text) > 2 or token.text in _SMALL_WORDS)
        ):
            raise Unreadable(f"the word {token.text!r}")

    def _after_unit(self, after: Node) -> bool:
        """Whether this is the second unit of ``8 m/s``."""
        slash = self.place > 1 and self.found[self.place - 2].text == "/"
        return slash and after.kind == "mul" and after.args[1].kind == "unit"

    def _ends_item(self) -> bool:
        """Whether the letter before is the last of its item, so that it may be a unit."""
        following, after = self.peek(), self.peek(1)
        if following.text in (")", "]"):
            return after.kind == "end" or after.text in (",", ";")
        if following.text == "/":
            return after.kind in ("word", "text")
        return following.kind == "end" or following.text in (",", ";", "^", "and", "or")

    def _per(self) -> bool:
        """Whether the word just taken is the h of ``km/h``."""
        before = self.found[max(0, self.place - 3) : self.place - 1]
        return len(before) == 2 and before[0].text in WORDS and before[1].text == "/"

    def _no_terms(self) -> bool:
        """Whether a letter may be a unit: nothing is added, and nothing is in brackets."""
        return not any(
            token.text in ("+", "(") or (token.text == "-" and place and self.found[place - 1].text != "=")
            for place, token in enumerate(self.found)
            if token.kind == "op"
        )  # fmt: skip

    def _says_value(self) -> bool:
        """Whether a bracket that opens here closes before an equality sign, as in ``P(2) = 5``."""
        depth = 0
        for place in range(self.place, len(self.found)):
            text = self.found[place].text
            depth += (text == "(") - (text == ")")
            if depth == 0:
                return place + 1 < len(self.found) and self.found[place + 1].text == "="
        return False

    def _symbol(self, name: str) -> Node:
        if self.accept("_"):
            name = f"{name}_{self._script()}"
            if not (self.peek().text == "(" and self._says_value()):
                return Node("sym", (name,))
        bracket = self.peek().text == "(" and not self.peek().spaced
        if bracket and (name in ("f", "g", "h", "F", "G") or self._says_value()):
            self.place += 1
            node = self._fenced("(", (")",))
            return Node("call", (name, _arguments(node)))
        return _letter(name)

    def _script(self) -> str:
        """The text of a subscript, braces and blanks left out."""
        if not self.accept("{"):
            return self.take().text
        pieces, depth = [], 1
        while depth:
            token = self.take()
            if token.kind == "end":
                raise Unreadable("a subscript without end")
            depth += (token.text == "{") - (token.text == "}")
            pieces.append(token.text)
        return "".join(piece for piece in pieces if piece not in "{}").replace(" ", "")

    def _text(self, token: Token) -> Node:
        words = token.text.strip().lstrip("$")
        if words.lower() in ("infinity", "pi"):
            return Node("const", (_CONSTANTS[words.lower()],))
        if self.peek().text == "_" and words.isalnum():
            self.place += 1
            script = self._script()
            if words.isalpha() and not (script.isdigit() and 10 < int(script) <= 36):
                return Node("sym", (f"{words}_{script}",))
            return Node("based", (words, script))
        if words.replace(",", "").replace(".", "", 1).isdigit():
            return parse(words)
        if self.peek().kind in ("end", "op") and self.peek().text in (
            "",
            ",",
            ";",
            ")",
            "]",
            "\\}",
            "&",
            "=",
            "}",
        ):
            return Node("text", (words,))
        if len(words) == 1 and words.isalpha():
            return self._symbol(words)
        if self.peek().kind == "text":
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise TooMuch("too many texts in a row")
            following = self._text(self.take())
            if following.kind == "text":
                return Node("text", (f"{words} {following.args[0]}",))
        if words.endswith((":", "=", "is")) or not words:
            return self.power()
        raise Unreadable(f"the words {words!r}")

    def _unit_or_symbol(self, token: Token) -> Node:
        words = token.text.strip()
        if len(words) == 1 and words.isalpha() and not token.spaced and words not in CANONICAL:
            return self._symbol(words)
        if _HEDGE.search(words):
            raise Unreadable(f"the words {words!r} after a value")
        if words.lower() in _MULTIPLES:
            return Node("num", (Fraction(_MULTIPLES[words.lower()]), words))
        node = Node("unit", (canonical(words),)) if words else Node("num", (Fraction(1), "1"))
        if self.accept("^"):
            exponent = self.power()
            return Node("pow", (node, exponent))
        return node

    def _command(self, name: str) -> Node:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            return Node("div", (self._argument(), self._argument()))
        if name in ("sqrt", "cbrt", "surd"):
            return self._function(name)
        if name in ("binom", "dbinom", "tbinom"):
            return Node("call", ("binom", (self._argument(), self._argument())))
        if name in FUNCTIONS:
            return self._function(name)
        if name in _CONSTANTS:
            return Node("const", (_CONSTANTS[name],))
        if name in _GREEK:
            return self._symbol(name)
        if name in _FENCES:
            closer, meaning = _FENCES[name]
            node = self.items((closer,))
            self.expect(closer)
            if meaning == "vector":
                return Node("tuple", (_elements(node), "<", ">"))
            return Node("call", (meaning, (node,)))
        if name in ("angle", "measuredangle", "triangle"):
            return Node("sym", (f"{name} {self._letters()}",))
        if name in ("ldots", "cdots", "dots", "dotsc", "vdots"):
            return Node("ellipsis")
        if name in ("emptyset", "varnothing"):
            return Node("set", ((),))
        if name == "mathbb":
            return Node("const", ("bb" + self._letters(),))
        if name == "begin":
            return self._environment()
        if name in ("circ", "degree", "dollar"):
            return Node("unit", ("dollar" if name == "dollar" else "deg",))
        if name in _BIG:
            return self._big(name)
        if name in _DECORATIONS:
            node = self._argument()
            if node.kind == "num":
                raise Unreadable(f"\\{name} over a number")
            if node.kind == "word":
                node = Node("sym", (node.args[0],))
            if node.kind == "sym" and self.accept("_"):
                node = Node("sym", (f"{node.args[0]}_{self._script()}",))
            return node
        if name in ("left", "right", "end") or name in _NO_OPERAND:
            raise Unreadable(f"\\{name} where a value is expected")
        for size in range(len(name) - 1, 1, -1):
            if name[:size] in _KNOWN:
                self.found[self.place : self.place] = [Token("word", name[size:])]
                return self._command(name[:size])
        raise Unreadable(f"the command \\{name}")

    def _letters(self) -> str:
        braced = self.accept("{")
        token = self.take()
        if token.kind not in ("word", "text"):
            raise Unreadable(f"{token.text!r} where letters are expected")
        if braced:
            self.expect("}")
        return token.text

    def _argument(self) -> Node:
        """A LaTeX argument: a group, a digit, or one sign."""
        token = self.peek()
        if token.text == "{" and token.kind == "op":
            self.place += 1
            node = self.group(("}",))
            self.expect("}")
            return node
        if token.kind == "num" and token.text.isdigit() and len(token.text) > 1:
            self.found[self.place] = Token("num", token.text[1:])
            return Node("num", (Fraction(int(token.text[0])), token.text[0]))
        if token.kind == "word" and len(token.text) > 1:
            self.found[self.place] = Token("word", token.text[1:])
            return _letter(token.text[0])
        if token.kind == "num":
            self.place += 1
            return Node("num", (Fraction(token.text.rstrip(".")), token.text))
        return self.atom()

    def _function(self, name: str) -> Node:
        if name in ("sqrt", "cbrt", "surd", "root"):
            degree: Node = Node("num", (Fraction(3 if name == "cbrt" else 2), ""))
            if self.peek().text == "[" and name == "sqrt":
                self.place += 1
                degree = self.sum()
                self.expect("]")
            if self.peek().text in ("{", "("):
                inside = self.atom()
            else:
                inside = self.postfix(self.atom())
            return Node("call", ("root", (inside, degree)))
        exponent = base = None
        for _ in range(2):
            if self.accept("^"):
                exponent = self._argument() if self.peek().text == "{" else self.power()
            elif self.accept("_"):
                base = self._argument() if self.peek().text == "{" else self.atom()
        if exponent == Node("neg", (Node("num", (Fraction(1), "1")),)) and name in (
            "sin",
            "cos",
            "tan",
        ):
            name, exponent = "arc" + name, None
        if self.peek().text in ("(", "[") or (
            self.peek().text == "{" and name not in ("log", "ln")
        ):
            inside = self.atom()
            inner = _arguments(inside)
        else:
            inner = (self._open_argument(),)
        if base is not None:
            inner = (*inner, base)
        name = {"ceiling": "ceil", "binomial": "binom"}.get(name, name)
        node = Node("call", (name, inner))
        return Node("pow", (node, exponent)) if exponent is not None else node

    def _open_argument(self) -> Node:
        """What a function without brackets applies to: ``2x`` in ``sin 2x cos x``."""
        sign = self._sign()
        node = self.power()
        while True:
            token = self.peek()
            stop = (
                token.kind in ("end", "text")
                or token.text in _STOP_ARGUMENT
                or token.text in FUNCTIONS
            )
            if stop or not self._starts_operand(token, node) or token.text == "(":
                break
            node = Node("mul", (node, self.power()))
        while self.peek().text == "/" and self.peek(1).kind == "num":
            self.place += 1
            node = Node("div", (node, self.power()))
        return Node("neg", (node,)) if sign == "-" else node

    def _fenced(self, opening: str, closers: tuple[str, ...]) -> Node:
        bars, self.bars = self.bars, 0
        self.fences.append(opening)
        node = self.group(closers)
        self.fences.pop()
        self.bars = bars
        closing = self.peek().text
        if not self.accept(*closers):
            raise Unreadable(f"{closing!r} where {closers[0]!r} is expected")
        if node.kind == "list" and (len(node.args[0]) != 1):
            return Node("tuple", (node.args[0], opening, closing))
        if opening == "(" and closing == ")":
            return node
        return Node("tuple", ((node,), opening, closing))

    def _set(self) -> Node:
        bars, self.bars = self.bars, 1
        node = self.items(("\\}", "|", "mid"))
        self.bars = bars
        if self.accept("|", "mid") or node.kind == "ratio":
            if node.kind == "ratio":
                first, rest = node.args[0][0], Node("ratio", (node.args[0][1:], ""))
                if len(node.args[0]) != 2:
                    raise Unreadable("a set with two conditions")
                condition = rest.args[0][0]
            else:
                first, condition = node, self.items(("\\}",))
            self.expect("\\}")
            return Node("where", (first, condition))
        if node.kind == "rel" and any(side.kind == "ratio" for side in node.args[1][:2]):
            signs, sides = node.args
            at = int(sides[0].kind != "ratio")
            if len(sides[at].args[0]) != 2 or len(signs) == at or signs[:at] not in ((), ("in",)):
                raise Unreadable("a set with two conditions")
            domain, start = sides[at].args[0]
            first = Node("rel", (("in",), (sides[0], domain))) if at else domain
            self.expect("\\}")
            return Node("where", (first, Node("rel", (signs[at:], (start, *sides[at + 1 :])))))
        self.expect("\\}")
        return Node("set", (_elements(node),))

    def _environment(self) -> Node:
        name = self._letters()
        if name in ("array", "tabular"):
            self._script()
        if name not in _MATRICES:
            raise Unreadable(f"the environment {name!r}")
        rows: list[list[Node]] = [[]]
        while not self.accept("end"):
            if self.accept("newline"):
                rows.append([])
            elif self.accept("hline"):
                continue
            else:
                rows[-1].append(self.relation())
                self.accept("&")
            if sum(map(len, rows)) > MAX_CELLS:
                raise TooMuch(f"a matrix of more than {MAX_CELLS} entries")
        self._letters()
        if not rows[-1]:
            rows.pop()
        if not rows or len({len(row) for row in rows}) != 1:
            raise Unreadable("a matrix with rows of different lengths")
        node = Node("matrix", (tuple(tuple(row) for row in rows),))
        return Node("call", ("det", (node,))) if name == "vmatrix" else node

    def _big(self, name: str) -> Node:
        low = high = ""
        for _ in range(2):
            if self.accept("_"):
                low = self._script()
            elif self.accept("^"):
                high = self._script()
        return Node("call", (f"{name}[{low}][{high}]", (self.product(),)))


def unworked(node: Node) -> bool:
    """Whether a sum, product, limit or integral is in it, which nothing here works out."""
    if node.kind == "call" and node.args[0].partition("[")[0] in _BIG:
        return True
    return any(map(unworked, _parts(node)))


def _letter(name: str) -> Node:
    if name in ("i", "I"):
        return Node("const", ("i",))
    return Node("const", ("e",)) if name == "e" else Node("sym", (name,))


def _integer(node: Node) -> bool:
    return node.args[1].isdigit()


def _numeric(node: Node) -> bool:
    """Whether a unit may follow: the value holds no letters."""
    if node.kind in ("num", "unit", "percent", "based"):
        return True
    if node.kind == "const":
        return node.args[0] == "pi"
    if node.kind in ("mul", "div", "neg", "pow", "add", "call", "pm"):
        return all(_numeric(part) for part in _parts(node))
    return False


def _parts(node: Node) -> list[Node]:
    flat: list[Node] = []
    for part in node.args:
        if isinstance(part, Node):
            flat.append(part)
        elif isinstance(part, tuple):
            flat += [p for p in part if isinstance(p, Node)]
    return flat


def _elements(node: Node) -> tuple[Node, ...]:
    return node.args[0] if node.kind == "list" else (node,)


def _arguments(node: Node) -> tuple[Node, ...]:
    """What a function in front of a bracket takes: one value, or the items of a tuple."""
    return node.args[0] if node.kind in ("tuple", "list") else (node,)


def _grouped(items: list[Node], joiners: list[str]) -> Node:
    """``p=5,q=2;p=7,q=2``: semicolons part what commas join."""
    groups: list[list[Node]] = [[items[0]]]
    for joiner, item in zip(joiners, items[1:], strict=False):
        if joiner == ";":
            groups.append([item])
        else:
            groups[-1].append(item)
    tuples = [
        Node("tuple", (tuple(group), "(", ")")) if len(group) > 1 else group[0] for group in groups
    ]
    return Node("list", (tuple(tuples), (";",) * (len(tuples) - 1)))


def _repeat(whole: str, decimals: str, period: str) -> Node:
    shift = 10 ** len(decimals)
    value = Fraction(int((whole + decimals) or "0"), shift)
    value += Fraction(int(period), shift * (10 ** len(period) - 1))
    return Node("num", (value, f"{whole}.{decimals}({period})"))
