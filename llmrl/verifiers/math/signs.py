r"""The table of signs that an answer is denied, doubted or taken back; :mod:`.denials` reads texts with it.

Each row has a pattern, the place where the pattern is looked for, and a response whose answer only this row takes
back.  A test removes each row and sees that its response is then accepted, so every row is needed.

All patterns are linear in the text: no part of a repetition can also be matched by what follows it.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Sign(NamedTuple):
    """One row: a sign that an answer does not count, and a response that has no other sign."""

    pattern: str
    example: str


class Table(NamedTuple):
    """Signs that are looked for in one place."""

    rows: tuple[Sign, ...]
    start: str = ""
    """A pattern for what stands before each of them."""

    def pattern(self) -> re.Pattern[str]:
        """One pattern for all rows."""
        return re.compile(f"{self.start}(?:{'|'.join(sign.pattern for sign in self.rows)})", re.IGNORECASE)


NOT = r"(?:not|never|no\s+longer|hardly|n['’]t|cannot)"
DEGREE = (
    r"(?:(?:also|clearly|obviously|actually|probably|completely|all|simply|only|just|merely|still|therefore)"
    r"\s+){0,2}"
)
FAULT = (
    r"(?:wrong|incorrect|false|mistaken|invalid|erroneous|flawed|faulty|suspicious|dubious|questionable|doubtful|implausible|tentative|provisional|outdated|bogus|nonsense|nonsensical|absurd|inconsistent"
    r"|contradictory|extraneous|spurious|inadmissible|unacceptable|untrue|untenable|rejected|discarded|refuted|disproved"
    r"|misprint|ruled\s+out|excluded|thrown\s+out|dismissed|off(?:\s+by\b|\s*[.!,]|$)"
    r"|(?:an?\s+)(?:extraneous|spurious|invalid|inadmissible|wrong|incorrect|false)\s+\w+"
    r"|(?:a|an|my|the|another)\s+(?:\w+\s+)?(?:mistake|error|slip|blunder|trap|distractor|typo|guess|placeholder|decoy)"
    r"(?!\s+(?:to|that)\b))"
)
"""What an answer is called that is none."""
UNLIKE = rf"(?:{NOT}\s+(?:\w+\s+){{0,2}}(?:right|correct|true|valid|allowed|permitted|acceptable|admissible))"
FAILS = (
    r"(?:fails\b|failed\b|contradicts|violates|double[-\s]?counts|over-?counts|under-?counts|overlooks|ignores|neglects"
    r"|misses|forgets|breaks\s+down|leads\s+to\s+a\s+contradiction|(?:do|does|did)(?:\s+not|n['’]t)\s+(?:\w+\s+)?"
    r"(?:satisfy|work|fit|hold|match|solve|agree|check\s+out|lie|meet|add\s+up|qualify|make\s+sense|look|seem|sound)"
    r"|(?:has|have|had|needs?|must|should|ought)(?:\s+to)?\s+be\s+(?:rejected|discarded|excluded|thrown|dropped"
    r"|dismissed|revised|corrected|replaced|ruled)|is\s+to\s+be\s+(?:rejected|discarded))"
)
"""What an answer does that is none."""
COPULA = (
    r"(?:(?:is|was|are|were|seems?|looks?|turned\s+out|turns\s+out|appears?)(?:\s+to\s+be)?"
    r"|(?:must|may|might)\s+be|['’]s)"
)
SAYS = (
    r"(?:says?|said|claim(?:s|ed)?|thinks?|thought|believe[sd]?|guess(?:es|ed)?|writes?|wrote|answers|answered"
    r"|suggest(?:s|ed)?|suspect(?:s|ed)?|expect(?:s|ed)?|conclude[sd]?|insist(?:s|ed)?|argue[sd]?|assert(?:s|ed)?"
    r"|report(?:s|ed)?|gives?|gave|shows?|posted|commented|replied)"
)
REPAIR = (
    r"(?:no|nope|wait|hmm+|wh?oops|oops|uh-?\s?oh|ugh|argh|gah|darn|damn|yikes|ups|oups|sorry|hold\s+on|hang\s+on|strike|scratch|scrap|my\s+(?:bad|mistake|apologies)|just\s+kidding"
    r"|on\s+(?:second\s+thoughts?|reflection)|i\s+mean)"
)
"""Words with which people stop and correct themselves."""
ABOUT = (
    r"(?:\s+(?:that|think|believe|it|out|the|an?|answer|value|result|possibility|of|equals?|equal|to|is|be|root|solution|candidate"
    r"|choice|number|exactly|simply|just|really|it['’]s)){0,6}"
)
OPENS = r"[\s:$*(\\\[]*$"
"""Only signs of a formula stand between here and the answer."""
