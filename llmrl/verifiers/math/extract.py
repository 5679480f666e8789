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
from collections.abc import Iterable, Iterator
from itertools import pairwise

from llmrl.verifiers.math import phrases
from llmrl.verifiers.math.denials import announcement_denied, denied_after, denied_before, gives_up
from llmrl.verifiers.math.unannounced import Found, last_match, last_sentence, readings_of, unannounced

MAX_RESPONSE = 400_000
"""Characters of a response that are looked at: its end."""


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


def find_answer(response: str, words: bool = False) -> list[Found]:
    r"""What the response gives as its answer: the readings of one rule, the fullest first.

    Args:
        response: with or without thinking.
        words: whether words that nothing announces are looked for too, because the gold answer is words.

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
    if (opened := last_match(phrases.OPEN_BOX, text)) is not None:
        closed = list(_closed(text))
        if any(box[0] == opened.start() for box in closed) and not phrases.ENDS_WITH_BOX.search(text[-20:]):
            return _boxed(text, _outermost(closed))
        escaped = last_match(phrases.ESCAPED_END, text)
        return [Found(escaped.group(1).strip(), "boxed")] if escaped else []
    if (bare := last_match(phrases.BARE_BOX, text)) is not None:
        return [Found(bare.group(1), "boxed")]
    text = _without_programs(text)
    announced = _announced(text)
    found = announced or _chosen(text)
    if found or announced is None or gives_up(text):
        return found
    return unannounced(_behind_doubted(text), words)


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


def _without_programs(text: str) -> str:
    """The text without its programs.

    >>> _without_programs("```python\\nprint(2 + 3)\\n```\\nIt prints 5."), _without_programs("(lambda: 5)()")
    (' \\nIt prints 5.', ' ')
    """
    if "```" in text:
        text = phrases.FENCED.sub(lambda block: " " if phrases.PROGRAM.search(block.group()) else block.group(), text)
    return phrases.PROGRAM.sub(" ", text)


def _outermost(closed: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    r"""The boxes of :func:`_closed` that are in no other one, in order.

    >>> [r"\boxed{\boxed{1}} \boxed{2"[a:b] for _, a, b in _outermost(_closed(r"\boxed{\boxed{1}} \boxed{2"))]
    ['\\boxed{1}']
    """
    outermost: list[tuple[int, int, int]] = []
    for box in closed:
        while outermost and outermost[-1][0] > box[0]:
            outermost.pop()  # inside this one
        outermost.append(box)
    return outermost


def _closed(text: str) -> Iterator[tuple[int, int, int]]:
    """Complete boxes as (start of the command, start, end of the content), as they close: inner ones first."""
    opened: list[tuple[int, int] | None] = []
    for match in phrases.BOX.finditer(text):
        token = match.group()
        if token.startswith(("\\boxed", "\\fbox")):
            opened.append((match.start(), match.end()))
        elif token == "{":
            opened.append(None)
        elif token == "}" and opened and (box := opened.pop()) is not None:
            yield *box, match.start()


def _boxed(text: str, found: list[tuple[int, int, int]]) -> list[Found]:
    """The last box with those joined to it; what is announced after it instead; nothing if it is taken back."""
    if not found:
        return []
    before, after = text[max(0, found[-1][0] - 200) : found[-1][0]], text[found[-1][2] + 1 :][:20_000]
    announced = last_match(phrases.CORRECTS, after) or last_match(phrases.OTHERWISE, after)
    if announced is not None and not announcement_denied(after[: announced.start()]):
        return readings_of(after[phrases.LEAD.match(after, announced.end()).end() :][:2_000], "answer is")  # type: ignore[union-attr]
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
    places = [_after_phrase(text), _after_hashes(text), _in_answer_tag(text), _chosen_abroad(text)]
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
    last = last_match(phrases.PHRASE, text)
    if last is None or phrases.NOT.match(text, last.end()) or _doubted(text, last):
        return -1, []
    start = phrases.LEAD.match(text, last.end()).end()  # type: ignore[union-attr]
    found = readings_of(text[start : start + 2_000], "answer is")
    return (start, found) if found else (-1, [])


def _doubted(text: str, announcement: re.Match[str]) -> bool:
    """Whether the words before an announcement deny or only suppose it."""
    return announcement_denied(text[max(0, announcement.start() - 200) : announcement.start()])


def _behind_doubted(text: str) -> str:
    """The text after the sentence of an announcement that is doubted: "If it were 20, ...  So it is 18."."""
    last = last_match(phrases.PHRASE, text)
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


def _chosen_abroad(text: str) -> tuple[int, list[Found]]:
    """The choice that the last sentence calls right: "Also ist Antwort C richtig."."""
    sentence = last_sentence(text).strip("* ") if "?" not in text[-5:] else ""
    letters = set(phrases.LETTER_ABROAD.findall(sentence))
    right = phrases.ANSWER_ABROAD.search(sentence) and phrases.RIGHT_ABROAD.search(sentence)
    if len(letters) != 1 or not right or phrases.NOT_ABROAD.search(sentence):
        return -1, []
    return len(text), [Found(letters.pop(), "choice")]


def _after_hashes(text: str) -> tuple[int, list[Found]]:
    place = text.rfind("####")
    if place < 0:
        return -1, []
    rest = text[place:].lstrip("# \t")
    line = rest.split("\n", 1)[0].strip()
    return (len(text) - len(rest), readings_of(line, "####")) if line else (-1, [])


def _in_answer_tag(text: str) -> tuple[int, list[Found]]:
    opened, place, content = None, -1, ""
    for match in phrases.ANSWER_TAG.finditer(text):
        if not match.group(1):
            opened = match.end()
        elif opened is not None:
            place, content = opened, text[opened : match.start()].strip()
            opened = None
    return (place, readings_of(content, "<answer>")) if content else (-1, [])
