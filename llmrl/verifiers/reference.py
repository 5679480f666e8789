"""Math-Verify as a verifier of its own, for auditing the default one: its extraction and its equality.

It runs in worker processes that are killed at the deadline, so it works from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmrl.verifiers.pool import TaskResult, WorkerPool
from llmrl.verifiers.verdict import Verdict


class MathVerify:
    """Grades whole responses as Math-Verify does.

    Args:
        deadline: seconds of one response.
        workers: how many processes at most; none is started before the first call.

    >>> MathVerify()([r"It is \\boxed{0.5}."], [r"\\frac12"])[0].status
    'correct'
    """

    def __init__(self, *, deadline: float = 2.0, workers: int = 2) -> None:
        self.pool = WorkerPool("llmrl.verifiers.math.last_resort:grade_response", size=workers, deadline=deadline)

    def __call__(self, responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
        """One verdict a response."""
        tasks = list(zip(responses, golds, strict=True))
        return [_verdict(outcome) for outcome in self.pool.run(tasks)]

    def close(self) -> None:
        """End the worker processes; they start again when needed."""
        self.pool.close()


def _verdict(outcome: TaskResult) -> Verdict:
    if outcome.status != "done":
        return Verdict(0.0, outcome.status, detail=outcome.detail)
    status, extracted = outcome.value
    return Verdict(float(status == "correct"), status, extracted)
