r"""The fast path: plain numbers, compared as fractions.  Most answers of most sets end here."""

from __future__ import annotations

import re
from fractions import Fraction

_PLAIN = re.compile(
    r"\s*([-+]?)\s*\$?\s*(\d{1,256}|\d{1,3}(?:,\d{3}){1,80})?(?:\.(\d{1,256}))?\s*\$?\s*",
    re.ASCII,
)


def plain_number(text: str) -> Fraction | None:
    """The value of an integer or decimal, thousands separators allowed; None for all else.

    >>> plain_number("1,000.50")
    Fraction(2001, 2)
    """
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    sign, whole, decimals = match.groups()
    if not whole and not decimals:
        return None
    digits = (whole or "").replace(",", "") + (decimals or "")
    value = Fraction(int(digits), 10 ** len(decimals or ""))
    return -value if sign == "-" else value
