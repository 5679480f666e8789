r"""Finds the final answer in a response.  Linear in its length; what the answer means is not looked at.

Thinking is dropped first: what stands before the last ``</think>`` (or its kin), and what follows a
``<think>`` that never ends, is no answer.  Then the first of these rules that finds something decides:

1. ``boxed``: the last complete ``\boxed{...}`` or ``\fbox{...}`` that is not empty.  Boxes joined by
   nothing but ``and``, ``or`` or a comma are one answer, a list: ``\boxed{1} and \boxed{2}`` says "1 and 2",
   never just "2".  Other earlier boxes are ignored.
   A response whose only box is never closed was cut off and has no answer.
2. Announced, the last of these in the response: ``answer is``, what follows "the final answer is", "Answer:"
   and their like; ``####``, the rest of the line after it; ``<answer>``, the content of a complete
   ``<answer>...</answer>``.
3. ``bare``: a response of one short line, as a whole, unless it is words around a formula.
4. ``bold``, ``math``, ``number``: the last ``**...**`` of the last line that starts with a digit, or is the letter
   of a choice and ends the line; else the last formula between dollars, ``\( \)`` or ``\[ \]``, or the last number,
   whichever stands later, with those that "and" joins to it: "$3$ and $5$" is a list.  Not taken are one that ends
   a list of alternatives ("5 or 6"), one that is denied ("it isn't 5"), and one inside a question or a task ("What
   is $2 + 3$?", "Compute $x$."): those repeat the problem.

Rules 2 to 4 give their shorter readings too, because prose may follow an answer; the first one that is a
mathematical answer counts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from llmrl.verifiers.math.plain import formula_around, is_result

MAX_RESPONSE = 400_000
"""Characters of a response that are looked at: its end."""
MAX_BARE = 300
"""Characters up to which a response of one line may be an answer as a whole."""


class Found(NamedTuple):
    """An answer as it stands in the response, and the rule that found it."""

    text: str
    rule: str


_TAGS = r"(?:[a-z]+:)?(?:think(?:ing)?|thoughts?|reasoning|scratchpad|analysis|reflection)"
_CLOSE = re.compile(
    rf"</{_TAGS}>|\[/{_TAGS}\]|<\|/{_TAGS}\|>|<\|end_of_thought\|>|<\|end_thinking\|>|◁/think▷", re.IGNORECASE
)
_OPEN = re.compile(
    rf"<{_TAGS}>|\[{_TAGS}\]|<\|{_TAGS}\|>|<\|begin_of_thought\|>|<\|start_thinking\|>|◁think▷", re.IGNORECASE
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,80}<\|message\|>|<\|(?:end|return|call)\|>")
"""How harmony says which part of a response the user sees: that of the channel ``final``."""
_SPECIAL = re.compile(r"<\|(?:im_end|im_start|eot_id|endoftext|end_of_text|return|end|start|eom_id)\|>|</s>")
_BOX_TAGS = re.compile(r"<\|(begin|end)_of_box\|>")
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\boxed\s{0,4}([-+]?\d+(?:\.\d+)?|[A-Za-z])(?![\w{])")
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{")
_ESCAPED_END = re.compile(r"\\boxed\s{0,4}\{([^{}\\]{1,200})\\\}(?![^{}]*\\boxed)")
"""A box whose closing brace has a backslash by mistake."""
_REASONS = re.compile(r"\b(?:so|then|thus|hence|therefore|because|since|gives?|implies)\b", re.IGNORECASE)
_UNSURE = re.compile(r"[^\n.!?]{1,60}\?\s*(?:no\b|not\b|$)", re.IGNORECASE)
_ANSWER_DENIED = re.compile(
    r"\banswers?\s{0,4}(?:is|:)\s{0,4}[^\s.!?][^\n.!?]{0,40}(?:\?|\s(?:is|was)\s+(?:wrong|incorrect|false|not\b))"
    r"|\b(?:not\s+true|false|wrong|incorrect)\s+(?:that|to\s+\w+)\s[^\n.!?]{0,40}\banswer\b",
    re.IGNORECASE,
)
_ENDS_WITH_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}$")
_EMPTY = re.compile(r"(?:[\s$~{}]|\\(?:[,;:! \\]|quad))*")
_WRONG = (
    r"(?:wrong|incorrect|false|mistaken|invalid|(?:a|an|my)\s+(?:mistake|error)"
    r"|not\s+(?:\w+\s+){0,2}(?:right|correct|true|valid))"
)
_MISTAKEN = r"(?:wrong|incorrect|mistaken|(?:a|an|my)\s+(?:mistake|error)|not\s+(?:\w+\s+)?(?:right|correct))"
_DENIES = re.compile(
    r"(?:\b(?:not|never|cannot\s+be|rather\s+than|instead\s+of)|n['’]t(?:\s+be)?)"
    r"(?:\s+(?:equal(?:\s+to)?|exactly|simply|just|be))?[\s:$*(\\\[]*$"
    r"|\b(?:wrong|incorrect|false|mistake|not\s+true)\s+(?:to|that)\b[^.!?\n]*$"
    r"|\b(?:suppose|assume|assuming|imagine)(?:\s+that)?(?:\s+\w+){0,4}[\s:$=(]*$"
    r"|\bif\s+(?:the\s+|our\s+)?(?:\w+\s+)?answer\s+(?:is|were|was|had\s+been)[\s:$(]*$",
    re.IGNORECASE,
)
"""What stands before an answer that is denied."""
_TAKES_BACK = re.compile(
    rf"[\s$*.,;:)\]\\]*(?:\?\s*(?:no|not)\b|(?:(?:which|that|this|it)\s+)?"
    rf"(?:(?:is|was|are|would\s+be|must\s+be|may\s+be|seems|looks)\s+(?:(?:also|clearly|obviously|actually|probably)\s+)?"
    rf"(?:{_WRONG}|(?:not|n['’]t)(?:\s+(?:the|my|a|an)\s+(?:\w+\s+)?(?:answers?|solutions?|value|result)\b|\s+(?:possible|it|so)\b"
    r"|\s*[.,;!]|\s*$))|(?:isn|wasn)['’]t\s+(?:the\s+)?(?:\w+\s+)?(?:answer|right|correct)|(?:cannot|can['’]t)\s+be\b|fails\b))",
    re.IGNORECASE,
)
"""What follows an answer and says that it is none: "is incorrect"."""
_RETRACTS = re.compile(
    rf"\b(?:(?:that|this|it|answer|result|above|i)(?:\s+(?:is|was|am|were|must\s+be|seems)|['’](?:s|m))\s+"
    rf"(?:(?:also|clearly|actually|completely|probably|all)\s+)?{_MISTAKEN}\b"
    r"|(?:this|that|it|the\s+above)(?:\s+is|['’]s)\s+not\s+the\s+(?:\w+\s+)?(?:answer|solution|value|result)\b"
    r"|(?:made|is|was|contains|be)\s+(?:a|an|some)\s+(?:\w+\s+)?(?:mistake|error|slip)"
    r"|(?:scratch|ignore|disregard|forget)\s+(?:that|this|the)\b|i\s+(?:take\s+(?:that|it)\s+back|misread|miscalculated)"
    r"|(?:wait|oops|hmm|no|sorry)\W{1,4}(?:\w+\W+){0,4}?(?:wrong|incorrect|mistake|error|not\s+right))",
    re.IGNORECASE,
)
"""What takes an earlier answer back without giving another."""
_CORRECTS = re.compile(
    r"(?:(?:^|[\n.!?:;,(])[\s*#>_]{0,6}(?:[A-Za-z]+[,:]?\s+){0,2}"
    r"(?:the\s+)?(?:(?:final|correct|right|actual|true|real)\s+){0,2}answers?\b[*\s]{0,4}"
    r"(?:\s(?:is|should\s+be|must\s+be)\b[\s:]{0,4}|[:：])|\bcorrection\b[:\s]{1,4})[\s*:]{0,6}"
    r"(?=[-+$\d]|\\[(\[]|\(?[A-J]\)?(?:[\s.*)]|$))",
    re.IGNORECASE | re.MULTILINE,
)
"""An answer that is announced after a box, and counts instead."""
_GIVES_UP = re.compile(
    r"\b(?:(?:can(?:not|['’]t)|unable\s+to|not\s+able\s+to|could(?:\s+not|n['’]t)|impossible\s+to|do\s+not|don['’]t)\s+"
    r"(?:\w+\s+)?(?:solve|answer|know|find|determine|continue|finish|understand|complete)|give\s+up|no\s+idea|unsolvable"
    r"|too\s+(?:hard|difficult)|out\s+of\s+time|hard\s+to\s+say|not\s+sure|unsure)\b",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:\b(?:option|choice|pick|choose|select)\b|故选|应选|所以选|因此选|选项|选择|选)[\s:：]{0,3}(?:\\text(?:bf|rm)?\s?\{|\*\*|[$(（\\]){0,4}"
    r"([A-J])(?![A-Za-z\d])",
    re.IGNORECASE,
)
_JOIN = re.compile(
    r"(?:[\s$,;.&]|\\[()\[\],;!]|\\quad|\\text\s?\{\s*(?:and|or)\s*\}|and|or|\*\*"
    r"|\\?[A-Za-z](?:_\{?\w{1,3}\}?)?\s*=)*"
)
_BETWEEN = re.compile(r"(?:[\s,;&]|\\[,;!]|\\quad|and|or|\*\*)*")
_PHRASE = re.compile(
    r"(?:\b(?:answers?|correct\s(?:option|choice))\b(?:\s{1,3}\([^()\n]{0,40}\))?[*\s]{0,4}"
    r"(?:(?:is|are|equals?|becomes|would\s+be|will\s+be|must\s+be|should\s+be|therefore)\b[\s:]{0,4}|[:=：]"
    r"|(?=\s{0,3}(?:\$|\\\(|\\\[)))"
    r"|答案(?:应该|应)?[是为為]?[:：]?|\b(?:réponse|respuesta|resposta|risposta|antwort)\b[^\n:.]{0,12}?"
    r"(?:\b(?:est|es|é|è|ist|lautet)\b|:)|\bответ\b\s*[:—-]?)",
    re.IGNORECASE,
)
_NOT_CHOSEN = re.compile(r"\b(?:not|wrong|incorrect|or|eliminate|exclude|rule)\b|n['’]t\b|错|不", re.IGNORECASE)
_NOT = re.compile(r"[\s*]{0,4}(?:not\b|n't\b|never\b|unclear|unknown)", re.IGNORECASE)
_LEAD = re.compile(r"[\s:：*_\"'“”`=}]{0,20}")
_MATH = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\\n])+?)\$|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)  # a formula does not hold the sign that opens it: so no text is scanned twice
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|\*|\")|[。！？\n]")
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.\\])[-+−]?\$?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:[.,]\d+)?(?:\s?/\s?\d+)?[½⅓⅔¼¾⅕⅛]?|[½⅓⅔¼¾⅕⅛]|\.\d+)"
    r"(?:\s?\\?%)?"
)
_STATES = re.compile(r"[=<>]|\\(?:[lg]eq?|neq?|in|approx)(?![A-Za-z])")
_ITEM = re.compile(rf"{_MATH.pattern}|{_NUMBER.pattern}", re.DOTALL)
_ALTERNATIVE = re.compile(
    r"(?:\b(?:or|either|maybe|perhaps|not|possibly|neither|nor|(?:could|may|might)\s+be|exceeds?|between"
    r"|times|plus|minus|over|(?:divided|multiplied)\s+by|out\s+of"
    r"|(?:more|less|fewer|greater|larger|smaller)\s+than|between\s+\S{1,10}\s+and|from\s+\S{1,10}\s+to)\b"
    r"|(?:\b(?:not|never|cannot)\b|n['’]t\b)(?:\s+(?:be|equal|to|the|answer|it|is|that|think|believe|exactly))*"
    r"|±|\\pm|或|ou\b)"
    r"\s*\$?$",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"\b(?:therefore|thus|hence|so|consequently),?\s*$", re.IGNORECASE)
_AND = re.compile(r"\s*(,|,?\s*\band\b)\s*", re.IGNORECASE)
_AFTER = re.compile(
    r"\s*(?:\$\s*)?(?:,\s*)?(?:or|maybe|perhaps|to|through|plus|minus|divided|multiplied|(?:more|less|fewer)\s+than"
    r"|(?:times|over)\s+[\d$])\b",
    re.IGNORECASE,
)
_TASK = re.compile(
    r"\s*(?:please\s+|now\s+)?(?:what|how|which|compute|calculate|evaluate|find|determine|simplify|solve|expand"
    r"|factor|express|prove|show|give)\b",
    re.IGNORECASE,
)
_SINCE = re.compile(
    r"\s?\((?:since|because|as|where|for|note|about|approximately|approx|roughly|≈|i\.e|by|see|if|when|using|from)\b[^()\n]{0,120}\)",
    re.IGNORECASE,
)
"""A remark that gives a reason."""
_DENIED = re.compile(r"\s?\((?:and )?not\b[^()\n]{0,60}\)", re.IGNORECASE)
"""A remark that says what the answer is not."""
_SUPPOSITION = re.compile(r"\s*(?:suppose|assume|imagine)\b", re.IGNORECASE)
_RESULT = re.compile(r"[=:]|\b(?:get|gets|gives?|yields?|obtain|is|are|to|as)\W{0,4}$")
_COMPARED = re.compile(
    r"\b(?:at\s+(?:least|most)|(?:more|less|fewer|greater|larger|smaller)\s+than|up\s+to|close\s+to|near|exceeds?"
    r"|between|half|twice|double|triple|times|plus|minus|roots?|squares?d?|cubes?d?|factorial|reciprocal|inverse|negative"
    r"|powers?|logarithm|sine|cosine|tangent|percent\s+of|multiples?|divided|over|modulo|mod)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|suppose|assume|assuming|whether)\s+(?:that\s+)?(?:(?:the|our|final|correct)\s+){0,3}$",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\b(?:wrong|incorrect|false|mistake|not\s+true|untrue|unlikely|doubt|deny|denies|claims?|claimed|says?|thinks?|not)"
    r"\s+(?:to\s+\w+\s+)?(?:that\s+)?(?:(?:the|our|final|correct)\s+){0,3}$",
    re.IGNORECASE,
)
_REMARK = re.compile(
    r"\s+\((?!mod|or\b|not|maybe|perhaps|possibly|wrong|incorrect)[a-z][a-z ,'-]{2,60}\)$",
    re.IGNORECASE,
)
_ANSWER_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)


def after_thinking(response: str) -> str:
    """The response without its thinking.

    >>> after_thinking("<think>2 + 2 = 5? No.</think>It is 4.")
    'It is 4.'
    >>> after_thinking("<think>It is 4")
    ''
    """
    response = _final_channel(response)
    start = 0
    for match in _CLOSE.finditer(response):
        start = match.end()
    rest = response[start:]
    opened = _OPEN.search(rest)
    return rest[: opened.start()] if opened else rest


def _final_channel(response: str) -> str:
    """What harmony's last channel ``final`` says; the response itself where there are no channels."""
    if "<|channel|>" not in response:
        return response
    said, start = "", None
    for match in _CHANNEL.finditer(response):
        if start is not None:
            said = response[start : match.start()]
        start = match.end() if match.group(1) == "final" else None
    return said if start is None else response[start:]


def find_answer(response: str) -> list[Found]:
    r"""What the response gives as its answer: the readings of one rule, the fullest first.

    >>> find_answer(r"First \boxed{3}, no: \boxed{\frac{1}{2}}.")
    [Found(text='\\frac{1}{2}', rule='boxed')]
    >>> find_answer("I do not know.")[0].rule
    'bare'
    """
    text = after_thinking(response[-MAX_RESPONSE:])
    special = _SPECIAL.search(text)
    if special and special.start() > 0:
        text = text[: special.start()]
    if "_of_box|>" in text:
        text = _BOX_TAGS.sub(lambda m: r"\boxed{" if m.group(1) == "begin" else "}", text)
    if (opened := _last(_OPEN_BOX, text)) is not None:
        closed = list(_closed(text))
        if any(box[0] == opened.start() for box in closed) and not _ENDS_WITH_BOX.search(text[-20:]):
            return _boxed(text, _outermost(closed))
        escaped = _last(_ESCAPED_END, text)
        return [Found(escaped.group(1).strip(), "boxed")] if escaped else []
    if (bare := _last(_BARE_BOX, text)) is not None:
        return [Found(bare.group(1), "boxed")]
    found = _announced(text) or _chosen(text)
    return found or ([] if _GIVES_UP.search(text) or _ANSWER_DENIED.search(text) else _loose(text))


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Complete outermost boxes as (start of the command, start, end of the content), in order.

    >>> [r"\boxed{\boxed{1}} \boxed{2"[a:b] for _, a, b in boxes(r"\boxed{\boxed{1}} \boxed{2")]
    ['\\boxed{1}']
    """
    return _outermost(_closed(text))


def _outermost(closed: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    outermost: list[tuple[int, int, int]] = []
    for box in closed:
        while outermost and outermost[-1][0] > box[0]:
            outermost.pop()  # inside this one
        outermost.append(box)
    return outermost


def _closed(text: str) -> Iterator[tuple[int, int, int]]:
    """All complete boxes, likewise, as they close: inner ones first."""
    opened: list[tuple[int, int] | None] = []
    for match in _BOX.finditer(text):
        token = match.group()
        if token.startswith(("\\boxed", "\\fbox")):
            opened.append((match.start(), match.end()))
        elif token == "{":
            opened.append(None)
        elif token == "}" and opened and (box := opened.pop()) is not None:
            yield *box, match.start()


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last place where a pattern matches, without keeping the others."""
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _boxed(text: str, found: list[tuple[int, int, int]]) -> list[Found]:
    """The last box with those joined to it; what is announced after it instead; nothing if it is taken back."""
    if not found or _EMPTY.fullmatch(text, found[-1][1], found[-1][2]):
        return []
    before, after = text[max(0, found[-1][0] - 200) : found[-1][0]], text[found[-1][2] + 1 :][:20_000]
    if (announced := _last(_CORRECTS, after)) is not None:
        return _readings(after[_LEAD.match(after, announced.end()).end() :][:2_000], "answer is")  # type: ignore[union-attr]
    if _DENIES.search(before) or _TAKES_BACK.match(after) or _RETRACTS.search(after):
        return []
    joined = [found[-1]]
    for earlier in reversed(found[:-1]):
        if _EMPTY.fullmatch(text, earlier[1], earlier[2]):
            break
        gap = text[earlier[2] + 1 : joined[0][0]]
        if len(gap) > 60 or not gap.strip("$ \t") or not _JOIN.fullmatch(gap) or "\n\n" in gap:
            break
        joined.insert(0, earlier)
    parts = [_unbox(text[start:end]) for _, start, end in joined]
    if len(parts) == 1:
        return [Found(parts[0], "boxed")]
    gaps = [text[a[2] + 1 : b[0]] for a, b in pairwise(joined)]
    word = " or " if any(re.search(r"\bor\b", gap) for gap in gaps) else ", "
    return [Found(word.join(parts), "boxed")]


def _unbox(content: str) -> str:
    """The content of boxes that hold nothing but one box."""
    if "boxed" not in content and "fbox" not in content:
        return content.strip()
    ends = {command: (start, end) for command, start, end in _closed(content)}
    start, end = 0, len(content)
    while True:
        while start < end and content[start].isspace():
            start += 1
        while start < end and content[end - 1].isspace():
            end -= 1
        inside = ends.get(start)
        if inside is None or inside[1] != end - 1:
            return content[start:end]
        start, end = inside


def _announced(text: str) -> list[Found]:
    """The last announcement that has something after it."""
    places = [_after_phrase(text), _after_hashes(text), _in_answer_tag(text)]
    start, found = max(places, key=lambda place: place[0])
    return [] if found and _taken_back(text[start:][:20_000], found) else found


def _taken_back(tail: str, found: list[Found]) -> bool:
    """Whether the text behind an announced answer denies it: "Answer: 6 is wrong.", "The answer is 6? No."."""
    if _RETRACTS.search(tail) or _UNSURE.match(tail):
        return True
    return any(_TAKES_BACK.match(tail, len(reading.text)) for reading in found if tail.startswith(reading.text))


def _after_phrase(text: str) -> tuple[int, list[Found]]:
    last = _last(_PHRASE, text)
    if last is None or _NOT.match(text, last.end()):
        return -1, []
    before = text[max(0, last.start() - 200) : last.start()]
    if _SUPPOSED.search(before) or _DOUBTED.search(before):
        return -1, []
    start = _LEAD.match(text, last.end()).end()  # type: ignore[union-attr]
    found = _readings(text[start : start + 2_000], "answer is")
    return (start, found) if found else (-1, [])


def _chosen(text: str) -> list[Found]:
    """The choice that the last line names, if it names one alone: "option (C)"."""
    line = text.strip().rsplit("\n", 1)[-1][-500:]
    letters = [match.group(1) for match in _CHOSEN.finditer(line)]
    if not letters or len(set(letters)) > 1 or not letters[0].isupper() or _NOT_CHOSEN.search(line):
        return []
    return [Found(letters[0], "choice")]


def _after_hashes(text: str) -> tuple[int, list[Found]]:
    place = text.rfind("####")
    if place < 0:
        return -1, []
    line = text[place:].lstrip("#").split("\n", 1)[0].strip()
    return (place, _readings(line, "####")) if line else (-1, [])


def _in_answer_tag(text: str) -> tuple[int, list[Found]]:
    opened, place, content = None, -1, ""
    for match in _ANSWER_TAG.finditer(text):
        if not match.group(1):
            opened = match.end()
        elif opened is not None:
            place, content = opened, text[opened : match.start()].strip()
            opened = None
    return (place, _readings(content, "<answer>")) if content else (-1, [])


def _readings(tail: str, rule: str) -> list[Found]:
    """What an announcement says: its sentence, the formulas it starts with, its first number."""
    readings: list[str] = []
    formula = _MATH.match(tail)
    if formula:
        end = formula.end()
        while (gap := _BETWEEN.match(tail, end)) and (more := _MATH.match(tail, gap.end())):
            end = more.end()
        rest = tail[end:]
        if not _AFTER.match(rest):
            readings.append(tail[:end])
        else:
            readings.append(tail[: _end_of_sentence(tail, end)])
    else:
        sentence = _REMARK.sub("", tail[: _end_of_sentence(tail, 0)].strip().rstrip("*_ "))
        if sentence:
            readings.append(sentence)
        number = _NUMBER.match(tail)
        if number and not _AFTER.match(tail, number.end()):
            start, end = formula_around(tail, *number.span())
            readings.append(tail[start:end])
        elif not number and not _COMPARED.search(sentence):
            readings += [found.text for found in _last_of(sentence)]
    return [Found(reading.strip(), rule) for reading in readings if reading.strip()]


def _end_of_sentence(text: str, start: int) -> int:
    match = _SENTENCE_END.search(text, start)
    return match.start() if match else len(text)


def _loose(text: str) -> list[Found]:
    text = _SINCE.sub("", _DENIED.sub("", text.strip()))
    found = []
    if text and len(text) <= MAX_BARE and "\n" not in text and not _is_prose(text):
        found.append(Found(text, "bare"))
    lines = text.rsplit("\n", 1)
    bold = re.findall(r"\*\*\s{0,4}([-+$]?\d[^*\n]{0,200}|\(?[A-J]\)?(?=\*\*[\s.]*$))\*\*", lines[-1][-2_000:])
    if bold:
        found += _readings(bold[-1], "bold")
    return found + list(_last_of(text))


def _is_prose(text: str) -> bool:
    """Whether words stand around a formula, which then is the answer without them."""
    outside = _MATH.sub(" ", text)
    return _REASONS.search(outside) is not None or (outside != text and re.search(r"[A-Za-z]{4,}", outside) is not None)


def _last_of(text: str) -> Iterator[Found]:
    """The last formula or number, if nothing says that it is one of several, or asked for."""
    formula, number = _last(_MATH, text), _last(_NUMBER, text)
    if formula and (number is None or formula.end() >= number.end()):
        last, rule = formula, "math"
        content = next(group for group in formula.groups() if group is not None)
    elif number:
        last, rule, content = number, "number", number.group()
    else:
        return
    start, end = last.span()
    if rule == "number":
        start, end = formula_around(text, start, end)
        content = text[start:end]
    if not is_result(text, start, end) or not is_result(text, *last.span()):
        return
    if _DENIES.search(text[max(0, start - 200) : start]):
        return
    if not _ALTERNATIVE.search(text[max(0, start - 20) : start]) and not _asked(text, last):
        if rule == "math" and _CONCLUDES.search(text[max(0, start - 40) : start]):
            rule = "conclusion"
        joined = [] if _STATES.search(content) and rule == "number" else _joined_before(text, start)
        yield Found(", ".join([*joined, content.strip()]), rule)


def _joined_before(text: str, end: int) -> list[str]:
    """The formulas and numbers of its line that "and" joins to the one that starts at ``end``."""
    start = max(text.rfind("\n", 0, end) + 1, end - 500)
    pieces: list[str] = []
    for item in reversed(list(_ITEM.finditer(text, start, end))):
        joined = _AND.fullmatch(text, item.end(), end)
        if joined is None:
            break
        if joined.group(1) == "," and not pieces and not _values(item.group(), text[end:]):
            break  # "For $x = 2$, $y = 3$"
        content = next((group for group in item.groups() if group is not None), item.group())
        pieces.insert(0, content.strip())
        end = item.start()
    return pieces


def _values(item: str, following: str) -> bool:
    """Whether two formulas beside each other are values, and state nothing."""
    formula = _MATH.match(following)
    return formula is not None and _MATH.match(item) is not None and not _STATES.search(item + formula.group())


def _asked(text: str, match: re.Match[str]) -> bool:
    """Whether the sentence around a formula or number is a question or sets a task."""
    before, after = text[max(0, match.start() - 300) : match.start()], text[match.end() :][:300]
    begin = max((end.end() for end in _SENTENCE_END.finditer(before)), default=0)
    if _SUPPOSITION.match(before, begin):
        return True
    if _TASK.match(before, begin) and not _RESULT.search(before[begin:]):
        return "=" not in match.group()
    end = _SENTENCE_END.search(after)
    return end is not None and end.group() == "?"
