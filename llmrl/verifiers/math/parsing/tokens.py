r"""Cuts an answer into tokens: numbers, words, commands, texts, signs.

A token is ``(kind, text, spaced)``; ``spaced`` says whether blank space came before it.  Kinds: ``num``,
``word`` (a run of letters), ``cmd`` (a LaTeX command that the parser knows, without its backslash), ``text``
(the words of ``\text{...}``) and ``op`` (a sign).  Grouping of thousands is settled here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from llmrl.verifiers.math.parsing.limits import MAX_TOKENS, TooMuch, Unreadable
from llmrl.verifiers.math.parsing.units import WORDS
from llmrl.verifiers.math.parsing.vocabulary import FUNCTIONS, STYLE


class Token(NamedTuple):
    """A token, and whether blank space came before it."""

    kind: str
    text: str
    spaced: bool = False


_DROP = re.compile(
    r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|hfill|"
    r"mathstrut|strut|normalsize|large|Large|small|nobreak|allowbreak|relax)(?![A-Za-z])\.?"
    r"|\\[hv]space\*?\s?\{[^{}]*\}|\\[vh]?phantom\s?(?:\{[^{}]*\}|.)|\\label\s?\{[^{}]*\}|\\tag\s?\{[^{}]*\}"
)
_GLUE = re.compile(r"(?<=\d)(?:\{,\}|,\s?\\!|\\!,|\{,\}\s?\\!)\s?(?=\d{3}(?!\d))")
_THIN = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\\[,;: ]|~|\{ \}|\{\\,\}| )\d{3})+(?![\d])")
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_EMPTY_GROUP = re.compile(r"(\\[A-Za-z]+\s*|[\^_]\s*|\{\})?\{\s*\}")
_CHOOSE = re.compile(r"(?:\{\})?[_^]\{?(\d{1,4})\}?\s*C\s*_\{?(\d{1,4})\}?")
_ROMAN_POWER = re.compile(r"\\(?:mathrm|text)\s?\{\s*([A-Za-z]+)\s*/\s*([A-Za-z]+)\s*\^\{?(-?\d)\}?\s*\}")
_PRIME = r"(?:'|\^\s*\{?\s*\\prime\s*\}?)"
_SECONDS = r"(?:''|\\?\"|\^\s*\{?\s*\\prime\s*\\prime\s*\}?)"
_TEMPERATURE = re.compile(
    r"(?:\^\s*\{?\s*\\circ\s*\}?|\bdegrees?\b)\s*(?:\\(?:text|mathrm|rm|textrm)\s*\{?\s*)?(celsius|fahrenheit|[CF])\b\s*\}?(?!\s*[=+*/^_(])",
    re.IGNORECASE,
)
_SCALES = {"C": "celsius", "F": "fahrenheit"}
_ARC = re.compile(
    rf"(\d{{1,3}})\s*\^\s*\{{?\s*\\circ\s*\}}?\s*(\d{{1,2}})\s*{_PRIME}(?!')(?:\s*(\d{{1,2}})\s*{_SECONDS})?"
)
_SPACE = re.compile(r"\\[,;:! >()\[\]]|\\(?:quad|qquad|thinspace|medspace|enspace|par)(?![A-Za-z])|~")
_NEWLINE = re.compile(r"\\\\(?:\s?\[\d+\w+\])?")
_BRACES = re.compile(r"\\[lr]brac[ek](?![A-Za-z])")
_CONVERTED = re.compile(r"(?<=\d)\s*\(\((\d+)\)/\((\d+)\)\)")
_HALF = re.compile(
    r"(?:(?<=:\d\d)(?:[\s~]|\\[ ,;:])*(?:\\(?:text|mathrm|mbox|textrm)\s?\{)?\s*"
    r"|(?<=\d)(?:[\s~]|\\[ ,;:])*\\(?:text|mathrm|mbox|textrm)\s?\{\s*|(?<=\d)\s*(?=[ap]\.\s?m\.))"
    r"([aApP])\.?\s?[mM](?![A-Za-z])\.?\s*\}?"
)
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
_TEXT = re.compile(rf"{STYLE}\s*")
_OPERATORS = FUNCTIONS - WORDS
_WORDS = re.compile(r"\{([^{}\\$^_]*(?:\\[ ,;%$&][^{}\\$^_]*)*)\}|([A-Za-z0-9])")
_TOKEN = re.compile(
    r"\s+"
    r"|(?P<num>(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\d.]))?)"
    r"|\\(?P<cmd>[A-Za-z]+)\*?|\\(?P<esc>[{}%$|#&_])"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<op>\.\.\.|\*\*|<=|>=|!=|==|:=|=>|[-+*/^_=<>()\[\]{}|,;:!%&'~.?\"])",
    re.ASCII,
)
_ESCAPED = {"{": "\\{", "}": "\\}", "|": "norm"}
_BRACE_NAMES = {"lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]"}
_AMOUNT = re.compile(r"\s*(?:[\d.]|\\[dt]?frac)")
_NEGATED = re.compile(r"\\not\s*(=|\\in\b|<|>)")


def tokens(text: str, *, thousands: bool) -> list[Token]:
    r"""The tokens of LaTeX or plain text.

    Args:
        thousands: whether a comma before three digits groups thousands, outside brackets.

    >>> [token.text for token in tokens(r"1{,}000 + \frac12\text{ cm}", thousands=True)]
    ['1000', '+', 'frac', '12', ' cm']
    """
    text = _plain_notation(text)
    if thousands:
        text = group_thousands(text)
    result: list[Token] = []
    place, spaced = 0, False
    while place < len(text):
        if text[place] == "$":
            place, spaced = place + 1, True
            continue
        if text[place] == "\\" and (style := _TEXT.match(text, place)) is not None:
            words = _WORDS.match(text, style.end())
            if words is None:
                place = style.end()  # a style around a formula: the formula is read as it is
                continue
            place = words.end()
            content = re.sub(r"\\(.)", r"\1", words.group(words.lastindex or 1))
            name = content.strip()
            if name == "$":
                spaced = True
                continue
            if name in ("e", "i") and style.group().startswith(("\\math", "\\operatorname")):
                kind, content = "word", name
            else:
                kind, content = ("cmd", name) if name in _OPERATORS else ("text", content)
        else:
            match = _TOKEN.match(text, place)
            if match is None:
                raise Unreadable(f"the character {text[place]!r}")
            place = match.end()
            if match.lastgroup is None:
                spaced = True
                continue
            kind, content = match.lastgroup, match.group(match.lastgroup)
            if kind == "esc" and content == "$":
                if _AMOUNT.match(text, place):
                    result.append(Token("cmd", "dollar", spaced))
                spaced = True
                continue
            if kind == "esc":
                kind, content = "op", _ESCAPED.get(content, content)
        result.append(Token(kind, content, spaced))
        spaced = False
        if len(result) > MAX_TOKENS:
            raise TooMuch(f"more than {MAX_TOKENS} signs")
    return result


def _plain_notation(text: str) -> str:
    """The text with one notation for each of: line ends, brackets, blanks, digit groups, times of the day."""
    if "\\" in text:
        text = _DROP.sub(" ", _NEWLINE.sub(r" \\newline ", text))
    text = text.replace("{:}", ":")
    if "brac" in text:
        text = _BRACES.sub(lambda m: _BRACE_NAMES[m.group()[1:]], text)
    if "m" in text or "M" in text:
        text = _HALF.sub(lambda m: rf"\time{m.group(1).lower()}m ", text)
    if "((" in text:
        text = _CONVERTED.sub(r"\\frac{\1}{\2}", text)  # how converters write a mixed number
    if "," in text:
        text = _GLUE.sub("", text)
    text = _THIN.sub(lambda m: re.sub(r"\D", "", m.group()), text)
    if "{,}" in text:
        text = _DECIMAL_COMMA.sub(".", text)
    if "{}" in text or "{ " in text:
        text = _EMPTY_GROUP.sub(lambda m: m.group() if m.group(1) else " ", text)
    text = text.replace("\\&", ",")
    if "C" in text:
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    if "/" in text:
        text = _ROMAN_POWER.sub(r"\\text{\1}\\text{/\2}^{\3}", text)
    if "circ" in text or "degree" in text:
        text = _TEMPERATURE.sub(lambda m: rf"\text{{ {_SCALES[m.group(1).upper()[:1]]} }}", text)
    if "circ" in text:
        text = _ARC.sub(_degrees, text)
    if "10" in text:
        text = _TIMES_TEN.sub(r"\\times ", text)
    if "\\not" in text:
        text = _NEGATED.sub(lambda m: r"\ne " if m.group(1) == "=" else r"\notin ", text)
    return _SPACE.sub(" ", text)


def _degrees(match: re.Match[str]) -> str:
    """Degrees, minutes and seconds as one fraction of a degree."""
    whole, minutes, seconds = (int(part or 0) for part in match.groups())
    return rf"\frac{{{3600 * whole + 60 * minutes + seconds}}}{{3600}}^\circ "


_RUN = re.compile(r"(?<![\d.,])\d+(?:,\d+)+(?![\d,])")


def group_thousands(text: str) -> str:
    """Join ``1,000`` outside brackets; ``54,108,1`` and ``(1,200)`` are lists.

    >>> group_thousands("1,000 and (1,200)")
    '1000 and (1,200)'
    """
    if "," not in text:
        return text
    depth, place, pieces = 0, 0, []
    for match in _RUN.finditer(text):
        before = text[place : match.start()]
        depth += sum(before.count(c) for c in "([") - sum(before.count(c) for c in ")]")
        depth += before.count("\\{") - before.count("\\}")
        run = match.group()
        if depth <= 0 and re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+", run):
            run = run.replace(",", "")
        pieces += [before, run]
        place = match.end()
    return "".join([*pieces, text[place:]])
