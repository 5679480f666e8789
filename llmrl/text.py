r"""The gate for foreign text: what a model, a data set or a file wrote, before it is shown or read as JSON."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from llmrl.errors import UserError

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


class DamagedFile(UserError, ValueError):
    """A file does not hold what was written into it; the message names it and what is wrong."""


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DamagedFile: it is cut off, no text, nested too deeply, or has a number of thousands of digits.
    """
    return _parsed(path.read_bytes(), str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of one JSON object a line.

    Raises:
        DamagedFile: a line holds no object; the message says which.
    """
    rows = []
    with path.open("rb") as lines:  # str.splitlines would split at more than line feeds
        for number, line in enumerate(lines, 1):
            row = _parsed(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise DamagedFile(f"{path}, line {number} holds no JSON object: {one_line(str(row), 40)}")
            rows.append(row)
    return rows


def json_line(value: Any) -> str:
    r"""A line of JSON Lines, readable; in ASCII where a text holds half a surrogate pair, which no file could take.

    >>> print(json_line({"x": "\u00e9"}), json_line("half \ud800"), end="")
    {"x": "é"}
     "half \ud800"
    """
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        text = json.dumps(value)
    return text + "\n"


def _parsed(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{place} cannot be read as JSON: {one_line(str(error))}.") from error


def _harmless(sign: str) -> bool:
    if sign in KEPT or sign in JOINERS:
        return True
    return unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
