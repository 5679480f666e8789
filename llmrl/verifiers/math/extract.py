r"""Finds the final answer in a response, in time linear in its length.  The meaning of the answer does not matter.

Thinking is dropped first: the text before the last ``</think>`` (or a similar tag), and the text after a
``<think>`` that never ends, hold no answer.  Then the first of these rules that finds something decides:

1. ``boxed``: the last ``\boxed{...}`` or ``\fbox{...}``, or what is announced after it.  Boxes joined by
   nothing but ``and``, ``or`` or a comma are one answer, a list: ``\boxed{1} and \boxed{2}`` says "1 and 2",
   never just "2".  Other earlier boxes are ignored.  If the last box is never closed, empty, denied or taken back,
   there is no answer.
2. Announced, the last of these in the response: ``answer is``, what follows "the final answer is", "Answer:"
   and similar phrases; ``####``, the rest of the line after it; ``<answer>``, the content of a complete
   ``<answer>...</answer>``.
   ``choice``: the one choice that the last line names.
3. ``bare``: a response of one short line, as a whole, unless it is words around a formula.
4. ``bold``, ``math``, ``number``: the last ``**...**`` that is a value, or the letter of a choice at the end, with no
   result after it; else the last formula between dollars, ``\( \)`` or ``\[ \]``, or the last number,
   whichever stands later, with those that "and" joins to it: "$3$ and $5$" is a list.  Not taken are one that ends
   a list of alternatives ("5 or 6"), one that is denied ("it isn't 5"), and one inside a question or a task ("What
   is $2 + 3$?", "Compute $x$."): those repeat the problem.  A number in plain text comes with the whole formula
   that it stands in (:mod:`.plain`).

Rules 2 to 4 give their shorter readings too, because prose may follow an answer; the first one that is a
mathematical answer counts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from llmrl.verifiers.math import phrases
from llmrl.verifiers.math.denials import alternative, announcement_denied, denied_after, denied_before, gives_up
from llmrl.verifiers.math.plain import formula_around, is_result

MAX_RESPONSE = 400_000
"""Characters of a response that are looked at: its end."""
MAX_BARE = 300
"""Characters up to which a response of one line may be an answer as a whole."""


class Found(NamedTuple):
    """An answer as it stands in the response, and the rule that found it."""

    text: str
    rule: str


def after_thinking(response: str) -> str:
    """The response without its thinking.

    >>> after_thinking("<think>2 + 2 = 5? No.</think>It is 4.")
    'It is 4.'
    >>> after_thinking("<think>It is 4")
    ''
    """
    response = _final_channel(response)
    start = 0
    for match in phrases.CLOSE.finditer(response):
        start = match.end()
    rest = response[start:]
    opened = phrases.OPEN.search(rest)
    return rest[: opened.start()] if opened else rest


def _final_channel(response: str) -> str:
    """What harmony's last channel ``final`` says; the response itself where there are no channels."""
    if "<|channel|>" not in response:
        return response
    said, start = "", None
    for match in phrases.CHANNEL.finditer(response):
        if start is not None:
            said = response[start : match.start()]
        start = match.end() if match.group(1) == "final" else None
    return said if start is None else response[start:]


def find_answer(response: str) -> list[Found]:
    r"""What the response gives as its answer: the readings of one rule, the fullest first.

    >>> find_answer(r"First \boxed{3}, no: \boxed{\frac{1}{2}}.")
    [Found(text='\\frac{1}{2}', rule='boxed')]
    >>> find_answer("I do not know.")
    []
    """
    text = after_thinking(response[-MAX_RESPONSE:])
    if "</" in text:
        text = phrases.MARKUP.sub("", text)
    text = _without_struck(text)
    special = phrases.SPECIAL.search(text)
    if special and special.start() > 0:
        text = text[: special.start()]
    if "_of_box|>" in text:
        text = phrases.BOX_TAGS.sub(lambda m: r"\boxed{" if m.group(1) == "begin" else "}", text)
    text = _of_this_problem(text)
    if (opened := _last(phrases.OPEN_BOX, text)) is not None:
        closed = list(_closed(text))
        if any(box[0] == opened.start() for box in closed) and not phrases.ENDS_WITH_BOX.search(text[-20:]):
            return _boxed(text, _outermost(closed))
        escaped = _last(phrases.ESCAPED_END, text)
        return [Found(escaped.group(1).strip(), "boxed")] if escaped else []
    if (bare := _last(phrases.BARE_BOX, text)) is not None:
        return [Found(bare.group(1), "boxed")]
    announced = _announced(text)
    found = announced or _chosen(text)
    if found or announced is None or gives_up(text):
        return found
    return _loose(_behind_doubted(text))


def _of_this_problem(text: str) -> str:
    """The text before the next problem, which a base model may write after its answer.

    >>> _of_this_problem("#### 5\\nQuestion: What is 3 + 3?\\n#### 6")
    '#### 5\\n'
    """
    answered = phrases.ANSWERED.search(text)
    heading = phrases.NEXT_PROBLEM.search(text, answered.end()) if answered else None
    return text[: heading.start()] if heading else text


def _without_struck(text: str) -> str:
    r"""The text without what is crossed out: ``~~5~~``, ``<del>5</del>``, ``\cancel{5}``.

    >>> _without_struck(r"~~5~~ \boxed{6}")
    ' \\boxed{6}'
    """
    if not any(sign in text for sign in phrases.STRIKES) or phrases.SEQUENCE.fullmatch(text):
        return text
    return phrases.STRUCK.sub("", text)


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
    """All complete boxes in the same form, as they close: inner ones first."""
    opened: list[tuple[int, int] | None] = []
    for match in phrases.BOX.finditer(text):
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
    if not found:
        return []
    before, after = text[max(0, found[-1][0] - 200) : found[-1][0]], text[found[-1][2] + 1 :][:20_000]
    announced = _last(phrases.CORRECTS, after) or _last(phrases.OTHERWISE, after)
    if announced is not None and not announcement_denied(after[: announced.start()]):
        return _readings(after[phrases.LEAD.match(after, announced.end()).end() :][:2_000], "answer is")  # type: ignore[union-attr]
    if phrases.EMPTY.fullmatch(text, found[-1][1], found[-1][2]):
        return []
    if denied_before(before, after) or denied_after(after, text[found[-1][1] : found[-1][2]]):
        return []
    joined = [found[-1]]
    for earlier in reversed(found[:-1]):
        if phrases.EMPTY.fullmatch(text, earlier[1], earlier[2]):
            break
        gap = text[earlier[2] + 1 : joined[0][0]]
        if len(gap) > 60 or not gap.strip("$ \t") or not phrases.JOIN.fullmatch(gap) or "\n\n" in gap:
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


def _announced(text: str) -> list[Found] | None:
    """The last announcement that has something after it; None if that is taken back."""
    places = [_after_phrase(text), _after_hashes(text), _in_answer_tag(text)]
    start, found = max(places, key=lambda place: place[0])
    if found and phrases.OTHERWISE.search(tail := text[start:][:20_000]):
        return []
    return None if found and _taken_back(tail, found) else found


def _taken_back(tail: str, found: list[Found]) -> bool:
    """Whether the text after an announced answer denies it: "Answer: 6 is wrong.", "The answer is 6? No."."""
    if phrases.UNSURE.match(tail):
        return True
    readings = [reading.text for reading in found if tail.startswith(reading.text)]
    return any(denied_after(tail[len(reading) :], reading) for reading in readings)


def _after_phrase(text: str) -> tuple[int, list[Found]]:
    last = _last(phrases.PHRASE, text)
    if last is None or phrases.NOT.match(text, last.end()) or _doubted(text, last):
        return -1, []
    start = phrases.LEAD.match(text, last.end()).end()  # type: ignore[union-attr]
    found = _readings(text[start : start + 2_000], "answer is")
    return (start, found) if found else (-1, [])


def _doubted(text: str, announcement: re.Match[str]) -> bool:
    """Whether the words before an announcement deny or only suppose it."""
    return announcement_denied(text[max(0, announcement.start() - 200) : announcement.start()])


def _behind_doubted(text: str) -> str:
    """The text after the sentence of an announcement that is doubted: "If it were 20, ...  So it is 18."."""
    last = _last(phrases.PHRASE, text)
    if last is None or not _doubted(text, last):
        return text
    end = phrases.SENTENCE_END.search(text, last.end())
    return text[end.end() :] if end else ""


def _chosen(text: str) -> list[Found]:
    """The choice that the last line names, if it names one alone: "option (C)"."""
    line = text.strip().rsplit("\n", 1)[-1][-500:]
    letters = [match.group(1) or match.group(2) for match in phrases.CHOSEN.finditer(line)]
    if not letters or len(set(letters)) > 1 or not letters[0].isupper() or phrases.NOT_CHOSEN.search(line):
        return []
    return [Found(letters[0], "choice")]


def _after_hashes(text: str) -> tuple[int, list[Found]]:
    place = text.rfind("####")
    if place < 0:
        return -1, []
    rest = text[place:].lstrip("# \t")
    line = rest.split("\n", 1)[0].strip()
    return (len(text) - len(rest), _readings(line, "####")) if line else (-1, [])


def _in_answer_tag(text: str) -> tuple[int, list[Found]]:
    opened, place, content = None, -1, ""
    for match in phrases.ANSWER_TAG.finditer(text):
        if not match.group(1):
            opened = match.end()
        elif opened is not None:
            place, content = opened, text[opened : match.start()].strip()
            opened = None
    return (place, _readings(content, "<answer>")) if content else (-1, [])


def _readings(tail: str, rule: str) -> list[Found]:
    """What an announcement says: its sentence, the formulas it starts with, its first number."""
    readings: list[str] = []
    formula = phrases.MATH.match(tail)
    if formula:
        end = formula.end()
        while (gap := phrases.BETWEEN.match(tail, end)) and (more := phrases.MATH.match(tail, gap.end())):
            end = more.end()
        rest = tail[end:]
        if not phrases.AFTER.match(rest):
            readings.append(tail[:end])
        else:
            readings.append(tail[: _end_of_sentence(tail, end)])
    else:
        if (letter := phrases.BEFORE_REASON.match(tail)) is not None:
            readings.append(letter.group(1))
        sentence = phrases.REMARK.sub("", tail[: _end_of_sentence(tail, 0)].strip().rstrip("*_ "))
        if sentence:
            readings.append(sentence)
        number = phrases.NUMBER.match(tail)
        if number and not phrases.AFTER.match(tail, number.end()):
            start, end = formula_around(tail, *number.span())
            readings.append(tail[start:end])
        elif not number and not phrases.COMPARED.search(sentence):
            readings += [found.text for found in _last_of(sentence)]
    return [Found(reading.strip(), rule) for reading in readings if reading.strip()]


def _end_of_sentence(text: str, start: int) -> int:
    match = phrases.SENTENCE_END.search(text, start)
    return match.start() if match else len(text)


def _loose(text: str) -> list[Found]:
    if phrases.UNFINISHED.search(text[-20:]) or phrases.ASKED.search(_last_sentence(text)):
        return []
    text = phrases.CONDITION.sub(r"\1.", phrases.SINCE.sub("", phrases.DENIED.sub("", text.strip())))
    found = []
    if text and len(text) <= MAX_BARE and "\n" not in text and not _is_prose(text):
        found.append(Found(text, "bare"))
    return [*found, *_bold(text), *_last_of(text)]


def _last_sentence(text: str) -> str:
    """What follows the last full stop but that at the end."""
    text = text.rstrip(" .!?\n")[-500:]
    return text[_sentence_start(text) :]


def _sentence_start(text: str) -> int:
    """Where the last sentence of a text begins."""
    return max((match.end() for match in phrases.SENTENCE_END.finditer(text)), default=0)


def _is_prose(text: str) -> bool:
    """Whether words stand around a formula, which then is the answer without them."""
    outside = phrases.MATH.sub(" ", text)
    return phrases.REASONS.search(outside) is not None or (
        outside != text and re.search(r"[A-Za-z]{4,}", outside) is not None
    )


def _bold(text: str) -> list[Found]:
    """The last bold value, unless it is asked for, denied, one of several, or a later number is a result."""
    last = _last(phrases.BOLD, text)
    if last is None:
        return []
    start, end = last.span()
    before, after = text[max(0, start - 200) : start].rstrip("* "), text[end:][:20_000]
    later = any(
        phrases.RESULT.search(after[max(0, number.start() - 20) : number.start()])
        for number in phrases.NUMBER.finditer(after)
    )
    listed = re.match(r"\s*(?:[-*•]|\d+[.)])\s", text[text.rfind("\n", 0, start) + 1 : start]) is not None
    if (
        later
        or listed
        or alternative(before[-20:])
        or _asked(text, last)
        or denied_before(before, after)
        or denied_after(after, last.group(1))
    ):
        return []
    return _readings(last.group(1), "bold")


def _last_of(text: str) -> Iterator[Found]:
    """The last formula or number, if nothing says that it is one of several, or asked for."""
    formula, number = _last(phrases.MATH, text), _last(phrases.NUMBER, text)
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
    after = text[end:][:20_000]
    if denied_before(text[max(0, start - 200) : start].rstrip("* "), after) or denied_after(after, content):
        return
    if not alternative(text[max(0, start - 20) : start].rstrip("* ")) and not _asked(text, last):
        if rule == "math" and phrases.CONCLUDES.search(text[max(0, start - 100) : start]):
            rule = "conclusion"
        joined = [] if phrases.STATES.search(content) and rule == "number" else _joined_before(text, start)
        yield Found(", ".join([*joined, content.strip()]), rule)


def _joined_before(text: str, end: int) -> list[str]:
    """The formulas and numbers of its line that "and" joins to the one that starts at ``end``."""
    start = max(text.rfind("\n", 0, end) + 1, end - 500)
    pieces: list[str] = []
    for item in reversed(list(phrases.ITEM.finditer(text, start, end))):
        joined = phrases.AND.fullmatch(text, item.end(), end)
        if joined is None:
            break
        if joined.group(1) == "," and not pieces and not _values(item.group(), text[end:]):
            break  # "For $x = 2$, $y = 3$"
        content = next((group for group in item.groups() if group is not None), item.group())
        pieces.insert(0, content.strip())
        end = item.start()
    return pieces


def _values(item: str, following: str) -> bool:
    """Whether two formulas next to each other are values, and state nothing."""
    formula = phrases.MATH.match(following)
    return (
        formula is not None
        and phrases.MATH.match(item) is not None
        and not phrases.STATES.search(item + formula.group())
    )


def _asked(text: str, match: re.Match[str]) -> bool:
    """Whether the sentence around a formula or number is a question or sets a task."""
    before, after = text[max(0, match.start() - 300) : match.start()], text[match.end() :][:300]
    begin = _sentence_start(before)
    if phrases.SUPPOSITION.match(before, begin) or phrases.ASKED.search(before, begin):
        return True
    if phrases.TASK.match(before, begin) and not phrases.RESULT.search(before[begin:]):
        return "=" not in match.group()
    end = phrases.SENTENCE_END.search(after)
    return end is not None and end.group() == "?"
