r"""Reads an answer into a tree, with precedence as in print; nothing is evaluated.

From the loosest to the tightest: lists, relations, operations on sets, ratios, sums, products, powers, atoms.
The last are read in files of their own: :mod:`.numerals`, :mod:`.words`, :mod:`.latex`, :mod:`.calls`,
:mod:`.brackets`.  What a tree is says :mod:`.tree`.
"""

from __future__ import annotations

from fractions import Fraction

from llmrl.verifiers.math.parsing.brackets import curly, fenced
from llmrl.verifiers.math.parsing.cursor import END, Cursor
from llmrl.verifiers.math.parsing.latex import command
from llmrl.verifiers.math.parsing.limits import (
    MAX_CELLS,
    MAX_DEPTH,
    MAX_FACTORS,
    MAX_POSTFIX,
    TooMuch,
    Unreadable,
)
from llmrl.verifiers.math.parsing.numerals import numeral, recurring
from llmrl.verifiers.math.parsing.tokens import Token, tokens
from llmrl.verifiers.math.parsing.tree import Node, degrees, elements, ends_with_unit, letter
from llmrl.verifiers.math.parsing.vocabulary import (
    DEGREES,
    HALVES,
    JOINERS,
    MODULO,
    NO_OPERAND,
    RELATIONS,
    SETS,
    SIGNS,
    TIMES,
    UNION,
)
from llmrl.verifiers.math.parsing.words import quoted, unit_or_symbol, word

_ENDS_ANSWER = (".", ",", ";", ":", "newline", '"', "!!", "..", "\\")
_BEGINS_ANSWER = (":", '"', ",", "newline", "=", "approx")


def parse(text: str, *, thousands: bool = True) -> Node:
    r"""The tree of an answer in LaTeX or plain text.

    >>> parse(r"\frac12 x").kind
    'mul'
    >>> parse("x +* 2")
    Traceback (most recent call last):
    llmrl.verifiers.math.parsing.limits.Unreadable: '*' where a value is expected
    """
    found = tokens(text, thousands=thousands)
    while found and found[-1].text in _ENDS_ANSWER:
        found.pop()
    while found and found[0].text in _BEGINS_ANSWER:
        found.pop(0)
    if not found:
        raise Unreadable("nothing is there")
    parser = Parser(found)
    node = parser.group(None)
    if parser.place < len(found):
        raise Unreadable(f"{parser.peek().text!r} is left over")
    return node


class Parser(Cursor):
    """Recursive descent over tokens; the nesting was bounded beforehand."""

    def __init__(self, found: list[Token]) -> None:
        super().__init__(found)
        self.bars = 0
        """Open bars of absolute values, and of sets, in which the next bar closes."""
        self.depth = 0
        self.fences: list[str] = []
        """Brackets that are open."""

    # Lists and relations

    def group(self, closers: tuple[str, ...] | None) -> Node:
        r"""Items, or two of them with plain TeX's ``\over`` or ``\choose`` between."""
        node = self.items(closers)
        if self.accept("over"):
            return Node("div", (node, self.items(closers)))
        if self.accept("choose"):
            return Node("call", ("binom", (node, self.items(closers))))
        return node

    def items(self, closers: tuple[str, ...] | None) -> Node:
        """One item, or a list of several up to a closer or the end."""
        items: list[Node] = []
        joiners: list[str] = []
        while True:
            while items and len(joiners) < len(items) and (joiner := self._joiner()) is not None:
                joiners.append(joiner)
                self.place += 1
                while (more := self._joiner()) is not None:
                    joiners[-1] = more if more in ("and", "or") else joiners[-1]
                    self.place += 1
            awaited = len(joiners) == len(items)
            if self.peek() is END or (closers and self.peek().text in closers and not (awaited and self._nests())):
                break
            if items and len(joiners) < len(items):
                if not self._point_follows():
                    break
                joiners.append(",")
            items.append(self.relation())
            if len(items) > MAX_CELLS:
                raise TooMuch(f"more than {MAX_CELLS} items")
        if len(items) == 1:
            return items[0]
        joiners = joiners[: len(items) - 1]
        if ";" in joiners and "," in joiners:
            return _grouped(items, joiners)
        return Node("list", (tuple(items), tuple(joiners)))

    def _nests(self) -> bool:
        """Whether a bracket, where an item is awaited, opens that item; ``[0, 5[`` ends with one that does not."""
        return self.peek().text == "[" and self.fences[-1:] == ["["]

    def _joiner(self) -> str | None:
        """What separates two items here, if anything does."""
        token = self.peek()
        if token.kind != "text":
            return JOINERS.get(token.text)
        words = token.text.strip(" ,;.").lower()
        if words in ("and", "or"):
            return words
        return "," if not words and token.text.strip() else None

    def _point_follows(self) -> bool:
        """Whether blank space separates items here: ``(1, 2) (3, 4)``."""
        following = self.peek()
        return following.spaced and following.text == "(" and self.found[self.place - 1].text == ")"

    def relation(self) -> Node:
        """One side, or several with signs such as ``<`` between."""
        sides = [self._residue()]
        signs: list[str] = []
        while self.peek().kind != "text" and (sign := RELATIONS.get(self.peek().text)) is not None:
            if sign == "mid":
                break
            self.place += 1
            signs.append(sign)
            sides.append(self._residue())
        return Node("rel", (tuple(signs), tuple(sides))) if signs else sides[0]

    def _residue(self) -> Node:
        r"""A side, which may end with its modulus: ``3 \pmod 7``, ``3 (\bmod 7)``."""
        side = self._sets()
        bracket = self.peek().text == "(" and self.peek(1).text in MODULO
        self.place += bracket
        if self.accept(*MODULO):
            side = Node("call", ("mod", (side, self.product())))
            if bracket:
                self.expect(")")
        return side

    def _sets(self) -> Node:
        operands = [self._ratio()]
        operations: list[str] = []
        while (operation := self._set_operation()) is not None:
            self.place += 1
            operations.append(operation)
            operands.append(self._ratio())
        return Node("sets", (tuple(operations), tuple(operands))) if operations else operands[0]

    def _set_operation(self) -> str | None:
        token = self.peek()
        if self._joins_sets(token):
            return "cup"
        if token.kind == "text":
            return "minus" if token.text.strip() == "\\" else None
        return SETS.get(token.text) if token.kind == "cmd" else None

    def _joins_sets(self, token: Token) -> bool:
        return token.text in UNION and self.peek(1).text in ("(", "[", "\\{")

    def _ratio(self) -> Node:
        items = [self.sum()]
        while self.accept(":", "colon") or self.says_to():
            self.place += self.says_to()
            items.append(self.sum())
        half = self.take().text if self.peek().text in HALVES else ""
        return Node("ratio", (tuple(items), half)) if len(items) > 1 or half else items[0]

    # Arithmetic

    def sum(self) -> Node:
        """Terms with plus, minus and plus-minus signs."""
        terms: list[Node] = []
        while not terms or (self.peek().kind != "text" and self.peek().text in SIGNS):
            sign = self.sign()
            node = self.product()
            if sign in ("pm", "mp"):
                node = Node("pm", (sign, node))
            terms.append(_signed(sign, node))
        return Node("add", (tuple(terms),)) if len(terms) > 1 else terms[0]

    def sign(self) -> str:
        """The signs before a term as one: two minus signs are a plus sign; '' if there is none."""
        sign = ""
        while self.peek().kind != "text" and self.peek().text in SIGNS:
            token = self.take().text
            sign = {"": token, "+": token}.get(sign, "+" if token == sign == "-" else sign)
        return sign

    def product(self) -> Node:
        """A product, or an amount in several units: ``2 h 30 min`` is their sum."""
        terms = [self._factors()]
        while self.peek().kind == "num" and ends_with_unit(terms[-1]):
            terms.append(self._factors())
        return Node("add", (tuple(terms),)) if len(terms) > 1 else terms[0]

    def _factors(self) -> Node:
        """Factors with signs or nothing between, from left to right."""
        left = self.power()
        for _ in range(MAX_FACTORS):
            token = self.peek()
            if token.kind == "text":
                if self._joiner() is not None or self.says_to():
                    return left
                left = Node("mul", (left, unit_or_symbol(self, self.take())))
            elif (operation := TIMES.get(token.text)) is not None:
                self.place += 1
                sign = self.sign()
                if self.peek().kind == "text" and self._joiner() is None:
                    right = unit_or_symbol(self, self.take())
                else:
                    right = self.power(after=left)
                left = Node("mul" if operation == "*" else "div", (left, _signed(sign, right)))
            elif token.kind == "num" and ends_with_unit(left):
                return left
            elif self.starts_operand(token, left):
                right = self.power(after=left)
                named = left.kind == "sym" and right.kind == "tuple" and len(right.args[0]) > 1
                # P(1, 2) is a point with its name
                left = Node("rel", (("=",), (left, right))) if named else Node("mul", (left, right))
            else:
                return left
        raise TooMuch(f"a product of more than {MAX_FACTORS} factors")

    def starts_operand(self, token: Token, left: Node) -> bool:
        """Whether a factor begins with this token, which no sign parts from the one before."""
        if token.kind == "num":
            if left.kind == "num":
                raise Unreadable("two numbers side by side")
            return True
        if token.kind == "word":
            return token.text not in ("and", "or") and not self.says_to() and not self._joins_sets(token)
        if token.kind == "cmd":
            return token.text not in NO_OPERAND
        if token.text == "(":
            return self.peek(1).text not in MODULO
        if token.text == "[" and self.fences and self.fences[-1] in "[]":
            return self._opens(self.peek(1))
        return token.text in ("{", "\\{", "[") or (token.text == "|" and self.bars == 0)

    @staticmethod
    def _opens(following: Token) -> bool:
        """Whether a bracket before this token opens something; ``[0, 5[`` ends with one that does not."""
        if following.kind in ("num", "word"):
            return following.text not in ("U", "and", "or")
        if following.kind == "cmd":
            return following.text not in NO_OPERAND
        return following.text in ("(", "-", "{")

    def power(self, after: Node | None = None) -> Node:
        """An atom with what is raised over it; the only way to nest without a loop."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooMuch(f"nested deeper than {MAX_DEPTH}")
        base = self.postfix(self.atom(after))
        letters = self.peek(-1).kind == "word"
        node = self._raised(base, letters) if self.accept("^", "**") else base
        self.depth -= 1
        return node

    def _raised(self, base: Node, letters: bool) -> Node:
        """From after the caret: an exponent, a degree sign, a prime, or the letters of an ordinal."""
        braced = self.peek().text == "{" and self.peek(2).text == "}"
        token = self.peek(1) if braced else self.peek()
        size = 3 if braced else 1
        if token.text in DEGREES:
            self.place += size
            return self.postfix(degrees(base))
        if token.text == "prime" or (token.text == "'" and not braced):
            self.place += size
            return self.postfix(base) if braced else base
        if token.kind == "text":
            self.place += size
            if token.text in ("st", "nd", "rd", "th", "o"):
                return base
            raise Unreadable(f"the exponent {token.text!r}")
        if token.text in ("*", "+", "-") and self.peek(1).kind == "end":
            raise Unreadable("an exponent without a value")
        if base.kind == "matrix" and token.text in ("T", "top"):
            self.place += size
            return self.postfix(Node("matrix", (tuple(zip(*base.args[0], strict=True)),)))
        sign = self.sign()
        exponent = _signed(sign, self.power())
        if letters and base.kind == "word" and len(base.args[0]) == len(base.args[1]) > 1:
            *first, last = base.args[1]  # ab^2 is a b^2
            rest = Node("word", (base.args[0][:-1], tuple(first)))
            return Node("mul", (rest, self.postfix(Node("pow", (last, exponent)))))
        return self.postfix(Node("pow", (base, exponent)))

    def postfix(self, node: Node) -> Node:
        """A value with the signs after it: factorials, percent, degrees, primes."""
        for _ in range(MAX_POSTFIX):
            token = self.peek()
            if token.text == "!" and token.kind == "op" and (self.peek(1).text != "=" or self.peek(1).spaced):
                double = self.peek(1).text == "!" and not self.peek(1).spaced
                self.place += double
                node = Node("call", ("doublefactorial" if double else "factorial", (node,)))
            elif token.text == "%" and token.kind == "op":
                node = Node("percent", (node,))
            elif token.text in DEGREES and token.kind == "cmd":
                node = degrees(node)
            elif token.text == "'" and node.kind == "sym":
                node = Node("sym", (node.args[0] + "'",))
            else:
                return node
            self.place += 1
        raise TooMuch(f"more than {MAX_POSTFIX} signs after a value")

    # Atoms

    def atom(self, after: Node | None = None) -> Node:
        """A value that nothing splits; ``after`` is the factor before it."""
        token = self.take()
        kind, text = token.kind, token.text
        if kind == "num":
            return numeral(self, text)
        if kind == "word":
            return word(self, token, after)
        if kind == "text":
            return quoted(self, token)
        if kind == "cmd":
            return command(self, text)
        if text == "(":
            return fenced(self, "(", (")", "]"))
        if text == "[":
            return fenced(self, "[", ("]", ")", "["))
        if text == "]":
            return fenced(self, "]", ("[", "]"))
        if text == "\\{":
            return curly(self)
        if text == "{":
            node = self.group(("}",))
            self.expect("}")
            return node
        if text in ("|", "norm"):
            self.bars += text == "|"
            node = self.sum()
            self.bars -= text == "|"
            self.expect(text)
            return Node("call", ("abs", (node,)))
        if text == "<":
            node = self.items((">",))
            self.expect(">")
            return Node("tuple", (elements(node), "<", ">"))
        if text == "...":
            return Node("ellipsis")
        if text == "." and self.peek().text in ("overline", "bar"):
            return recurring(self, "", "")
        raise Unreadable(f"{text!r} where a value is expected" if text else "it ends too early")

    def argument(self) -> Node:
        """A LaTeX argument: a group, a digit, or one sign."""
        token = self.peek()
        if token.kind == "num":
            if token.text.isdigit() and len(token.text) > 1:
                self.found[self.place] = Token("num", token.text[1:])
                return Node("num", (Fraction(int(token.text[0])), token.text[0]))
            self.place += 1
            return Node("num", (Fraction(token.text.rstrip(".")), token.text))
        if token.kind == "word" and len(token.text) > 1:
            self.found[self.place] = Token("word", token.text[1:])
            return letter(token.text[0])
        return self.atom()


def _signed(sign: str, node: Node) -> Node:
    return Node("neg", (node,)) if sign == "-" else node


def _grouped(items: list[Node], joiners: list[str]) -> Node:
    """``p=5,q=2;p=7,q=2``: semicolons part what commas join."""
    groups: list[list[Node]] = [[items[0]]]
    for joiner, item in zip(joiners, items[1:], strict=True):
        if joiner == ";":
            groups.append([item])
        else:
            groups[-1].append(item)
    tuples = [Node("tuple", (tuple(group), "(", ")")) if len(group) > 1 else group[0] for group in groups]
    return Node("list", (tuple(tuples), (";",) * (len(tuples) - 1)))
