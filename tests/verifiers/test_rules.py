"""Every option of the grading rules changes a verdict, and no verdict but those it is about."""

from dataclasses import fields

import pytest

from llmrl.verifiers import GradingRules, MathVerifier, grade_answer

DECIDES = {
    "percent": ("10", r"10\%"),
    "units": (r"5 \text{ cm}", "5"),
    "any_order": ("2, 1", "1, 2"),
    "tuple_parens": ("1, 2", "(1, 2)"),
    "unreduced": (r"\frac68", r"\frac34"),
    "assignments": ("5", "x = 5"),
    "relations": (r"1 \le x \le 2", "[1, 2]"),
    "rounded_gold": (r"\sqrt3", "1.732"),
    "decimal_comma": ("2,74", "2.74"),
    "case": (r"\text{Red}", r"\text{red}"),
}
"""For each option an answer and a gold answer that it lets pass."""


def test_each_option_has_a_pair():
    assert set(DECIDES) == {field.name for field in fields(GradingRules)}


@pytest.mark.parametrize("option", DECIDES)
def test_an_option_changes_a_verdict(option):
    answer, gold = DECIDES[option]
    assert grade_answer(answer, gold).score == 1
    assert grade_answer(answer, gold, GradingRules(**{option: False})).score == 0
    strict = MathVerifier(GradingRules(**{option: False}))
    assert strict([rf"\boxed{{{answer}}}"], [gold])[0].status == "wrong"


@pytest.mark.parametrize("option", DECIDES)
def test_an_option_changes_no_other_pair(option):
    rules = GradingRules(**{option: False})
    for other, (answer, gold) in DECIDES.items():
        if other != option:
            assert grade_answer(answer, gold, rules).score == 1, other


def test_a_decimal_comma_is_one_for_a_decimal_gold_alone():
    assert grade_answer("3,5", "3.5").score
    assert not grade_answer("3,5", "3.5", GradingRules(decimal_comma=False)).score
    assert not grade_answer("3.5", "3,5").score  # the gold answer is a list
    assert not grade_answer("3,5", "35").score
