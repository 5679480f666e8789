r"""Finds the final answer in a response.  Linear in its length; what the answer means is not looked at.

Thinking is dropped first: what stands before the last ``</think>`` (or its kin), and what follows a
``<think>`` that never ends, is no answer.  Then the first of these rules that finds something decides:

1. ``boxed``: the last complete ``\boxed{...}`` or ``\fbox{...}`` that is not empty.  Boxes joined by
   nothing but ``and``, ``or`` or a comma are one answer, a list: ``\boxed{1} and \boxed{2}`` says "1 and 2",
   never just "2".  Other earlier boxes are ignored.
2. ``answer is``: what follows the last "the final answer is", "Answer:" and their like.
3. ``####``: the rest of the line after the last one.
4. ``<answer>``: the last complete ``<answer>...</answer>``.
5. ``bare``: a response of one short line, as a whole.
6. ``bold``, ``math``, ``number``: the last ``**...**`` of the last line that starts with a digit, else the
   last formula between dollars, ``\( \)`` or ``\[ \]``, or the last number, whichever stands later.  A number
   that ends a list of alternatives ("5 or 6") is not taken.

Rules 2 to 6 give their shorter readings too, because prose may follow an answer; the first one that is a
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
_JOIN = re.compile(
    r"(?:[\s$,;.&]|\\[()\[\],;!]|\\quad|\\text\s?\{\s*(?:and|or)\s*\}|and|or|\*\*"
    r"|\\?[A-Za-z](?:_\{?\w{1,3}\}?)?\s*=)*"
)
_PHRASE = re.compile(
    r"(?:\banswers?\b(?:\s{1,3}\([^()\n]{0,40}\))?[*\s]{0,4}"
    r"(?:(?:is|are|equals?|becomes|would\s+be|will\s+be|must\s+be|should\s+be|therefore)\b[\s:]{0,4}|[:=：]"
    r"|(?=\s{0,3}(?:\$|\\\(|\\\[)))"
    r"|答案(?:应该|应)?[是为為]?[:：]?|\b(?:réponse|respuesta|resposta|risposta|antwort)\b[^\n:.]{0,12}?"
    r"(?:\b(?:est|es|é|è|ist|lautet)\b|:)|\bответ\b\s*[:—-]?)",
    re.IGNORECASE,
)
_NOT = re.compile(r"[\s*]{0,4}(?:not\b|n't\b|never\b|unclear|unknown)", re.IGNORECASE)
_LEAD = re.compile(r"[\s:：*_\"'“”`=]{0,20}")
_MATH = re.compile(
    r"\$\$(.+?)\$\$|(?<!\\)\$((?:\\.|[^$\\\n])+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|\*|\")|[。！？\n]")
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9_.\\])[-+−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:[.,]\d+)?(?:\s?/\s?\d+)?(?:\s?\\?%)?"
)
_ALTERNATIVE = re.compile(
    r"(?:\b(?:or|either|maybe|perhaps|not|possibly|between)\b|±|\\pm|或|ou\b)\s*\$?$", re.IGNORECASE
)
_AFTER = re.compile(r"\s*(?:\$\s*)?(?:,\s*)?(?:or|maybe|perhaps|to|through)\b", re.IGNORECASE)
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
    return (
        _boxed(text)
        or _after_phrase(text)
        or _after_hashes(text)
        or _in_answer_tag(text)
        or _loose(text)
    )


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Complete outermost boxes as (start of the command, start, end of the content), in order.

    >>> [r"\boxed{\boxed{1}} \boxed{2"[a:b] for _, a, b in boxes(r"\boxed{\boxed{1}} \boxed{2")]
    ['\\boxed{1}']
    """
    open_braces: list[tuple[int, int] | None] = []
    complete: list[tuple[int, int, int]] = []
    for match in _BOX.finditer(text):
        token = match.group()
        if token.startswith(("\\boxed", "\\fbox")):
            open_braces.append((match.start(), match.end()))
        elif token == "{":
            open_braces.append(None)
        elif token == "}" and open_braces:
            opened = open_braces.pop()
            if opened is not None:
                while complete and complete[-1][0] > opened[0]:
                    complete.pop()  # inside this one
                complete.append((*opened, match.start()))
    return complete


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
    inner = boxes(content)
    while (
        len(inner) == 1
        and not content[: inner[0][0]].strip()
        and not content[inner[0][2] + 1 :].strip()
    ):
        content = content[inner[0][1] : inner[0][2]]
        inner = boxes(content)
    return content.strip()


def _after_phrase(text: str) -> list[Found]:
    last = None
    for match in _PHRASE.finditer(text):
        last = match
    if last is None or _NOT.match(text, last.end()):
        return []
    start = _LEAD.match(text, last.end()).end()  # type: ignore[union-attr]
    return _readings(text[start : start + 2_000], "answer is")


def _after_hashes(text: str) -> list[Found]:
    place = text.rfind("####")
    if place < 0:
        return []
    line = text[place:].lstrip("#").split("\n", 1)[0].strip()
    return _readings(line, "####") if line else []


def _in_answer_tag(text: str) -> list[Found]:
    opened, content = None, ""
    for match in _ANSWER_TAG.finditer(text):
        if not match.group(1):
            opened = match.end()
        elif opened is not None:
            content, opened = text[opened : match.start()].strip(), None
    return _readings(content, "<answer>") if content else []


def _readings(tail: str, rule: str) -> list[Found]:
    """What an announcement says: its sentence, the formulas it starts with, its first number."""
    readings: list[str] = []
    formula = _MATH.match(tail)
    if formula:
        end = formula.end()
        while (gap := _JOIN.match(tail, end)) and (more := _MATH.match(tail, gap.end())):
            end = more.end()
        rest = tail[end:]
        if not _AFTER.match(rest):
            readings.append(tail[:end])
        else:
            readings.append(tail[: _end_of_sentence(tail, end)])
    else:
        sentence = tail[: _end_of_sentence(tail, 0)].strip().rstrip("*_ ")
        if sentence:
            readings.append(sentence)
        number = _NUMBER.match(tail)
        if number and not _AFTER.match(tail, number.end()):
            readings.append(number.group())
        elif not number:
            readings += [found.text for found in _last_of(sentence)]
    return [Found(reading.strip(), rule) for reading in readings if reading.strip()]


def _end_of_sentence(text: str, start: int) -> int:
    match = _SENTENCE_END.search(text, start)
    return match.start() if match else len(text)


def _loose(text: str) -> list[Found]:
    text = text.strip()
    found = []
    if text and len(text) <= MAX_BARE and "\n" not in text:
        found.append(Found(text, "bare"))
    lines = text.rsplit("\n", 1)
    bold = re.findall(r"\*\*\s{0,4}([-+$]?\d[^*\n]{0,200})\*\*", lines[-1][-2_000:])
    if bold:
        found += _readings(bold[-1], "bold")
    return found + list(_last_of(text))


def _last_of(text: str) -> Iterator[Found]:
    """The last formula or number, if nothing says that it is one of several."""
    formula, number = _last(_MATH, text), _last(_NUMBER, text)
    if formula and (number is None or formula.end() >= number.end()):
        if not _ALTERNATIVE.search(text[max(0, formula.start() - 20) : formula.start()]):
            content = next(group for group in formula.groups() if group is not None)
            yield Found(content.strip(), "math")
    elif number and not _ALTERNATIVE.search(text[max(0, number.start() - 20) : number.start()]):
        yield Found(number.group().strip(), "number")
