r"""Reads letters: a symbol, a product of letters, a constant, a function's name, a unit, or a word.

``ab`` is a product, ``5 cm`` has a unit, ``AB`` may be a name, and a sentence is not mathematics.
"""

from __future__ import annotations

import re
from fractions import Fraction

from llmrl.verifiers.math.parsing.brackets import fenced
from llmrl.verifiers.math.parsing.calls import function
from llmrl.verifiers.math.parsing.cursor import Reader
from llmrl.verifiers.math.parsing.limits import MAX_DEPTH, TooMuch, Unreadable
from llmrl.verifiers.math.parsing.tokens import Token, tokens
from llmrl.verifiers.math.parsing.tree import Node, arguments, integer, letter, numeric
from llmrl.verifiers.math.parsing.units import CANONICAL, WORDS, canonical
from llmrl.verifiers.math.parsing.vocabulary import (
    CONSTANTS,
    GLUED,
    JOINERS,
    MULTIPLES,
    NO_OPERAND,
    SMALL_WORDS,
    WORD_FUNCTIONS,
)

_HEDGE = re.compile(
    r"\d|n['’]t\b|\b(?:or|not|if|maybe|perhaps|possibly|unless|to|and|but|instead|never|cannot|wrong"
    r"|incorrect|false)\b",
    re.IGNORECASE,
)
"""What units do not hold: words that say something of the value."""
_ANNOUNCES = re.compile(r"\b(?:answers?|results?|solutions?|value|final)\b", re.IGNORECASE)
"""Labels that say nothing but that the answer follows."""
_ENDS_TEXT = ("", ",", ";", ")", "]", "\\}", "&", "=", "}")


def word(p: Reader, token: Token, after: Node | None) -> Node:
    """The run of letters just taken; ``after`` is the factor before it, if there is one.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> [parse(text).kind for text in ("pi", "x", "ab", "sinx")], parse("5 cm").args[1].kind
    (['const', 'sym', 'word', 'call'], 'unit')
    """
    text = token.text
    if text in CONSTANTS:
        return Node("const", (CONSTANTS[text],))
    if text in WORD_FUNCTIONS and (text not in ("min", "sec") or p.peek().text == "("):
        return function(p, text)
    if len(text) == 1:
        if after is not None and text in CANONICAL and _letter_is_unit(p, token, after):
            return Node("unit", (CANONICAL[text],))
        return symbol(p, text)
    measured = after is not None and numeric(after)
    if measured and text.lower() in MULTIPLES:
        return Node("num", (Fraction(MULTIPLES[text.lower()]), text))
    if measured and text in WORDS:
        return Node("unit", (canonical(text),))
    if p.peek().text in ("^", "**", "!", "'") and text not in WORDS:
        # only the last letter is raised
        p.replace(Token("word", text[:-1], token.spaced), Token("word", text[-1]))
        return p.atom(after)
    _check_prose(p, token, after)
    for name in GLUED:
        if text.startswith(name) and len(text) - len(name) <= 2:
            p.replace(Token("word", name, token.spaced), Token("word", text[len(name) :]))
            return p.atom(after)
    if p.peek().text == "(" and not p.peek().spaced and len(text) > 3:
        raise Unreadable(f"the function {text!r}")
    if p.peek().text in ("_", "("):
        return Node("word", (text + "*", (*map(_symbol, text[:-1]), symbol(p, text[-1]))))
    return Node("word", (text, tuple(map(letter, text))))


def symbol(p: Reader, name: str) -> Node:
    """A letter or Greek one, with its index and, for a function, its argument.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> parse("x_{12}").args, parse("f(x)").kind, parse("a(x)").kind
    (('x_12',), 'call', 'mul')
    """
    if p.accept("_"):
        name = f"{name}_{p.script()}"
        if not (p.peek().text == "(" and _says_value(p)):
            return _symbol(name)
    bracket = p.peek().text == "(" and not p.peek().spaced
    if bracket and (name in ("f", "g", "h", "F", "G") or _says_value(p)):
        p.place += 1
        return Node("call", (name, arguments(fenced(p, "(", (")",)))))
    return letter(name)


def quoted(p: Reader, token: Token) -> Node:
    r"""What stands in ``\text{...}`` where a value is expected.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> parse(r"\text{odd}").kind, parse(r"\text{1,000}").args[1], parse(r"\text{A3}_{16}").kind
    ('text', '1000', 'based')
    """
    words = token.text.strip().lstrip("$")
    if words.lower() in ("infinity", "pi"):
        return Node("const", (CONSTANTS[words.lower()],))
    if p.peek().text == "_" and words.isalnum():
        p.place += 1
        script = p.script()
        if words.isalpha() and not (script.isdigit() and 10 < int(script) <= 36):
            return _symbol(f"{words}_{script}")
        return Node("based", (words, script))
    digits = words.lstrip("-+")
    if digits.replace(",", "").replace(".", "", 1).isdigit() and len(words) <= len(digits) + 1:
        p.replace(*tokens(digits, thousands=True))
        return Node("neg", (p.atom(),)) if words.startswith("-") else p.atom()
    if p.peek().kind in ("end", "op") and p.peek().text in _ENDS_TEXT:
        return Node("text", (words,))
    if len(words) == 1 and words.isalpha():
        return symbol(p, words)
    if p.peek().kind == "text":
        p.depth += 1
        if p.depth > MAX_DEPTH:
            raise TooMuch("too many texts in a row")
        following = quoted(p, p.take())
        if following.kind == "text":
            return Node("text", (f"{words} {following.args[0]}",))
    if words.endswith(":") and not _ANNOUNCES.search(words):
        return Node("rel", (("=",), (Node("text", (words.strip(": ").lower(),)), p.power())))
    if words.endswith((":", "=", "is")) or not words:
        return p.power()
    raise Unreadable(f"the words {words!r}")


def unit_or_symbol(p: Reader, token: Token) -> Node:
    r"""What stands in ``\text{...}`` after a value: a unit, a multiple such as "million", or a letter.

    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> parse(r"5\text{ cm}^2").args[1].kind
    'pow'
    """
    words = token.text.strip()
    if len(words) == 1 and words.isalpha() and not token.spaced and words not in CANONICAL:
        return symbol(p, words)
    if _HEDGE.search(words):
        raise Unreadable(f"the words {words!r} after a value")
    if words.lower() in MULTIPLES:
        return Node("num", (Fraction(MULTIPLES[words.lower()]), words))
    node = Node("unit", (canonical(words),)) if words else integer(1)
    return Node("pow", (node, p.power())) if p.accept("^") else node


def _symbol(name: str) -> Node:
    return Node("sym", (name,))


def _check_prose(p: Reader, token: Token, after: Node | None) -> None:
    """A sentence is not a product of its letters."""
    following = p.peek()
    if len(token.text) > 2 and following.spaced and following.text not in JOINERS:
        if following.kind in ("word", "num", "text") or (
            following.kind == "cmd" and len(token.text) > 3 and following.text not in NO_OPERAND
        ):
            raise Unreadable("a sentence")
    if after is None:
        return
    if len(token.text) > 4 or (token.spaced and (len(token.text) > 2 or token.text in SMALL_WORDS)):
        raise Unreadable(f"the word {token.text!r}")


def _letter_is_unit(p: Reader, token: Token, after: Node) -> bool:
    """Whether the letter just taken is metres or hours, and not a factor."""
    apart = token.spaced or _per(p) or _after_unit(p, after)
    return apart and numeric(after) and _ends_item(p) and _no_terms(p)


def _after_unit(p: Reader, after: Node) -> bool:
    """Whether this is the second unit of ``8 m/s``."""
    slash = p.place > 1 and p.found[p.place - 2].text == "/"
    return slash and after.kind == "mul" and after.args[1].kind == "unit"


def _per(p: Reader) -> bool:
    """Whether the word just taken is the h of ``km/h``."""
    before = p.found[max(0, p.place - 3) : p.place - 1]
    return len(before) == 2 and before[0].text in WORDS and before[1].text == "/"


def _ends_item(p: Reader) -> bool:
    """Whether the letter before is the last of its item."""
    following, after = p.peek(), p.peek(1)
    if following.text in (")", "]"):
        return after.kind == "end" or after.text in (",", ";")
    if following.text == "/":
        return after.kind in ("word", "text")
    return following.kind == "end" or following.text in (",", ";", "^", "and", "or")


def _no_terms(p: Reader) -> bool:
    """Whether nothing is added and nothing but an exponent is in brackets, in the whole answer."""
    before = ["", *(token.text for token in p.found)]
    return not any(
        token.text == "+"
        or (token.text == "(" and before[place] != "^")
        or (token.text == "-" and place and before[place] != "=" and before[place - 1 : place + 1] != ["^", "("])
        for place, token in enumerate(p.found)
        if token.kind == "op"
    )


def _says_value(p: Reader) -> bool:
    """Whether a bracket that opens here closes before an equality sign, as in ``P(2) = 5``."""
    depth = 0
    for place in range(p.place, len(p.found)):
        text = p.found[place].text
        depth += (text == "(") - (text == ")")
        if depth == 0:
            return place + 1 < len(p.found) and p.found[place + 1].text == "="
    return False
