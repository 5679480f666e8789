"""From text to trees: cleaning, the readings that a comma allows, and words without mathematics."""

from __future__ import annotations

import functools
import re

from llmrl.verifiers.limits import check_size
from llmrl.verifiers.notation import to_latex
from llmrl.verifiers.parser import Node, parse

_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d{2}(?!\d)\s*")
_TIME = re.compile(
    r"(\d{1,2})\s?(?::|\{:\}|\\colon)\s?(\d\d)(?:\s|~|\\[,;: ])*(?:\\(?:text(?:rm|up)?|mathrm|mbox)\s?\{\s*)?"
    r"([ap])\.?\s?m\.?\s*\}?\.?",
    re.IGNORECASE,
)
_OPEN_END = re.compile(r"([\[\]])([^\[\]()]+)\[")  # [4, 5[ is [4, 5)
_GROUPED = re.compile(r"\d,\d{3}(?!\d)")
_THOUSANDS = re.compile(r"[-+$\s\\]*[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?[$\s]*")
_LISTED = re.compile(r"\\text\s?\{\s*([A-Za-z](?:\s*,\s*[A-Za-z])+|\d{1,2}:\d{2}[^{}]*)\}")
_MARKUP = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|mbox|hbox|mathrm|mathbf|mathit|mathsf|emph|operatorname)\s*(?=\{)"
    r"|\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])|\\[,;:! ]|\$|\\(?:quad|qquad)(?![A-Za-z])|\*\*"
)


@functools.lru_cache(maxsize=65_536)
def readings(text: str, decimal_comma: bool = True) -> list[Node]:
    """The trees that a text may stand for: one, or two where a comma is ambiguous.

    >>> len(readings("1,000")), len(readings("1,000 or 2,000"))
    (1, 2)
    """
    text = clean(text)
    check_size(text)
    trees = [parse(text)]
    if "," in text and _GROUPED.search(text) and not _THOUSANDS.fullmatch(text):
        other = parse(text, thousands=False)
        if other != trees[0]:
            trees.append(other)
    if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
        trees.append(parse(text.replace(",", ".")))
    return trees


def clean(text: str) -> str:
    """Plain LaTeX without the markup around it."""
    text = to_latex(text).strip()
    while text.startswith("**") and text.endswith("**") and len(text) > 4:
        text = text[2:-2].strip()
    if (inside := _LISTED.fullmatch(text)) is not None:
        text = inside.group(1)
    while text.endswith("\\") and not text.endswith("\\\\"):
        text = text[:-1].rstrip()
    if time := _TIME.fullmatch(text):
        return f"{time.group(1)}:{time.group(2)}\\text{{ {time.group(3).lower()}m}}"
    if open_end := _OPEN_END.fullmatch(text):
        opening = "(" if open_end.group(1) == "]" else "["
        return f"{opening}{open_end.group(2)})"
    return text.strip("`")


def compact(text: str) -> str:
    """The text without blanks and markup, for comparing what no parser reads."""
    text = re.sub(r"\s+", "", _MARKUP.sub("", to_latex(text)))
    if not re.search(r"[\^_\\]", text):  # braces may hold an exponent or an argument together
        text = text.replace("{", "").replace("}", "")
    return text.rstrip(".")


def bare_words(text: str) -> str | None:
    r"""The words of an answer that holds no mathematics; None if it does.

    >>> bare_words(r"\text{no solution}"), bare_words(r"\int_0^1")
    ('no solution', None)
    """
    words = _MARKUP.sub(" ", to_latex(text)).replace("{", " ").replace("}", " ")
    words = " ".join(words.split())
    return None if re.search(r"[\\^_=]", words) or not re.search(r"[^\W\d]", words) else words
