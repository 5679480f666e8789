"""Properties of grading: no string is right for two values, order does not matter, nothing written is ungraded."""

from itertools import pairwise

import pytest

from llmrl.verifiers import MathVerifier, grade_answer
from llmrl.verifiers.math.verifier import check_gold

SURDS = (2, 3, 5, 6, 7, 10, 11, 13, 14, 15)
GOLDS = [
    *map(str, range(-40, 70)),
    *(rf"\frac{{{n}}}{{{d}}}" for n in range(1, 30, 2) for d in (32, 64, 128)),
    *(rf"\sqrt{{{n}}}" for n in SURDS),
    *(rf"{n}+\sqrt{{{n}}}" for n in SURDS),
    *(rf"{n}\pi" for n in range(1, 11)),
    *(rf"\ln {n}" for n in SURDS),
    *(rf"e^{{{n}}}" for n in range(2, 12)),
    *(rf"\sin {n}" for n in range(1, 9)),
    *(f"x^2+{n}" for n in range(1, 16)),
    *(rf"\frac{{x}}{{x+{n}}}" for n in range(1, 9)),
    *(f"({n},{n + 1})" for n in range(1, 11)),
    *(f"({n},{n + 1},{n + 2})" for n in range(1, 9)),
    *(rf"\{{{n},{n + 2}\}}" for n in range(1, 11)),
    *(f"[{n},{n + 2})" for n in range(1, 9)),
    *(f"y={n}x+1" for n in range(2, 10)),
    *(rf"\begin{{pmatrix}}{n}\\{n + 1}\end{{pmatrix}}" for n in (20, 30, 40)),
    *(f"{n}+{n}i" for n in range(1, 8)),
    *(rf"\text{{{word}}}" for word in ("red", "green", "no solution", "Monday", "parallel", "prime", "odd", "Alice")),
    *(f"x>{n}" for n in range(100, 106)),
    r"\infty",
    r"-\infty",
    r"\mathbb{R}",
]
"""Answers of different values; each is the one of its value."""
UNDEFINED = (
    r"\ln 0",
    r"\log 0",
    r"\log_2 0",
    r"\lg 0",
    r"\ln(1-1)",
    r"\ln(x-x)",
    r"\log_0 5",
    r"\log_1 3",
    r"\frac10",
    r"\frac00",
    r"\frac{x-x}{x-x}",
    "0^0",
    "0^{-1}",
    r"\infty-\infty",
    r"\frac{\infty}{\infty}",
    r"0\cdot\infty",
    r"1^{\infty}",
    r"\tan\frac{\pi}{2}",
    r"\sec 90^\circ",
    r"\cot 0",
    r"\csc \pi",
    "(-1)!",
    r"\ln\sin 0",
    r"\ln\cos\frac{\pi}{2}",
    r"\sqrt[0]{5}",
    r"5 \bmod 0",
    r"\log(\sqrt{4}-2)",
    r"\text{NaN}",
    r"\text{undefined}",
    "nan",
    "inf",
    "NaN",
    "Infinity",
    r"\text{inf}",
    r"\infty\%",
    r"\infty \text{ cm}",
    r"10^{10^{10}}",
    r"(((9!)!)!)!",
    r"\sum_{k=1}^{\infty}\frac1k",
    r"\int_0^1 \frac1x dx",
    r"\lim_{x\to0}\frac1x",
)
ODD = (
    *(
        "",
        " ",
        "$$",
        "{}",
        r"\{\}",
        "()",
        "[]",
        "||",
        r"\text{}",
        r"\,",
        ",",
        ";",
        ":",
        "=",
        "x=x",
        "0=0",
        "1=1",
        "a=b",
    ),
    *("<", ">", "x<x", "x=", "=5", "?", "!", "...", r"\ldots", r"\dots, \dots", r"\pm", r"\pm\pm", "+", "-", "*", "%"),
    *("^", "_", "x_{}", "f()", r"\frac{}{}", r"\sqrt{}", r"\emptyset", r"\varnothing", r"\mathbb{C}", r"\mathbb{Q}"),
    *(
        r"\text{all}",
        r"\text{any number}",
        r"\text{anything}",
        r"\text{everything}",
        r"\text{the answer}",
        r"\text{yes}",
    ),
    *(
        r"\text{cm}",
        "cm",
        r"^\circ",
        r"\$",
        "a or b",
        "x or y",
        r"x \text{ or } -x",
        "n",
        "N",
        "answer",
        "gold",
        "None",
    ),
    *(
        "True",
        r"\text{True}",
        "(x,y)",
        "(a,b)",
        r"\{a,b\}",
        r"\{x\}",
        r"\{x : x\}",
        r"\{x \mid x=x\}",
        "[a,b]",
        "(a,b)",
    ),
    *(
        "f(x)",
        "y=f(x)",
        "x>y",
        "|x|",
        "|a|",
        "a:b",
        "1:x",
        r"\begin{pmatrix}\end{pmatrix}",
        r"\begin{pmatrix}x\end{pmatrix}",
    ),
)
SPOILED = tuple(
    shape.replace("@", value)
    for value in (r"\ln 0", r"\frac10", "(-1)!", "0^0", r"\log_2 0")
    for shape in (
        *("x=@", "(@,@)", r"\{@,@\}", "[@,@]", "(@,@]", "@+x", "@-@", r"0\cdot(@)", r"\frac{@}{@}", "e^{@}"),
        *(
            r"\sqrt{@}",
            "y=@x+1",
            r"@ \text{ or } @",
            r"\begin{pmatrix}@\\@\end{pmatrix}",
            "x>@",
            "@:@",
            r"\pm(@)",
            "|@|",
        ),
        *("@,@", r"@\%", r"@ \text{ cm}", r"\sin(@)", r"(@)^0", r"@ = @"),
    )
)
STRINGS = (*UNDEFINED, *ODD, *SPOILED)


def test_the_corpus_is_large():
    assert len(set(STRINGS)) >= 200
    assert len(set(GOLDS)) >= 300
    assert not [gold for gold in GOLDS if check_gold(gold)]


@pytest.mark.parametrize("text", STRINGS)
def test_no_string_is_right_for_two_values(text):
    accepted = [gold for gold in GOLDS if grade_answer(text, gold).score]
    assert len(accepted) <= 1, accepted


@pytest.mark.parametrize("text", [*UNDEFINED[:27], *SPOILED])
def test_what_is_not_a_number_is_equal_to_nothing(text):
    assert not [gold for gold in GOLDS if grade_answer(text, gold).score]


@pytest.mark.parametrize("text", ["\\ln 0", "\\frac10", "0^0", "(-1)!", "\\log_1 3", "\\tan\\frac{\\pi}{2}"])
def test_an_undefined_gold_is_refused(text):
    assert check_gold(text)


def test_each_gold_is_its_own_answer_alone():
    for gold in GOLDS:
        assert grade_answer(gold, gold).score
    for first, second in pairwise(GOLDS):
        assert not grade_answer(first, second).score
        assert not grade_answer(second, first).score


SYMMETRIC = (
    *(
        "2",
        r"\frac{4}{2}",
        r"\sqrt{4}",
        "2.0",
        "0.5",
        r"\frac12",
        r"\sqrt{8}",
        r"2\sqrt2",
        r"\ln 8",
        r"3\ln 2",
        "x+1",
        "1+x",
    ),
    *(
        "(x+1)^2",
        "x^2+2x+1",
        "(1,2)",
        "(2,1)",
        r"\{1,2\}",
        r"\{2,1\}",
        "[0,1]",
        "[0,1)",
        r"\infty",
        r"\ln 0",
        r"\frac10",
    ),
    *(
        r"\sin\frac{\pi}{6}",
        r"e^{i\pi}",
        "-1",
        "y=2x",
        "2y=4x",
        r"\begin{pmatrix}1&2\end{pmatrix}",
        r"\text{red}",
        "red",
    ),
)


def test_equality_of_one_kind_is_symmetric():
    for first in SYMMETRIC:
        for second in SYMMETRIC:
            assert grade_answer(first, second).score == grade_answer(second, first).score or (
                check_gold(first) or check_gold(second)
            ), (first, second)


@pytest.mark.parametrize(
    "text", [*STRINGS, r"\ln(1,2,3)", r"\exp()", r"\abs()", r"\binom{5}", r"\gcd()", "{{}}", r"\boxed{}"]
)
def test_nothing_that_is_written_is_ungraded(text):
    grade = MathVerifier()
    for response in (rf"\boxed{{{text}}}", rf"$\boxed{{{text}}}$", f"The answer is {text}", text):
        (verdict,) = grade([response], ["17"])
        assert verdict.valid, verdict
        assert verdict.detail is None or not verdict.detail.startswith("the grader failed"), verdict
    assert not grade.pool._all
