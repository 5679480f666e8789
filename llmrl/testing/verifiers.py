"""Properties that every verifier must have, tested with answers and with texts that models write."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from llmrl.testing.running import pickled, require, run_checks
from llmrl.verifiers import STATUSES, Verdict, Verifier, verifier

ANSWERS: tuple[tuple[str, ...], ...] = (("4", "4.0"), ("\\frac12", "0.5"), ("-7",), ("12",))
"""Classes of equal answers."""
ODD_TEXTS: tuple[str, ...] = (
    "",
    " \n\t",
    "\x00",
    "\ud800",
    "\u202e\\boxed{4}",
    "\\boxed{",
    "\\boxed{}" * 200,
    "}" * 2000,
    "{" * 2000 + "}" * 2000,
    "(" * 2000,
    "\\boxed{9^{9^{9^{9}}}}",
    "\\boxed{\\frac{1}{0}}",
    "9" * 20_000,
    "\\frac" * 5000,
    "nan",
    "\\boxed{inf}",
    "答案是四",
    "__import__('os').getpid()",
)
"""Kinds of responses that models sample; none of them has a right answer."""


def boxed(answer: str) -> str:
    """A response that ends with this answer.

    >>> boxed("4")
    'So it is \\\\boxed{4}.'
    """
    return f"So it is \\boxed{{{answer}}}."


@dataclass(frozen=True)
class Case:
    """The verifier under test, and answers that are known to be equal or different."""

    verifier: Verifier
    answers: Sequence[Sequence[str]]
    write: Callable[[str], str]
    deadline: float

    def grade(self, responses: Sequence[str], golds: Sequence[str], by: Verifier | None = None) -> list[Verdict]:
        """The verdicts, after a check of their form and of the time limit."""
        grader = self.verifier if by is None else by
        given = list(responses), list(golds)
        kept = list(responses), list(golds)
        verdicts = _within(self.deadline * max(1, len(responses)), lambda: grader(*given))
        require(given == kept, "the verifier changed the lists it was given; they belong to the caller.")
        require(
            isinstance(verdicts, list | tuple) and len(verdicts) == len(kept[0]),
            f"{len(kept[0])} responses gave {verdicts!r:.80}; a list of as many verdicts was expected.",
        )
        for response, verdict in zip(kept[0], verdicts, strict=True):
            _well_formed(response, verdict)
        return list(verdicts)

    def pairs(self) -> list[tuple[str, str, bool]]:
        """Every two answers, and whether they are equal."""
        named = [(answer, number) for number, same in enumerate(self.answers) for answer in same]
        return [(a, b, i == j) for (a, i), (b, j) in itertools.product(named, repeat=2)]


def _well_formed(response: str, verdict: Any) -> None:
    shown = f"the response {response!r:.60} gave"
    require(isinstance(verdict, Verdict), f"{shown} {verdict!r:.60}; an llmrl.Verdict was expected.")
    score = verdict.score
    number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
    require(number, f"{shown} the score {score!r:.60}; a finite number was expected.")
    require(
        verdict.status in STATUSES, f"{shown} the status {verdict.status!r}; one of {', '.join(STATUSES)} was expected."
    )


def _right_and_wrong(case: Case) -> None:
    """Equal answers are correct, other answers are not."""
    pairs = case.pairs()
    verdicts = case.grade([case.write(a) for a, _, _ in pairs], [b for _, b, _ in pairs])
    for (a, b, equal), verdict in zip(pairs, verdicts, strict=True):
        require(
            (verdict.status == "correct") == equal,
            f"the answer {a!r} to the gold answer {b!r} was graded {verdict.status!r}; "
            f"{'correct' if equal else 'anything but correct'} was expected.",
        )


def _symmetric(case: Case) -> None:
    """Whether two answers are equal does not depend on which of them is the gold one."""
    pairs = case.pairs()
    there = case.grade([case.write(a) for a, _, _ in pairs], [b for _, b, _ in pairs])
    back = case.grade([case.write(b) for _, b, _ in pairs], [a for a, _, _ in pairs])
    for (a, b, _), one, other in zip(pairs, there, back, strict=True):
        require(
            one.status == other.status,
            f"the answer {a!r} to the gold answer {b!r} was graded {one.status!r}, the other way round "
            f"{other.status!r}; the same verdict was expected.",
        )


def _rows(case: Case) -> None:
    """A verdict depends on its own response alone, and an empty batch has none."""
    require(case.grade([], []) == [], "no responses gave verdicts; an empty list was expected.")
    gold = case.answers[0][0]
    responses = [case.write(same[0]) for same in case.answers]
    together = case.grade(responses, [gold] * len(responses))
    backwards = case.grade(responses[::-1], [gold] * len(responses))[::-1]
    for response, one, other in zip(responses, together, backwards, strict=True):
        require(
            (one.score, one.status) == (other.score, other.status),
            f"the response {response!r:.60} was graded {one.status!r} in one order of the batch and "
            f"{other.status!r} in another; the same verdict was expected.",
        )


def _odd_texts(case: Case) -> None:
    """No text raises, takes too long or counts as correct."""
    gold = case.answers[0][0]
    for text in ODD_TEXTS[:4] + ODD_TEXTS[5:]:
        (verdict,) = case.grade([text], [gold])
        require(
            verdict.status != "correct",
            f"the response {text!r:.60} to the gold answer {gold!r} was graded 'correct'; it has no such answer.",
        )
    case.grade(list(ODD_TEXTS), [gold] * len(ODD_TEXTS))


def _odd_golds(case: Case) -> None:
    """A gold answer that cannot be parsed does not raise."""
    for text in ODD_TEXTS:
        case.grade([case.write(case.answers[0][0])], [text])


def _pickle(case: Case) -> None:
    """A copy by pickle grades the same: environments are copied to worker processes."""
    other = pickled(case.verifier)
    gold = case.answers[0][0]
    responses = [case.write(same[0]) for same in case.answers]
    golds = [gold] * len(responses)
    require(
        case.grade(responses, golds, by=other) == case.grade(responses, golds),
        "a pickled copy gave other verdicts; the same were expected.",
    )


VERIFIER_CHECKS: dict[str, Callable[[Case], None]] = {
    "right_and_wrong": _right_and_wrong,
    "symmetric": _symmetric,
    "rows": _rows,
    "odd_texts": _odd_texts,
    "odd_golds": _odd_golds,
    "pickle": _pickle,
}
"""The checks by name, in the order in which they run."""


def check_verifier(
    subject: str | Verifier,
    *,
    answers: Sequence[Sequence[str]] = ANSWERS,
    write: Callable[[str], str] = boxed,
    deadline: float = 10.0,
    except_for: Iterable[str] = (),
) -> None:
    """Raise unless a verifier has the properties that a run relies on.

    Args:
        subject: a name, ``module:function``, or a verifier.
        answers: two or more classes of answers. Answers of one class are equal, answers of different classes are
            not.
        write: answer -> a response that ends with it.
        deadline: seconds that one response may take.
        except_for: checks that do not hold for this verifier; :data:`VERIFIER_CHECKS` has the names.

    Raises:
        AssertionError: a check failed; the message says what was tried, what happened, what was expected.
        ValueError: fewer than two classes of answers, or an unknown name in ``except_for``.

    >>> def last_word(responses, golds):
    ...     right = [text.split()[-1:] == [gold] for text, gold in zip(responses, golds)]
    ...     return [Verdict(float(one), "correct" if one else "wrong") for one in right]
    >>> check_verifier(last_word, answers=[["4"], ["x"]], write="It is {}".format, except_for=("pickle",))
    >>> check_verifier(last_word, answers=[["4", "4.0"], ["5"]], write="It is {}".format)
    Traceback (most recent call last):
    AssertionError: Verifier last_word, check 'right_and_wrong': the answer '4' to the gold answer '4.0' was graded ...
    """
    if len(answers) < 2:
        raise ValueError(f"answers has {len(answers)} classes; two or more are needed to tell right from wrong.")
    found = verifier(subject) if isinstance(subject, str) else subject
    shown = subject if isinstance(subject, str) else _name(subject)
    run_checks(f"Verifier {shown}", VERIFIER_CHECKS, Case(found, answers, write, deadline), except_for)


def _name(subject: object) -> str:
    return subject.__name__ if isinstance(subject, type(_name)) else type(subject).__name__


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call. It runs in its own thread, so that a call that never ends is noticed too."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    require(
        not thread.is_alive(), f"the verifier gave no verdict within {seconds:g} s; answers are graded in every step."
    )
    if failure:
        error = failure[0]
        raise AssertionError(
            f"the verifier raised {type(error).__name__}: {error}; a verdict was expected for every text."
        ) from error
    return outcome[0]
