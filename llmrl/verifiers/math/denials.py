r"""Whether the words around an answer deny it: "it cannot be 5", "5 is extraneous", "5? No.", "5. I take that back".

A denial must be about the answer.  Before it, only its own clause counts, since "this is not 20, so it is 18" denies
another number.  After it, the denial must follow at once, or have a subject that means the answer: this, that, it,
the result, I.  All patterns are linear in the text: no part of a repetition can also be matched by what follows it.
"""

from __future__ import annotations

import re
from itertools import pairwise

_NOT = r"(?:not|never|no\s+longer|hardly|n['’]t|cannot)"
_DEGREE = (
    r"(?:(?:also|clearly|obviously|actually|probably|completely|all|simply|only|just|merely|still|therefore)"
    r"\s+){0,2}"
)
_FAULT = (
    r"(?:wrong|incorrect|false|mistaken|invalid|erroneous|flawed|bogus|nonsense|nonsensical|absurd|inconsistent"
    r"|contradictory|extraneous|spurious|inadmissible|unacceptable|untrue|untenable|rejected|discarded|refuted|disproved"
    r"|an?\s+(?:extraneous|spurious|invalid|inadmissible|wrong|incorrect|false)\s+\w+|ruled\s+out|excluded|thrown\s+out|dismissed|off(?:\s+by\b|\s*[.!,]|$)"
    r"|(?:a|an|my|the|another)\s+(?:\w+\s+)?(?:mistake|error|slip|blunder|trap|distractor|typo|guess|placeholder|decoy)(?!\s+(?:to|that)\b))"
)
"""What an answer is called that is none."""
_UNLIKE = rf"(?:{_NOT}\s+(?:\w+\s+){{0,2}}(?:right|correct|true|valid|allowed|permitted|acceptable|admissible))"
_FAILS = (
    r"(?:fails\b|failed\b|contradicts|violates|double[-\s]?counts|over-?counts|under-?counts|overlooks|ignores|neglects"
    r"|misses|forgets|breaks\s+down|leads\s+to\s+a\s+contradiction|(?:do|does|did)(?:\s+not|n['’]t)\s+(?:\w+\s+)?"
    r"(?:satisfy|work|fit|hold|match|solve|agree|check\s+out|lie|meet|add\s+up|qualify|make\s+sense|look|seem|sound)"
    r"|(?:has|have|had|needs?|must|should|ought)(?:\s+to)?\s+be\s+(?:rejected|discarded|excluded|thrown|dropped"
    r"|dismissed|revised|corrected|replaced|ruled)|is\s+to\s+be\s+(?:rejected|discarded))"
)
"""What an answer does that is none."""
_COPULA = (
    r"(?:(?:is|was|are|were|seems?|looks?|turned\s+out|turns\s+out|appears?)(?:\s+to\s+be)?"
    r"|(?:must|may|might)\s+be|['’]s)"
)
_THIS = (
    r"(?:this|that|it|(?:the|my|that|this)\s+(?:\w+\s+)?"
    r"(?:answer|result|value|box|number|solution|estimate|guess|attempt|choice|total|figure|calculation))"
)
"""Subjects that mean the answer."""

_CLAUSE = re.compile(
    r"[.!?;]\s|\n|\b(?:so|thus|hence|therefore|then|while|whereas|instead|giving|gives?|yields?|leaving|get|becomes)\b"
    r"|(?<!anything\s)(?<!nothing\s)(?<!everything\s)(?<!all\s)\bbut\b"
    r"|,\s*(?:and|we|it|the|which|i|our|this|that)\b(?!\s+\w+\s+would)|—",
    re.IGNORECASE,
)
_ABOUT = (
    r"(?:\s+(?:that|it|out|the|an?|answer|value|result|possibility|of|equals?|equal|to|is|be|root|solution|candidate"
    r"|choice|number|exactly|simply|just|really|it['’]s)){0,6}"
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|rather\s+than|instead\s+of|neither|nor|hardly|far\s+from"
    r"|(?:anything|everything|all)\s+but|no\s+way|(?:can(?:not|['’]t)|could(?:\s+not|n['’]t))\s+(?:possibly\s+)?(?:be|equal)"
    r"|impossible|unlikely|doubt(?:s|ed|ful)?|reject(?:s|ed|ing)?|discard(?:s|ed|ing)?|exclud(?:e|es|ed|ing)"
    r"|dismiss(?:es|ed|ing)?|rul(?:e|es|ed|ing)\s+out|den(?:y|ies|ied)|refut(?:e|es|ed)|avoid|ignor(?:e|es|ing)"
    r"|suppose|supposing|assume|assuming|imagine|suppose\s+that\s+(?:\w+\s+){1,3}|try|trying|tried)|n['’]t)"
    rf"{_ABOUT}[\s:$*(\\\[]*$"
    rf"|\b{_FAULT}[\s:$*(\\\[]*$"
    r"|\b(?:wrong|incorrect|false|mistake|not\s+true|misleading)\s+(?:to|that|would\s+be|answer|result|value|is)\b(?!\s+is\s+avoided)[^.!?\n]*$"
    r"|\b(?:wrongly|incorrectly|mistakenly|erroneously|naively|falsely|carelessly)\b[^.!?\n]*$"
    r"|\b(?:trap|pitfall|fallacy|tempt(?:ed|ing)|temptation|naive|distractor|decoy|blunder|misconception)\b[^.!?\n]*$"
    r"|\b(?:students?|(?:many|some|most)\s+(?:people|readers|solvers)|someone|somebody|(?:answer\s+)?key"
    r"|textbook|book|classmate|friend|intuition|one\s+(?:might|may|could|would))\b\s+(?:\w+\s+){0,2}?(?:says?|be\s+led|said|claim(?:s|ed)?|thinks?|thought|believe[sd]?"
    r"|guess(?:es|ed)?|writes?|wrote|answers|answered|suggest(?:s|ed)?|suspect(?:s|ed)?|expect(?:s|ed)?"
    r"|say|write|answer|conclude)\b[^.!?\n]*$"
    r"|\bwould\s+have\s+(?:been|given)\b[^.!?\n]*$|\bused\s+to\s+be\b[^.!?\n]*$"
    r"|\b(?:first|initial|initially|original|originally|earlier|previous|previously|old)\s+(?:\w+\s+)?"
    r"(?:guess|answer|attempt|instinct|thought|estimate|impression|reaction|got|wrote|said)\b[^.!?\n]*$"
    r"|\bif\s+(?:i\s+(?:had|have)\s+to\s+guess|(?:the\s+|our\s+)?(?:\w+\s+)?answer\s+(?:is|were|was|had\s+been)[\s:$(]*$)"
    r"|\b(?:a|my)\s+(?:wild\s+|random\s+|best\s+)?guess(?:\s+(?:is|would\s+be|of|at))?[\s:$(]*$",
    re.IGNORECASE,
)
_PREDICATE = re.compile(
    r"[\s$*.,;:)\]\\]{0,40}(?:"
    rf"\(?(?:(?:which|that|this|it)\s+)?(?:(?:{_COPULA}|would\s+be|are)\s+{_DEGREE}"
    rf"(?:{_FAULT}|{_UNLIKE}|the\s+(?:naive|tempting|obvious\s+but|wrong|trap)|impossible"
    r"|too\s+(?:small|large|big|low|high|few|many|much)\b"
    r"|(?:not|n['’]t)(?:\s+(?:the|my|a|an)\s+(?:\w+\s+)?(?:answers?|solutions?|value|result)\b|\s+(?:possible|it|so)\b"
    r"|\s*[.,;!]|\s*$))"
    rf"|(?:isn|wasn|aren)['’]t\s+(?:the\s+|my\s+|a\s+)?(?:\w+\s+)?(?:answer|right|correct|valid|possible)"
    r"|would\s+(?:be\s+the\s+(?:naive|wrong)|have\s+been)|could\s+have\s+been"
    r"|(?:cannot|can['’]t|could\s+not)\s+be\s+(?:the\b|right|correct|true|it\b|so\b|an?\s|valid|accepted|possible|[.,;!])"
    rf"|{_FAILS})"
    rf"|\((?:{_FAULT}|not\s+(?:correct|right|valid))"
    r"|(?:or\s+so\s+(?:i|we)\b))",
    re.IGNORECASE,
)
"""What follows the answer at once and denies it."""
_BACKED = re.compile(
    rf"\b{_THIS}\s*(?:{_COPULA}\s+{_DEGREE}(?:{_FAULT}|not\s+(?:\w+\s+)?(?:right|correct))"
    r"|(?:is\s+|['’]s\s+|is)n[o'’]t\s+(?:the|my|an?)\s+(?:(?:right|correct|final|desired|required|real|actual|valid|answer|true)\s+)?(?:answer|solution|value|result)"
    r"|is\s+not\s+what\s+(?:was|is)\s+asked"
    rf"|{_FAILS})"
    r"|\bi\s*(?:(?:was|am)|['’]m)\s+(?:\w+\s+)?(?:wrong|mistaken|incorrect)\b"
    r"|(?:made|is|was|contains|be)\s+(?:a|an|some)\s+(?:\w+\s+)?(?:mistake|error|slip|blunder)(?!\s+to\b)"
    r"|\b(?:scratch|ignore|disregard|forget|strike|scrap|discard|delete)\s+"
    r"(?:that\b(?!\s+\w)|this\b(?!\s+\w)|it\b|(?:the|my)\s+(?:above|previous|last|box|earlier|first))"
    r"|\bi\s+(?:must\s+|have\s+to\s+|will\s+|want\s+to\s+|hereby\s+|should\s+)?(?:take\s+(?:that|it|this)\s+back"
    r"|withdraw|retract|redo|recompute|recalculate|reconsider|start\s+over|start\s+again)"
    r"|\bi\s+(?:mis(?:read|calculated|counted|copied|took|placed|interpreted|understood)|forgot|overlooked|double[-\s]counted"
    r"|dropped\s+a|lost\s+a|disagree|doubt)"
    rf"|\bi\s*(?:{_NOT}|do(?:\s+not|n['’]t)|am\s+not|['’]m\s+not|am\s+no\s+longer)\s+(?:\w+\s+)?"
    r"(?:believe|trust|think|buy|agree|convinced|confident|sure|certain|happy|satisfied)\b"
    r"|\blet\s+me\s+(?:redo|recompute|recalculate|reconsider|rethink|start\s+over|start\s+again|try\s+again)"
    r"|(?:wait|oops|hmm|no|sorry)\W{1,4}(?:\w+\W+){0,4}?(?:wrong|incorrect|mistake|error|not\s+right)"
    r"|\bon\s+second\s+thoughts?\b|\bnever\s+mind\b|\bthey\s+(?:are|were)\s+(?:wrong|mistaken)",
    re.IGNORECASE,
)
"""What takes the answer back anywhere after it."""
_STOPS = re.compile(
    r"[\s$*)\]\\]{0,40}(?:\?(?!\s*(?:yes\b|indeed|correct|right|sure))"
    r"|(?:-{2,9}|[—–.,!…]{1,9})\s{0,9}(?:no|nope|wait|hmm+|oops|hold\s+on|strike|scratch)(?:[\s,]*[,.:!—–-]|\s+that|\s*$))",
    re.IGNORECASE,
)
"""A question mark, or a second thought, right after the answer."""
_CONDITIONAL = re.compile(
    r"[^.!?\n]{0,120}\b(?:otherwise|under\s+(?:a|an|the)?\s*(?:different|other|another))", re.IGNORECASE
)
_CONFIRMED = re.compile(
    r"(?<!not\s)\b(?:yes|confirmed|confirms|checks\s+out|consistent|verified|stands|(?:is|was)\s+(?:indeed\s+)?(?:right|correct)|all\s+good)\b|[.!?]\s+correct\b",
    re.IGNORECASE,
)


_CONTRAST = re.compile(
    r"[.!?;]\s|\n|\b(?:so|thus|hence|therefore|while|whereas|instead)\b|(?<!anything\s)(?<!all\s)\bbut\b|—",
    re.IGNORECASE,
)
"""What ends a wrong way; its own results ("gives", "we get") do not."""
_WRONG_WAY = re.compile(
    r"(?:['’]s\s+(?:\w+\s+)?(?:answer|guess|solution|result|attempt)\b|\b(?:naive(?:ly)?\b|(?:wrong|false|incorrect|flawed|mistaken)\s+(?:way|method|approach|premise|assumption|reading"
    r"|formula|idea|argument|reasoning|computation|calculation)\b|no\s+(?:way|reason|chance)\s+(?:to|that|of)\b"
    r"|(?:must|should|can|could|do|may|ought)(?:\s*not|n['’]t)\s+(?:conclude|infer|claim|say|answer|believe|deduce)\b"
    r"|(?:nobody|no\s+one|hardly\s+any(?:one|body))\b|\bmyth\b"
    r"|(?:calculator|computer|software|program|tutor|teacher|friend|forum|internet)\s+(?:\w+\s+)?(?:says?|said|claims?|claimed|gives?|gave|shows?)\b"
    r"|(?:do|did|does|should|must)(?:\s+not|n['’]t)\s+(?:grade|count|trust|accept|mark)\b|(?:surprised|wary|suspicious|sceptical|skeptical)\b|if\s+(?:you|one|we)\s+(?:forget|overlook|misread)s?\b"
    r"|(?:for|with|using)\s+the\s+(?:wrong|incorrect)\b|(?:do|must|should)(?:\s*not|n['’]t)\s+\w+[\s:$(]*$)"
    r")[^.!?\n]*$",
    re.IGNORECASE,
)
"""A sentence before the answer that says that its way is wrong, up to its end."""
_TURNS = re.compile(
    rf"\b(?:{_NOT}\s+(?:(?!hard\b|difficult\b|only\b)\w+\s+){{0,2}}?(?:right|correct|allowed|permitted|possible|what|hold)"
    r"|do(?:\s+not|n['’]t)\s+(?:count|use|trust|grade|take|accept)\s+(?:this|that|it|the|my)|wrong|incorrect|invalid|fails?|failed"
    r"|contradict(?:s|ion)|impossible|undefined|rul(?:es?|ed)\s+(?:it|this|that|them)?\s*out|excluded|eliminated|rejected|discarded"
    r"|misprint|typo|premature(?:ly)?|kills|no\s+(?:clue|idea|solutions?)|none\s+of\s+(?:this|that|the\s+above|it)"
    r"|can(?:not|['’]t)\s+be\s+(?:right|correct|true|what|so|it|the\s+answer|accepted)|(?:was|is|too)\s+(?:too\s+)?(?:early|soon|fast|quickly|hasty)|which\s+(?:double-?)?counts|what\s+(?:you|one|we)"
    r"\s+gets?\s+(?:if|when|by)|was\s+(?:my|our)\s+\w+|(?:an?|my|the|sign|arithmetic|some)\s+(?:\w+\s+)?(?:errors?|mistakes?|slips?)\b"
    r"(?!\s+(?:is\s+|would\s+be\s+)?(?:to|in|of)\b)|i\s+(?:thought|mixed|confused|used\s+the\s+wrong)|withdraw(?:ing|n)?"
    r"|retract(?:ing|ed)?|so\s+no(?=\s*[.!])|scrap|scratch|disregard|blunder|decoy|refuted|faulty|i\s+have\s+to\s+correct|broke\s+off|only\s+the\s+first|nobody|no\s+one"
    r"|i\s+(?:\w+\s+)?(?:(?:can|could|did|do)\s*(?:not|n['’]t)|can['’]t))\b"
    r"|(?:^|[.!?)]\s)\s*(?:but|yet|however|unfortunately|alas|except)\b(?!\s+(?:\w+\s+)?(?:you|one|we)\s+(?:can|could|may))",
    re.IGNORECASE,
)
"""What a sentence says that takes back the answer before it."""
_NEGATED = re.compile(
    r"\b(?:this|that|it|i|the\s+(?:answer|result|value|number|problem|equation|lemma|claim|proof|argument|formula))\b"
    r"[^.!?\n]{0,60}?(?:\b(?:not|never|no\s+longer|cannot|false|broken|faulty|flawed)\b|n['’]t\b)"
    r"(?!\s+(?:\w+\s+)?(?:extraneous|hard|difficult|easy|need|depend|matter|change|affect|afford|surpris\w+|necess\w+|clear|"
    r"coinciden\w+|simplif\w*|expand|know|be\s+(?:simplified|factored|reduced|solved)|required|to\s+\w+)\b)",
    re.IGNORECASE,
)
"""A later sentence that denies something of what its pronoun stands for, most likely the answer."""
_BEGINS = re.compile(
    r"(?:^|[.!?)\n])[\s(*$\\\])—–-]{0,20}(?:wait|hmm+|oops|ugh|sorry|edit\s*:|correction\s*:|on\s+(?:second\s+thoughts?|reflection)"
    r"|just\s+kidding|scrap|scratch|(?:oh\s+|well,?\s+|actually,?\s+)?no\s*[,.:!]|the\s+(?:correct|right|true|real|actual)\s+"
    r"(?:answer|value|result|number|one)\b(?!\s*\())",
    re.IGNORECASE,
)
"""How a sentence begins that takes back the answer before it."""
_ITS_OWN = re.compile(
    r"[\s$*)\]\\.]{0,40}(?:[,;(!?\n—–-]|(?-i:[A-Z])|$|(?:is|was|are|were|can|could|cannot|can['’]t|given|but|which|has|fails|contradicts|would)\b)",
    re.IGNORECASE,
)
"""What follows an answer in its own sentence and is about it; a noun is not: "8 boys do not like it"."""
_HEDGES = re.compile(
    r"[\s$*)\]\\.]{0,40}[,;(—–-]?\s*(?:(?:was|would|could|might|may|assuming|provided|unless)\b"
    r"|(?:is|are)\s+(?:(?:only|merely|just)\s+(?:\w+\s+)?(?:\w+\s+)?(?:answer|result|step|part|half|first|bound|estimate|guess)"
    r"|(?:the\s+)?(?:answer|solution|result)\s+(?:to|of|for)\s+an?(?:other)?\s+(?:different|other|wrong)|an?\s+(?:different|wrong)|another)\b)",
    re.IGNORECASE,
)
"""How the sentence of an answer goes on that only reports, supposes or limits it."""
_ENDS = re.compile(r"[.!?](?!\d)|\n")
_OF_OTHERS = re.compile(
    r"\b(?:others?|more|else|otherwise|larger|smaller|greater|bigger|fewer|lower|higher|rest|remaining|negative\s+\w+)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def denied_before(before: str) -> bool:
    """Whether the words before an answer deny it, or say that it is somebody else's.

    >>> denied_before("One might be tempted to say "), denied_before("It is not 20 but "), denied_before("It is not ")
    (True, False, True)
    """
    near = before[-200:]
    if _WRONG_WAY.search(_CONTRAST.split(near)[-1]):
        return True
    return _DENIED_BEFORE.search(_CLAUSE.split(near)[-1]) is not None


def denied_after(after: str, answer: str) -> bool:
    """Whether the words after an answer deny it, take it back, or ask whether it is right.

    Args:
        after: the text that follows it.
        answer: itself; a sentence that denies other numbers alone says nothing of it.

    >>> denied_after(" is extraneous.", "5"), denied_after(", and no other value works.", "5")
    (True, False)
    >>> denied_after(". But 4 does not work.", "5"), denied_after(". But 5 does not work.", "5")
    (False, True)
    """
    if not after.strip("$.*)] \n"):
        return False
    if _PREDICATE.match(after) or _CONDITIONAL.match(after):
        return True
    if (stopped := _STOPS.match(after)) is not None and not _CONFIRMED.search(after, stopped.end()):
        return True
    return _BACKED.search(after) is not None or _turned(after, answer)


def _turned(after: str, answer: str) -> bool:
    """Whether a sentence after an answer rejects it, and no later one confirms it."""
    after = after[:2_000]
    if _HEDGES.match(after):
        return True
    if not any(pattern.search(after) for pattern in (_BEGINS, _TURNS, _NEGATED)):
        return False
    numbers = set(_NUMBER.findall(answer))
    ends = [match.end() for match in _ENDS.finditer(after)]
    for begin, end in pairwise([0, *ends, len(after)]):
        if _CONFIRMED.search(after, end):
            return False
        before = max(begin - 1, 0)  # the end of the sentence before, which some patterns begin with
        if _BEGINS.match(after, before, end):
            return True
        aside = after[begin:end].lstrip().startswith("(") or _CONFIRMED.search(after, begin, end) is not None
        negated = begin > 0 and not aside and _NEGATED.search(after, begin, end) is not None
        if not (negated or _TURNS.search(after, before, end)) or _OF_OTHERS.search(after, begin, end):
            continue
        named = set(_NUMBER.findall(after, begin, end))
        if (begin > 0 or _ITS_OWN.match(after)) and (not named or (numbers and numbers <= named)):
            return True
    return False
