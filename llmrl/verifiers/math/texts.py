"""From text to trees: cleaning, the readings that a comma allows, and words without mathematics."""

from __future__ import annotations

import functools
import re

from llmrl.verifiers.math.parsing.limits import check_size
from llmrl.verifiers.math.parsing.notation import to_latex
from llmrl.verifiers.math.parsing.parser import parse
from llmrl.verifiers.math.parsing.spoken import date_in_words, in_notation
from llmrl.verifiers.math.parsing.tree import Node
from llmrl.verifiers.math.parsing.units import WORDS, droppable
from llmrl.verifiers.math.parsing.vocabulary import MULTIPLES, STYLE

_CURRENCY = r"(?:\\text\s?\{\s*)?(?:\\(?:euro|dollar|gbp|\$)|\$|EUR|USD|GBP|euros?|dollars?)\s*\}?"
_DECIMAL_COMMA = re.compile(rf"\s*(?:\\text\s?\{{\s*)?[-+]?\d+,\d{{2}}(?!\d)\s*(?:{_CURRENCY})?\s*\}}?\s*")
_DATE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})|(\d{4})/(\d{1,2})/(\d{1,2})|(\d{1,2})/(\d{1,2})/(\d{4})|(\d{1,2})\.(\d{1,2})\.(\d{4})"
)
"""Dates in digits, which are no differences or quotients."""
_IS_ANSWER = re.compile(r"\\text\s?\{\s*is the (?:final |correct )?answer\.?\s*\}$")
_FOR_ALL = re.compile(
    r",?(?:\\[,;: ]|\s)*\(?(?:\\text\s?\{)?[\s,(]*for (?:all|any|every|each)(?: (?:positive |non-?negative )?integers?"
    r"|(?: (?:real|natural|whole))?(?: (?:numbers?|reals?|values of))?)\s*\}?"
    r"(?:\\[,; ]|\s)*\$?[a-z]\$?(?:\s*\\in\s*\\mathbb\s*\{?R\}?)?\s*\)?\s*\}?$"
)
"""A remark that says of which values a formula holds: of all."""
_ABOUT = re.compile(
    r"(?:\\[,;: ]|\s)*(?:\\text\s?\{)?\s*\(\s*(?:\\text\s?\{)?\s*(?:(?:which|that) is |or )?(?:about|approximately"
    r"|approx\.?|roughly|\\approx)\s*\}?\s*\$?(-?\d+(?:\.\d+)?)\$?\s*\)\s*\}?$"
)
"""A remark that gives the size of an exact value; it must be right."""
_FAMILY = re.compile(
    r"(?:\\[,;: ]|\\q?quad|[\s,(]|\\text\s?\{\s*,?\s*\(?(?:where|for|with|for (?:any|all|some|every))?(?:"
    r" an?)?(?: integers?)?\s*\}"
    r"|where|for(?: any| all| some| every)?|with)+\$?([a-z])\$?\s*\\in\s*(?:\\mathbb\s*\{?|\\mathbf\s*\{?"
    r"|)([ZN])\s*\}?\s*\)?\$?$"
)
"""The numbers that a parameter ranges over, after a family of values."""
_REMAINDER = re.compile(r"(\d+)(?:\s*(?:\\text\s?\{\s*(?:remainder|[Rr])\s*\}|R)\s*|\s+remainder\s+)(?:of\s+)?(\d+)")
"""A quotient and its remainder."""
_ARTICLE = re.compile(r"^(?:an?|the) (?=\w{3})", re.IGNORECASE)
_SENTENCE = re.compile(r"[A-Z][a-z]+(?: [a-z]+){1,8} (\\\$\s?)?(-?\d+(?:\.\d+)?)(?: ([a-z]+))?(?: [a-z]{2,}){0,5}\.?")
"""A sentence in small words with one number, which is money or has a noun behind it."""
_QUALIFIED = re.compile(
    rf"\b(?:{'|'.join(MULTIPLES)}|an?|one|two|three|four|five|half|twice|double|triple|percent|per|each|every|of|to|and|or|but|if|than"
    r"|more|less|fewer|least|most|about|around|almost|nearly|roughly|approximately|over|under|up|only|first|minus|plus|times"
    r"|negative|squared|cubed|not|no|never|cannot|would|could|should|might|may|must|maybe|perhaps|guess|think|unless|except"
    r"|wrong|between|below|above|within|outside|behind|beyond|exceeds?|number|other|another|pairs?|remainder|root|power|pi)\b",
    re.IGNORECASE,
)
"""Words with which the number in a sentence is not its value."""
_NO_DECIMAL_COMMA = re.compile(r"(?<!\d),|,(?!\d)|,\d{3}(?!\d)|\d,\d+,|[()\[\]{}]")
_RUPEES = re.compile(r"(?<![A-Za-z])Rs\.?\s*(?=\d)")
_IN_BASE = re.compile(
    rf"\(?(\d(?:[0-9A-F]|{STYLE}\s*\{{[A-F]+\}})*)\)?_(?:\{{?(\d{{1,2}})\}}?|\{{?{STYLE}\s*\{{\s*([a-z]+)\s*\}}\}}?)"
)
"""Digits in a base that a number or a word names."""
_UNITS_IN_WORDS = re.compile(r"(?:and\s+)?(\d+(?:\.\d+)?)\s+([A-Za-z]+(?:\s+per\s+[A-Za-z]+)?)")
_SEVERAL_UNITS = re.compile(rf"{_UNITS_IN_WORDS.pattern}(?:\s+{_UNITS_IN_WORDS.pattern}){{0,2}}")
_CONDITION_WORD = re.compile(r",?\s*&\s*(?:\\text\w*\s?\{\s*)?(?:if|for|when|where)\b\s*\}?")
"""What opens the condition of a function that is defined by cases."""
MAX_REMARKED = 300
"""Characters up to which remarks after a formula are looked for."""
_OPEN_END = re.compile(r"([\[\]])([^\[\]()]+)\[")  # [4, 5[ is [4, 5)
_GROUPED = re.compile(r"\d,\d{3}(?!\d)")
_THOUSANDS = re.compile(r"[-+$\s\\]*[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?[$\s]*")
_LISTED = re.compile(r"\\text\s?\{\s*([A-Za-z](?:\s*,\s*[A-Za-z])+|\d{1,2}:\d{2}[^{}]*)\}")
_MARKUP = re.compile(
    rf"{STYLE}\s*(?=\{{)"
    r"|\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])|\\[,;:! ]|\$|\\(?:quad|qquad)(?![A-Za-z])|\*\*"
)


_LABEL = re.compile(rf"(?:{STYLE}\s*\{{)?\s*\(?([A-J])(?:\)[.:]?|[.:])\s*\}}?(?:[\s~]|\\[,;: ]|\\quad)*(?=[^\s}}])")
_CHOICE = re.compile(
    rf"\$?(?:{STYLE}\s*\{{)?\s*(?i:option|choice|answer)?[\s:]*(?:{STYLE}\s*\{{)?\s*\(?([A-J])\)?\.?\s*\}}?\$?"
)


@functools.lru_cache(maxsize=65_536)
def readings(text: str, decimal_comma: bool = True) -> tuple[Node, ...]:
    """The trees that a text may stand for: one, or two where a comma is ambiguous.

    >>> len(readings("1,000")), len(readings("1,000 or 2,000"))
    (1, 2)
    """
    text = clean(text)
    check_size(text)
    if (date := _DATE.fullmatch(text)) is not None:
        return (Node("date", tuple(int(part) for part in date.groups() if part)),)
    if (said := date_in_words(text)) is not None:
        return (Node("date", said),)
    text = in_notation(text)
    trees = [parse(text)]
    if "," in text and _GROUPED.search(text) and not _THOUSANDS.fullmatch(text):
        other = parse(text, thousands=False)
        if other != trees[0]:
            trees.append(other)
    if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
        trees.append(parse(text.replace(",", ".")))
    return tuple(trees)


def with_decimal_commas(text: str) -> tuple[Node, ...]:
    """The tree of a text whose commas are all decimal ones; none if there are others.

    >>> len(with_decimal_commas("1,5 + 2,25 = 3,75")), len(with_decimal_commas("1, 5"))
    (1, 0)
    """
    text = clean(text)
    if "," not in text or "." in text or _NO_DECIMAL_COMMA.search(text):
        return ()
    return readings(text.replace(",", "."))


@functools.lru_cache(maxsize=8_192)
def clean(text: str) -> str:
    """Plain LaTeX without the markup around it.

    >>> clean("**5**"), clean("]4, 5[")
    ('5', '(4, 5)')
    """
    text = " ".join(to_latex(text).split())
    while text.startswith("**") and text.endswith("**") and len(text) > 4:
        text = text[2:-2].strip()
    if (inside := _LISTED.fullmatch(text)) is not None:
        text = inside.group(1)
    while text.endswith("\\") and not text.endswith("\\\\"):
        text = text[:-1].rstrip()
    if ("R" in text or "r" in text) and (divided := _REMAINDER.fullmatch(text)) is not None:
        return rf"\text{{{divided.group(1)} R {divided.group(2)}}}"
    if "Rs" in text:
        text = _RUPEES.sub(r"\\rupee ", text)
    if (based := _IN_BASE.fullmatch(text)) is not None:
        text = _in_base(text, *based.groups())
    if _SEVERAL_UNITS.fullmatch(text) is not None and WORDS.issuperset({*re.findall("[A-Za-z]+", text)} - {"and"}):
        text = _UNITS_IN_WORDS.sub(r"\1\\text{ \2 }", text)
    if r"\begin{cases}" in text:
        text = _CONDITION_WORD.sub("& ", text)
    if len(text) <= MAX_REMARKED:
        text = _without_remarks(text)
    if open_end := _OPEN_END.fullmatch(text):
        opening = "(" if open_end.group(1) == "]" else "["
        return f"{opening}{open_end.group(2)})"
    return text.strip("`")


def _in_base(text: str, digits: str, base: str | None, word: str | None) -> str:
    """Digits in a base as the parser reads them; the text as it is where they are none."""
    digits = re.sub(r"\\\w+|[{}\s]", "", digits)
    base = base or in_notation(word or "")
    if not (base.isdigit() and 1 < int(base) <= 36 and all(int(digit, 16) < int(base) for digit in digits)):
        return text
    return f"{digits}_{{{base}}}" if digits.isdigit() else rf"\text{{{digits}}}_{{{base}}}"


def _without_remarks(text: str) -> str:
    """Without what is said after a formula: that it is the answer, how large it is, of which values it holds."""
    text = _IS_ANSWER.sub("", text)
    if "for " in text:
        text = _FOR_ALL.sub("", text)
    if "(" in text:
        text = _ABOUT.sub(r" \\approx \1", text)
    if "\\in" in text:
        text = _FAMILY.sub(r", \1 \\in \\mathbb{\2}", text)
    return text


def choice(text: str) -> str | None:
    r"""The letter of an answer that is nothing but a choice.

    >>> choice(r"\text{(B)}"), choice("B"), choice("AB")
    ('B', 'B', None)
    """
    found = _CHOICE.fullmatch(text.strip())
    return found.group(1) if found else None


def labelled(text: str) -> tuple[str, str] | None:
    r"""The letter of a choice and the text that stands after it.

    >>> labelled(r"\textbf{(B)}\ 12"), labelled("12")
    (('B', '12'), None)
    """
    text = clean(text)
    found = _LABEL.match(text)
    if found is None:
        return None
    rest = text[found.end() :]
    return found.group(1), rest[:-1] if rest.count("}") > rest.count("{") else rest


def compact(text: str) -> str:
    r"""The text without blanks and markup, for comparing what no parser reads.

    >>> compact(r"$\left( 1, \mathbf{2} \right)$")
    '(1,2)'
    """
    text = re.sub(r"\s+", "", _MARKUP.sub("", to_latex(text)))
    if not re.search(r"[\^_\\]", text):  # braces may hold an exponent or an argument together
        text = text.replace("{", "").replace("}", "")
    return text.rstrip(".")


def sentence_value(text: str) -> str | None:
    r"""The one number of a whole sentence that says nothing else of it, such as a bound or a comparison.

    >>> sentence_value(r"\text{Lena gets } 7 \text{ euros back}"), sentence_value(r"\text{at least } 7")
    ('7', None)
    """
    if not text.lstrip("$ ").startswith("\\text"):
        return None
    words = re.sub(r"\\text\w*\s?\{|\\[,;: ]|[{}]", " ", text.strip("$ "))
    found = _SENTENCE.fullmatch(" ".join(words.split()))
    if found is None or _QUALIFIED.search(words):
        return None
    money, value, noun = found.groups()
    return value if money or (noun and (noun in WORDS or droppable(f"?{noun}"))) else None


def bare_words(text: str) -> str | None:
    r"""The words of an answer that holds no mathematics; None if it does.

    >>> bare_words(r"\text{no solution}"), bare_words(r"\int_0^1")
    ('no solution', None)
    """
    words = _MARKUP.sub(" ", to_latex(text)).replace("{", " ").replace("}", " ")
    words = " ".join(words.split())
    return None if re.search(r"[\\^_=]", words) or not re.search(r"[^\W\d]", words) else words


def plain_words(text: str, case: bool) -> str:
    """The letters and digits that count: "(A)", "A." and "a" are one answer, and so are "a circle" and "circle".

    >>> plain_words("(A)", case=True) == plain_words("a.", case=True)
    True
    """
    text = re.sub(r"[^\w\s+/<>=-]", " ", text.replace("$", " "))
    text = _ARTICLE.sub("", " ".join(text.split()))
    return text.casefold() if case else text
