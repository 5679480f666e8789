"""The verifier ``math``: find the answer, compare it exactly, ask a worker only where that fails."""

from __future__ import annotations

from llmrl.verifiers import exact, extract
from llmrl.verifiers.pool import Pool
from llmrl.verifiers.verdict import Verdict

_pool = Pool()


def check_gold(gold: str) -> str | None:
    """What is wrong with a gold answer, or None if responses can be graded against it."""
    if not gold.strip():
        return "it is empty"
    return None


def math(responses: list[str], golds: list[str]) -> list[Verdict]:
    """Grade each response against the gold answer beside it."""
    if len(responses) != len(golds):
        raise ValueError(
            f"got {len(responses)} responses and {len(golds)} gold answers: pass one gold a response."
        )
    return [_grade(response, gold) for response, gold in zip(responses, golds, strict=True)]


def _grade(response: str, gold: str) -> Verdict:
    problem = check_gold(gold)
    if problem:
        return Verdict(0.0, "unparsable_gold", detail=problem)
    found = extract.extract(response)
    if found is None or not found.text:
        return Verdict(0.0, "no_answer")
    return grade_answer(found.text, gold, found.rule)


def grade_answer(answer: str, gold: str, rule: str | None = None) -> Verdict:
    """Grade an answer that needs no finding."""

    def verdict(right: bool) -> Verdict:
        return Verdict(float(right), "correct" if right else "wrong", answer, rule)

    ours, theirs = exact.number(answer), exact.number(gold)
    if ours is not None and theirs is not None:
        return verdict(ours == theirs)
    if exact.plain(answer) == exact.plain(gold):
        return verdict(True)
    reply = _pool.same(gold, answer)
    if reply.outcome in ("timeout", "error"):
        return Verdict(0.0, reply.outcome, answer, rule, reply.detail)
    return verdict(reply.outcome == "yes")
