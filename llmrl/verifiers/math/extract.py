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
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

MAX_RESPONSE = 400_000
"""Characters of a response that are looked at: its end."""
MAX_BARE = 300
"""Characters up to which a response of one line may be an answer as a whole."""


class Found(NamedTuple):
    """An answer as it stands in the response, and the rule that found it."""

    text: str
    rule: str


_TAGS = r"think(?:ing)?|thoughts?|reasoning|scratchpad"
_CLOSE = re.compile(rf"</(?:{_TAGS})>|<\|end_of_thought\|>|◁/think▷", re.IGNORECASE)
_OPEN = re.compile(rf"<(?:{_TAGS})>|<\|begin_of_thought\|>|◁think▷", re.IGNORECASE)
_SPECIAL = re.compile(r"<\|(?:im_end|im_start|eot_id|endoftext|end_of_text)\|>|</s>")
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"\\boxed\s{0,4}([-+]?\d+(?:\.\d+)?|[A-Za-z])(?![\w{])")
_OPEN_BOX = re.compile(r"\\boxed\s{0,4}\{")
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
_NOT = re.compile(r"[\s*]{0,4}(?:not\b|n't\b|never\b|unclear|unknown)", re.IGNORECASE)
_LEAD = re.compile(r"[\s:：*_\"'“”`=]{0,20}")
_MATH = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\\n])+?)\$|\\\(((?:(?!\\\().)+?)\\\)|\\\[((?:(?!\\\[).)+?)\\\]",
    re.DOTALL,
)  # a formula does not hold the sign that opens it: so no text is scanned twice
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|\*|\")|[。！？\n]")
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.\\])[-+−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:[.,]\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?")
_STATES = re.compile(r"[=<>]|\\(?:[lg]eq?|neq?|in|approx)(?![A-Za-z])")
_ITEM = re.compile(rf"{_MATH.pattern}|{_NUMBER.pattern}", re.DOTALL)
_ALTERNATIVE = re.compile(
    r"(?:\b(?:or|either|maybe|perhaps|not|possibly|neither|nor|(?:could|may|might)\s+be|exceeds?|between"
    r"|(?:more|less|fewer|greater|larger|smaller)\s+than|between\s+\S{1,10}\s+and|from\s+\S{1,10}\s+to)\b"
    r"|(?:\b(?:not|never|cannot)\b|n['’]t\b)(?:\s+(?:be|equal|to|the|answer|it|is|that|think|believe|exactly))*"
    r"|±|\\pm|或|ou\b)"
    r"\s*\$?$",
    re.IGNORECASE,
)
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
_DENIED = re.compile(r"\s?\((?:and )?not\b[^()\n]{0,60}\)", re.IGNORECASE)
"""A remark that says what the answer is not."""
_SUPPOSITION = re.compile(r"\s*(?:suppose|assume|imagine)\b", re.IGNORECASE)
_RESULT = re.compile(r"[=:]|\b(?:get|gets|gives?|yields?|obtain|is|are|to|as)\W{0,4}$")
_COMPARED = re.compile(
    r"\b(?:at\s+(?:least|most)|(?:more|less|fewer|greater|larger|smaller)\s+than|up\s+to|close\s+to|near|exceeds?"
    r"|between|half|twice|double|times|plus|minus)\b",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|suppose|assume|assuming|whether)\s+(?:that\s+)?(?:(?:the|our|final|correct)\s+){0,3}$",
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
    start = 0
    for match in _CLOSE.finditer(response):
        start = match.end()
    rest = response[start:]
    opened = _OPEN.search(rest)
    return rest[: opened.start()] if opened else rest


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
    return _boxed(text) or ([] if _cut_off(text) else _announced(text) or _loose(text))


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Complete outermost boxes as (start of the command, start, end of the content), in order.

    >>> [r"\boxed{\boxed{1}} \boxed{2"[a:b] for _, a, b in boxes(r"\boxed{\boxed{1}} \boxed{2")]
    ['\\boxed{1}']
    """
    outermost: list[tuple[int, int, int]] = []
    for box in _closed(text):
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


def _cut_off(text: str) -> bool:
    """Whether the response ends inside its box."""
    last = _last(_OPEN_BOX, text)
    return last is not None and not boxes(text[last.start() :].replace("\\}", "}"))


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last place where a pattern matches, without keeping the others."""
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _boxed(text: str) -> list[Found]:
    found = [box for box in boxes(text) if text[box[1] : box[2]].strip(" \t\n$~{}\\")]
    if not found:
        bare = _last(_BARE_BOX, text)
        return [Found(bare.group(1), "boxed")] if bare else []
    joined = [found[-1]]
    for earlier in reversed(found[:-1]):
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
    return max(places, key=lambda place: place[0])[1]


def _after_phrase(text: str) -> tuple[int, list[Found]]:
    last = _last(_PHRASE, text)
    if last is None or _NOT.match(text, last.end()):
        return -1, []
    if _SUPPOSED.search(text[max(0, last.start() - 40) : last.start()]):
        return -1, []
    start = _LEAD.match(text, last.end()).end()  # type: ignore[union-attr]
    found = _readings(text[start : start + 2_000], "answer is")
    return (start, found) if found else (-1, [])


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
            readings.append(number.group())
        elif not number and not _COMPARED.search(sentence):
            readings += [found.text for found in _last_of(sentence)]
    return [Found(reading.strip(), rule) for reading in readings if reading.strip()]


def _end_of_sentence(text: str, start: int) -> int:
    match = _SENTENCE_END.search(text, start)
    return match.start() if match else len(text)


def _loose(text: str) -> list[Found]:
    text = _DENIED.sub("", text.strip())
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
    return outside != text and re.search(r"[A-Za-z]{4,}", outside) is not None


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
    if not _ALTERNATIVE.search(text[max(0, last.start() - 20) : last.start()]):
        if not _asked(text, last):
            yield Found(", ".join([*_joined_before(text, last.start()), content.strip()]), rule)


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
