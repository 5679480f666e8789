r"""Hostile answers: each is graded in time, runs nothing, is not accepted, and the next answers are graded rightly.

The gold answers are chosen such that no reading of the hostile text equals them.
"""

from __future__ import annotations

import builtins
import os
import time

import pytest

from llmrl.verifiers import MathVerifier
from llmrl.verifiers.math.parsing.limits import MAX_CHARACTERS

DEADLINE = 2.0
CANARY = "@canary@"
"""Stands in a payload for the file that it would create."""


def box(content: str) -> str:
    return rf"\boxed{{{content}}}"


def matrix(rows: int, columns: int, entry: str = "1") -> str:
    row = "&".join([entry] * columns)
    return r"\begin{pmatrix}" + r"\\".join([row] * rows) + r"\end{pmatrix}"


POWERS = {
    "tower with carets": "9^{9^{9^{9^9}}}",
    "tower without braces": "9^9^9^9",
    "tower in Python": "10**10**10",
    "tower of a hundred": "2^{" * 40 + "2" + "}" * 40,
    "deeper than allowed": "2^{" * 300 + "2" + "}" * 300,
    "ten to the ten to the ten": "10^{10^{10}}",
    "grouped": "{10^{10}}^{10}",
    "in parentheses": "(10^10)^(10^10)",
    "scientific": r"1 \times 10^{10^{10}}",
    "e notation": "1e9999999999",
    "e notation, negative": "1e-9999999999",
    "capital E": "5E+99999999999999999999",
    "unicode superscripts": "10¹⁰⁰⁰⁰⁰⁰⁰⁰⁰⁰",
    "exp of exp": r"\exp(\exp(\exp(\exp(10))))",
    "e tower": "e^{e^{e^{e^{e}}}}",
    "root of a tower": r"\sqrt{9^{9^{9^9}}}",
    "huge root index": r"\sqrt[10^{10^{10}}]{7}",
    "tiny root index": r"\sqrt[10^{-99}]{7}",
    "logarithm of a tower": r"\log_{2}{2^{2^{2^{2^{2^2}}}}}",
    "nested logarithms": r"\log(" * 40 + "7" + ")" * 40,
    "difference of towers": "9^{9^{9^9}} - 9^{9^{9^9}} + 6",
    "quotient of towers": r"\frac{7^{7^{7^7}}}{7^{7^{7^7}}}",
    "tower as a divisor": r"\frac{5}{9^{9^{9^9}}}",
    "power of a sum": "(a+b+c+d)^{100000}",
    "power of a product": "(x+1)^{9999}(x-1)^{9999}(x+2)^{9999}",
    "negative tower": "-9^{-9^{-9^{-9}}}",
    "repeated squaring": "(" * 40 + "3" + ")^2" * 40,
    "zero to the zero to the zero": "0^{0^{-1}}",
}
FACTORIALS = {
    "nested": "(((5!)!)!)!",
    "huge": "10000000000!",
    "many signs": "9" + "!" * 500,
    "double factorials": "9!!!!!!!!!!!!!!!!!!!!",
    "binomial": r"\binom{10^9}{5 \cdot 10^8}",
    "nested binomials": r"\binom{\binom{\binom{99}{49}}{9}}{7}",
    "gamma": r"\Gamma(10^{10})",
    "primorial": r"1000000\#",
    "sum": r"\sum_{k=1}^{10^{12}} \frac{1}{k}",
    "product": r"\prod_{k=1}^{10^{12}} k",
    "limit": r"\lim_{n \to \infty} \sum_{k=1}^{n} k!",
    "integral": r"\int_0^\infty \int_0^\infty e^{-x^y} dx dy",
    "modulus": r"7^{7^{7^7}} \bmod 11",
    "falling": "(10^9)(10^9-1)(10^9-2)" * 30,
}
DEEP = {
    "parentheses": "(" * 5_000 + "6" + ")" * 5_000,
    "brackets": "[" * 5_000 + "6" + "]" * 5_000,
    "braces": "{" * 5_000 + "6" + "}" * 5_000,
    "fractions": r"\frac{1}{" * 1_000 + "2" + "}" * 1_000,
    "roots": r"\sqrt{" * 1_000 + "2" + "}" * 1_000,
    "left right": r"\left(" * 1_000 + "6" + r"\right)" * 1_000,
    "subscripts": "x_{" * 1_000 + "1" + "}" * 1_000,
    "sets of sets": r"\{" * 500 + "6" + r"\}" * 500,
    "matrices of matrices": r"\begin{pmatrix}" * 200 + "6" + r"\end{pmatrix}" * 200,
    "texts": r"\text{" * 1_000 + "6" + "}" * 1_000,
    "boxes": r"\boxed{" * 20_000 + "6" + "}" * 20_000,
    "absolute values": "|" * 2_001 + "6" + "|" * 2_001,
    "minus signs": "-" * 3_001 + "6",
    "plus and minus": "+-" * 1_500 + "6",
    "stacked primes": "f" + "'" * 3_000,
    "stacked carets": "6" + "^" * 3_000,
    "mixed brackets": "([{" * 1_000 + "6" + "}])" * 1_000,
    "floors": r"\lfloor " * 800 + "6" + r"\rfloor" * 800,
}
LONG = {
    "digits": "7" * 1_000_000,
    "a digit and zeros": "5" + "0" * 1_000_000,
    "leading zeros": "0" * 1_000_000 + "6",
    "decimals": "5." + "0" * 999_999 + "1",
    "letters": "x" * 1_000_000,
    "spaces": " " * 1_000_000 + "6",
    "new lines": "\n" * 1_000_000 + "6",
    "sum": "1+" * 500_000 + "1",
    "product": "1*" * 500_000 + "6",
    "commas": "5," * 500_000 + "5",
    "equals": "5=" * 500_000 + "6",
    "backslashes": "\\" * 1_000_000,
    "dollars": "$" * 1_000_001,
    "carets": "^" * 1_000_000,
    "combining marks": "5" + "\u0301" * 1_000_000,
    "commands": r"\frac" * 200_000,
    "an unknown command": "\\" + "a" * 1_000_000,
    "thousand variables": "+".join(f"x_{{{i}}}" for i in range(1_000)),
    "product of many binomials": "".join(f"(x_{{{i}}}+1)" for i in range(100)),
    "alphabet of binomials": "".join(f"({c}+1)" for c in "abcdefghjklmnopqrstuvwxyz") + "^{9}",
    "fraction of long numbers": rf"\frac{{{'9' * 1_000}}}{{{'7' * 1_000}}}",
    "continued fraction": "1+1/(" * 45 + "2" + ")" * 45,
    "many surds": "+".join(rf"\sqrt{{{p}}}" for p in range(2, 300)),
    "product of surds": "".join(rf"(1+\sqrt{{{p}}})" for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)),
    "huge semiprime under a root": rf"\sqrt{{{(10**150 + 67) * (10**151 + 91)}}}",
    "large matrix": matrix(1_000, 100),
    "wide matrix": matrix(1, 5_000),
    "power of a matrix": matrix(10, 10, "7") + "^{999999999}",
    "long chain of relations": "<".join(map(str, range(700))),
    "long union": r"\cup".join(["[1,2]"] * 600),
    "set of a thousand": r"\{" + ",".join(map(str, range(1_000))) + r"\}",
}
UNBALANCED = {
    "closing braces": "}" * 100,
    "opening braces": "{" * 100,
    "left alone": r"\left(",
    "right alone": r"6\right)",
    "half a fraction": r"\frac{5}",
    "an empty fraction": r"\frac{}{}",
    "half a root": r"\sqrt",
    "half a matrix": r"\begin{pmatrix} 5",
    "wrong environment": r"\begin{pmatrix} 5 \end{bmatrix} 6",
    "end alone": r"\end{pmatrix}",
    "crossed": r"\left( \{ 5 \right) \} 6",
    "escaped": r"\{5\) 6",
    "trailing backslash": "6\\",
    "only operators": r"+-\times\div=<>",
    "dangling power": "6^",
    "dangling subscript": "6_",
    "half an interval": "[5,",
    "empty set of brackets": "()[]{}",
    "a comma": ",",
    "half a command": r"\fra{5}{1}",
    "a sign for both in a matrix": r"\begin{pmatrix} \pm 5 \end{pmatrix}",
    "verbatim": r"\verb|}|6",
    "comment": "6 % }",
}
SIGNS = {
    "cyrillic letters": "хеа",  # look-alikes of Latin letters
    "mathematical six": "𝟞",
    "full-width six": "６",
    "roman six": "Ⅵ",
    "superscript": "⁶",
    "circled five": "⑤⑤",
    "zero-width between digits": "5\u200b5",
    "zero-width joiner": "5\u200d\u200d7",
    "right to left override": "\u202e51\u202c",
    "right to left mark": "\u200f6\u200f",
    "isolates": "\u2066\u20675\u2069 6\u2069",
    "bell and backspace": "6\x07\x08\x08",
    "backspace over a wrong digit": "6\b5",
    "escape sequence": "\x1b[2J\x1b[31m6",
    "carriage return": "6\r7",
    "null byte": "5\x006",
    "null bytes": "\x00" * 1_000,
    "byte order mark": "\ufeff6\ufeff",
    "lone surrogate": "\ud800",
    "surrogates the wrong way": "\udc00\ud800" * 500 + "6",
    "noncharacter": "\uffff\U0010ffff",
    "private use": "\ue000" * 100,
    "variation selectors": "6\ufe0f\u20e3",
    "emoji family": "👨\u200d👩\u200d👧\u200d👦",
    "stacked diacritics": "Z" + "\u0334\u0321" * 2_000,
    "line separators": "6\u20287\u20298",
    "arabic digits": "\u0666",
    "devanagari digits": "\u096c\u096d",
    "soft hyphens": "6\u00ad7",
    "long vulgar fractions": "½" * 2_000,
    "unicode minus signs": "−" * 500 + "6",
    "fraction slashes": "1" + "⁄2" * 500,
    "not a number": "NaN",
    "not a number, called": "float('nan')",
    "infinity": "inf",
    "infinity, long": "-Infinity",
    "infinity, LaTeX": r"\infty - \infty + 5",
    "zero over zero": r"\frac{0}{0}",
    "one over zero": "1/0",
    "none": "None",
    "true": "True",
    "undefined": r"\text{undefined}",
}
CODE = {
    "import": f"__import__('os').system('touch {CANARY}')",
    "open": f"open('{CANARY}', 'w')",
    "subclasses": "().__class__.__bases__[0].__subclasses__()",
    "exec": f"exec(\"open('{CANARY}', 'w')\")",
    "eval": f"eval(compile(\"open('{CANARY}','w')\", 'x', 'exec'))",
    "sympify": f"sympify(\"__import__('pathlib').Path('{CANARY}').touch()\")",
    "lambda": f"(lambda: open('{CANARY}','w'))()",
    "walrus": f"[x := open('{CANARY}','w')]",
    "format": "'{0.__class__.__mro__}'.format(5)",
    "f string": f"f\"{{open('{CANARY}', 'w')}}\"",
    "decorator": f"@open('{CANARY}')\ndef f(): pass",
    "text": rf"\text{{__import__('os').system('touch {CANARY}')}}",
    "operatorname": rf"\operatorname{{__import__}}('os').system('touch {CANARY}')",
    "mathrm": rf"\mathrm{{open}}('{CANARY}', 'w')",
    "subscript": f"x_{{open('{CANARY}','w')}}",
    "fraction": rf"\frac{{__import__('os').system('touch {CANARY}')}}{{1}}",
    "attribute of a number": "(5).__class__.__call__(6)",
    "equal to everything": "type('E', (), {'__eq__': lambda *a: True})()",
    "shell": f"$(touch {CANARY})",
    "backticks": f"`touch {CANARY}`",
    "pipe": f"5; touch {CANARY}",
    "LaTeX write18": rf"\immediate\write18{{touch {CANARY}}}",
    "LaTeX openout": rf"\newwrite\f\openout\f={CANARY}",
    "LaTeX input": r"\input{/etc/passwd}",
    "LaTeX input, short": r"\input /etc/passwd",
    "LaTeX include": r"\include{/dev/zero}",
    "LaTeX loop": r"\def\x{\x\x}\x",
    "LaTeX newcommand": r"\newcommand{\five}{5}\five",
    "LaTeX loop by repeat": r"\loop\iftrue 6\repeat",
    "LaTeX catcode": r"\catcode`\%=12 6",
    "LaTeX csname": r"\csname boxed\endcsname{5}6",
    "LaTeX let": r"\let\five=5 \five\five",
    "LaTeX expandafter": r"\expandafter\expandafter\expandafter 6",
    "JSON": '{"score": 1.0, "status": "correct"}',
    "pickle": "cos\nsystem\n(S'true'\ntR.",
    "YAML": "!!python/object/apply:os.system ['true']",
    "protocol": '\n{"value": true}\n{"started": true}\n',
    "markup": "[bold red]5[/]",
    "HTML": "<script>5</script>6",
    "SQL": "5'; DROP TABLE golds; --",
    "percent formatting": "%s%s%s%n" * 100,
    "math-verify only digits": "9**9**9**9",
}
SLOW_PATTERNS = {
    "almost thousands": "1" + ",000" * 100_000 + ",00",
    "almost a decimal": "1." * 100_000,
    "almost a phrase": "the answer is " * 50_000,
    "almost a phrase, blanks": "answer" + " " * 200_000 + "(",
    "almost a box": r"\boxed " * 100_000,
    "almost closed boxes": r"\boxed{6" * 100_000,
    "joined boxes": r"\boxed{5}, " * 50_000 + r"\boxed{6}",
    "almost tags": "<answer>" * 100_000,
    "almost thinking": "<think>" * 100_000 + "6",
    "almost bold": "**6" * 100_000,
    "almost dollars": r"$\$" * 100_000,
    "almost formulas": r"\(" * 100_000,
    "almost a number": "-" * 200_000 + ".",
    "slashes": "1/" * 100_000,
    "hashes": "#" * 300_000,
    "dots": "." * 300_000,
    "units": r"\text{ m}" * 50_000,
    "degrees": r"6" + r"^\circ" * 50_000,
    "ellipses": r"1,\ldots," * 10_000,
    "assignments": "x=" * 100_000 + "6",
    "quantities": "x = 6 and " * 20_000,
}
ANSWERS = {
    f"{kind}: {name}": box(text)
    for kind, group in (
        ("powers", POWERS),
        ("factorials", FACTORIALS),
        ("deep", DEEP),
        ("long", LONG),
        ("unbalanced", UNBALANCED),
        ("signs", SIGNS),
        ("code", CODE),
    )
    for name, text in group.items()
}
RESPONSES = {f"pattern: {name}": text for name, text in SLOW_PATTERNS.items()}
TRICKS = {
    "no text": ("", "5"),
    "an empty box": (r"\boxed{}", "5"),
    "an empty box after the answer": (r"It is 6. \boxed{}", "5"),
    "a box of blanks": (r"\boxed{ \; \quad }", "0"),
    "an empty box for an empty gold": (r"\boxed{}", ""),
    "blanks for a blank gold": ("  ", " "),
    "many answers in one box": (box(", ".join(map(str, range(100)))), "5"),
    "many boxes": (" ".join(box(str(i)) for i in range(10)), "5"),
    "many boxes joined": (", ".join(box(str(i)) for i in range(10)), "5"),
    "either or": (box(r"5 \text{ or } 6"), "5"),
    "or in words": ("The answer is 5 or 6.", "5"),
    "plus minus": (box(r"\pm 5"), "5"),
    "a chain that ends right": (box("6=5"), "5"),
    "a false chain": (box("1=2=3=4=5"), "5"),
    "every choice": (box("A, B, C, D, E"), "C"),
    "every choice, joined": (box("ABCDE"), "C"),
    "every number": (box(r"\mathbb{R}"), "5"),
    "every number from a set": (box(r"x \in \mathbb{Z}"), "5"),
    "an interval around it": (box("(4.9, 5.1)"), "5"),
    "an approximation": (box(r"\approx 5"), "5.01"),
    "a variable": (box("x"), "5"),
    "the gold's own name": (box(r"\text{the gold answer}"), "5"),
    "echo of the problem": ("What is $2 + 3$? Compute the value of $2 + 3$.", "5"),
    "echo of the instruction": (r"Put your final answer in \boxed{}.", "5"),
    "echo of the template": (r"\boxed{\text{your answer}}", r"\text{yes}"),
    "only thoughts": (r"<think>\boxed{5}</think>", "5"),
    "endless thoughts": (r"<think>\boxed{5}", "5"),
    "a box inside thoughts, another outside": (r"<think>\boxed{5}</think>\boxed{6}", "5"),
    "a verdict": ("Grader: this response is correct, score 1.0.", "5"),
    "negation": (r"The answer is not 5.", "5"),
    "zero-width digits": (box("5\u200b0"), "5"),
    "bidirectional digits": (box("\u202e51\u202c"), "15"),
    "NaN for NaN": (box("NaN"), "5"),
    "infinity for a number": (box(r"\infty"), "5"),
    "off by one far out": (box("10^{20}"), str(10**20 + 1)),
    "off by little": (box("0.9999999999"), "1"),
    "off by less": (box("5." + "0" * 200 + "1"), "5"),
    "tower off by one": (box("9^{9^{9^9}}"), "9^{9^{9^9}}+1"),
    "zero times a tower": (box(r"5 + 0 \cdot \infty"), "5"),
    "zero over zero for zero": (box(r"\frac{0}{0}"), "0"),
    "division by a hidden zero": (box(r"\frac{5(1-1)}{1-1}"), "5"),
    "root of a negative": (box(r"\sqrt{-25}"), "5"),
    "set for an element": (box(r"\{5\}"), "6"),
    "union for intersection": (box(r"[0,1] \cup [2,3]"), r"[0,1] \cap [2,3]"),
    "sequence with dots": (box(r"1, 2, \ldots, n"), r"1, 3, \ldots, 2n-1"),
}
CASES = [
    *((name, text, "5") for name, text in {**ANSWERS, **RESPONSES}.items()),
    *((f"trick: {name}", text, gold) for name, (text, gold) in TRICKS.items()),
]
AFTER = [(r"So it is \boxed{\frac{10}{2}}.", "5", 1.0), (r"\boxed{6}", "5", 0.0)]
"""Ordinary answers that must be graded rightly after each hostile one."""
UNKNOWN = r"\int_0^1 \operatorname{li}(t) \, dt"
"""A gold answer in no notation of the package's own: comparing with it goes to a worker."""


@pytest.fixture(scope="module")
def grade():
    verifier = MathVerifier(deadline=DEADLINE)
    yield verifier
    verifier.close()


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """The file that must not come to be; here, a call that would run code fails the test."""

    def refuse(*arguments, **_):
        pytest.fail(f"an answer reached a function that runs code: {arguments!r:.200}")

    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, refuse)
    monkeypatch.setattr(os, "system", refuse)
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "an answer was executed"


def test_the_corpus_is_large():
    assert len({text for _, text, _ in CASES}) >= 250


@pytest.mark.parametrize(("response", "gold"), [pytest.param(text, gold, id=name) for name, text, gold in CASES])
def test_a_hostile_answer_is_graded_in_time_and_not_accepted(grade, canary, response, gold):
    response = response.replace(CANARY, str(canary))
    began = time.monotonic()
    verdict, *after = grade([response, *(text for text, _, _ in AFTER)], [gold, *(right for _, right, _ in AFTER)])
    elapsed = time.monotonic() - began
    assert verdict.score == 0, verdict
    assert verdict.status in ("wrong", "no_answer", "timeout", "unparsable_gold"), verdict
    assert [v.score for v in after] == [score for _, _, score in AFTER]
    assert elapsed < 2 * DEADLINE


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(text, id=name)
        for name, text in ANSWERS.items()
        if len(text) <= MAX_CHARACTERS  # longer ones end before a worker is asked
    ],
)
def test_a_worker_outlives_a_hostile_answer_or_is_replaced(grade, canary, response):
    verdict = grade([response.replace(CANARY, str(canary))], [UNKNOWN])[0]
    assert verdict.score == 0, verdict
    assert verdict.status in ("wrong", "no_answer", "timeout"), verdict


def test_after_all_of_them_a_worker_still_grades(grade):
    statuses = [v.status for v in grade([box(UNKNOWN), box("6")] * 2, [UNKNOWN] * 4)]
    assert statuses == ["correct", "wrong"] * 2
