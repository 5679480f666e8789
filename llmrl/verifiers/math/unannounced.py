"""What a text says without a box or an announcement: bold words, formulas and numbers, and which of them is a result.

Rules 3 and 4 of :mod:`.extract`. An announcement is read by the same :func:`readings_of`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from llmrl.verifiers.math import phrases
from llmrl.verifiers.math.denials import alternative, denied_after, denied_before
from llmrl.verifiers.math.harmless import harmless
from llmrl.verifiers.math.plain import formula_around, is_result

MAX_BARE = 300
"""Characters up to which a response of one line may be an answer as a whole."""


class Found(NamedTuple):
    """An answer as it stands in the response, and the rule that found it."""

    text: str
    rule: str


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last place where a pattern matches, without keeping the others."""
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def readings_of(tail: str, rule: str) -> list[Found]:
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
            readings += [found.text for found in _last_of(phrases.EVERY.sub("", sentence))]
    return [Found(reading.strip(), rule) for reading in readings if reading.strip()]


def _end_of_sentence(text: str, start: int) -> int:
    match = phrases.SENTENCE_END.search(text, start)
    return match.start() if match else len(text)


def unannounced(text: str, words: bool) -> list[Found]:
    """What a text without a box or an announcement gives as its answer, the likeliest first.

    Args:
        text: without thinking.
        words: whether words are looked for too, because the gold answer is words; their rule is "words".

    >>> unannounced("We see that f(1) = f(-1). So the function is **even**.", words=True)[-1]
    Found(text='even', rule='words')
    """
    if phrases.UNFINISHED.search(text[-20:]) or phrases.ASKED.search(last_sentence(text)):
        return []
    text = phrases.DENIED.sub("", text.strip())
    if (aside := phrases.BRACKETED.search(text)) is not None and harmless(aside.group(1)):
        text = text[: aside.start()]
    text = phrases.ABOUT.sub(lambda about: rf" \approx {about[2]}$" if about[1] else f" ≈ {about[2]}", text)
    text = phrases.SAME.sub(" = ", phrases.CONDITION.sub(r"\1.", phrases.SINCE.sub("", text)))
    found = []
    if len(text) <= MAX_BARE and (solved := phrases.SOLVED.match(text)) is not None:
        text = solved.group(2)
    if text and len(text) <= MAX_BARE and "\n" not in text and not _is_prose(text):
        found.append(Found(text, "bare"))
    text = text[:-100] + phrases.EVERY.sub("", text[-100:])
    return [*found, *_concluded(text), *_bold(text), *_last_of(text), *(_words(text) if words else ())]


def _concluded(text: str) -> Iterator[Found]:
    """The values that the last sentence joins by "or" or "to": all solutions, or a ratio."""
    sentence = "" if text.endswith("?") else last_sentence(text)
    if " or " in sentence and (solutions := phrases.SOLUTIONS.match(sentence)) is not None:
        yield Found(solutions.group(1), "conclusion")
    elif " to " in sentence and (ratio := phrases.RATIO.search(sentence)) is not None:
        before = sentence[: ratio.start(1)]
        if not phrases.UNSTATED.search(before) and not denied_before(before):
            yield Found(f"{ratio.group(1)} to {ratio.group(2)}", "conclusion")


def _words(text: str) -> Iterator[Found]:
    """The words that a response begins with ("Yes, because ...") or states in its last sentence ("So it is odd.")."""
    opening, end = phrases.YES_NO.match(text), phrases.ENDS_YES_NO.search(text[-20:])
    if opening is not None and (end is None or end.group(1).lower() == opening.group(1).lower()):
        if not denied_after(text[opening.end() :][:20_000], opening.group(1)):
            yield Found(opening.group(1), "words")
    tail = phrases.BOLD_JOINED.sub(r"\1 ", text[-500:].rstrip(" .!*\n"))
    sentence = tail[_sentence_start(tail) :].lstrip()
    stated = phrases.STATED.match(sentence.removeprefix("**") if sentence.count("**") == 1 else sentence)
    if stated is None or phrases.TASK.match(sentence) or phrases.UNSTATED.search(stated["before"]):
        return
    bold = stated["bold"] or sentence.startswith("**")
    alone = "**" not in stated["before"] and len(set(phrases.STATED_BOLD.findall(text))) < 2
    if phrases.OPENS_CONCLUSION.match(sentence) or stated["reason"] or (bold and alone):
        if " or " not in stated["said"] and not denied_before(stated["before"]):
            yield Found(stated["said"], "words")


def last_sentence(text: str) -> str:
    """What follows the last full stop but that at the end.

    >>> last_sentence("We add 2 and 3. So it is 5.")
    ' So it is 5'
    """
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
    last = last_match(phrases.BOLD, text)
    if last is None:
        return []
    start, end = last.span()
    before, after = text[max(0, start - 200) : start].rstrip("* "), text[end:][:20_000]
    later = any(
        phrases.RESULT.search(after[max(0, number.start() - 20) : number.start()])
        or phrases.SO.search(last_sentence(after[max(0, number.start() - 120) : number.start()]))
        for number in phrases.NUMBER.finditer(_before_check(after))
    )
    listed = re.match(r"\s*(?:[-*•]|\d+[.)])\s", text[text.rfind("\n", 0, start) + 1 : start]) is not None
    if (
        later
        or listed
        or (last.group(1).strip("()").isalpha() and phrases.BOLD_JOINED.search(text[max(0, start - 20) : start + 2]))
        or alternative(before[-20:])
        or _asked(text, last)
        or denied_before(before, after)
        or denied_after(after, last.group(1))
    ):
        return []
    return readings_of(last.group(1), "bold")


def _before_check(text: str) -> str:
    """The text before the check that ends it; the whole text if it has none, or has nothing else."""
    check = last_match(phrases.CHECK, text)
    return text if check is None else text[: check.start()]


def _last_of(text: str) -> Iterator[Found]:
    """The last formula or number, if nothing says that it is one of several, or asked for."""
    results = _before_check(text)
    formula, number = last_match(phrases.MATH, results), last_match(phrases.NUMBER, results)
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
        if joined is not None:
            yield Found(", ".join([*joined, content.strip()]), rule)


def _joined_before(text: str, end: int) -> list[str] | None:
    """The formulas and numbers of its line that "and" joins to the one that starts at ``end``.

    None if they are an alternative to others: "1 and 2, or 3 and 4".
    """
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
    return None if pieces and alternative(text[max(0, end - 20) : end]) else pieces


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
