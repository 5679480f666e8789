r"""Formulas in running text: where the formula around a number begins and ends, and which numbers are no results.

"There are 2^99 ways." holds the formula 2^99, and never the number 99.
"""

from __future__ import annotations

import re

_NAMES = (
    r"sqrt|cbrt|root|arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|log|ln|lg|exp|gcd|lcm|min|max|pi|mod"
    r"|inf|infinity|theta|alpha|beta|choose|binom|floor|ceil|abs|det"
)
_LETTER = r"[^\W\d_⁰¹²³⁴-⁹ⁿ½⅓⅔¼¾⅕⅛]"
_PIECE = re.compile(
    rf"(?<=\d)(?::| : )(?=\d)|\s+|\\[A-Za-z]+|\\.|(?:{_NAMES})(?![A-Za-z])"
    rf"|(?<!{_LETTER})(?<!['’])(?:[A-Za-z]|[A-Z]{{2}})(?!{_LETTER})"
    r"|(?<=[\w)])['’](?![A-Za-z])|[,;.](?=\s*[-−+(\[{\d.π√∛])|,(?=(?:\s?[A-Za-z],){0,4}\s?[A-Za-z]\))|[-−+*/^=<>≤≥≠≈±∓×·÷√∛π∞!⇒→°%|_$(){}\[\]\d½⅓⅔¼¾⅕⅛²³¹⁰⁴-⁹⁻⁺ⁿ∪∩∈]",
)
_ARTICLES = re.compile(
    r"(?:[aAI]|is|as|if|of|to|in|on|at|by|an|so|be|no|do|we|it|or|us|am|he|my|me|up|go|Is|As|If|So|We|It|In|An|By)$"
)
_EDGES = " \t,;:.*$=<>≤≥≈"
_OPERATORS = "+-−*/^=<>≤≥≠≈±×·÷_"
_LABEL = re.compile(
    r"\b(?:steps?|problems?|questions?|exercises?|lemma|theorem|cases?|part|section|figure|fig\.|equations?|eqs?\.|example"
    r"|chapter|page|line|proposition|corollary|note|method|claim|rule|property|table|no\.|item|attempt|version|day"
    r"|round|test|task|hint|appendix|definition|base)\s*[#(\[:.]{0,2}\s*$|#\s*$",
    re.IGNORECASE,
)
_CITED = re.compile(r"\b(?:by|from|in|using|see|with|via|and)\s*$", re.IGNORECASE)
_IN_YEAR = re.compile(r"\b(?:in|since|by|until|during|before|after|around|of)\s*$", re.IGNORECASE)
_SURE = re.compile(r"\s*(?:sure|certain|confident|positive)\b|-[A-Za-z]", re.IGNORECASE)
_BULLET = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)]|\(?[a-z]\))\s+\S")
_MARKER = re.compile(r"\s*\(?\d{1,3}[.)]")


def formula_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the formula begins and ends that holds the number between ``start`` and ``end``.

    >>> text = "There are 2^99 ways."
    >>> begin, end = formula_around(text, 12, 14)
    >>> text[begin:end]
    '2^99'
    """
    line_start = max(text.rfind("\n", 0, start) + 1, start - 400)
    line_end = text.find("\n", end)
    line_end = min(len(text) if line_end < 0 else line_end, end + 400)
    first = last = None
    place = line_start
    while place < line_end:
        match = _PIECE.match(text, place, line_end)
        if match is None or (_ARTICLES.match(match.group()) and not _beside_operator(text, match)):
            if place >= end:
                break
            following = place + 1 if match is None else match.end()
            if match is None and text[place].isalpha():
                while following < line_end and text[following].isalpha():
                    following += 1
            first, place = None, following
            continue
        if first is None:
            first = place
        place = last = match.end()
    if first is None or last is None or first > start or last < end:
        return start, end
    return _trimmed(text, _of_item(text, first, start), last, start, end)


def _beside_operator(text: str, match: re.Match[str]) -> bool:
    """Whether letters touch a digit or are next to a sign.

    The a of ``12a``, ``a = 3`` and ``(a, b)`` is a name, and that of "a 3" an article.
    """
    if text[max(0, match.start() - 1) : match.start()].isdigit():
        return True
    before, after = text[: match.start()].rstrip()[-1:], text[match.end() :].lstrip()[:1]
    return bool(
        (before and before in _OPERATORS) or (after and after in _OPERATORS) or before + after in ("(,", ",,", ",)")
    )


def _of_item(text: str, first: int, start: int) -> int:
    """Where the item begins: "if x = 2, 3" ends with 3, "(2, 3)" and "2, 3" do not."""
    depth, items = 0, [first]
    for place in range(first, start):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if text[place : place + 2] == "=>" or text[place] in "⇒→":
            items = [place + 1 + (text[place] == "=")]
        if depth <= 0 and text[place] in ",;" and text[place + 1 : place + 2].isspace():
            items.append(place + 1)
    pieces = [text[a:b] for a, b in zip(items, [*items[1:], start], strict=True)]
    if len(items) > 1 and any(re.search(r"[=<>≤≥≈]", piece) for piece in pieces):
        return items[-1]
    return items[0]


def _trimmed(text: str, first: int, last: int, start: int, end: int) -> tuple[int, int]:
    """Without blanks, punctuation and brackets without partner at both ends."""
    while True:
        before = first, last
        while first < start and text[first] in _EDGES:
            first += 1
        while last > end and text[last - 1] in _EDGES + "+-−/([{":
            last -= 1
        if last - 1 >= end and text[last - 1] == "!" and (last - 1 > start + 2) and text[first:last].count("!") == 1:
            last -= _ends_sentence(text, last)
        inside = text[first:last]
        for opening, closing in ("()", "[]", "{}"):
            surplus = inside.count(opening) - inside.count(closing)
            if surplus > 0 and text[first] == opening and first < start:
                first += 1
            elif surplus < 0 and text[last - 1] == closing and last > end:
                last -= 1
        if before == (first, last):
            return first, last


def _ends_sentence(text: str, last: int) -> bool:
    """Whether the ``!`` before this place ends a sentence: nobody means the factorial of 70,000."""
    number = re.search(r"[\d,]+!$", text[:last])
    return (
        number is not None
        and int(number.group()[:-1].replace(",", "") or 0) > 100
        and not text[last : last + 1].strip()
    )


def is_result(text: str, start: int, end: int) -> bool:
    """Whether a number may be a result: not the 5 of "Step 5", of "5. First", "In 2024," or "100% sure".

    >>> is_result("Step 5: stop", 5, 6), is_result("It is 5", 6, 7)
    (False, True)
    """
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line = text[line_start : len(text) if line_end < 0 else line_end]
    before, after = text[max(line_start, start - 40) : start], text[end : end + 40]
    if _LABEL.search(before) or _SURE.match(after):
        return False
    if text[start : start + 1] == "(" and _CITED.search(before):
        return False
    digits = text[start:end]
    if digits.isdigit() and len(digits) == 4 and 1500 <= int(digits) <= 2100 and _IN_YEAR.search(before):
        return False
    if not before.strip() and re.match(r"[.)](?:\s|$)", after) and line.strip() != text.strip():
        return False  # the number of an item
    if not before.strip() and re.match(r"\.\s+[A-Z]", after):
        return False
    return not _one_of_several(text, line_start, line)


def _one_of_several(text: str, line_start: int, line: str) -> bool:
    """Whether the line is the last of a list of formulas."""
    if not _BULLET.match(line):
        return False
    above = text[:line_start].rstrip().rsplit("\n", 1)[-1]
    return _BULLET.match(above) is not None and re.search(r"\d", above) is not None
