r"""A place in a list of tokens: looking ahead, taking, putting others in place, and texts that need no grammar."""

from __future__ import annotations

from llmrl.verifiers.math.parsing.limits import Unreadable
from llmrl.verifiers.math.parsing.tokens import Token

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
