"""What may be left ungraded: a worker that cannot be had, and a few answers that run out of time."""

import copy
import pickle

import pytest

from llmrl.verifiers import VERIFIERS, MathVerifier, verifier
from llmrl.verifiers.math import verifier as module
from llmrl.verifiers.pool import TaskResult

GOLD = r"\sum_{k=0}^{\infty}\frac{1}{k!}"


class Pool:
    """A pool with one outcome for all tasks."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.started = 0

    def start(self):
        self.started += 1

    def run(self, tasks):
        return [self.outcome for _ in tasks]


@pytest.fixture
def graded():
    """Grades as many answers as are asked for with a worker that does as told."""

    def grade(outcome, count=1):
        grader = MathVerifier()
        grader.pool = Pool(outcome)
        return grader, grader([r"\boxed{e}"] * count, [GOLD] * count)

    return grade


def test_few_answers_may_run_out_of_time(graded, monkeypatch):
    monkeypatch.setattr(module, "SPARED", 3)
    grader, verdicts = graded(TaskResult("timeout", detail="took more than 2 s"), 10)
    assert [verdict.status for verdict in verdicts] == ["timeout"] * 3 + ["wrong"] * 7
    assert "count as wrong" in verdicts[-1].detail
    assert (grader.timeouts, grader.graded) == (10, 10)


def test_an_answer_that_breaks_its_worker_is_wrong(graded):
    _, (verdict,) = graded(TaskResult("error", detail="MemoryError"))
    assert (verdict.status, verdict.valid, verdict.detail) == ("wrong", True, "MemoryError")


def test_a_worker_that_cannot_be_had_leaves_it_ungraded(graded):
    _, (verdict,) = graded(TaskResult("error", detail="did not start", began=False))
    assert (verdict.status, verdict.valid) == ("error", False)


def test_a_fault_of_the_grader_is_wrong_and_said(monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(module, "_decide", broken)
    (verdict,) = MathVerifier()([r"\boxed{5}"], ["5"])
    assert (verdict.status, verdict.detail) == ("wrong", "the grader failed: RuntimeError: a fault")


def test_a_worker_is_started_for_gold_answers_that_may_need_it(graded):
    grader, _ = graded(TaskResult("done", value=True))
    assert grader.pool.started == 1
    grader([r"\boxed{5}"], ["5"])
    assert grader.pool.started == 1


def test_a_verifier_can_be_pickled_and_copied():
    grader = MathVerifier(deadline=5)
    for other in (pickle.loads(pickle.dumps(grader)), copy.deepcopy(grader)):
        assert other.pool.deadline == 5
        assert other([r"\boxed{\frac24}"], ["0.5"])[0].score


def test_importing_makes_no_grader():
    assert VERIFIERS["math"] is MathVerifier
    assert verifier("math") is verifier("math")
