r"""The gate for foreign text: what a model, a data set or a file wrote, before a terminal or a picture shows it."""

from __future__ import annotations

import unicodedata

KEPT = "\n\t"
# Cf holds bidirectional controls and zero-width signs, which hide or reorder what is shown; the joiners are letters
# of some scripts.
JOINERS = "\u200c\u200d"


def visible(text: str, limit: int | None = None) -> str:
    r"""A text without anything that a terminal would obey or hide.

    Control characters (escape sequences among them), bidirectional and invisible signs, lone surrogates and private
    characters become their escapes. Line breaks and tabs stay.

    Args:
        text: of unknown origin.
        limit: characters after which it is cut, with a note of how many there were.

    >>> print(visible("5\u202e\x1b[2J\ud800"))
    5\u202e\x1b[2J\ud800
    >>> visible("x" * 50, limit=10)
    'xxxxxxxxxx... (50 characters)'
    """
    total = len(text)
    if limit is not None and total > limit:
        text = text[:limit]
    if not text.isprintable():
        text = "".join(sign if _harmless(sign) else ascii(sign)[1:-1] for sign in text)
    return f"{text}... ({total} characters)" if limit is not None and total > limit else text


def one_line(text: str, limit: int = 200) -> str:
    r"""The same on one line, short: for tables and messages.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return visible(text, limit).replace("\n", "\\n").replace("\t", "\\t")


def _harmless(sign: str) -> bool:
    if sign in KEPT or sign in JOINERS:
        return True
    return unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
