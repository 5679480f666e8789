"""Random answers: pieces of LaTeX in random arrangements, and noise.  None crashes the verifier or holds it up.

LLMRL_FUZZ says how many (default 1500); ``LLMRL_FUZZ=10000`` is the full run.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from llmrl.verifiers import MathVerifier

COUNT = int(os.environ.get("LLMRL_FUZZ", "1500"))
DEADLINE = 2.0
ATOMS = [
    *("0", "1", "2", "3", "-4", "10", "0.5", ".25", "1,000", "6.02", "12345678901234567890", "1e5"),
    *("x", "y", "n", "i", "e", r"\pi", r"\theta", r"\infty", r"\emptyset", r"\mathbb{R}", "x_1"),
    *(r"\text{no solution}", r"\text{ or }", r"\text{ and }", r"\text{cm}", "A", "(B)", "true"),
    *(r"\frac12", r"2\frac13", r"30^\circ", r"\$5", r"50\%", "½", "√2", "π", "∞", "²", "None"),
]
WRAPS = [
    *("({})", "[{}]", "{{{}}}", r"\left({}\right)", r"\{{{}\}}", "|{}|", r"\sqrt{{{}}}", "-{}"),
    *(
        r"\sqrt[3]{{{}}}",
        r"\log_2{{{}}}",
        r"\sin({})",
        r"\lfloor {} \rfloor",
        "{}!",
        r"\overline{{{}}}",
    ),
    *(
        r"\text{{{}}}",
        r"\mathrm{{{}}}",
        r"\boxed{{{}}}",
        "${}$",
        r"\({}\)",
        "**{}**",
        "x = {}",
        "f(x) = {}",
    ),
    *(
        r"\begin{{pmatrix}} {} \end{{pmatrix}}",
        r"\begin{{cases}} {} \end{{cases}}",
        r"x \in {}",
        "{}'",
    ),
]
JOINS = [
    *(
        "{}+{}",
        "{}-{}",
        "{}*{}",
        r"{} \cdot {}",
        "{}/{}",
        r"\frac{{{}}}{{{}}}",
        "{}^{{{}}}",
        "{}**{}",
    ),
    *(
        "{}_{{{}}}",
        "{},{}",
        "{}, {}",
        "{};{}",
        "{} & {}",
        r"{} \\ {}",
        "{}={}",
        "{} < {}",
        r"{} \le {}",
    ),
    *(
        r"{} \cup {}",
        r"{} \pm {}",
        "{} or {}",
        "{} and {}",
        "({},{})",
        "[{},{})",
        "{}{}",
        "{} {}",
        "{}:{}",
    ),
    *(r"\binom{{{}}}{{{}}}", r"{} \pmod{{{}}}", "{}, ..., {}", r"\int_{{{}}}^{{{}}} x dx"),
]
NOISE = [
    *"{}()[]|\\^_&%$#~<>=!'\"`@;:,.+-*/",
    "\\\\",
    "\x00",
    "\u200b",
    "\u202e",
    "\ud800",
    "\n",
    "\t",
]
FRAMES = [
    "{}",
    r"\boxed{{{}}}",
    "The answer is {}.",
    "#### {}",
    "<answer>{}</answer>",
    "<think>{}</think> {}",
]
GOLDS = [
    "7919",
    r"\frac{7919}{6007}",
    r"7919 + \sqrt{6007}",
    "(7919, 6007)",
    "[7919, 9001)",
    r"\{7919, 6007, 9001\}",
    "7919x^2 + 6007",
    "x = 7919",
    r"\begin{pmatrix} 7919 & 1 \\ 0 & 6007 \end{pmatrix}",
    r"\text{seven thousand}",
    r"7919^\circ",
    r"x \le 7919",
]
"""Numbers that no random answer is likely to hit."""


def tree(rng: random.Random, size: int) -> str:
    if size <= 1:
        return rng.choice(ATOMS)
    if rng.random() < 0.4:
        return rng.choice(WRAPS).format(tree(rng, size - 1))
    left = rng.randrange(1, size)
    return rng.choice(JOINS).format(tree(rng, left), tree(rng, size - left))


def noisy(rng: random.Random, text: str) -> str:
    """Some characters dropped, doubled, replaced, put in, and a stretch moved."""
    signs = list(text)
    for _ in range(rng.choice((0, 0, 0, 1, 2, 8))):
        at = rng.randrange(len(signs) + 1)
        do = rng.randrange(4)
        if do == 0:
            signs.insert(at, rng.choice(NOISE))
        elif do == 1:
            signs[at : at + 1] = []
        elif do == 2:
            signs[at : at + 1] = [chr(rng.choice((rng.randrange(256), rng.randrange(0x11000))))]
        else:
            signs[at:at] = signs[at : at + rng.randrange(1, 12)] * rng.randrange(1, 6)
    return "".join(signs)


def answers(seed: int, count: int):
    rng = random.Random(seed)
    for _ in range(count):
        text = noisy(rng, tree(rng, rng.choice((1, 2, 3, 5, 8, 13, 30, 80))))
        if rng.random() < 0.1:
            text = bytes(rng.randrange(256) for _ in range(rng.randrange(200))).decode("latin-1")
        yield rng.choice(FRAMES).replace("{}", text, 1).replace("{}", "5"), rng.choice(GOLDS)


@pytest.fixture(scope="module")
def grade():
    verifier = MathVerifier(deadline=DEADLINE)
    yield verifier
    verifier.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_random_answers_neither_crash_nor_hold_up_the_verifier(grade, part):
    for response, gold in answers(part, COUNT // 10):
        began = time.monotonic()
        verdict = grade([response], [gold])[0]
        elapsed = time.monotonic() - began
        assert verdict.status in ("wrong", "no_answer", "timeout"), (response, gold, verdict)
        assert elapsed < 2 * DEADLINE, (response, gold)


def test_the_same_seed_gives_the_same_answers():
    assert [*answers(3, 20)] == [*answers(3, 20)]
    assert [*answers(3, 20)] != [*answers(4, 20)]
