r"""Whether the words around an answer deny it: "it cannot be 5", "5 is extraneous", "5? No.", "5. I take that back".

A denial must be about the answer.  Before it, only its own clause or sentence counts, since "this is not 20, so it is
18" denies another number.  After it, the sentences are read in order, and the last statement decides.  The answer does
not count after a sentence that takes it back, or that is not known to be harmless (:mod:`.harmless`).  It counts again
after a sentence that confirms it, or arrives at its value.  The signs of a denial are rows of tables
(:mod:`.signs_before`, :mod:`.signs_after`).
"""

from __future__ import annotations

import re
from itertools import pairwise

from llmrl.verifiers.math import signs_after, signs_before
from llmrl.verifiers.math.harmless import RIGHT_ONE, chooses_other, harmless
from llmrl.verifiers.math.signs import Table

_CLAUSE = re.compile(
    r"[.!?;]\s|\n|\b(?:so|thus|hence|therefore|then|while|whereas|instead|giving|gives?|yields?|leaving|get|becomes)\b"
    r"|(?<!anything\s)(?<!nothing\s)(?<!everything\s)(?<!all\s)\bbut\b"
    r"|,\s*(?:and|we|it|the|which|i|our|this|that)\b(?!\s+\w+\s+would)|—",
    re.IGNORECASE,
)
"""What begins a new clause before the answer."""
_WAY = re.compile(
    r"[.!?;]\s|\n|\b(?:so|thus|hence|therefore|while|whereas|instead(?!,))\b|(?<!anything\s)(?<!all\s)\bbut\b|—",
    re.IGNORECASE,
)
"""What ends a wrong way; its own results ("gives", "we get") do not."""
_EXCLUDED = re.compile(r"\b(?:so|thus|hence|therefore),?\s+the\s+excluded\s+values?\b", re.IGNORECASE)
"""A conclusion that says what is excluded, because that is asked."""
_ENDS = re.compile(r"[.!?](?![\d}])|[。！？\n]")
_GAP = r"[\s$*.,;:)\]\\]{0,40}"
"""Signs of a formula, blanks and punctuation that may follow an answer."""

TABLES = {
    "in clause": Table(signs_before.IN_CLAUSE),
    "attributed": Table(signs_before.ATTRIBUTED),
    "wrong way": Table(signs_before.WRONG_WAY),
    "before announcement": Table(signs_before.BEFORE_ANNOUNCEMENT),
    "alternative": Table(signs_before.ALTERNATIVE),
    "gives up": Table(signs_before.GIVES_UP),
    "at once": Table(signs_after.AT_ONCE, _GAP),
    "breaks off": Table(signs_after.BREAKS_OFF, r"[\s$*)\]\\]{0,40}"),
    "hedges": Table(signs_after.HEDGES, r"[\s$*)\]\\.]{0,40}"),
    "takes back": Table(signs_after.TAKES_BACK),
    "in sentence": Table(signs_after.IN_SENTENCE),
    "denies": Table(signs_after.DENIES),
}
PATTERNS = {place: table.pattern() for place, table in TABLES.items()}
_CONFIRMED = re.compile(
    r"(?<!not\s)\b(?:yes|confirmed|confirms|checks\s+out|consistent|verified|stands|unchanged|(?:is|was)\s+(?:indeed\s+)?(?:right|correct)"
    r"|keep(?:ing)?\s+(?:what|my|the|this|it)|das\s+stimmt(?!\s+nicht)|all\s+good|all\s+cases\s+are\s+covered)\b|[.!?]\s+(?:correct|good|great|ok|perfect)\b|没错|没有错",
    re.IGNORECASE,
)
_COMES_TO = re.compile(
    rf"(?:=|≈|\b(?:{RIGHT_ONE} is|get|gives|obtain|remains|stays|again|still|indeed"
    r"|est(?:\s+donc)?|ist(?:\s+also)?|es|é|è)|[是为])[\s$\\(*:]{0,9}",
)
"""How a sentence comes to a value, ..."""
_AND_STOPS = re.compile(r"[\s$*)}\]\\]*(?:[.,;:!?。，！](?!\d)|$|\n|as\b|again\b)")
"""... and what follows it there."""
_ITS_OWN = re.compile(
    r"[\s$*)\]\\.]{0,40}(?:[,;(!?\n—–-]|(?-i:[A-Z])|$|(?:is|was|are|were|can|could|cannot|can['’]t|given|but|which|has|fails|contradicts|would)\b)",
    re.IGNORECASE,
)
"""What follows an answer in its own sentence and is about it; a noun is not: "8 boys do not like it"."""
_CLOSES = re.compile(r"\A(?:[\s$*)]|\\[\])]|\\end\{[^{}]*\})+")
"""What closes the formula of an answer; a unit may stand on a line behind it."""
_NEW_SENTENCE = re.compile(r"[A-Z][A-Za-z]")
"""A sentence that begins after an answer without a full stop between."""
_COUNTED = re.compile(
    r"[\s$*}\\)]{1,20}(?!(?:is|was|are|were|can|could|may|might|would|for|but|and|or|which|because|since|as|when|if|while|by|has|fails|loses|misses)\b)(?:[a-z]{2,30}s|of)\b"
)
"""A noun, or "of", right after an answer."""
_QUOTES = re.compile('[:"“«„]')
"""What somebody says follows."""
_OF_OTHERS = re.compile(
    r"\b(?:others?|more|else|otherwise|larger|smaller|greater|bigger|fewer|lower|higher|rest|remaining|negative\s+\w+)\b",
    re.IGNORECASE,
)
_CODE = re.compile(r"\[asy\].*?(?:\[/asy\]|\Z)|```.*?(?:```|\Z)", re.DOTALL)
"""Drawings and programs, which say nothing of an answer."""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def denied_before(before: str, after: str = "") -> bool:
    """Whether the words before an answer deny it, or say that it is somebody else's.

    Args:
        before: the text before it.
        after: the text after it; a noun there is what the answer counts: "she wrote 5 pages".

    >>> denied_before("One might be tempted to say "), denied_before("It is not 20 but "), denied_before("It is not ")
    (True, False, True)
    """
    near = _EXCLUDED.sub("", before[-200:]) if "excluded" in before else before[-200:]
    way = _WAY.split(near)[-1]
    return (
        PATTERNS["wrong way"].search(way) is not None
        or PATTERNS["in clause"].search(_CLAUSE.split(near)[-1]) is not None
        or (
            (said := PATTERNS["attributed"].search(way)) is not None
            and not (_COUNTED.match(after) and not _QUOTES.search(way, said.start()))
        )
    )


def announcement_denied(before: str) -> bool:
    """Whether the words before "the answer is" deny or only suppose it.

    >>> announcement_denied("I doubt that the "), announcement_denied("So the ")
    (True, False)
    """
    return PATTERNS["before announcement"].search(before[-200:]) is not None or denied_before(before)


def alternative(before: str) -> bool:
    """Whether the text before a number that no word announces makes it one of several, or a part of another.

    >>> alternative("It is 6 or "), alternative("It is ")
    (True, False)
    """
    return PATTERNS["alternative"].search(before[-20:]) is not None


def gives_up(response: str) -> bool:
    """Whether a response that announces no answer says that it has none.

    >>> gives_up("I cannot solve this."), gives_up("We solve this.")
    (True, False)
    """
    return PATTERNS["gives up"].search(response) is not None


def denied_after(after: str, answer: str) -> bool:
    """Whether the words after an answer deny it, take it back, or ask whether it is right.

    Args:
        after: the text that follows it.
        answer: itself; a sentence that is :mod:`.harmless` but for a denial of other numbers says nothing of it.

    >>> denied_after(" is extraneous.", "5"), denied_after(", and no other value works.", "5")
    (True, False)
    >>> denied_after(". The 4 does not work.", "5"), denied_after(". The 5 does not work.", "5")
    (False, True)
    >>> denied_after(". Wait, 2 + 3 = 5.", "5"), denied_after(". Wait, 2 + 3 = 6.", "5")
    (False, True)
    """
    if not after.strip("$.*)] \n"):
        return False
    after = _CODE.sub(" ", after) if "asy]" in after or "```" in after else after
    if PATTERNS["at once"].match(after) or PATTERNS["hedges"].match(after):
        return True
    after = _CLOSES.sub("", after, count=1).replace("i.e.", "that is")
    denied = PATTERNS["breaks off"].match(after) is not None
    value = answer.strip().lstrip("$\\(*: ")
    numbers = set(_NUMBER.findall(answer))
    ends = [match.end() for match in _ENDS.finditer(after)]
    for begin, end in pairwise([0, *ends, len(after)]):
        before = max(begin - 1, 0)  # the end of the sentence before, which some patterns begin with
        confirmed = _CONFIRMED.search(after, before, end) is not None and not chooses_other(after[begin:end])
        if PATTERNS["takes back"].search(after, before, end) or _rejects(after, begin, end, value, numbers, confirmed):
            denied = True
        elif confirmed or _comes_to(value, after, begin, end):
            denied = False
        elif (begin > 0 or _NEW_SENTENCE.match(after)) and not harmless(after[begin:end]):
            denied = True
    return denied


def _comes_to(value: str, after: str, begin: int, end: int) -> bool:
    """Whether a sentence comes to the value again: "so 2 + 3 = 5."."""
    return bool(value) and any(
        after.startswith(value, lead.end()) and _AND_STOPS.match(after, lead.end() + len(value), end) is not None
        for lead in _COMES_TO.finditer(after, begin, end)
    )


def _rejects(after: str, begin: int, end: int, value: str, numbers: set[str], confirmed: bool) -> bool:
    """Whether a sentence rejects the answer: it has a sign of it, and is about nothing else."""
    before = max(begin - 1, 0)
    aside = confirmed or after[begin:end].lstrip().startswith("(")
    negated = begin > 0 and not aside and PATTERNS["denies"].search(after, begin, end) is not None
    if not (negated or PATTERNS["in sentence"].search(after, before, end)) or _OF_OTHERS.search(after, begin, end):
        return False
    named = set(_NUMBER.findall(after, begin, end))
    of_it = numbers <= named if len(numbers) == 1 else value in after[begin:end]
    return (begin > 0 or _ITS_OWN.match(after) is not None) and (not named or of_it)
