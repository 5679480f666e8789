"""`check_verifier` passes what is shipped, and notices a fault planted for each of its checks."""

from __future__ import annotations

import time

import pytest

from llmrl.testing import VERIFIER_CHECKS, check_verifier
from llmrl.verifiers import FunctionVerifier, Verdict

NUMBERS = [["4"], ["5"], ["-7"]]


def exact(responses, golds):
    """The last word must be the gold answer."""
    right = [text.split()[-1:] == [gold] for text, gold in zip(responses, golds, strict=True)]
    return [Verdict(float(one), "correct" if one else "wrong") for one in right]


def reward(prompt, response, answer):
    return float(response.split()[-1:] == [answer])


def last(answer):
    return f"It is {answer}"


def check(verifier, **options):
    check_verifier(verifier, **{"answers": NUMBERS, "write": last, **options})


def test_the_default_verifier_passes():
    check_verifier("math")


def test_the_auditing_verifier_passes():
    # odd texts take it to its deadline of two seconds each
    check_verifier("math_verify", except_for=("odd_texts", "odd_golds"))


def test_a_verifier_from_outside_and_a_reward_function_pass(monkeypatch):
    check(exact)
    check(FunctionVerifier(reward))
    check_verifier("examples.custom_verifier:nearness", answers=NUMBERS)


def yes(responses, golds):
    return [Verdict(1.0, "correct") for _ in responses]


def prefix(responses, golds):
    right = [
        gold.startswith(text.split()[-1]) if text.split() else False
        for text, gold in zip(responses, golds, strict=True)
    ]
    return [Verdict(float(one), "correct" if one else "no_answer") for one in right]


def first_only(responses, golds):
    return [v if i == 0 else Verdict(0.0, "wrong") for i, v in enumerate(exact(responses, golds))]


def trusts_long(responses, golds):
    return [
        Verdict(1.0, "correct") if len(r) > 300 else v for r, v in zip(responses, exact(responses, golds), strict=True)
    ]


def raises_on_nul(responses, golds):
    assert not any("\x00" in gold for gold in golds)
    return exact(responses, golds)


FAULTS = {
    "right_and_wrong": yes,
    "symmetric": prefix,
    "rows": first_only,
    "odd_texts": trusts_long,
    "odd_golds": raises_on_nul,
    "pickle": FunctionVerifier(lambda prompt, response, answer: 0.0),
}


def test_a_fault_is_planted_for_every_check():
    assert set(FAULTS) == set(VERIFIER_CHECKS)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_noticed(name):
    others = [other for other in VERIFIER_CHECKS if other != name]
    answers = [["4"], ["45"]] if name == "symmetric" else NUMBERS
    with pytest.raises(AssertionError, match=rf"^Verifier \w+, check '{name}': ") as caught:
        check(FAULTS[name], answers=answers, except_for=others)
    assert "expected" in str(caught.value) or name in ("odd_texts", "pickle")


def scored(score, status="wrong"):
    return lambda responses, golds: [Verdict(score, status) for _ in responses]


def sleeps(responses, golds):
    time.sleep(5)
    return exact(responses, golds)


def takes_out(responses, golds):
    verdicts = exact(responses, golds)
    responses.clear()
    return verdicts


@pytest.mark.parametrize(
    ("verifier", "said"),
    [
        (scored(float("nan")), "the score nan; a finite number"),
        (scored("1"), "the score '1'; a finite number"),
        (scored(True), "the score True; a finite number"),
        (scored(None), "the score None; a finite number"),
        (scored(0.0, "fine"), "the status 'fine'; one of correct"),
        (lambda responses, golds: [0.0 for _ in responses], "0.0; an llmrl.Verdict"),
        (lambda responses, golds: [], "a list of as many verdicts"),
        (sleeps, "no verdict within"),
        (takes_out, "changed the lists"),
    ],
)
def test_verdicts_that_are_none_are_refused(verifier, said):
    with pytest.raises(AssertionError, match=said):
        check(verifier, answers=[["4"], ["5"]], deadline=0.2)


def test_one_class_of_answers_is_refused():
    with pytest.raises(ValueError, match="two or more"):
        check(exact, answers=[["4"]])
