"""Bounds on an answer that are checked before any work, and the budget of the work itself.

An answer beyond a bound is not graded as equal to anything.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 4_096
MAX_DEPTH = 48
"""Brackets within brackets."""
MAX_FACTORS = 120
"""Factors of one product."""
MAX_POSTFIX = 12
"""Signs such as ``!`` after one value."""
MAX_RUN = 1_024
"""Digits in a row."""
MAX_DIGITS = 3_000
"""Digits in all."""
MAX_TOKENS = 1_500
MAX_CELLS = 144
"""Entries of a matrix, and of a list."""
MAX_BITS = 32_768
"""Size of an integer that is worked out; a larger power or factorial stays a symbol."""
MAX_TERMS = 300
"""Terms of a polynomial that is expanded."""
MAX_PRODUCTS = 40_000
"""Products of terms in one comparison, about a tenth of a second."""

_LONG_RUN = re.compile(rf"\d{{{MAX_RUN + 1}}}")
_DEPTH = re.compile(r"[({\[]|[)}\]]")


class TooMuch(ValueError):
    """The answer is larger than what is looked at, or comparing it would take too long."""


class Unreadable(ValueError):
    """The answer is not in a notation that the parser knows."""


def check_size(text: str) -> None:
    """Raise :class:`TooMuch` for text that is too long, too deep or has too many digits."""
    if len(text) > MAX_CHARACTERS:
        raise TooMuch(f"{len(text)} characters, more than {MAX_CHARACTERS}")
    if _LONG_RUN.search(text) or sum(map(str.isdigit, text)) > MAX_DIGITS:
        raise TooMuch(f"more than {MAX_RUN} digits in a row or {MAX_DIGITS} in all")
    depth = 0
    for match in _DEPTH.finditer(text):
        depth += 1 if match.group() in "({[" else -1
        if depth > MAX_DEPTH:
            raise TooMuch(f"brackets nested deeper than {MAX_DEPTH}")
