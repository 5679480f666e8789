"""The package's own cases: every line of cases.jsonl is a pair of answers, or a response, with its verdict."""

import json
from collections import Counter
from pathlib import Path

import pytest

from llmrl.verifiers import MathVerifier

FILE = Path(__file__).with_name("cases.jsonl")
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
KINDS = ("core", "response", "policy", "hostile")


@pytest.fixture(scope="module")
def misses():
    """The cases that are judged otherwise than labelled."""
    grade = MathVerifier(deadline=30)  # a busy machine is no reason to fail
    texts = [case["response"] if "response" in case else rf"\boxed{{{case['answer']}}}" for case in CASES]
    verdicts = grade(texts, [case["gold"] for case in CASES])
    grade.close()
    assert all(verdict.valid for verdict in verdicts), [v for v in verdicts if not v.valid]
    return [
        {**case, "status": verdict.status}
        for case, verdict in zip(CASES, verdicts, strict=True)
        if bool(verdict.score) != case["expected"]
    ]


def test_the_file_is_large_and_holds_as_many_wrong_answers_as_right_ones():
    assert len(CASES) >= 800
    counts = Counter(case["expected"] for case in CASES)
    assert 0.4 < counts[True] / len(CASES) < 0.6
    assert len({(c["gold"], c.get("answer"), c.get("response")) for c in CASES}) == len(CASES)
    assert {case["kind"] for case in CASES} == set(KINDS)
    assert all(case["why"] and case["category"] for case in CASES)


@pytest.mark.parametrize("kind", KINDS)
def test_cases_are_judged_as_labelled(kind, misses):
    missed = [case for case in misses if case["kind"] == kind]
    assert not missed, "\n".join(map(str, missed))
