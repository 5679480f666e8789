r"""Cuts an answer into tokens: numbers, words, commands, texts, signs.

A token is ``(kind, text, spaced)``; ``spaced`` says whether blank space came before it.  Kinds: ``num``,
``word`` (a run of letters), ``cmd`` (a LaTeX command that the parser knows, without its backslash), ``text``
(the words of ``\text{...}``) and ``op`` (a sign).  Grouping of thousands is settled here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from llmrl.verifiers.limits import MAX_TOKENS, TooMuch, Unreadable


class Token(NamedTuple):
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
_SPACE = re.compile(r"\\[,;:! >]|\\(?:quad|qquad|thinspace|medspace|enspace|par)(?![A-Za-z])|~")
_NEWLINE = re.compile(r"\\\\(?:\s?\[\d+\w+\])?")
_BRACES = re.compile(r"\\(?:([lr]brace)|([lr]brack))(?![A-Za-z])")
_CONVERTED = re.compile(r"(?<=\d)\s*\(\((\d+)\)/\((\d+)\)\)")
_HALF = re.compile(
    r"(?:(?<=:\d\d)(?:[\s~]|\\[ ,;:])*(?:\\(?:text|mathrm|mbox|textrm)\s?\{)?\s*"
    r"|(?<=\d)(?:[\s~]|\\[ ,;:])*\\(?:text|mathrm|mbox|textrm)\s?\{\s*|(?<=\d)\s*(?=[ap]\.\s?m\.))"
    r"([aApP])\.?\s?[mM](?![A-Za-z])\.?\s*\}?"
)
_TIMES_TEN = re.compile(r"(?<=\d)\s*[xX]\s*(?=10\s*(?:\^|\*\*))")
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up)?|mbox|hbox|mathrm|mathbf|mathit|mathsf|mathtt|mathcal|mathfrak"
    r"|mathscr|boldsymbol|bm|pmb|operatorname\*?|emph|underline|textup|textsc|fbox|boxed|unit|bold)(?![A-Za-z])\s*"
)
_OPERATORS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "csc",
        "cis",
        "log",
        "ln",
        "exp",
        "gcd",
        "lcm",
        "max",
        "det",
        "arcsin",
        "arccos",
        "arctan",
        "sgn",
    ]
)
_WORDS = re.compile(r"\{([^{}\\$^_]*(?:\\[ ,;%$&][^{}\\$^_]*)*)\}|([A-Za-z0-9])")
_TOKEN = re.compile(
    r"\s+"
    r"|(?P<num>(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\d.]))?)"
    r"|\\(?P<cmd>[A-Za-z]+)\*?|\\(?P<esc>[{}%$|#&_])"
    r"|(?P<word>[A-Za-z]+)"
    r"|(?P<op>\.\.\.|\*\*|<=|>=|!=|==|:=|=>|[-+*/^_=<>()\[\]{}|,;:!%&'~.?\"])"
)
_AMOUNT = re.compile(r"\s*(?:[\d.]|\\[dt]?frac)")
_NEGATED = re.compile(r"\\not\s*(=|\\in\b|<|>)")


def tokens(text: str, *, thousands: bool) -> list[Token]:
    r"""The tokens of LaTeX or plain text.

    Args:
        thousands: whether a comma before three digits groups thousands, outside brackets.

    >>> [token.text for token in tokens(r"1{,}000 + \frac12\text{ cm}", thousands=True)]
    ['1000', '+', 'frac', '12', ' cm']
    """
    text = _DROP.sub(" ", _NEWLINE.sub(r" \\newline ", text))
    text = _BRACES.sub(
        lambda m: {"lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]"}[m.group()[1:]],
        text,
    )
    text = _HALF.sub(lambda m: rf"\time{m.group(1).lower()}m ", text)
    text = _CONVERTED.sub(r"\\frac{\1}{\2}", text)  # how converters write a mixed number
    text = _GLUE.sub("", text)
    text = _THIN.sub(lambda m: re.sub(r"\D", "", m.group()), text)
    text = _DECIMAL_COMMA.sub(".", text)
    text = _TIMES_TEN.sub(r"\\times ", text)
    text = _NEGATED.sub(lambda m: r"\ne " if m.group(1) == "=" else r"\notin ", text)
    text = _SPACE.sub(" ", text)
    text = text.replace("\\(", " ").replace("\\)", " ").replace("\\[", " ").replace("\\]", " ")
    if thousands:
        text = group_thousands(text)
    result: list[Token] = []
    place, spaced = 0, False
    while place < len(text):
        if text[place] == "$":
            place, spaced = place + 1, True
            continue
        style = _TEXT.match(text, place) if text[place] == "\\" else None
        if style is not None:
            words = _WORDS.match(text, style.end())
            if words is None:
                place = style.end()  # a style around a formula: the formula is read as it is
                continue
            content = words.group(1) if words.group(1) is not None else words.group(2)
            content = re.sub(r"\\(.)", r"\1", content)
            if content.strip() == "$":
                place, spaced = words.end(), True
                continue
            named = content.strip() in _OPERATORS
            result.append(
                Token("cmd", content.strip(), spaced) if named else Token("text", content, spaced)
            )
            place, spaced = words.end(), False
            continue
        match = _TOKEN.match(text, place)
        if match is None:
            raise Unreadable(f"the character {text[place]!r}")
        place = match.end()
        kind = match.lastgroup
        if kind is None:
            spaced = True
            continue
        content = match.group(kind)
        if kind == "esc":
            if content == "$":
                if _AMOUNT.match(text, place):
                    result.append(Token("cmd", "dollar", spaced))
                spaced = True
                continue
            kind = "op"
            content = {"{": "\\{", "}": "\\}", "|": "norm"}.get(content, content)
        result.append(Token(kind, content, spaced))
        spaced = False
        if len(result) > MAX_TOKENS:
            raise TooMuch(f"more than {MAX_TOKENS} signs")
    return result


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
