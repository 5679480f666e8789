"""A new verifier in a file of one's own: a whole number counts by how near it is.

See it grade:                    python examples/custom_verifier.py
Train with it, in this folder:   llmrl train --env.verifier custom_verifier:nearness
Compare it with the default:     llmrl verify FILE.jsonl --verifier custom_verifier:nearness --audit math

An installed package announces its verifiers by name, and then the name alone will do:

    [project.entry-points."llmrl.verifiers"]
    nearness = "custom_verifier:nearness"
"""

from __future__ import annotations

from llmrl.verifiers import Verdict
from llmrl.verifiers.math.extract import find_answer


def nearness(responses: list[str], golds: list[str]) -> list[Verdict]:
    """1 for the number itself, 1/2 for one off, 1/3 for two off, ...; at most 18 digits."""
    return [_one(response, gold) for response, gold in zip(responses, golds, strict=True)]


def _one(response: str, gold: str) -> Verdict:
    right = _whole(gold)
    if right is None:
        return Verdict(0.0, "unparsable_gold", detail=f"{gold!r} is no whole number")
    found = find_answer(response)
    if not found:
        return Verdict(0.0, "no_answer")
    text, rule = found[0]
    number = _whole(text)
    # Model output can be anything, so nothing is evaluated and nothing raises.
    score = 0.0 if number is None else 1 / (1 + abs(number - right))
    return Verdict(score, "correct" if score == 1 else "wrong", text, rule)


def _whole(text: str) -> int | None:
    sign, digits = ("-", text.strip()[1:]) if text.strip().startswith("-") else ("", text.strip())
    return int(sign + digits) if digits.isdecimal() and len(digits) <= 18 else None


def main() -> None:
    """Grade four responses to one problem."""
    responses = [r"So it is \boxed{12}.", r"\boxed{11}", r"\boxed{x}", ""]
    for response, verdict in zip(responses, nearness(responses, ["12"] * 4), strict=True):
        print(f"{verdict.score:.2f}  {verdict.status:<10}{response}")


if __name__ == "__main__":
    main()
