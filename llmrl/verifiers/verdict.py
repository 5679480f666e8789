"""The verdict on one response, and the contract of verifiers."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

Status = Literal["correct", "wrong", "no_answer", "unparsable_gold", "timeout", "error"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of grading one response.

    A verifier that crashed or ran out of time has no opinion: ``valid`` is then False and the
    response must not be trained on as if it were wrong.

    >>> Verdict(1.0, "correct", extracted="42").valid
    True
    >>> Verdict(0.0, "timeout").valid
    False
    """

    score: float
    """The reward, 0 to 1."""
    status: Status
    """correct, wrong, no_answer (nothing to grade in the response), unparsable_gold, timeout, error."""
    extracted: str | None = None
    """The final answer as found in the response."""
    rule: str | None = None
    """Which rule found the answer, such as ``"boxed"``."""
    detail: str | None = None
    """For timeout, error and unparsable_gold: what happened, for a person to read."""

    def _repr_html_(self) -> str:
        """One line, for a notebook."""
        texts = [html.escape(text) for text in (self.extracted, self.rule, self.detail) if text]
        return " | ".join([f"<b>{self.status}</b>", f"score {self.score:g}", *texts])

    @property
    def valid(self) -> bool:
        """Whether the score says something about the response."""
        return self.status in ("correct", "wrong", "no_answer")


class Verifier(Protocol):
    """Grades a batch; entry i of the result belongs to response i.  Must not raise on model output."""

    def __call__(self, responses: list[str], golds: list[str]) -> list[Verdict]:
        """Grade each response against the gold answer at the same position."""


@runtime_checkable
class ComparesAnswers(Protocol):
    """A verifier that knows which answers are equal, such as the mathematical one."""

    def same(self, first: str, second: str) -> bool:
        """Whether two answers are equal."""
