"""From what a model wrote to plain LaTeX: look-alikes, invisible characters, decoration.

What is removed here never matters for the meaning.  Everything is linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata

MAX_CHARACTERS = 4_096

# Characters that change the order in which a reader sees the text: it says something else than it shows.
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")
_FROM = {
    "\u2212\u2013\u2014\u2010\u2011\u2012\ufe63\uff0d": "-",
    "×✕✖⨯": " \\times ",
    "·⋅∙•∗": " \\cdot ",
    "÷": " \\div ",
    "∞": " \\infty ",
    "≤⩽≦": " \\le ",
    "≥⩾≧": " \\ge ",
    "≠": " \\ne ",
    "≈": " \\approx ",
    "±": " \\pm ",
    "∓": " \\mp ",
    "∪⋃": " \\cup ",
    "∩⋂": " \\cap ",
    "∈": " \\in ",
    "∅⌀": " \\emptyset ",
    "ℝ": " \\mathbb{R} ",
    "°º˚": "^\\circ ",
    "√": " \\surd ",
    "∛": " \\cuberoot ",
    "⌊": " \\lfloor ",
    "⌋": " \\rfloor ",
    "⌈": " \\lceil ",
    "⌉": " \\rceil ",
    "′’ʹ": "'",
    "⁄∕": "/",
    "：": ":",
    "，、": ",",
    "。": ".",
    "％": "%",
    "ⅈ": "i",
    "∧": " \\land ",
    "∨": " \\lor ",
}
_MAP = {character: to for group, to in _FROM.items() for character in group}
for _name in (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
).split():
    _capital = "CAPITAL" if _name[0].isupper() else "SMALL"
    _greek = "LAMDA" if _name.lower() == "lambda" else _name.upper()
    _MAP[unicodedata.lookup(f"GREEK {_capital} LETTER {_greek}")] = f" \\{_name} "
_MAP["µ"] = " \\mu "
# Letters of other alphabets that look the same.
_MAP.update(zip("асеорхуіАВСЕНІКМОРТХ", "aceopxyiABCEHIKMOPTX", strict=True))
_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ⁽⁾", "0123456789+-ni()", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_SCRIPTS = re.compile(f"([{''.join(_SUPERSCRIPT)}]+)|([{''.join(_SUBSCRIPT)}]+)")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")


class Unreadable(ValueError):
    """The text is no answer that this package can read; the message says why."""


def _script(match: re.Match[str]) -> str:
    if match[1]:
        return "^{" + "".join(_SUPERSCRIPT[c] for c in match[1]) + "}"
    return "_{" + "".join(_SUBSCRIPT[c] for c in match[2]) + "}"


def _vulgar(match: re.Match[str]) -> str:
    top, bottom = unicodedata.normalize("NFKC", match[0]).split("\u2044")
    return f" \\frac{{{top}}}{{{bottom}}}"


def fold_unicode(text: str) -> str:
    """ASCII for everything that looks like ASCII or has a LaTeX name; the rest stays.

    >>> fold_unicode("２x² ≤ \\u200b½")
    '2x^{2}  \\\\le   \\\\frac{1}{2}'
    """
    if text.isascii():
        return text
    if _REORDERING.search(text):
        raise Unreadable("it holds characters that reverse the reading order")
    text = _SCRIPTS.sub(_script, text)
    text = _VULGAR.sub(_vulgar, text)
    text = "".join(_MAP.get(c, c) for c in text)
    text = unicodedata.normalize("NFKC", text)
    out = []
    for c in text:
        if c.isascii():
            out.append(c)
        elif (category := unicodedata.category(c)) == "Cf":
            continue  # zero-width and soft characters
        elif category == "Nd":
            out.append(str(unicodedata.decimal(c)))
        elif category == "Zs":
            out.append(" ")
        else:
            out.append(_MAP.get(c, c))
    return "".join(out)


_DROPPED = re.compile(
    r"\\(?:left|right|middle|displaystyle|textstyle|scriptstyle|limits|nolimits|boxed|fbox|framebox|"
    r"[bB]ig{1,2}[lrm]?|mathstrut|phantom|hfill|hline|rm|bf|it|tt|sf|boldsymbol|bm|mathbf|boldmath|ensuremath|"
    r"mathsf|mathit|mathcal|mathnormal|hspace\*?\{[^{}]*\}|vspace\*?\{[^{}]*\})(?![A-Za-z])\.?"
)
_SPACES = re.compile(r"\\(?:[,;:> ]|quad|qquad|thinspace|enspace|space)(?![A-Za-z])|~|[ \t\r\n]+")
_RENAMED = {
    "dfrac": "frac",
    "tfrac": "frac",
    "cfrac": "frac",
    "dbinom": "binom",
    "tbinom": "binom",
    "choose": "choose",
    "leqslant": "le",
    "leq": "le",
    "leqq": "le",
    "geqslant": "ge",
    "geq": "ge",
    "geqq": "ge",
    "neq": "ne",
    "lt": "<",
    "gt": ">",
    "varnothing": "emptyset",
    "oslash": "emptyset",
    "lbrace": "{",
    "rbrace": "}",
    "lbrack": "[",
    "rbrack": "]",
    "lparen": "(",
    "rparen": ")",
    "ast": "cdot",
    "bullet": "cdot",
    "colon": ":",
    "lvert": "|",
    "rvert": "|",
    "vert": "|",
    "mid": "|",
    "degree": "^\\circ",
    "textdegree": "^\\circ",
    "varphi": "phi",
    "varepsilon": "epsilon",
    "vartheta": "theta",
    "bigcup": "cup",
    "bigcap": "cap",
    "lnot": "neg",
    "approxeq": "approx",
    "thickapprox": "approx",
    "simeq": "approx",
    "sim": "approx",
    "percent": "%",
    "prime": "'",
    "dots": "ldots",
    "cdots": "ldots",
    "backslash": "setminus",
    "smallsetminus": "setminus",
    "Re": "mathbb{R}",
    "reals": "mathbb{R}",
    "R": "mathbb{R}",
    "iff": "Leftrightarrow",
    "implies": "Rightarrow",
    "land": "text{ and }",
    "wedge": "text{ and }",
    "lor": "text{ or }",
    "vee": "text{ or }",
}
_RENAME = re.compile(r"\\(" + "|".join(_RENAMED) + r")(?![A-Za-z])")


def _rename(match: re.Match[str]) -> str:
    to = _RENAMED[match[1]]
    if to in "{}":
        return "\\" + to
    return (to if not to[0].isalpha() else "\\" + to) + " "


def clean(text: str) -> str:
    """Plain LaTeX without decoration.

    >>> clean(r"$\\\\left( \\\\dfrac{1}{2},\\\\, 3 \\\\right)$.")
    '( \\\\frac{1}{2}, 3 )'
    """
    if len(text) > MAX_CHARACTERS:
        raise Unreadable(f"it is longer than {MAX_CHARACTERS} characters")
    text = fold_unicode(text)
    if "\\" in text:
        text = text.replace("\\\\[", "\\\\ [") if "\\begin" in text else text
        # \! glues the digits of 1{,}000; a thin space is a blank.
        text = re.sub(r"\s*\\!\s*", "", text)
        text = re.sub(r"\\\$", " \\\\dollar ", text)
        text = re.sub(r"\\frac\\(?=[0-9])", r"\\frac", text)
        text = re.sub(r"\\begin\{(?:align|aligned|equation|gather|cases)\*?\}|\\end\{(?:align|aligned|equation|gather|cases)\*?\}", " ", text)
        rows = "\\begin" in text
        if rows:
            text = text.replace("\\\\", "\x00")
        text = re.sub(r"\\(?:\(|\)|\[|\])", " ", text)
        text = _DROPPED.sub(" ", text)
        text = _SPACES.sub(" ", text)
        text = _RENAME.sub(_rename, text)
        if rows:
            text = text.replace("\x00", " \\\\ ")
    text = text.replace("$", " ").replace("**", "^").replace("`", " ").replace("\u2019", "'")
    text = re.sub(r"\s+", " ", text).strip()
    while text.endswith((".", ",", ";", ":", "\\", "!!")) and not text.endswith(("\\\\", "\\.")):
        if re.search(r"[a-z]\.[a-z]\.$", text):  # p.m.
            break
        text = text[:-1].rstrip()
    return text
