r"""Brings typography to plain LaTeX: what looks the same in print becomes the same text.

Done: zero-width, bidirectional and soft-hyphen characters vanish; full-width forms and mathematical
alphabets become ASCII; minus signs, dots, roots, fractions, superscripts, Greek letters and relations become
commands.  Not done on purpose: letters of other alphabets that resemble Latin ones (Cyrillic А), circled and
other digits, and combining marks stay what they are, and so equal nothing.
"""

from __future__ import annotations

import re
import unicodedata

_INVISIBLE = dict.fromkeys(
    [
        0xAD,
        0x034F,
        0x061C,
        0xFEFF,
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
    ]
)
_SPACES = dict.fromkeys(
    [0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 9, 10, 13],
    " ",
)
_SIGNS = {
    "−": "-",
    "–": "-",
    "—": "-",
    "‐": "-",
    "‑": "-",
    "﹣": "-",
    "×": r"\times ",
    "✕": r"\times ",
    "⋅": r"\cdot ",
    "·": r"\cdot ",
    "∙": r"\cdot ",
    "•": r"\cdot ",
    "∗": "*",
    "÷": r"\div ",
    "⁄": "/",
    "∕": "/",
    "±": r"\pm ",
    "∓": r"\mp ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "⩽": r"\le ",
    "⩾": r"\ge ",
    "≦": r"\le ",
    "≧": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≃": r"\approx ",
    "≡": r"\equiv ",
    "→": r"\to ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∖": r"\setminus ",
    "∅": r"\emptyset ",
    "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}",
    "√": r"\surd ",
    "∛": r"\cbrt ",
    "°": r"^\circ ",
    "º": r"^\circ ",
    "℃": r"^\circ C",
    "℉": r"^\circ F",
    "∠": r"\angle ",
    "⌊": r"\lfloor ",
    "⌋": r"\rfloor ",
    "⌈": r"\lceil ",
    "⌉": r"\rceil ",
    "′": "'",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "…": r"\ldots ",
    "⋯": r"\ldots ",
    "，": ", ",
    "、": ", ",
    "和": " , ",
    "或": " or ",
    "；": ";",
    "：": ":",
    "。": ".",
    "％": "%",
    "∣": "|",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "€": r"\euro ",
    "¢": r"\text{ cents}",
    "£": r"\gbp ",
    "₹": r"\rupee ",
    "¥": r"\yen ",
    "￥": r"\yen ",
    "￡": r"\gbp ",
}
_GREEK = {
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "δ": "delta",
    "ε": "epsilon",
    "θ": "theta",
    "λ": "lambda",
    "μ": "mu",
    "π": "pi",
    "ρ": "rho",
    "σ": "sigma",
    "τ": "tau",
    "φ": "phi",
    "ϕ": "phi",
    "ω": "omega",
    "Δ": "Delta",
    "Σ": "Sigma",
    "Ω": "Omega",
    "Γ": "Gamma",
    "Φ": "Phi",
}
_TABLE = str.maketrans(
    {
        **_INVISIBLE,
        **_SPACES,
        **{ord(sign): text for sign, text in _SIGNS.items()},
        **{ord(letter): f"\\{name} " for letter, name in _GREEK.items()},
    }
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ⁽⁾", "0123456789+-ni()")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ⁽⁾]+")
_SUBSCRIPT = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒]")
_MEASURES = {
    **dict.fromkeys("个名位只本张件条块颗棵人次种页道辆头间", "items"),
    **{"元": "yuan", "美元": "dollars", "米": "m", "厘米": "cm", "毫米": "mm", "千米": "km", "公里": "km", "克": "g"},
    **{"千克": "kg", "公斤": "kg", "吨": "tons", "升": "l", "毫升": "ml", "秒": "s", "分钟": "min", "小时": "h"},
    **{"天": "days", "周": "weeks", "月": "months", "个月": "months", "年": "years", "岁": "years", "度": "degrees"},
    **{"平方米": "square m", "平方厘米": "square cm", "立方米": "cubic m", "立方厘米": "cubic cm"},
}
"""Chinese measure words and units."""
_LONGEST_FIRST = "|".join(sorted(_MEASURES, key=len, reverse=True))
_MEASURE = re.compile(
    rf"(?<=[\d}})])\s*(?:\\text\s?\{{\s*)?({_LONGEST_FIRST})(?:\s*\}})?(?=\s*(?:$|[,;，。.$}}]))",
)
_STYLED = re.compile("[\U0001d400-\U0001d7ff\uff01-\uff5e]")


def to_latex(text: str) -> str:
    r"""Typography as LaTeX.

    >>> to_latex("−3√2·x²")
    '-3\\surd 2\\cdot x^{2}'
    >>> to_latex("2½ ≤ ４\u200b２")
    '2\\frac{1}{2} \\le  42'
    """
    if text.isascii():
        return text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
    text = _MEASURE.sub(lambda m: rf" \text{{ {_MEASURES[m.group(1)]} }}", text)
    text = _SUPERSCRIPT.sub(lambda m: "^{" + m.group().translate(_RAISED) + "}", text)
    text = _SUBSCRIPT.sub(lambda m: "_{" + m.group().translate(_LOWERED) + "}", text)
    text = _VULGAR.sub(_vulgar, text)
    text = text.translate(_TABLE)
    return _STYLED.sub(lambda m: unicodedata.normalize("NFKC", m.group()), text)


def _vulgar(match: re.Match[str]) -> str:
    above, below = unicodedata.normalize("NFKC", match.group()).split("⁄")
    return rf"\frac{{{above}}}{{{below}}}"
