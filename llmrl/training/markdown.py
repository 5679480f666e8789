"""Outside text as Markdown: in code spans, fenced blocks and tables, from which it does not get out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llmrl.text import one_line, visible


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: Any) -> str:
    """A number for a cell; a dash for anything else."""
    return f"{value:.3g}" if isinstance(value, (int, float)) else "-"


def code(value: Any) -> str:
    r"""A text as a code span of one line, also within a table.

    >>> print(code("a`b"), code("<b>|x"))
    ``a`b`` `<b>\|x`
    """
    text = one_line(str(value)).replace("|", "\\|") or " "
    fence = _fence(text, 1)
    edge = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{edge}{text}{edge}{fence}"


def block(text: str, language: str = "") -> str:
    """A text as a fenced block."""
    text = visible(text.rstrip("\n"))
    fence = _fence(text, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _fence(text: str, least: int) -> str:
    """Backticks that do not occur in a text in this number or more."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
