"""Exact arithmetic on text against trees whose value is known, and against hostile input."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmrl.envs.arithmetic import BadExpression, evaluate

numbers = st.integers(0, 50).map(lambda n: (str(n), Fraction(n), [n]))


def combine(children):
    """Two trees joined by an operator: their text in parentheses, their value, their numbers."""

    def join(pair):
        (left, a, m), (right, b, n), sign = pair
        if sign == "/" and b == 0:
            sign = "-"
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[sign]
        return f"({left}{sign}{right})", value, m + n

    return st.tuples(children, children, st.sampled_from("+-*/")).map(join)


@given(st.recursive(numbers, combine, max_leaves=8))
def test_it_agrees_with_the_tree(tree):
    text, value, leaves = tree
    assume(len(text) < 200)
    result = evaluate(text)
    assert result.value == value
    assert [int(n) for n in result.numbers] == leaves


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", "7"),
        ("+".join(["(1)"] * 60), "60"),
        ("8-3-2", "3"),
        ("16/4/2", "2"),
        ("2^3^2", "512"),
        ("-2^2", "-4"),
        ("2*-3", "-6"),
        ("2^-1", "1/2"),
        ("0.1+.2", "3/10"),
        ("2**5", "32"),
        ("(-1)^1001", "-1"),
        ("1^99999", "1"),
        ("0^0", "1"),
        (r"$3 \times (4 + 5) \div 2$", "27/2"),
        (r"\frac{1}{2}+\dfrac{3}{4}", "5/4"),
        (r"\left(2\cdot 3\right)^{2}", "36"),
        ("[1 + 2] × 3 − 4 ÷ 2", "7"),
    ],
)
def test_values(text, value):
    assert evaluate(text).value == Fraction(value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty expression"),
        ("2+", "expected 'a number', got 'the end'"),
        ("2 3", "unexpected '3'"),
        ("(2", r"expected '\)', got 'the end'"),
        ("1/0", "division by zero"),
        ("0^-1", "division by zero"),
        ("2^0.5", "an exponent must be a whole number"),
        ("9^9^9^9", "too large"),
        ("9^99999999999", "too large"),
        ("(((9^99)^9)^9)", "too large"),
        ("(" * 60 + "1" + ")" * 60, "nested deeper than 40"),
        ("2^" * 60 + "1", "nested deeper than 40"),
        ("1+" * 300 + "1", "longer than 400 characters"),
        ("__import__('os')", "cannot read"),
        ("len([1])", "cannot read"),
        ("1e999", "cannot read 'e999'"),
        ("٣+1", "cannot read"),
    ],
)
def test_what_is_no_arithmetic_is_refused(text, complaint):
    with pytest.raises(BadExpression, match=complaint):
        evaluate(text)


@given(st.text("0123456789.+-*/^(){}[]$\\frac times", max_size=60))
def test_any_text_gives_a_value_or_a_complaint(text):
    with contextlib.suppress(BadExpression):
        assert isinstance(evaluate(text).value, Fraction)
