"""Values that are said in words: numbers, fractions, signs, the reals without some points, dates."""

from __future__ import annotations

import re

from llmrl.verifiers.math.parsing.vocabulary import MULTIPLES, STYLE

_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen"""
_NUMBERS = {word: value for value, word in enumerate(_SMALL.split())}
"""Numbers in one word, below twenty."""
_TENS = dict(
    zip(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), range(20, 100, 10), strict=True)
)
_SCALES = ("trillion", "billion", "million", "thousand", "hundred", "dozen")
"""Multiples, the largest first, that may have a number before and a smaller one behind them."""
_PARTS = "half third quarter fourth fifth sixth seventh eighth ninth tenth"
_DENOMINATORS = dict(zip(_PARTS.split(), (2, 3, 4, 4, 5, 6, 7, 8, 9, 10), strict=True)) | {"halve": 2}
_FRACTION = re.compile(rf"(?:(a|an|{'|'.join(_NUMBERS)}|twenty)[\s-]+)?({'|'.join(_DENOMINATORS)})s?")
_SIGN = re.compile(r"(?:minus|negative)\s+(.+)", re.DOTALL)
_STYLED_WORD = re.compile(rf"{STYLE}\s*\{{([^{{}}\\]*)\}}")
_EXCEPT = re.compile(
    r"(?:x\s*\\in\s*)?(?:all|any)\s+real(?:\s+number)?s?\s*,?\s*(?:x\s+)?(?:except|but|other\s+than|excluding)\s+(?:for\s+)?(?:x\s*=\s*)?([-\d/,\s]+?(?:\s*and\s+[-\d/]+)?)"
)
_NOTHING = re.compile(
    r"(?:there (?:is|are|exists?) |(?:it|(?:the )?equation) has )?no (?:real |such )?(?:solutions?|roots?)(?: exists?)?"
    r"|(?:the )?empty set"
)
_MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_MONTH = "|".join(f"{month[:3]}(?:{month[3:]})?" for month in _MONTHS)
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATE = re.compile(
    rf"(?:({_MONTH})\.?\s+(?:the\s+)?{_DAY}|(?:the\s+)?{_DAY}\s+(?:of\s+)?({_MONTH})\.?)(?:,?\s+(\d{{4}}))?"
)


def in_notation(text: str) -> str:
    r"""The LaTeX of a value that is said in words; any other text as it is.

    >>> in_notation("three quarters"), in_notation("minus forty-two"), in_notation("all real numbers except 0")
    ('\\frac{3}{4}', '-42', '\\mathbb{R} \\setminus \\{0\\}')
    """
    if not any(map(str.isalpha, text)):
        return text
    words = _words(text)
    if (count := _count(words.replace("-", " ").split())) is not None:
        return str(count)
    if (signed := _SIGN.fullmatch(words)) is not None:
        return f"-{in_notation(signed.group(1))}" if signed.group(1)[0].isalnum() else text
    if (fraction := _FRACTION.fullmatch(words)) is not None:
        above = _count([fraction.group(1) or "one"]) or 1
        return rf"\frac{{{above}}}{{{_DENOMINATORS[fraction.group(2)]}}}"
    if _NOTHING.fullmatch(words) is not None:
        return r"\emptyset"
    if (points := _EXCEPT.fullmatch(words)) is not None:
        return rf"\mathbb{{R}} \setminus \{{{points.group(1).replace('and', ',')}\}}"
    return text


def _count(words: list[str]) -> int | None:
    """The whole number that words say.

    >>> _count("two thousand three hundred and five".split()), _count("a hundred".split()), _count("five two".split())
    (2305, 100, None)
    """
    for scale in _SCALES:
        if scale in words:
            at = words.index(scale)
            before = 1 if words[:at] in (["a"], ["an"]) else _count(words[:at])
            behind = words[at + 1 :]
            rest = _count(behind[behind[:1] == ["and"] :]) if behind else 0
            if not before or rest is None or rest >= MULTIPLES[scale] or (behind and not rest):
                return None
            return before * MULTIPLES[scale] + rest
    if len(words) == 2 and words[0] in _TENS and 0 < _NUMBERS.get(words[1], 0) < 10:
        return _TENS[words[0]] + _NUMBERS[words[1]]
    return (_NUMBERS | _TENS).get(words[0]) if len(words) == 1 else None


def date_in_words(text: str) -> tuple[int, ...] | None:
    """Year where given, month and day of a date with the name of its month.

    >>> date_in_words("5 May"), date_in_words("May 5th, 2024"), date_in_words("May")
    ((5, 5), (2024, 5, 5), None)
    """
    found = _DATE.fullmatch(_words(text)) if text[:1].isalnum() or text[:1] == "\\" else None
    if found is None:
        return None
    before, day, other_day, behind, year = found.groups()
    month = next(at for at, name in enumerate(_MONTHS, 1) if name.startswith((before or behind)[:3]))
    return (*([int(year)] if year else []), month, int(day or other_day))


def _words(text: str) -> str:
    """The words without the command that sets them, in small letters."""
    return _STYLED_WORD.sub(r"\1", text).lower().strip(". ")
