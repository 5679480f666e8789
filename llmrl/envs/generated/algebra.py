"""Generated algebra: equations, functions, sequences, lines, polynomials, quadratics, intervals.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from llmrl.envs.generated.latex import (
    frac,
    integer,
    linear,
    nonzero,
    paren,
    pick,
    poly,
    raw_frac,
    read,
    same,
    sample,
    signed,
    split_square,
    surd,
    term,
    terms,
    times,
)
from llmrl.envs.generated.template import Draft, template

LETTERS = ("x", "y", "n", "t", "a", "z")
SOLVE = (
    "Solve for ${var}$: ${text}$.",
    "If ${text}$, what is ${var}$?",
    "What value of ${var}$ makes ${text}$ true?",
    "Find the value of ${var}$ such that ${text}$.",
)


def asked(rng: np.random.Generator, var: str, text: str) -> str:
    """The request to solve an equation, in one of several wordings."""
    return pick(rng, SOLVE).replace("{var}", var).replace("{text}", text)


@template("algebra", levels=(1, 2))
def linear_equation(rng: np.random.Generator, level: int) -> Draft:
    """One linear equation in one unknown."""
    var, x = pick(rng, LETTERS), integer(rng, 2, 12)
    if level == 1:
        a, b = integer(rng, 2, 9), nonzero(rng, -20, 30)
        c = a * x + b
        text = f"{linear(a, b, var)} = {c}"
        move = "Subtract" if b > 0 else "Add"
        steps: tuple[str, ...] = (
            f"{move} ${abs(b)}$: ${a}{var} = {c} {signed(-b)} = {a * x}$.",
            rf"Divide by ${a}$: ${var} = {a * x} \div {a} = {x}$.",
        )
    elif rng.integers(2) == 0:
        k, m, b = integer(rng, 2, 9), integer(rng, 2, 9), integer(rng, 2, 30)
        a = m + k
        c = k * x + b
        text = f"{linear(a, b, var)} = {linear(m, c, var)}"
        steps = (
            f"Subtract ${m}{var}$: ${a} - {m} = {k}$, so ${linear(k, b, var)} = {c}$.",
            f"Subtract ${b}$: ${k}{var} = {c} - {b} = {k * x}$.",
            rf"Divide by ${k}$: ${var} = {k * x} \div {k} = {x}$.",
        )
    else:
        a, b, d = integer(rng, 2, 9), nonzero(rng, -x + 1, 9), integer(rng, 2, 30)
        c = a * (x + b) + d
        text = f"{a}({linear(1, b, var)}) + {d} = {c}"
        move = "Subtract" if b > 0 else "Add"
        steps = (
            f"Subtract ${d}$: ${a}({linear(1, b, var)}) = {c} - {d} = {c - d}$.",
            rf"Divide by ${a}$: ${linear(1, b, var)} = {c - d} \div {a} = {x + b}$.",
            f"{move} ${abs(b)}$: ${var} = {x + b} {signed(-b)} = {x}$.",
        )

    def referee() -> bool:
        import sympy

        left, right = (read(side) for side in text.split("="))
        return same(str(x), sympy.solve(left - right, sympy.Symbol(var))[0])

    return Draft(problem=asked(rng, var, text), answer=str(x), steps=steps, referee=referee)


@template("algebra", levels=(1, 2))
def evaluate_expression(rng: np.random.Generator, level: int) -> Draft:
    """The value of an expression at given values of its variables."""
    one, two = sample(rng, ("a", "b", "c", "m", "n", "p", "x", "y"), 2)
    u, v = integer(rng, 2, 9), integer(rng, 2, 9)
    a = integer(rng, 2, 9)
    if level == 1:
        b = integer(rng, 2, 9)
        sign = 1 if a * u < b * v else pick(rng, (1, -1))
        text, value = terms([(a, one), (sign * b, two)]), a * u + sign * b * v
        op = "+" if sign > 0 else "-"
        steps: tuple[str, ...] = (
            f"First ${a}{one} = {times(a, u)}$.",
            f"Also ${b}{two} = {times(b, v)}$.",
            f"So ${text} = {a * u} {op} {b * v} = {value}$.",
        )
    else:
        b = nonzero(rng, -9, 9)
        text, value = terms([(1, f"{one}^2"), (a, two), (b, "")]), u * u + a * v + b
        steps = (
            rf"First ${one}^2 = {u} \cdot {u} = {u * u}$.",
            f"Also ${a}{two} = {times(a, v)}$.",
            f"The sum is ${u * u} + {a * v} = {u * u + a * v}$.",
            f"So the value is ${u * u + a * v} {signed(b)} = {value}$.",
        )
    problem = pick(
        rng,
        (
            f"If ${one} = {u}$ and ${two} = {v}$, what is the value of ${text}$?",
            f"Evaluate ${text}$ for ${one} = {u}$ and ${two} = {v}$.",
            f"Find ${text}$ when ${one} = {u}$ and ${two} = {v}$.",
        ),
    )

    def referee() -> bool:
        return same(str(value), read(text).subs({one: u, two: v}))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("algebra", levels=(1, 2))
def function_value(rng: np.random.Generator, level: int) -> Draft:
    """A linear function at a point, and the sum or the composition of two values."""
    f, g = pick(rng, (("f", "g"), ("g", "h"), ("p", "q"), ("h", "k")))
    var = pick(rng, ("x", "x", "t", "n"))
    a, b, x = integer(rng, 2, 9), nonzero(rng, -9, 12), integer(rng, 2, 9)
    first = a * x + b
    if level == 1:
        y = integer(rng, 2, 9)
        while y == x:
            y = integer(rng, 2, 9)
        second = a * y + b
        value = first + second
        problem = pick(
            rng,
            (
                f"If ${f}({var}) = {linear(a, b, var)}$, what is ${f}({x}) + {f}({y})$?",
                f"Let ${f}({var}) = {linear(a, b, var)}$. Find ${f}({x}) + {f}({y})$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"${f}({x})$: ${times(a, x)}$ and ${a * x} {signed(b)} = {first}$.",
            f"${f}({y})$: ${times(a, y)}$ and ${a * y} {signed(b)} = {second}$.",
            f"The sum is ${first} {signed(second)} = {value}$.",
        )

        def referee() -> bool:
            rule = read(linear(a, b, var))
            return same(str(value), rule.subs(var, x) + rule.subs(var, y))

    else:
        while not 2 <= first <= 30:
            a, b, x = integer(rng, 2, 6), nonzero(rng, -9, 12), integer(rng, 2, 9)
            first = a * x + b
        c, d = integer(rng, 2, 6), nonzero(rng, -9, 12)
        value = c * first + d
        problem = pick(
            rng,
            (
                f"If ${f}({var}) = {linear(a, b, var)}$ and ${g}({var}) = {linear(c, d, var)}$, "
                f"what is ${g}({f}({x}))$?",
                f"Let ${f}({var}) = {linear(a, b, var)}$ and ${g}({var}) = {linear(c, d, var)}$. Find ${g}({f}({x}))$.",
            ),
        )
        steps = (
            f"First ${f}({x})$: ${times(a, x)}$ and ${a * x} {signed(b)} = {first}$.",
            f"Then ${g}({first})$: ${times(c, first)}$ and ${c * first} {signed(d)} = {value}$.",
        )

        def referee() -> bool:
            outer = read(linear(c, d, var))
            return same(str(value), outer.subs(var, read(linear(a, b, var))).subs(var, x))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("algebra", levels=(1, 2, 3))
def arithmetic_sequence(rng: np.random.Generator, level: int) -> Draft:
    """A term or a sum of an arithmetic sequence."""
    first, n = integer(rng, 2, 20), integer(rng, 6, 10 if level == 1 else 15)
    step = integer(rng, 2, 9)
    nth = first + (n - 1) * step
    if level == 1:
        value = nth
        shown = ", ".join(f"${first + k * step}$" for k in range(3))
        problem = pick(
            rng,
            (
                f"What is the ${n}$th term of the arithmetic sequence {shown}, $\\ldots$?",
                f"The arithmetic sequence {shown}, $\\ldots$ goes on. Find its ${n}$th term.",
            ),
        )
        steps: tuple[str, ...] = (
            f"The common difference is ${first + step} - {first} = {step}$.",
            f"The ${n}$th term is ${n} - 1 = {n - 1}$ steps away: ${times(n - 1, step)}$.",
            f"The term is ${first} + {(n - 1) * step} = {nth}$.",
        )
    elif level == 2:
        i = integer(rng, 2, 5)
        j = i + integer(rng, 2, 5)
        m = j + integer(rng, 2, 6)
        at = {k: first + (k - 1) * step for k in (i, j, m)}
        value = at[m]
        problem = pick(
            rng,
            (
                f"In an arithmetic sequence $a_{i} = {at[i]}$ and $a_{j} = {at[j]}$. What is $a_{{{m}}}$?",
                f"An arithmetic sequence has $a_{i} = {at[i]}$ and $a_{j} = {at[j]}$. Find $a_{{{m}}}$.",
            ),
        ).replace("a_10", "a_{10}")
        steps = (
            f"From ${i}$ to ${j}$ are ${j - i}$ steps, worth ${at[j]} - {at[i]} = {at[j] - at[i]}$.",
            rf"One step is ${at[j] - at[i]} \div {j - i} = {step}$.",
            f"From ${j}$ to ${m}$ are ${m - j}$ steps: ${times(m - j, step)}$.",
            f"The term is ${at[j]} + {(m - j) * step} = {value}$.",
        )
    else:
        n = integer(rng, 8, 40)
        nth = first + (n - 1) * step
        value = n * (first + nth) // 2
        problem = pick(
            rng,
            (
                f"What is the sum of the arithmetic sequence "
                f"${first} + {first + step} + {first + 2 * step} + \\cdots + {nth}$?",
                f"Find the sum of the first ${n}$ terms of the arithmetic sequence ${first}$, "
                f"${first + step}$, ${first + 2 * step}$, $\\ldots$.",
            ),
        )
        steps = (
            f"The common difference is ${step}$, so there are ${n}$ terms, from ${first}$ to ${nth}$.",
            f"The mean of the first and the last is ${frac(Fraction(first + nth, 2))}$.",
            rf"The sum is ${n} \cdot {frac(Fraction(first + nth, 2))} = {value}$.",
        )

    def referee() -> bool:
        import sympy

        a, d, k = sympy.symbols("a d k")
        if level == 2:
            root = sympy.solve((a + (i - 1) * d - at[i], a + (j - 1) * d - at[j]), (a, d))
            return same(str(value), root[a] + (m - 1) * root[d])
        if level == 1:
            return same(str(value), list(range(first, 10**3, step))[n - 1])
        return same(str(value), sympy.summation(first + step * k, (k, 0, n - 1)))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("algebra", levels=(1, 2))
def two_numbers(rng: np.random.Generator, level: int) -> Draft:
    """Two numbers from their sum and difference, or from their sum and their quotient."""
    by_gap = level == 1 or rng.integers(2) == 0
    small = integer(rng, 3, 25 if level == 1 else 12 if by_gap else 30)
    if by_gap:
        large = small + integer(rng, 2, 20 if level == 1 else 15)
        total, gap = small + large, large - small
        told = pick(
            rng,
            (
                f"The sum of two numbers is ${total}$ and their difference is ${gap}$. ",
                f"Two numbers add up to ${total}$, and one is ${gap}$ more than the other. ",
            ),
        )
        head = [
            f"Twice the larger is ${total} + {gap} = {2 * large}$.",
            rf"The larger is ${2 * large} \div 2 = {large}$.",
        ]
        rest = f"The smaller is ${total} - {large} = {small}$."
    else:
        k = integer(rng, 2, 6)
        large = k * small
        total, gap = small + large, 0
        told = pick(
            rng,
            (
                f"The sum of two numbers is ${total}$. One is ${k}$ times the other. ",
                f"Two numbers add up to ${total}$, and one is ${k}$ times the other. ",
            ),
        )
        head = [
            f"The sum is $1 + {k} = {k + 1}$ times the smaller.",
            rf"The smaller is ${total} \div {k + 1} = {small}$.",
        ]
        rest = f"The larger is ${total} - {small} = {large}$."
    if level == 1:
        wanted = pick(rng, ("larger", "smaller"))
        value = large if wanted == "larger" else small
        problem = told + pick(rng, (f"What is the {wanted} number?", f"Find the {wanted} of the two numbers."))
        steps = head if wanted == "larger" else [*head, rest]
    elif gap:
        wanted, value = "product", small * large
        problem = told + pick(rng, ("What is their product?", "Find their product."))
        if small > 9:
            product = rf"{small} \cdot {large} = {10 * large} + {(small - 10) * large} = {value}"
            product = product.replace(" + 0 =", " =") if small > 10 else rf"10 \cdot {large} = {value}"
        else:
            product = times(small, large)
        steps = [*head, rest, f"The product is ${product}$."]
    else:
        wanted, value = "difference", large - small
        problem = told + pick(rng, ("What is their difference?", "Find their difference."))
        steps = [*head, rest, f"The difference is ${large} - {small} = {value}$."]

    def referee() -> bool:
        import sympy

        x, y = sympy.symbols("x y")
        second = x - y - gap if gap else x - large // small * y
        root = sympy.solve((x + y - total, second), (x, y))
        made = {
            "larger": root[x],
            "smaller": root[y],
            "product": root[x] * root[y],
            "difference": root[x] - root[y],
        }
        return same(str(value), made[wanted])

    return Draft(problem=problem, answer=str(value), steps=tuple(steps), referee=referee)


@template("algebra", levels=(1, 2))
def simplify_linear(rng: np.random.Generator, level: int) -> Draft:
    """A linear expression with parentheses, with its like terms collected."""
    var = pick(rng, LETTERS)
    while True:
        a, b, c = integer(rng, 2, 9), nonzero(rng, -9, 9), integer(rng, 2, 9)
        d, e = integer(rng, 2, 9), nonzero(rng, -9, 9)
        if level == 1:
            top, rest = a + c, a * b
            text = f"{a}({linear(1, b, var)}) + {c}{var}"
        else:
            top, rest = a * d + c, a * b + c * e
            text = f"{a}({linear(d, b, var)}) + {c}({linear(1, e, var)})"
        if rest:
            break
    answer = linear(top, rest, var)
    if level == 1:
        steps: tuple[str, ...] = (
            f"Expand: ${a}({linear(1, b, var)}) = {linear(a, a * b, var)}$.",
            f"Collect ${var}$: ${a} + {c} = {top}$.",
            f"The result is ${answer}$.",
        )
    else:
        steps = (
            f"Expand: ${a}({linear(d, b, var)}) = {linear(a * d, a * b, var)}$.",
            f"Expand: ${c}({linear(1, e, var)}) = {linear(c, c * e, var)}$.",
            f"Collect ${var}$: ${a * d} + {c} = {top}$.",
            f"Collect numbers: ${a * b} {signed(c * e)} = {rest}$.",
            f"The result is ${answer}$.",
        )
    problem = pick(rng, ("Simplify ${}$.", "Expand and simplify ${}$.", "Write ${}$ in simplest form."))
    return Draft(
        problem=problem.format(text),
        answer=answer,
        steps=steps,
        referee=lambda: same(answer, read(text)) and "(" not in answer,
    )


@template("algebra", levels=(1, 2, 3))
def line(rng: np.random.Generator, level: int) -> Draft:
    """Slope, a further point and the equation of the line through two points."""
    m = nonzero(rng, -6, 9)
    x1, y1 = integer(rng, -4 if level > 1 else 0, 6), integer(rng, -9 if level > 1 else 0, 12)
    run = integer(rng, 2, 6)
    rise = m * run if level < 3 else nonzero(rng, -9, 9)
    x2, y2 = x1 + run, y1 + rise
    slope = Fraction(rise, run)
    points = f"$({x1},{y1})$ and $({x2},{y2})$"
    run_text, rise_text = f"{x2} - {paren(x1)}", f"{y2} - {paren(y1)}"
    steps = [
        f"The change in $y$ is ${rise_text} = {rise}$.",
        f"The change in $x$ is ${run_text} = {run}$.",
    ]
    if level == 1:
        answer = str(m)
        problem = pick(
            rng,
            (
                f"What is the slope of the line through {points}?",
                f"Find the slope of the line that contains the points {points}.",
                f"A line passes through {points}. What is its slope?",
            ),
        )
        steps.append(rf"The slope is ${rise} \div {run} = {m}$.")
    elif level == 2:
        more = integer(rng, 1, 5)
        x3, y3 = x2 + more, y2 + m * more
        answer = str(y3)
        problem = pick(
            rng,
            (
                f"The points $({x1},{y1})$, $({x2},{y2})$ and $({x3},k)$ lie on a line. What is $k$?",
                f"A line passes through {points}. Find $k$ if it also contains $({x3},k)$.",
            ),
        )
        steps.append(rf"The slope is ${rise} \div {run} = {m}$.")
        steps.append(f"From ${x2}$ to ${x3}$ is ${more}$, so $k = {y2} {signed(m * more)} = {y3}$.")
    else:
        shift = y1 - slope * x1
        answer = f"y = {linear(slope, shift)}"
        problem = f"Find the equation of the line through {points}. " + pick(
            rng,
            (
                "Write it in the form $y = mx + b$.",
                "Express it in slope-intercept form, $y = mx + b$.",
            ),
        )
        steps.append(f"The slope is ${raw_frac(rise, run)} = {frac(slope)}$.")
        steps.append(rf"Then $b = {y1} - {paren(slope)} \cdot {paren(x1)} = {frac(shift)}$.")
        steps.append(f"So ${answer}$.")

    def referee() -> bool:
        import sympy

        ends = sympy.Point(x1, y1), sympy.Point(x2, y2)
        through = sympy.Line(*ends)
        if level == 1:
            return same(answer, through.slope)
        x = sympy.Symbol("x")
        if level == 2:
            return bool(sympy.Point(x3, int(answer)) in through)
        return same(answer.removeprefix("y = "), sympy.interpolate([(p.x, p.y) for p in ends], x))

    return Draft(problem=problem, answer=answer, steps=tuple(steps), referee=referee)


@template("algebra", levels=(1, 2))
def custom_operation(rng: np.random.Generator, level: int) -> Draft:
    """A newly defined operation, applied once or twice."""
    sign = pick(rng, (r"\star", r"\diamond", r"\circ", r"\oplus"))
    a, b = sample(rng, range(2, 10), 2)
    u, v = integer(rng, 2, 9), integer(rng, 2, 9)
    if level == 1:
        rule, value = f"{a}a + {b}b", a * u + b * v
        steps: tuple[str, ...] = (
            f"First ${a}a = {times(a, u)}$.",
            f"Also ${b}b = {times(b, v)}$.",
            f"So ${u} {sign} {v} = {a * u} + {b * v} = {value}$.",
        )
    else:
        u, v = integer(rng, 2, 12), integer(rng, 2, 9)
        rule, value = f"ab + {a}a - b", u * v + a * u - v
        steps = (
            f"First $ab = {times(u, v)}$.",
            f"Also ${a}a = {times(a, u)}$.",
            f"The sum is ${u * v} + {a * u} = {u * v + a * u}$.",
            f"So ${u} {sign} {v} = {u * v + a * u} - {v} = {value}$.",
        )
    problem = pick(
        rng,
        (
            f"If $a {sign} b = {rule}$, what is ${u} {sign} {v}$?",
            f"Let $a {sign} b = {rule}$ for all numbers $a$ and $b$. Find ${u} {sign} {v}$.",
            f"The operation ${sign}$ is defined by $a {sign} b = {rule}$. Compute ${u} {sign} {v}$.",
        ),
    )

    def referee() -> bool:
        return same(str(value), read(rule).subs({"a": u, "b": v}))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("algebra", levels=(3, 4, 5))
def quadratic(rng: np.random.Generator, level: int) -> Draft:
    """Roots of a quadratic equation, or a symmetric expression in them."""
    var = pick(rng, ("x", "y", "z", "t"))
    if level == 3:
        r, s = sorted((nonzero(rng, -12, 12), nonzero(rng, -12, 12)))
        if r + s == 0 or r == s:
            return quadratic(rng, level)
        coefficients = [1, -(r + s), r * s]
        answer = f"{r},{s}"
        problem = pick(
            rng,
            (
                "Find all solutions of ${} = 0$. List them in increasing order.",
                "Solve ${} = 0$. List the roots from least to greatest, separated by a comma.",
            ),
        ).format(poly(coefficients, var))
        steps: tuple[str, ...] = (
            f"We look for two numbers with the sum ${r + s}$ and the product ${r * s}$.",
            f"They are ${r}$ and ${s}$, so ${poly(coefficients, var)} = ({linear(1, -r, var)})({linear(1, -s, var)})$.",
            f"The solutions are ${var} = {r}$ and ${var} = {s}$.",
        )
    elif level == 4:
        p, q = 2 * nonzero(rng, -7, 7), nonzero(rng, -30, 30)
        inside = p * p // 4 - q
        if inside <= 0 or split_square(inside)[1] == 1:
            return quadratic(rng, level)
        coefficients, half = [1, p, q], -p // 2
        root = surd(1, inside)
        answer = f"{half} + {root}"
        problem = pick(
            rng,
            (
                "What is the greater solution of ${} = 0$? Express it in simplest radical form.",
                "Find the larger root of ${} = 0$ in simplest radical form.",
            ),
        ).format(poly(coefficients, var))
        steps = (
            f"Completing the square gives $({linear(1, -half, var)})^2 = {half * half} {signed(-q)} = {inside}$.",
            rf"So ${linear(1, -half, var)} = \pm\sqrt{{{inside}}}"
            + (f" = \\pm {root}$." if root != rf"\sqrt{{{inside}}}" else "$."),
            f"The greater solution is ${answer}$.",
        )
    else:
        a, b, c = integer(rng, 2, 6), nonzero(rng, -12, 12), nonzero(rng, -12, 12)
        coefficients = [a, b, c]
        total, product = Fraction(-b, a), Fraction(c, a)
        value = total**2 - 2 * product
        answer = frac(value)
        if math.gcd(a, b, c) != 1 or b * b == 4 * a * c:
            return quadratic(rng, level)
        problem = pick(
            rng,
            (
                "Let $r$ and $s$ be the roots of ${} = 0$. What is $r^2 + s^2$?",
                "The solutions of ${} = 0$ are $r$ and $s$. Find the value of $r^2 + s^2$.",
                "What is the sum of the squares of the roots of ${} = 0$?",
            ),
        ).format(poly(coefficients, var))
        steps = (
            f"By Vieta, the roots have the sum ${frac(total)}$ and the product ${frac(product)}$.",
            "The sum of squares is the square of the sum less twice the product.",
            rf"This is ${frac(total**2)} - 2 \cdot {paren(product)} = {answer}$.",
        )

    def referee() -> bool:
        import sympy

        roots = sympy.roots(read(poly(coefficients, "x")), sympy.Symbol("x"), multiple=True)
        if level == 3:
            return same(answer, *sorted(roots))
        if level == 4:
            return same(answer, max(roots)) and "sqrt" in answer
        return same(answer, sum(root**2 for root in roots))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("algebra", levels=(3, 4, 5))
def system(rng: np.random.Generator, level: int) -> Draft:
    """Two linear equations in two unknowns."""
    a, b, c, d = (nonzero(rng, -7, 9) for _ in range(4))
    determinant = a * d - b * c
    x, y = Fraction(nonzero(rng, -9, 9)), Fraction(nonzero(rng, -9, 9))
    if level == 5:
        x, y = x / integer(rng, 1, 4), y / integer(rng, 2, 4)
    e, f = a * x + b * y, c * x + d * y
    scale = math.lcm(e.denominator, f.denominator)
    if determinant == 0 or a < 0 or c < 0 or scale != 1 or abs(a) == abs(c):
        return system(rng, level)
    if level == 5 and y.denominator == 1:
        return system(rng, level)
    one, two = f"{terms([(a, 'x'), (b, 'y')])} = {e}", f"{terms([(c, 'x'), (d, 'y')])} = {f}"
    if level == 4:
        answer = frac(x + y)
        problem = pick(
            rng,
            (
                f"If ${one}$ and ${two}$, what is $x + y$?",
                f"Numbers $x$ and $y$ satisfy ${one}$ and ${two}$. Find $x + y$.",
            ),
        )
    else:
        answer = f"({frac(x)},{frac(y)})"
        problem = pick(
            rng,
            (
                f"Solve the system ${one}$, ${two}$. Give the answer as an ordered pair $(x,y)$.",
                f"Find the ordered pair $(x,y)$ with ${one}$ and ${two}$.",
                f"At what point $(x,y)$ do the lines ${one}$ and ${two}$ meet?",
            ),
        )
    steps = [
        f"Multiply the first equation by ${c}$: ${terms([(a * c, 'x'), (b * c, 'y')])} = {c * e}$.",
        f"Multiply the second by ${a}$: ${terms([(a * c, 'x'), (a * d, 'y')])} = {a * f}$.",
        f"Subtract the first from the second: ${term(determinant, 'y')} = {a * f - c * e}$, so $y = {frac(y)}$.",
        f"Then ${term(a, 'x')} = {e} {signed(-b * y)} = {frac(e - b * y)}$, so $x = {frac(x)}$.",
    ]
    if level == 4:
        steps.append(f"The sum is ${frac(x)} {signed(y)} = {answer}$.")

    def referee() -> bool:
        import sympy

        root = sympy.Matrix([[a, b], [c, d]]).LUsolve(sympy.Matrix([int(e), int(f)]))
        return same(answer, sum(root)) if level == 4 else same(answer, *root)

    return Draft(problem=problem, answer=answer, steps=tuple(steps), referee=referee)


@template("algebra", levels=(3, 4, 5))
def inequality(rng: np.random.Generator, level: int) -> Draft:
    """Solution sets in interval notation: linear, absolute value, quadratic."""
    var = pick(rng, ("x", "y", "t"))
    in_interval = pick(rng, (" Give the answer in interval notation.", " Use interval notation."))
    if level == 3:
        a, b, c = nonzero(rng, -9, 9), nonzero(rng, -20, 20), nonzero(rng, -30, 30)
        sign = pick(rng, ("<", r"\le", ">", r"\ge"))
        if abs(a) == 1:
            a *= 4
        bound = Fraction(c - b, a)
        text = f"{linear(a, b, var)} {sign} {c}"
        flip = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
        final = flip[sign] if a < 0 else sign
        closing, opening = ("]", "[") if "e" in final else (")", "(")
        below = final in ("<", r"\le")
        end = frac(bound)
        answer = rf"(-\infty,{end}{closing}" if below else rf"{opening}{end},\infty)"
        steps: tuple[str, ...] = (
            f"{'Subtracting' if b > 0 else 'Adding'} ${abs(b)}$ on both sides gives ${a}{var} {sign} {c - b}$.",
            f"Dividing by ${a}$ " + ("reverses the sign and gives " if a < 0 else "gives ") + f"${var} {final} {end}$.",
            f"As an interval this is ${answer}$.",
        )
    elif level == 4:
        a, b, c = integer(rng, 2, 6), nonzero(rng, -15, 15), integer(rng, 2, 30)
        strict = rng.integers(2) == 0
        sign, (opening, closing) = ("<", "()") if strict else (r"\le", "[]")
        low, high = Fraction(-c - b, a), Fraction(c - b, a)
        text = f"|{linear(a, b, var)}| {sign} {c}"
        answer = f"{opening}{frac(low)},{frac(high)}{closing}"
        steps = (
            f"The inequality says ${-c} {sign} {linear(a, b, var)} {sign} {c}$.",
            f"{'Subtracting' if b > 0 else 'Adding'} ${abs(b)}$ gives ${-c - b} {sign} {a}{var} {sign} {c - b}$.",
            f"Dividing by ${a}$ gives ${frac(low)} {sign} {var} {sign} {frac(high)}$, that is ${answer}$.",
        )
    else:
        one, two = Fraction(integer(rng, -9, 9), pick(rng, (1, 1, 2, 3))), nonzero(rng, -9, 9)
        r, s = min(one, Fraction(two)), max(one, Fraction(two))
        if r == s:
            return inequality(rng, level)
        lead = r.denominator * s.denominator
        coefficients = [lead, int(-lead * (r + s)), int(lead * r * s)]
        strict = rng.integers(2) == 0
        sign, (opening, closing) = ("<", "()") if strict else (r"\le", "[]")
        text = f"{poly(coefficients, var)} {sign} 0"
        answer = f"{opening}{frac(r)},{frac(s)}{closing}"
        steps = (
            f"The left side is zero at ${var} = {frac(r)}$ and ${var} = {frac(s)}$.",
            "Its leading coefficient is positive, so it is negative between these roots.",
            f"The ends are {'left out' if strict else 'included'}, so the solution set is ${answer}$.",
        )
    problem = pick(rng, ("Solve the inequality ${}$.", "For which real ${var}$ is ${}$?"))
    problem = problem.replace("{var}", var).replace("{}", text) + in_interval

    def referee() -> bool:
        import sympy
        from sympy.solvers.inequalities import solve_univariate_inequality

        x = sympy.Symbol(var, real=True)
        mark = next(m for m in ("<", r"\le", ">", r"\ge") if f" {m} " in text)
        left, right = text.split(f" {mark} ")
        inner = read(left.strip("|")).subs(var, x)
        inner = sympy.Abs(inner) if "|" in left else inner
        relation = {"<": sympy.Lt, r"\le": sympy.Le, ">": sympy.Gt, r"\ge": sympy.Ge}[mark]
        found = solve_univariate_inequality(relation(inner, read(right)), x, relational=False)
        brackets = ("(" if found.left_open else "[") + (")" if found.right_open else "]")
        return same(answer, found.start, found.end) and answer[0] + answer[-1] == brackets

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("algebra", levels=(3, 4, 5))
def points(rng: np.random.Generator, level: int) -> Draft:
    """Midpoints, distances, and the centre and radius of a circle."""
    x1, y1, x2, y2 = (integer(rng, -12, 12) for _ in range(4))
    dx, dy = x2 - x1, y2 - y1
    if not dx or not dy:
        return points(rng, level)
    if level == 3:
        mx, my = Fraction(x1 + x2, 2), Fraction(y1 + y2, 2)
        answer = f"({frac(mx)},{frac(my)})"
        problem = pick(
            rng,
            (
                f"What is the midpoint of the segment from $({x1},{y1})$ to $({x2},{y2})$?",
                f"A circle has a diameter with ends $({x1},{y1})$ and $({x2},{y2})$. "
                "Find the coordinates of its center.",
            ),
        )
        steps: tuple[str, ...] = (
            f"The $x$-coordinate is $({x1} {signed(x2)}) \\div 2 = {frac(mx)}$.",
            f"The $y$-coordinate is $({y1} {signed(y2)}) \\div 2 = {frac(my)}$.",
            f"The point is ${answer}$.",
        )
    elif level == 4:
        answer = surd(1, dx * dx + dy * dy)
        problem = pick(
            rng,
            (
                f"What is the distance between $({x1},{y1})$ and $({x2},{y2})$?",
                f"Find the length of the segment from $({x1},{y1})$ to $({x2},{y2})$.",
            ),
        )
        problem += " Express your answer in simplest radical form."
        steps = (
            f"The differences of the coordinates are ${dx}$ and ${dy}$.",
            f"Their squares sum to ${dx * dx} + {dy * dy} = {dx * dx + dy * dy}$.",
            f"The distance is the square root of ${dx * dx + dy * dy}$, that is ${answer}$.",
        )
    else:
        square = integer(rng, 2, 60)
        rest = x1 * x1 + y1 * y1 - square
        if not x1 or not y1 or not rest:
            return points(rng, level)
        text = terms([(1, "x^2"), (1, "y^2"), (-2 * x1, "x"), (-2 * y1, "y"), (rest, "")])
        answer = surd(1, square)
        problem = pick(
            rng,
            (
                f"What is the radius of the circle ${text} = 0$?",
                f"The graph of ${text} = 0$ is a circle. Find its radius.",
            ),
        )
        steps = (
            f"Completing squares gives $({linear(1, -x1)})^2 + ({linear(1, -y1, 'y')})^2 = "
            f"{x1 * x1} + {y1 * y1} {signed(-rest)}$.",
            f"The right side is ${square}$, the square of the radius.",
            f"The radius is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 5:
            x, y = sympy.symbols("x y")
            return same(answer, sympy.Circle(sympy.Eq(read(text), 0), x=x, y=y).radius)
        segment = sympy.Segment(sympy.Point(x1, y1), sympy.Point(x2, y2))
        return same(answer, *segment.midpoint) if level == 3 else same(answer, segment.length)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("algebra", levels=(3, 4, 5))
def polynomial_product(rng: np.random.Generator, level: int) -> Draft:
    """Products of polynomials, and compositions of polynomial functions."""
    var = pick(rng, ("x", "y", "t", "a"))
    a, c = integer(rng, 1, 5), integer(rng, 1, 5)
    b, d, e = (nonzero(rng, -9, 9) for _ in range(3))
    if level == 3:
        text = f"({linear(a, b, var)})({linear(c, d, var)})"
        product = [a * c, a * d + b * c, b * d]
        problem = pick(rng, ("Expand ${}$.", "Write the product ${}$ as a polynomial.")).format(text)
        steps: tuple[str, ...] = (
            f"The square terms give ${term(a * c, f'{var}^2')}$.",
            f"The coefficient of ${var}$ is ${a * d} {signed(b * c)} = {a * d + b * c}$.",
            f"The constant is ${b} \\cdot {paren(d)} = {b * d}$.",
        )
    elif level == 4:
        text = f"({linear(a, b, var)})({poly([c, d, e], var)})"
        product = [a * c, a * d + b * c, a * e + b * d, b * e]
        problem = pick(rng, ("Expand ${}$.", "Multiply out and simplify ${}$.")).format(text)
        steps = (
            f"First ${term(a, var)}({poly([c, d, e], var)}) = {poly([a * c, a * d, a * e, 0], var)}$.",
            f"Then ${b}({poly([c, d, e], var)}) = {poly([b * c, b * d, b * e], var)}$.",
            "Adding these and collecting like terms gives the result.",
        )
    else:
        inner, outer = linear(a, b, var), poly([c, d, e], var)
        text = f"{term(c, f'({inner})^2')} {signed(d)}({inner}) {signed(e)}".replace(" 1(", " (")
        product = [c * a * a, 2 * a * b * c + a * d, c * b * b + d * b + e]
        problem = pick(
            rng,
            (
                f"If $f({var}) = {outer}$ and $g({var}) = {inner}$, what is $f(g({var}))$ as a polynomial?",
                f"Let $f({var}) = {outer}$. Find $f({inner})$ and write it as a polynomial.",
            ),
        )
        steps = (
            f"Substituting gives ${text}$.",
            f"The square is $({inner})^2 = {poly([a * a, 2 * a * b, b * b], var)}$.",
            f"The coefficient of ${var}$ is ${2 * a * b * c} {signed(a * d)} = {product[1]}$.",
            f"The constant is ${c * b * b} {signed(d * b)} {signed(e)} = {product[2]}$.",
        )
    answer = poly(product, var)
    steps = (*steps, f"So we get ${answer}$.")

    def referee() -> bool:
        if level == 5:
            return same(answer, read(outer).subs(var, read(inner))) and "(" not in answer
        return same(answer, read(text)) and "(" not in answer

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("algebra", levels=(3, 4, 5))
def exponents(rng: np.random.Generator, level: int) -> Draft:
    """Exponential equations with a common base, and geometric series."""
    var = pick(rng, ("x", "n", "t"))
    base = pick(rng, (2, 3, 5))
    if level < 5:
        p = pick(rng, (2, 3, 4) if base == 2 else (2, 3))
        q = 1 if level == 3 else pick(rng, (2, 3))
        a, b, c = integer(rng, 1, 5), nonzero(rng, -9, 9), integer(rng, 1, 4)
        d = nonzero(rng, -9, 9)
        if p == q or q * a == p * c:
            return exponents(rng, level)
        x = Fraction(p * d - q * b, q * a - p * c)
        answer = frac(x)
        left, right = linear(a, b, var), linear(c, d, var)
        text = f"{base**q}^{{{left}}} = {base**p}^{{{right}}}"
        problem = asked(rng, var, text)
        small = f"{base}^{{{q}({left})}}" if q > 1 else f"{base}^{{{left}}}"
        steps: tuple[str, ...] = (
            f"With base ${base}$ the equation is ${small} = {base}^{{{p}({right})}}$.",
            f"The exponents are equal: ${linear(q * a, q * b, var)} = {linear(p * c, p * d, var)}$.",
            f"Collecting gives ${term(q * a - p * c, var)} = {p * d - q * b}$, so ${var} = {answer}$.",
        )
    else:
        first, ratio = nonzero(rng, -12, 12), Fraction(nonzero(rng, -7, 7), integer(rng, 2, 9))
        if abs(ratio) >= 1:
            return exponents(rng, level)
        value = first / (1 - ratio)
        answer = frac(value)
        shown = [first * ratio**k for k in range(3)]
        problem = pick(
            rng,
            (
                f"What is the sum of the infinite geometric series "
                f"${frac(first)} {signed(shown[1])} {signed(shown[2])} + \\cdots$ "
                f"with common ratio ${frac(ratio)}$?",
                f"An infinite geometric series has first term ${first}$ and second term "
                f"${frac(shown[1])}$. Find its sum.",
            ),
        )
        steps = (
            f"The common ratio is ${frac(ratio)}$, less than $1$ in absolute value.",
            rf"The sum is the first term over one less the ratio, with $1 {signed(-ratio)} = "
            f"{frac(1 - ratio)}$.",
            rf"So it is ${first} \div {frac(1 - ratio)} = {answer}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 5:
            k = sympy.Symbol("k", integer=True)
            r = sympy.Rational(ratio.numerator, ratio.denominator)
            return same(answer, sympy.summation(first * r**k, (k, 0, sympy.oo)))
        sides = [sympy.Integer(base**m) ** read(side).subs(var, read(answer)) for m, side in ((q, left), (p, right))]
        return bool(sympy.simplify(sides[0] / sides[1]) == 1)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("algebra", levels=(3, 4, 5))
def inverse_and_vertex(rng: np.random.Generator, level: int) -> Draft:
    """An inverse function's value, and the least value of a quadratic."""
    if level == 3:
        a, b, y = integer(rng, 2, 9), nonzero(rng, -12, 12), integer(rng, -15, 30)
        value = Fraction(y - b, a)
        problem = pick(
            rng,
            (
                f"If $f(x) = {linear(a, b)}$, what is $f^{{-1}}({y})$?",
                f"Let $f(x) = {linear(a, b)}$. Find the number $x$ with $f(x) = {y}$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"We solve ${linear(a, b)} = {y}$.",
            f"Then ${a}x = {y} {signed(-b)} = {y - b}$, so $x = {frac(value)}$.",
        )
    elif level == 4:
        a, h, k = integer(rng, 1, 6), nonzero(rng, -9, 9), integer(rng, -30, 30)
        value = Fraction(k)
        text = poly([a, -2 * a * h, a * h * h + k])
        problem = pick(
            rng,
            (
                f"What is the least value of ${text}$ over all real numbers $x$?",
                f"Find the $y$-coordinate of the vertex of the parabola $y = {text}$.",
            ),
        )
        steps = (
            f"Completing the square gives ${text} = {term(a, f'({linear(1, -h)})^2')}"
            + (f" {signed(k)}$." if k else "$."),
            f"The square is never negative and is zero at $x = {h}$.",
            f"So the least value is ${k}$.",
        )
    else:
        a, b, y = integer(rng, 2, 9), nonzero(rng, -12, 12), integer(rng, 2, 9)
        c, d = integer(rng, 1, 9), nonzero(rng, -12, 12)
        if a - y * c == 0 or a * d == b * c:
            return inverse_and_vertex(rng, level)
        value = Fraction(y * d - b, a - y * c)
        if c * value + d == 0:
            return inverse_and_vertex(rng, level)
        text = raw_frac(linear(a, b), linear(c, d))
        problem = pick(
            rng,
            (
                f"If $f(x) = {text}$, what is $f^{{-1}}({y})$?",
                f"Let $f(x) = {text}$. For which $x$ is $f(x) = {y}$?",
            ),
        )
        steps = (
            f"We solve ${linear(a, b)} = {y}({linear(c, d)})$.",
            f"Expanding gives ${linear(a, b)} = {linear(y * c, y * d)}$.",
            f"Collecting gives ${term(a - y * c, 'x')} = {y * d - b}$, so $x = {frac(value)}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 3:
            return same(frac(value), sympy.solve(read(linear(a, b)) - y, x)[0])
        if level == 4:
            return same(frac(value), sympy.calculus.util.minimum(read(text), x))
        return same(frac(value), sympy.solve(read(text) - y, x)[0])

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)
