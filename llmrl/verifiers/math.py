"""The verifier of mathematical answers."""

from __future__ import annotations

from llmrl.verifiers.exact import plain_number
from llmrl.verifiers.extract import find_answer
from llmrl.verifiers.policy import GradingPolicy
from llmrl.verifiers.pool import WorkerPool
from llmrl.verifiers.verdict import Verdict


def check_gold(gold: str) -> str | None:
    return None if gold.strip() else "the answer is empty"


class MathVerifier:
    def __init__(self, policy: GradingPolicy | None = None, deadline: float = 2.0, workers: int = 2) -> None:
        self.policy = policy or GradingPolicy()
        self.pool = WorkerPool("llmrl.verifiers.last_resort:equivalent", size=workers, deadline=deadline)

    def __call__(self, responses: list[str], golds: list[str]) -> list[Verdict]:
        return [self._grade(r, g) for r, g in zip(responses, golds, strict=True)]

    def _grade(self, response: str, gold: str) -> Verdict:
        if reason := check_gold(gold):
            return Verdict(0.0, "unparsable_gold", detail=reason)
        found = find_answer(response)
        if not found:
            return Verdict(0.0, "no_answer")
        return grade_answer(found[0].text, gold, rule=found[0].rule, pool=self.pool)

def grade_answer(answer, gold, rule="given", pool=None):
    def ok(score):
        return Verdict(float(score), "correct" if score else "wrong", extracted=answer, rule=rule)
    if "".join(answer.split()) == "".join(gold.split()):
        return ok(True)
    a, b = plain_number(answer), plain_number(gold)
    if a is not None and b is not None:
        return ok(a == b)
    if len(answer) > 2000:
        return ok(False)
    out = pool.run([(answer, gold)])[0]
    if out.status == "done":
        return ok(out.value)
    return Verdict(0.0, out.status, extracted=answer, rule=rule, detail=out.detail)
