r"""A place in a list of tokens: looking ahead, taking, putting others in place, and texts that need no grammar."""

from __future__ import annotations

from typing import Protocol

from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.tokens import Token
from llmrl.verifiers.math.parsing.tree import Node

END = Token("end", "")
"""What is found after the last token."""


class Cursor:
    r"""Tokens and the place of the next one.

    >>> from llmrl.verifiers.math.parsing.tokens import tokens
    >>> cursor = Cursor(tokens("{n+1} x", thousands=True))
    >>> cursor.script(), cursor.accept("y"), cursor.take().text, cursor.peek() is END
    ('n+1', False, 'x', True)
    """

    def __init__(self, found: list[Token]) -> None:
        self.found = found
        self.place = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one further on, which is not taken."""
        place = self.place + ahead
        return self.found[place] if place < len(self.found) else END

    def take(self) -> Token:
        """The next token."""
        token = self.peek()
        self.place += 1
        return token

    def accept(self, *signs: str) -> bool:
        """Take the next token if it is one of these."""
        token = self.peek()
        if token.kind != "text" and token.text in signs:
            self.place += 1
            return True
        return False

    def expect(self, sign: str) -> None:
        """Take the next token, which must be this one."""
        if not self.accept(sign):
            raise Unreadable(f"{self.peek().text!r} where {sign!r} is expected")

    def replace(self, *tokens: Token) -> None:
        """Put these in place of the token that was taken last, to be read next."""
        self.place -= 1
        self.found[self.place : self.place + 1] = tokens

    def script(self) -> str:
        """The text of a subscript or a bound, braces and blanks left out."""
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

    def letters(self) -> str:
        """The letters of an argument."""
        braced = self.accept("{")
        token = self.take()
        if token.kind not in ("word", "text"):
            raise Unreadable(f"{token.text!r} where letters are expected")
        if braced:
            self.expect("}")
        return token.text

    def says_to(self) -> bool:
        """Whether the word ``to`` is here, as in "3 to 2", and not a product of t and o."""
        token = self.peek()
        return token.text.strip() == "to" and (
            token.kind == "text" or (token.kind == "word" and token.spaced and self.peek(1).spaced)
        )


class Reader(Protocol):
    """What the files that read atoms use of the parser: its place in the tokens, and its rules from loose to tight."""

    found: list[Token]
    place: int
    bars: int
    depth: int
    fences: list[str]

    def peek(self, ahead: int = 0) -> Token:
        """See :class:`Cursor`."""

    def take(self) -> Token:
        """See :class:`Cursor`."""

    def accept(self, *signs: str) -> bool:
        """See :class:`Cursor`."""

    def expect(self, sign: str) -> None:
        """See :class:`Cursor`."""

    def replace(self, *tokens: Token) -> None:
        """See :class:`Cursor`."""

    def script(self) -> str:
        """See :class:`Cursor`."""

    def letters(self) -> str:
        """See :class:`Cursor`."""

    def group(self, closers: tuple[str, ...] | None) -> Node:
        """Items up to a closer, or a fraction of them."""

    def items(self, closers: tuple[str, ...] | None) -> Node:
        """One item, or a list."""

    def relation(self) -> Node:
        """Sides with signs between."""

    def sum(self) -> Node:
        """Terms."""

    def sign(self) -> str:
        """The signs before a term."""

    def product(self) -> Node:
        """Factors."""

    def starts_operand(self, token: Token, left: Node) -> bool:
        """Whether a factor begins with this token."""

    def power(self, after: Node | None = None) -> Node:
        """An atom with what is raised over it."""

    def postfix(self, node: Node) -> Node:
        """A value with the signs after it."""

    def atom(self, after: Node | None = None) -> Node:
        """A value that nothing splits."""

    def argument(self) -> Node:
        """A LaTeX argument."""
