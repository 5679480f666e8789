r"""The verifier of mathematical answers: extraction, then equality of exact values.

Most answers are plain numbers and take the fast path.  The rest is read by the package's own parser and
compared in exact arithmetic, all within fixed bounds, in this process.  A gold answer in a notation that
the parser does not know goes to Math-Verify, in a worker process that is killed when it takes too long.

In order: :mod:`.extract` finds the answer; :mod:`.texts` makes trees of it with :mod:`.notation`, :mod:`.tokens`
and :mod:`.parser`; :mod:`.build` makes answers (:mod:`.answers`) of trees with :mod:`.evaluate`, :mod:`.algebra` and
:mod:`.line`; :mod:`.compare` says which are equal under a :mod:`.rules`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.answers import Words
from llmrl.verifiers.math.build import build
from llmrl.verifiers.math.compare import Comparison
from llmrl.verifiers.math.evaluate import unevaluated
from llmrl.verifiers.math.exact import plain_number
from llmrl.verifiers.math.extract import find_answer
from llmrl.verifiers.math.parsing.limits import TooMuch, Unreadable
from llmrl.verifiers.math.parsing.tree import Node, unworked
from llmrl.verifiers.math.rules import GradingRules
from llmrl.verifiers.math.texts import (
    bare_words,
    choice,
    compact,
    labelled,
    plain_words,
    readings,
    sentence_value,
    with_decimal_commas,
)
from llmrl.verifiers.math.unannounced import Found
from llmrl.verifiers.pool import TaskResult, WorkerPool
from llmrl.verifiers.verdict import Verdict

DEFAULT = GradingRules()
SPARED = 20
"""How many answers may run out of time without counting as wrong, ..."""
SPARED_SHARE = 0.01
"""... and how many more of all that were graded."""
LOOSE = ("bare", "bold", "math", "number")
"""Rules of extraction that no word of the response backs: what they find must not need working out."""


class MathVerifier:
    r"""Grades responses by their final answers.

    Args:
        rules: the differences that are accepted.
        deadline: seconds that a worker process may take for one answer.
        workers: how many worker processes at most; none is started before one is needed.

    >>> grade = MathVerifier()
    >>> grade(["<think>3?</think> It is \\boxed{\\frac{2}{4}}."], ["0.5"])[0].status
    'correct'
    """

    def __init__(self, rules: GradingRules = DEFAULT, *, deadline: float = 2.0, workers: int = 2) -> None:
        self.rules = rules
        self.graded = 0
        """Responses that were graded."""
        self.timeouts = 0
        """Those that a worker had no time for."""
        self.pool = WorkerPool("llmrl.verifiers.math.last_resort:equivalent", size=workers, deadline=deadline)

    def __call__(self, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """One verdict a response.  Safe from any thread; does not raise on any text."""
        if len(responses) != len(golds):
            raise ValueError(
                f"Each response needs one gold answer, got {len(responses)} responses and {len(golds)} gold answers."
            )
        self.prepare(golds)
        verdicts: list[Verdict | None] = []
        waiting: list[tuple[int, Found, str]] = []
        for place, (response, gold) in enumerate(zip(responses, golds, strict=True)):
            verdict, found = self._grade(response, gold)
            verdicts.append(verdict)
            if verdict is None:
                waiting.append((place, found, gold))
        outcomes = self.pool.run([(found.text, gold) for _, found, gold in waiting])
        for (place, found, _), outcome in zip(waiting, outcomes, strict=True):
            verdicts[place] = self._outcome(outcome, found)
        self.graded += len(verdicts)
        return [verdict for verdict in verdicts if verdict is not None]

    def _outcome(self, outcome: TaskResult, found: Found) -> Verdict:
        """The verdict that a worker's outcome is.

        Only where no worker could be had, or it had too little time, is a response ungraded; and few may have too
        little, because a model could learn to write such answers.
        """
        if outcome.status == "done":
            return _verdict(outcome.value, found)
        if outcome.status == "timeout":
            self.timeouts += 1
            if self.timeouts > SPARED + SPARED_SHARE * self.graded:
                return _verdict(False, found, f"{outcome.detail}; too many answers have, so they count as wrong")
            return Verdict(0.0, "timeout", *found, detail=outcome.detail)
        if outcome.began:
            return _verdict(False, found, outcome.detail)
        return Verdict(0.0, "error", *found, detail=outcome.detail)

    def prepare(self, golds: Sequence[str]) -> None:
        """Start a worker, without waiting for it, if one of these gold answers may need it."""
        if any(map(may_need_worker, golds)):
            self.pool.start()

    def same(self, first: str, second: str) -> bool:
        r"""Whether two answers are equal, where neither is known to be right: for majority votes.

        >>> MathVerifier().same("0.5", r"\frac{2}{4}")
        True
        """
        return any(
            grade_answer(answer, other, self.rules).status == "correct"
            for answer, other in ((first, second), (second, first))
        )

    def close(self) -> None:
        """End the worker processes; they start again when needed."""
        self.pool.close()

    def _grade(self, response: str, gold: str) -> tuple[Verdict | None, Found]:
        """The verdict, or None where only a worker can say."""
        found = find_answer(response, words=plain_number(gold) is None and bool(_gold_words(gold)))
        first = found[0] if found else Found("", "")
        if reason := check_gold(gold):
            return Verdict(0.0, "unparsable_gold", *first, detail=reason), first
        if not found:
            return Verdict(0.0, "no_answer"), first
        return _guarded(found, gold, self.rules), first


def grade_answer(answer: str, gold: str, rules: GradingRules = DEFAULT) -> Verdict:
    r"""Grade an answer alone, without a worker: what the parser cannot read is wrong.

    >>> grade_answer(r"x \in [1, \sqrt{4}]", r"1 \le x \le 2").status
    'correct'
    """
    if reason := check_gold(gold):
        return Verdict(0.0, "unparsable_gold", answer, "given", reason)
    found = Found(answer, "given")
    return _guarded([found], gold, rules) or _verdict(False, found)


def check_gold(gold: str) -> str | None:
    r"""Why a gold answer cannot be graded against; None if it can.

    >>> check_gold(r"\frac{1}{2}") is None
    True
    >>> check_gold(r"\frac{1}{0}")
    'a division by zero'
    """
    if plain_number(gold) is not None:
        return None
    if not gold.strip(" \n\t$.,;{}\\"):
        return "the answer is empty"
    return _check_gold(gold)


@functools.lru_cache(maxsize=65_536)
def may_need_worker(gold: str) -> bool:
    r"""Whether a gold answer is in a notation that the parser does not know, or nothing here works it out.

    >>> may_need_worker(r"\sum_{k=1}^9 k"), may_need_worker(r"\frac12")
    (True, False)
    """
    if plain_number(gold) is not None:
        return False
    try:
        return unworked(readings(gold)[0])
    except Unreadable:
        return bare_words(gold) is None
    except TooMuch:
        return False


@functools.lru_cache(maxsize=65_536)
def _check_gold(gold: str) -> str | None:
    try:
        trees = readings(gold)
    except TooMuch as error:
        return str(error)
    except Unreadable:
        return None  # words, or a notation that the last resort may know
    reason = None
    for tree in trees:
        try:
            build(tree, Algebra())
        except Unreadable:
            return None
        except (TooMuch, ZeroDivisionError) as error:
            reason = str(error)
        else:
            return None
    return reason


def _verdict(right: bool, found: Found, detail: str | None = None) -> Verdict:
    return Verdict(float(right), "correct" if right else "wrong", *found, detail=detail)


_CALCULATED = re.compile(r"[\d+*/!|<>=-]")
"""What words do not hold, so that a formula which cannot be read equals no other by its letters."""
_NAMES_CHOICE = re.compile(r"[\s$]*(?:\\text\w*\s?\{\s*)?(?:option|choice)\b", re.IGNORECASE)
_OTHER_CHOICE = re.compile(r"\b(?:or|and)\b|\b[A-J]\b")


def _guarded(found: list[Found], gold: str, rules: GradingRules) -> Verdict | None:
    """Grade an answer; where the grader itself fails on one, that answer is wrong.

    It must not stop training, and it must not count as ungraded: a model could learn to write what is left out.
    """
    try:
        return _decide(found, gold, rules)
    except Exception as error:
        return _verdict(False, found[0], f"the grader failed: {type(error).__name__}: {error}")


def _decide(found: list[Found], gold: str, rules: GradingRules) -> Verdict | None:
    """Grade an answer; "(B) 12" is the choice B, and 12.  Words that nothing announces are compared last."""
    if found[-1].rule == "words":
        *others, words = found
        verdict = _decide(others, gold, rules) if others else None
        if others and (verdict is None or verdict.score):
            return verdict
        return _decide_as_given([words], gold, rules)
    found = [
        Found(choice(text) or text, rule) if _NAMES_CHOICE.match(text) else Found(text, rule) for text, rule in found
    ]
    verdict = _decide_as_given(found, gold, rules)
    if verdict is not None and verdict.score:
        return verdict
    if (
        (value := sentence_value(found[0].text)) is not None
        and found[0].rule == "boxed"
        and plain_number(gold) is not None
    ):
        return _decide_as_given([Found(value, "boxed")], gold, rules)
    label, expected = labelled(found[0].text), labelled(gold)
    if expected is not None:
        return _against_choice(found, label, *expected, rules)
    if verdict is None or label is None:
        return verdict
    letter, rest = label
    if (right := choice(gold)) is not None:
        return _verdict(letter == right and not _OTHER_CHOICE.search(rest), found[0])
    return _decide_as_given([Found(rest, found[0].rule)], gold, rules)


def _against_choice(
    found: list[Found], label: tuple[str, str] | None, letter: str, value: str, rules: GradingRules
) -> Verdict | None:
    """Grade against a gold answer such as "(B) 4": the letter, the value, or both count."""
    if label is not None:
        if label[0] != letter:
            return _verdict(False, found[0])
        return _decide_as_given([Found(label[1], found[0].rule)], value, rules)
    if (said := choice(found[0].text)) is not None:
        return _verdict(said == letter, found[0])
    return _decide_as_given(found, value, rules)


def _decide_as_given(found: list[Found], gold: str, rules: GradingRules) -> Verdict | None:
    """Grade the first reading of the answer that is mathematical; else compare words.

    ======================================================  ======================================
    what is found                                           outcome
    ======================================================  ======================================
    the very text of the gold answer                        correct
    a plain number, and the gold answer is one              whether they are equal
    a reading that is mathematical, as the gold answer is   whether they are equal
    the same, and nothing here works the gold answer out    None: a worker decides
    no reading, and the gold answer is words                whether the words are the same
    no reading, and the gold answer cannot be read either   None: a worker decides
    a reading beyond a bound                                wrong, with the bound as its detail
    a loose formula that is a task, and nothing else        no answer
    nothing that can be read, from a rule that is loose     no answer
    ======================================================  ======================================
    """
    value = plain_number(gold)
    detail = None
    stated = list(found)
    if found[0].text and value is None and compact(found[0].text) == compact(gold):
        return _verdict(True, found[0])
    for candidate in found:
        if value is not None and (number := plain_number(candidate.text)) is not None:
            return _verdict(number == value, candidate)
        try:
            answers = readings(candidate.text, rules.decimal_comma)
            if rules.decimal_comma and value is not None and "." in gold:
                answers = (*answers, *with_decimal_commas(candidate.text))
            if candidate.rule in LOOSE and unevaluated(answers[0], Algebra()):
                stated.remove(candidate)
                continue
        except (Unreadable, ZeroDivisionError):
            if candidate.rule == "bare":
                stated.remove(candidate)
            continue
        except TooMuch as error:
            detail = str(error)
            continue
        try:
            golds = readings(gold, rules.decimal_comma)
        except Unreadable:
            break
        try:
            if _any_same(golds, answers, rules):
                return _verdict(True, candidate)
            if unworked(golds[0]) and not unworked(answers[0]):
                return None
            return _verdict(False, candidate)
        except TooMuch as error:
            detail = str(error)
        except (Unreadable, ZeroDivisionError):
            continue
    words = _gold_words(gold)
    if words is None:
        return None if detail is None else _verdict(False, found[0], detail)
    for candidate in found:
        said = bare_words(candidate.text)
        if said is not None and plain_words(said, rules.case) == plain_words(words, rules.case) != "":
            return _verdict(True, candidate)
    if not stated and (not words or len(found[0].text.split()) > 3):
        return Verdict(0.0, "no_answer")
    return _verdict(False, found[0], detail)


def _any_same(golds: tuple[Node, ...], answers: tuple[Node, ...], rules: GradingRules) -> bool:
    problem: Exception | None = None
    for tree in golds:
        for other in answers:
            do = Algebra()
            try:
                if Comparison(do, rules).same(build(tree, do), build(other, do)):
                    return True
            except (Unreadable, ZeroDivisionError, TooMuch) as error:
                problem = error
    if problem is not None:
        raise problem
    return False


@functools.lru_cache(maxsize=65_536)
def _gold_words(gold: str) -> str | None:
    """The gold answer as words, '' for a mathematical one; None if only a last resort may read it."""
    try:
        for tree in readings(gold):
            answer = build(tree, Algebra())
            if isinstance(answer, Words):
                return answer.text
    except (TooMuch, ZeroDivisionError):
        return ""
    except Unreadable:
        return bare_words(gold)
    words = bare_words(gold) or ""
    return "" if _CALCULATED.search(words) else words
