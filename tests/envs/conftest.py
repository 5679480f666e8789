"""A grader that is quick and obvious, so that these tests are about environments alone."""

from __future__ import annotations

import pytest

from llmrl.verifiers.verdict import Verdict


class BoxGrader:
    """Compares what stands in the last box with the gold answer, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, responses: list[str], golds: list[str]) -> list[Verdict]:
        self.calls.append(len(responses))
        return [self.grade(r, g) for r, g in zip(responses, golds, strict=True)]

    @staticmethod
    def grade(response: str, gold: str) -> Verdict:
        if response == "hang":
            return Verdict(0.0, "timeout", detail="no verdict within 2 s")
        if "\\boxed{" not in response:
            return Verdict(0.0, "no_answer")
        found = response[response.rindex("\\boxed{") + 7 : response.rindex("}")]
        right = found == gold
        return Verdict(float(right), "correct" if right else "wrong", extracted=found)


@pytest.fixture
def grader() -> BoxGrader:
    return BoxGrader()
