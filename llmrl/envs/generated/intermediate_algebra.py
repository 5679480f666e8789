"""Generated intermediate algebra: polynomials and roots, complex numbers, recurrences, conics.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from llmrl.envs.generated.latex import (
    draw_until,
    frac,
    integer,
    linear,
    nonzero,
    paren,
    pick,
    poly,
    product,
    raw_frac,
    read,
    same,
    sample,
    signed,
    surd,
    term,
    terms,
)
from llmrl.envs.generated.template import Draft, template

VARS = ("x", "y", "z", "t", "n")
NAMES_OF_FUNCTIONS = ("f", "g", "h", "P", "Q")


def complex_text(a: int | Fraction, b: int | Fraction) -> str:
    """The complex number a + bi.

    >>> complex_text(3, -1), complex_text(0, 2), complex_text(4, 0)
    ('3 - i', '2i', '4')
    """
    return terms([(a, ""), (b, "i")])


@template("intermediate_algebra", levels=(1, 2))
def remainder_at_sight(rng: np.random.Generator, level: int) -> Draft:
    """The remainder of a polynomial on division by a linear factor."""
    var, name = pick(rng, VARS[:4]), pick(rng, NAMES_OF_FUNCTIONS)
    c = integer(rng, 2, 9 if level == 1 else 4)
    if level == 1:
        coefficients = [1, nonzero(rng, -9, 9), nonzero(rng, -20, 20)]
    else:
        coefficients = [integer(rng, 1, 3), *(nonzero(rng, -8, 9) for _ in range(3))]
    value, steps = coefficients[0], []
    for b in coefficients[1:]:
        by = f"${product(c, value)}$ and " if value != 1 else ""
        steps.append(f"Then {by}${c * value} {signed(b)} = {c * value + b}$.")
        value = c * value + b
    steps[0] = steps[0].replace("Then", f"Put ${var} = {c}$:")
    steps.append(f"The remainder is ${value}$.")
    text, divisor = poly(coefficients, var), linear(1, -c, var)
    problem = pick(
        rng,
        (
            f"What is the remainder when ${text}$ is divided by ${divisor}$?",
            f"Find the remainder when the polynomial ${text}$ is divided by ${divisor}$.",
            f"Let ${name}({var}) = {text}$. What is the remainder of ${name}({var})$ on division by ${divisor}$?",
        ),
    )

    def referee() -> bool:
        import sympy

        return same(str(value), sympy.rem(read(text), read(divisor), sympy.Symbol(var)))

    return Draft(problem=problem, answer=str(value), steps=tuple(steps), referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def roots_of_quadratic(rng: np.random.Generator, level: int) -> Draft:
    """A symmetric expression in the roots of a quadratic, by their sum and product."""
    var = pick(rng, VARS[:4])
    r, s = pick(rng, (("r", "s"), ("a", "b"), ("p", "q"), ("m", "n"), ("u", "v")))
    total = nonzero(rng, -9, 9) if level == 1 else integer(rng, 3, 12)
    prod = nonzero(rng, -30, 30)
    lead = integer(rng, 2, 4) if level == 1 else 1
    text = poly([lead, -lead * total, lead * prod], var)
    if level == 1:
        kind = integer(rng, 0, 1)
        value = total + prod if kind else prod - total
        wanted = f"{r}{s} + {r} + {s}" if kind else f"{r}{s} - {r} - {s}"
        steps: tuple[str, ...] = (
            rf"The sum of the roots is ${-(-lead * total)} \div {lead} = {total}$.",
            rf"The product is ${lead * prod} \div {lead} = {prod}$.",
            f"So ${wanted} = {prod} {signed(total if kind else -total)} = {value}$.",
        )
    else:
        value = total * total - 2 * prod
        wanted = f"{r}^2 + {s}^2"
        steps = (
            f"The sum of the roots is ${total}$ and the product is ${prod}$.",
            rf"The square of the sum is ${total} \cdot {total} = {total * total}$.",
            f"Twice the product is ${product(2, prod)}$.",
            f"So ${wanted} = {total * total} {signed(-2 * prod)} = {value}$.",
        )
    problem = pick(
        rng,
        (
            f"Let ${r}$ and ${s}$ be the roots of ${text} = 0$. What is ${wanted}$?",
            f"If ${r}$ and ${s}$ are the solutions of ${text} = 0$, find ${wanted}$.",
            f"The equation ${text} = 0$ has roots ${r}$ and ${s}$. Find ${wanted}$.",
        ),
    )

    def referee() -> bool:
        import sympy

        roots = sympy.roots(read(text), sympy.Symbol(var), multiple=True)
        if len(roots) == 1:
            roots = roots * 2
        return same(str(value), read(wanted).subs({r: roots[0], s: roots[1]}, simultaneous=True))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def complex_arithmetic(rng: np.random.Generator, level: int) -> Draft:
    """Sums of multiples and products of complex numbers."""
    if level == 1:
        k, a, b = integer(rng, 2, 6), integer(rng, 1, 9), nonzero(rng, -9, 9)
        c, d = draw_until(lambda: (integer(rng, 1, 20), nonzero(rng, -20, 20)), lambda s: s[1] + k * b != 0)
        text = f"{k}({complex_text(a, b)}) + ({complex_text(c, d)})"
        re, im = k * a + c, k * b + d
        steps: tuple[str, ...] = (
            f"Real part: ${product(k, a)}$ and ${k * a} + {c} = {re}$.",
            f"Imaginary part: ${product(k, b)}$ and ${k * b} {signed(d)} = {im}$.",
            f"The number is ${complex_text(re, im)}$.",
        )
    else:
        a, c = integer(rng, 1, 9), integer(rng, 1, 9)
        b, d = draw_until(
            lambda: (integer(rng, 1, 9), nonzero(rng, -9, 9)),
            lambda s: a * s[1] + s[0] * c != 0 and a * c != s[0] * s[1],
        )
        text = f"({complex_text(a, b)})({complex_text(c, d)})"
        re, im = a * c - b * d, a * d + b * c
        steps = (
            f"Products: ${product(a, c)}$, ${product(b, d)}$, ${product(a, d)}$, ${product(b, c)}$.",
            f"Since $i^2 = -1$, the real part is ${a * c} {signed(-b * d)} = {re}$.",
            f"The imaginary part is ${a * d} {signed(b * c)} = {im}$.",
            f"The number is ${complex_text(re, im)}$.",
        )
    answer = complex_text(re, im)
    problem = pick(
        rng,
        (
            f"Simplify ${text}$, where $i^2 = -1$.",
            f"Compute ${text}$. Express your answer in the form $a + bi$.",
            f"Write ${text}$ in the form $a + bi$, where $a$ and $b$ are real.",
        ),
    )

    def referee() -> bool:
        import sympy

        return same(answer, sympy.expand(read(text)))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def recurrence_terms(rng: np.random.Generator, level: int) -> Draft:
    """A term of a sequence given by its first terms and a recurrence."""
    a = pick(rng, ("a", "b", "x", "u", "s"))
    if level == 1:
        first, k = integer(rng, 1, 6), integer(rng, 2, 4)
        c = draw_until(lambda: nonzero(rng, -6, 9), lambda c: k * first + c > first)
        second = k * first + c
        value = k * second + c
        rule = f"{a}_{{n+1}} = {linear(k, c, f'{a}_n')}"
        wanted = 3
        problem = pick(
            rng,
            (
                f"If ${a}_1 = {first}$ and ${rule}$, what is ${a}_3$?",
                f"A sequence satisfies ${a}_1 = {first}$ and ${rule}$ for $n \\ge 1$. Find ${a}_3$.",
                f"The first term of a sequence is ${first}$, and ${rule}$. What is ${a}_3$?",
            ),
        )
        steps: tuple[str, ...] = (
            f"For ${a}_2$: ${product(k, first)}$ and ${k * first} {signed(c)} = {second}$.",
            f"For ${a}_3$: ${product(k, second)}$ and ${k * second} {signed(c)} = {value}$.",
        )
    else:
        first, second = integer(rng, 1, 9), integer(rng, 1, 9)
        k = integer(rng, 1, 3)
        m = integer(rng, 1, 1 if k > 1 else 3)
        third = k * second + m * first
        value = k * third + m * second
        rule = f"{a}_{{n+2}} = {terms([(k, f'{a}_{{n+1}}'), (m, f'{a}_n')])}"
        wanted = 4
        problem = pick(
            rng,
            (
                f"If ${a}_1 = {first}$, ${a}_2 = {second}$ and ${rule}$, what is ${a}_4$?",
                f"A sequence has ${a}_1 = {first}$, ${a}_2 = {second}$ and ${rule}$ for all $n$. Find ${a}_4$.",
            ),
        )
        steps = (
            f"For ${a}_3$: ${product(k, second)}$, ${product(m, first)}$, ${k * second} + {m * first} = {third}$.",
            f"For ${a}_4$: ${product(k, third)}$, ${product(m, second)}$, ${k * third} + {m * second} = {value}$.",
        )

    def referee() -> bool:
        import sympy

        n = sympy.Symbol("n")
        f = sympy.Function("f")
        if level == 1:
            found = sympy.rsolve(f(n + 1) - k * f(n) - c, f(n), {f(1): first})
            return same(str(value), found.subs(n, wanted))
        matrix = sympy.Matrix([[k, m], [1, 0]]) ** (wanted - 2)
        return same(str(value), (matrix * sympy.Matrix([second, first]))[0])

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def floors_and_ceilings(rng: np.random.Generator, level: int) -> Draft:
    """Sums of integer parts of fractions."""
    b, d = sample(rng, range(3, 10), 2)
    a = draw_until(lambda: integer(rng, b + 1, 9 * b), lambda n: n % b != 0)
    c = draw_until(lambda: integer(rng, d + 1, 9 * d), lambda n: n % d != 0)
    floor, ceiling = (r"\lfloor", r"\rfloor"), (r"\lceil", r"\rceil")
    kinds = (floor, floor) if level == 1 else (floor, ceiling)
    sign = 1 if level == 1 else pick(rng, (1, -1))
    values = []
    parts = []
    lines = []
    for (left, right), x, y in ((kinds[0], a, b), (kinds[1], c, d)):
        low = x // y
        up = low + 1
        whole = low if left == r"\lfloor" else up
        part = rf"\left{left} \frac{{{x}}}{{{y}}} \right{right}"
        lines.append(f"${low * y} < {x} < {up * y}$, so ${part} = {whole}$.")
        values.append(whole)
        parts.append(part)
    value = values[0] + sign * values[1]
    op = "+" if sign > 0 else "-"
    text = f"{parts[0]} {op} {parts[1]}"
    problem = pick(rng, ("Compute ${}$.", "What is the value of ${}$?", "Evaluate ${}$.")).format(text)
    steps = (*lines, f"The value is ${values[0]} {op} {values[1]} = {value}$.")

    def referee() -> bool:
        import sympy

        second = sympy.floor if level == 1 else sympy.ceiling
        return same(
            str(value),
            sympy.floor(sympy.Rational(a, b)) + sign * second(sympy.Rational(c, d)),
        )

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def extreme_of_quadratic(rng: np.random.Generator, level: int) -> Draft:
    """The least or the greatest value of a quadratic by completing the square."""
    var = pick(rng, VARS[:4])
    h = nonzero(rng, -9, 9)
    c = nonzero(rng, -30, 60)
    if level == 1:
        text, value = poly([1, -2 * h, c], var), c - h * h
        problem = pick(
            rng,
            (
                f"What is the minimum value of ${text}$ for real ${var}$?",
                f"Find the smallest possible value of ${text}$, where ${var}$ is real.",
                f"What is the least value that ${text}$ takes for real ${var}$?",
            ),
        )
        steps: tuple[str, ...] = (
            rf"Half of ${2 * abs(h)}$ is ${abs(h)}$, and ${abs(h)} \cdot {abs(h)} = {h * h}$.",
            f"So ${text} = ({linear(1, -h, var)})^2 {signed(c)} - {h * h}$.",
            f"The minimum is ${c} - {h * h} = {value}$.",
        )
    else:
        text, value = poly([-1, 2 * h, c], var), c + h * h
        problem = pick(
            rng,
            (
                f"What is the maximum value of ${text}$ for real ${var}$?",
                f"Find the largest possible value of ${text}$, where ${var}$ is real.",
                f"What is the greatest value that ${text}$ takes for real ${var}$?",
            ),
        )
        steps = (
            f"Take out the minus sign: $-({poly([1, -2 * h, 0], var)}) {signed(c)}$.",
            rf"Half of ${2 * abs(h)}$ is ${abs(h)}$, and ${abs(h)} \cdot {abs(h)} = {h * h}$.",
            f"So ${text} = -({linear(1, -h, var)})^2 + {h * h} {signed(c)}$.",
            f"The maximum is ${h * h} {signed(c)} = {value}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol(var)
        at = sympy.solve(sympy.diff(read(text), x), x)[0]
        return same(str(value), read(text).subs(x, at))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def circle_equation(rng: np.random.Generator, level: int) -> Draft:
    """The center or the squared radius of a circle given by an expanded equation."""
    a, b = nonzero(rng, -9, 9), nonzero(rng, -9, 9)
    squares = a * a + b * b
    if level == 1:
        square = integer(rng, 1, 100)
        answer = f"({a},{b})"
    else:
        square = integer(rng, 2, 120)
        answer = str(square)
    rest = squares - square
    text = terms([(1, "x^2"), (-2 * a, "x"), (1, "y^2"), (-2 * b, "y")])
    if level == 1 and rest:
        text += f" {signed(rest)}"
    right = 0 if level == 1 else square - squares
    if level == 1:
        problem = pick(
            rng,
            (
                f"What is the center of the circle ${text} = 0$?",
                f"A circle has the equation ${text} = 0$. Find its center.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"The coefficient of $x$ is ${-2 * a}$, and ${-2 * a} \div (-2) = {a}$.",
            rf"The coefficient of $y$ is ${-2 * b}$, and ${-2 * b} \div (-2) = {b}$.",
            f"The center is ${answer}$.",
        )
    else:
        problem = pick(
            rng,
            (
                f"What is the square of the radius of the circle ${text} = {right}$?",
                f"A circle has the equation ${text} = {right}$. If its radius is $r$, find $r^2$.",
                f"The circle ${text} = {right}$ has radius $r$. What is $r^2$?",
            ),
        )
        steps = (
            rf"Halves: ${2 * abs(a)} \div 2 = {abs(a)}$ and ${2 * abs(b)} \div 2 = {abs(b)}$.",
            rf"Squares: ${abs(a)} \cdot {abs(a)} = {a * a}$ and ${abs(b)} \cdot {abs(b)} = "
            rf"{b * b}$.",
            f"Their sum is ${a * a} + {b * b} = {squares}$.",
            f"So $r^2 = {right} + {squares} = {square}$.",
        )

    def referee() -> bool:
        import sympy

        x, y = sympy.symbols("x y")
        left = read(text) - right
        at = sympy.solve((sympy.diff(left, x), sympy.diff(left, y)), (x, y))
        if level == 1:
            return same(answer, at[x], at[y])
        return same(answer, -left.subs(at))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(1, 2))
def product_of_binomials(rng: np.random.Generator, level: int) -> Draft:
    """The expanded product of two linear factors."""
    var = pick(rng, VARS[:4])
    a, c = (1, 1) if level == 1 else (integer(rng, 2, 6), integer(rng, 2, 6))
    b, d = draw_until(lambda: (nonzero(rng, -9, 12), nonzero(rng, -9, 12)), lambda s: a * s[1] + c * s[0] != 0)
    middle, last = a * d + b * c, b * d
    answer = poly([a * c, middle, last], var)
    text = f"({linear(a, b, var)})({linear(c, d, var)})"
    problem = pick(
        rng,
        ("Expand the product ${}$.", "Expand ${}$ and collect like terms.", "Multiply out ${}$."),
    ).format(text)
    if level == 1:
        steps: tuple[str, ...] = (
            f"The coefficient of ${var}$ is ${b} {signed(d)} = {middle}$.",
            f"The constant is ${product(b, d)}$.",
            f"So the product is ${answer}$.",
        )
    else:
        steps = (
            f"The leading coefficient is ${product(a, c)}$.",
            f"Middle: ${product(a, d)}$, ${product(c, b)}$, ${a * d} {signed(b * c)} = {middle}$.",
            f"The constant is ${product(b, d)}$.",
            f"So the product is ${answer}$.",
        )

    def referee() -> bool:
        return same(answer, read(text))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(3, 4, 5))
def roots_of_cubic(rng: np.random.Generator, level: int) -> Draft:
    """Symmetric expressions in the roots of a cubic that need not be known."""
    var = pick(rng, ("x", "y", "z", "t"))
    r, s, t = pick(rng, (("r", "s", "u"), ("a", "b", "c"), ("p", "q", "r")))
    e1, e2, e3 = nonzero(rng, -9, 9), nonzero(rng, -12, 12), nonzero(rng, -12, 12)
    text = poly([1, -e1, e2, -e3], var)
    if level == 3:
        value = Fraction(e1 * e1 - 2 * e2)
        wanted = f"{r}^2 + {s}^2 + {t}^2"
        steps: tuple[str, ...] = (
            f"By Vieta, ${r} + {s} + {t} = {e1}$ and ${r}{s} + {s}{t} + {t}{r} = {e2}$.",
            "The square of the sum is the wanted number plus twice the second sum.",
            rf"So the value is ${paren(e1)}^2 - 2 \cdot {paren(e2)} = {frac(value)}$.",
        )
    elif level == 4:
        value = Fraction(e2, e3)
        wanted = rf"\frac{{1}}{{{r}}} + \frac{{1}}{{{s}}} + \frac{{1}}{{{t}}}"
        steps = (
            f"By Vieta, ${r}{s} + {s}{t} + {t}{r} = {e2}$ and ${r}{s}{t} = {e3}$.",
            f"Over the common denominator ${r}{s}{t}$ the numerator is ${s}{t} + {t}{r} + {r}{s}$.",
            rf"So the value is ${e2} \div {paren(e3)} = {frac(value)}$.",
        )
    else:
        squares = e1 * e1 - 2 * e2
        value = Fraction(e1 * squares - e2 * e1 + 3 * e3)
        wanted = f"{r}^3 + {s}^3 + {t}^3"
        steps = (
            f"By Vieta, ${r} + {s} + {t} = {e1}$, ${r}{s} + {s}{t} + {t}{r} = {e2}$ and ${r}{s}{t} = {e3}$.",
            rf"The squares sum to ${paren(e1)}^2 - 2 \cdot {paren(e2)} = {squares}$.",
            f"Each root satisfies ${var}^3 = {poly([e1, -e2, e3], var)}$; add the three equations.",
            rf"The sum is ${e1} \cdot {paren(squares)} - {paren(e2)} \cdot {paren(e1)} + 3 \cdot "
            rf"{paren(e3)} = {frac(value)}$.",
        )
    problem = pick(
        rng,
        (
            f"Let ${r}$, ${s}$ and ${t}$ be the roots of ${text} = 0$. What is ${wanted}$?",
            f"If ${r}$, ${s}$, ${t}$ are the roots of ${text}$, find ${wanted}$.",
            f"The roots of the polynomial ${text}$ are ${r}$, ${s}$ and ${t}$. Compute ${wanted}$.",
        ),
    )

    def referee() -> bool:
        import sympy

        # The roots are the eigenvalues of the companion matrix.
        companion = sympy.Matrix([[e1, -e2, e3], [1, 0, 0], [0, 1, 0]])
        return same(frac(value), (companion ** {3: 2, 4: -1, 5: 3}[level]).trace())

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)


@template("intermediate_algebra", levels=(3, 4, 5))
def polynomial_division(rng: np.random.Generator, level: int) -> Draft:
    """Quotients, unknown coefficients, and remainders on division by a quadratic."""
    var = pick(rng, ("x", "y", "z", "t"))
    if level == 3:
        c, rest = nonzero(rng, -5, 5), nonzero(rng, -9, 9)
        q = [nonzero(rng, -5, 5), integer(rng, -8, 8), nonzero(rng, -8, 8)]
        full = [q[0], q[1] - c * q[0], q[2] - c * q[1], rest - c * q[2]]
        text, divisor = poly(full, var), linear(1, -c, var)
        answer = poly(q, var)
        problem = pick(
            rng,
            (
                f"What is the quotient when ${text}$ is divided by ${divisor}$?",
                f"Find the quotient when ${text}$ is divided by ${divisor}$. Leave out the remainder.",
            ),
        )
        steps: tuple[str, ...] = (
            f"Divide by Horner's scheme with ${c}$; the first coefficient is ${q[0]}$.",
            rf"The second is ${full[1]} + {paren(c)} \cdot {paren(q[0])} = {q[1]}$.",
            rf"The third is ${full[2]} + {paren(c)} \cdot {paren(q[1])} = {q[2]}$, "
            f"and the remainder is ${rest}$.",
            f"The quotient is ${answer}$.",
        )
    elif level == 4:
        c, k, b = nonzero(rng, -4, 4), nonzero(rng, -9, 9), nonzero(rng, -9, 9)
        power = c**3
        rest = integer(rng, -9, 9)
        d = rest - power - k * c * c - b * c
        answer = str(k)
        shown = f"{var}^3 + k{var}^2 {'+' if b > 0 else '-'} {term(abs(b), var)}"
        shown += f" {signed(d)}" if d else ""
        divisor = linear(1, -c, var)
        problem = pick(
            rng,
            (
                f"When ${shown}$ is divided by ${divisor}$, the remainder is ${rest}$. Find $k$.",
                f"For what value of $k$ does ${shown}$ leave the remainder ${rest}$ on division by ${divisor}$?",
            ),
        )
        steps = (
            f"By the remainder theorem the polynomial takes the value ${rest}$ at ${var} = {c}$.",
            f"This says ${power} + {term(c * c, 'k')} {signed(b * c)} {signed(d)} = {rest}$.",
            f"So ${term(c * c, 'k')} = {rest - power - b * c - d}$ and $k = {k}$." if c * c > 1 else f"So $k = {k}$.",
        )
    else:
        c, d = draw_until(lambda: (nonzero(rng, -6, 6), nonzero(rng, -6, 6)), lambda s: abs(s[0] - s[1]) > 1)
        v = integer(rng, -20, 20)
        u = v + (c - d) * nonzero(rng, -6, 6)
        slope = (u - v) // (c - d)
        answer = linear(slope, u - slope * c, var)
        quadratic = poly([1, -c - d, c * d], var)
        problem = (
            f"The polynomial $P({var})$ leaves the remainder ${u}$ on division by "
            f"${linear(1, -c, var)}$ and ${v}$ on division by ${linear(1, -d, var)}$. "
        ) + pick(
            rng,
            (
                f"What is its remainder on division by ${quadratic}$?",
                f"Find the remainder when $P({var})$ is divided by ${quadratic}$.",
            ),
        )
        steps = (
            f"The divisor is $({linear(1, -c, var)})({linear(1, -d, var)})$, so the remainder is $a{var} + b$.",
            f"At ${c}$ and ${d}$ it has the values $P({c}) = {u}$ and $P({d}) = {v}$.",
            rf"Subtracting, ${c - d}a = {u - v}$, so $a = {slope}$ and "
            rf"$b = {u} - {paren(slope)} \cdot {paren(c)} = {u - slope * c}$.",
            f"The remainder is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        x, k_ = sympy.Symbol(var), sympy.Symbol("k")
        if level == 3:
            return same(answer, sympy.div(read(text), read(divisor), x)[0])
        if level == 4:
            left = sympy.rem(read(shown), read(divisor), x)
            return same(answer, sympy.solve(left - rest, k_)[0])
        return same(answer, sympy.interpolate([(c, u), (d, v)], x))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(3, 4, 5))
def partial_fractions(rng: np.random.Generator, level: int) -> Draft:
    """Decompositions into partial fractions and telescoping sums."""
    if level < 5:
        p, q = sample(rng, [n for n in range(-8, 9) if n], 2)
        a, b = nonzero(rng, -9, 9), nonzero(rng, -9, 9)
        low = linear(1, -p), linear(1, -q)
        top = linear(a + b, -a * q - b * p)
        bottom = poly([1, -p - q, p * q])
        value = a * b if level == 3 else 0
        answer = str(value) if level == 3 else f"({a},{b})"
        form = rf"\frac{{A}}{{{low[0]}}} + \frac{{B}}{{{low[1]}}}"
        given = rf"\frac{{{top}}}{{{bottom if level == 4 else f'({low[0]})({low[1]})'}}} = {form}"
        ask = (
            ("What is $AB$?", "Find the product $AB$.")
            if level == 3
            else ("Find the ordered pair $(A,B)$.", "What is $(A,B)$?")
        )
        problem = f"Constants $A$ and $B$ satisfy ${given}$ for all other $x$. ".replace(
            "for all other $x$", "wherever both sides are defined"
        ) + pick(rng, ask)
        at_p, at_q = (a + b) * p - a * q - b * p, (a + b) * q - a * q - b * p
        steps: tuple[str, ...] = (
            f"Clearing denominators gives ${top} = A({low[1]}) + B({low[0]})$.",
            f"At $x = {p}$ this is ${at_p} = {term(p - q, 'A')}$, so $A = {a}$.",
            f"At $x = {q}$ this is ${at_q} = {term(q - p, 'B')}$, so $B = {b}$.",
            rf"So $AB = {a} \cdot {paren(b)} = {answer}$." if level == 3 else f"The pair is ${answer}$.",
        )
    else:
        k, m, n = integer(rng, 1, 4), integer(rng, 1, 8), integer(rng, 5, 40)
        c = integer(rng, 1, 6)
        exact = sum((Fraction(1, m + i) - Fraction(1, m + n + i) for i in range(k)), Fraction(0)) * Fraction(c, k)
        answer = frac(exact)
        top_text = str(c)
        shown = rf"\sum_{{i={m}}}^{{{m + n - 1}}} \frac{{{top_text}}}{{i(i + {k})}}"
        problem = pick(rng, ("Compute ${}$.", "Find the value of the sum ${}$.", "What is ${}$?")).format(shown)
        heads = " + ".join(raw_frac(1, m + i) for i in range(k))
        tails = "".join(f" - {raw_frac(1, m + n + i)}" for i in range(k))
        ratio = frac(Fraction(c, k))
        steps = (
            rf"Since $\frac{{1}}{{i}} - \frac{{1}}{{i + {k}}} = \frac{{{k}}}{{i(i + {k})}}$, the "
            rf"sum is ${ratio}$ times the sum of these differences.",
            rf"It telescopes to ${ratio} \left( {heads}{tails} \right)$.",
            f"This equals ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 5:
            return same(answer, sum(sympy.Rational(c, i * (i + k)) for i in range(m, m + n)))
        f = read(top) / ((x - p) * (x - q))
        found = [sympy.limit(f * (x - pole), x, pole) for pole in (p, q)]
        if level == 4 and sympy.expand((x - p) * (x - q) - read(bottom)) != 0:
            return False
        return same(answer, found[0] * found[1]) if level == 3 else same(answer, *found)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(3, 4, 5))
def least_and_greatest(rng: np.random.Generator, level: int) -> Draft:
    """Extreme values by the inequalities of the means and of Cauchy."""
    a, b = integer(rng, 1, 12), integer(rng, 1, 20)
    if level == 3:
        answer = surd(2, a * b)
        text = rf"{term(a, 'x')} + \frac{{{b}}}{{x}}"
        problem = pick(
            rng,
            (
                f"What is the minimum value of ${text}$ for $x > 0$?",
                f"Find the least value that ${text}$ takes for positive real $x$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"The product of the two positive terms is ${a} \\cdot {b} = {a * b}$.",
            rf"By the inequality of the means their sum is at least $2\sqrt{{{a * b}}}$, with "
            "equality when they are equal.",
            f"The minimum is ${answer}$.",
        )
    elif level == 4:
        c = integer(rng, 1, 30)
        a, b = integer(rng, 1, 12), nonzero(rng, -12, 12)
        value = Fraction(c * c, a * a + b * b)
        answer = frac(value)
        line = terms([(a, "x"), (b, "y")])
        problem = pick(
            rng,
            (
                f"Real numbers $x$ and $y$ satisfy ${line} = {c}$. What is the minimum value of $x^2 + y^2$?",
                f"Find the smallest possible value of $x^2 + y^2$ if ${line} = {c}$.",
            ),
        )
        steps = (
            rf"By Cauchy, $({line})^2 \le ({a * a} + {b * b})(x^2 + y^2)$.",
            rf"So ${c * c} \le {a * a + b * b}(x^2 + y^2)$, with equality when $(x,y)$ is a "
            f"multiple of $({a},{b})$.",
            f"The minimum is ${answer}$.",
        )
    else:
        b = nonzero(rng, -12, 12)
        c = integer(rng, 1, 30)
        square = (a * a + b * b) * c
        answer = surd(1, square)
        line = terms([(a, "x"), (b, "y")])
        problem = pick(
            rng,
            (
                f"Real numbers $x$ and $y$ satisfy $x^2 + y^2 = {c}$. What is the maximum value of ${line}$?",
                f"Find the greatest value of ${line}$ on the circle $x^2 + y^2 = {c}$.",
            ),
        )
        steps = (
            rf"By Cauchy, $({line})^2 \le ({a * a} + {b * b})(x^2 + y^2)$.",
            rf"The right side is ${a * a + b * b} \cdot {c} = {square}$, and equality is reached "
            f"when $(x,y)$ is a positive multiple of $({a},{b})$.",
            f"The maximum is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x", real=True)
        if level == 3:
            f = a * x + b / x
            return same(answer, max(f.subs(x, root) for root in sympy.solve(sympy.diff(f, x), x)))
        if level == 4:
            f = ((c - b * x) / a) ** 2 + x**2
            return same(answer, f.subs(x, sympy.solve(sympy.diff(f, x), x)[0]))
        # The line a x + b y = m touches the circle when a quadratic has a double root.
        m = sympy.Symbol("m")
        touch = sympy.discriminant(sympy.expand(((m - b * x) / a) ** 2 + x**2 - c), x)
        return same(answer, max(sympy.solve(touch, m)))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(3, 4, 5))
def conics(rng: np.random.Generator, level: int) -> Draft:
    """Foci of ellipses, asymptotes of hyperbolas, the focus of a parabola."""
    if level == 3:
        a, b = draw_until(lambda: (integer(rng, 2, 20), integer(rng, 1, 19)), lambda s: s[0] > s[1])
        answer = surd(2, a * a - b * b)
        flip = bool(integer(rng, 0, 1))
        low = (b * b, a * a) if flip else (a * a, b * b)
        head = rf"\frac{{x^2}}{{{low[0]}}}" if low[0] > 1 else "x^2"
        tail = rf"\frac{{y^2}}{{{low[1]}}}" if low[1] > 1 else "y^2"
        problem = pick(
            rng,
            (
                f"What is the distance between the foci of the ellipse ${head} + {tail} = 1$?",
                f"The foci of the ellipse ${head} + {tail} = 1$ are $F_1$ and $F_2$. Find $F_1 F_2$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"The squares of the half axes are ${a * a}$ and ${b * b}$.",
            f"With $c$ the distance of a focus from the center, $c^2 = {a * a} - {b * b} = {a * a - b * b}$.",
            f"The foci are $2c = {answer}$ apart.",
        )
    elif level == 4:
        a, b = sample(rng, range(2, 15), 2)
        h, k = nonzero(rng, -9, 9), nonzero(rng, -9, 9)
        slope = Fraction(b, a)
        answer = f"y = {poly([slope, k - slope * h])}"
        text = rf"\frac{{({linear(1, -h)})^2}}{{{a * a}}} - \frac{{({linear(1, -k, 'y')})^2}}"
        text += rf"{{{b * b}}} = 1"
        problem = (f"One asymptote of the hyperbola ${text}$ has positive slope. ") + pick(
            rng,
            (
                "Find its equation in the form $y = mx + b$.",
                "What is its equation? Write it in the form $y = mx + b$.",
            ),
        )
        steps = (
            f"The center is $({h},{k})$.",
            rf"The slope of the asymptote is ${b} \div {a} = {frac(slope)}$.",
            rf"It goes through the center, so it is $y = {frac(slope)}({linear(1, -h)}) "
            f"{signed(k)}$.",
            f"Multiplied out, this is ${answer}$.",
        )
    else:
        a, h, k = nonzero(rng, -6, 6), nonzero(rng, -9, 9), nonzero(rng, -9, 9)
        text = f"y = {poly([a, -2 * a * h, a * h * h + k])}"
        focus = k + Fraction(1, 4 * a)
        answer = f"({h},{frac(focus)})"
        problem = pick(
            rng,
            (f"Find the focus of the parabola ${text}$.", f"What is the focus of ${text}$?"),
        )
        steps = (
            f"Completing the square gives $y = {term(a, f'({linear(1, -h)})^2')} {signed(k)}$.",
            f"The vertex is $({h},{k})$.",
            "From the vertex to the focus $y$ changes by "
            rf"$\frac{{1}}{{4 \cdot {paren(a)}}} = {frac(Fraction(1, 4 * a))}$.",
            f"The focus is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 3:
            return same(answer, 2 * sympy.Ellipse((0, 0), a, b).focus_distance)
        if level == 4:
            upper = k + b * sympy.sqrt((x - h) ** 2 / sympy.Integer(a) ** 2 - 1)
            m = sympy.limit(upper / x, x, sympy.oo)
            return same(answer[4:], m * x + sympy.limit(upper - m * x, x, sympy.oo))
        # Vertical light from the points with slope 1 of the curve is turned to the focus level.
        curve = read(text[4:])
        at = sympy.solve(sympy.diff(curve, x) - 1, x)[0]
        axis = sympy.solve(sympy.diff(curve, x), x)[0]
        return same(answer, axis, curve.subs(x, at))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("intermediate_algebra", levels=(3, 4, 5))
def complex_numbers(rng: np.random.Generator, level: int) -> Draft:
    """Quotients, absolute values, and polynomials with a given complex root."""
    a, b = nonzero(rng, -9, 9), nonzero(rng, -9, 9)
    c, d = nonzero(rng, -6, 6), nonzero(rng, -6, 6)
    if level == 3:
        square = c * c + d * d
        re, im = Fraction(a * c + b * d, square), Fraction(b * c - a * d, square)
        answer = complex_text(re, im)
        text = rf"\frac{{{complex_text(a, b)}}}{{{complex_text(c, d)}}}"
        problem = pick(
            rng,
            (
                f"Write ${text}$ in the form $a + bi$, where $a$ and $b$ are real.",
                f"Simplify ${text}$. Express your answer as $a + bi$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"Multiply numerator and denominator by ${complex_text(c, -d)}$.",
            f"The denominator is ${c * c} + {d * d} = {square}$.",
            f"The numerator is ${complex_text(a * c + b * d, b * c - a * d)}$.",
            f"The quotient is ${answer}$.",
        )
    elif level == 4:
        n = pick(rng, (2, 3, 4))
        square = (a * a + b * b) ** n * (c * c + d * d)
        answer = surd(1, square)
        text = f"({complex_text(a, b)})^{n} ({complex_text(c, d)})"
        problem = pick(rng, ("What is $|{}|$?", "Find the absolute value of ${}$.", "Compute $|{}|$.")).format(text)
        steps = (
            "The absolute value of a product is the product of the absolute values.",
            f"The squares of the absolute values of the bases are ${a * a + b * b}$ and ${c * c + d * d}$.",
            rf"So the square of the result is ${a * a + b * b}^{n} \cdot {c * c + d * d} = "
            rf"{square}$.",
            f"The absolute value is ${answer}$.",
        )
    else:
        q = [1, -2 * a, a * a + b * b]
        full = [1, q[1] - c, q[2] - c * q[1], -c * q[2]]
        answer = poly(full)
        problem = (
            "A cubic polynomial with real coefficients and leading coefficient $1$ has the roots "
            f"${c}$ and ${complex_text(a, b)}$. "
        ) + pick(rng, ("Find this polynomial in $x$.", "What is the polynomial, in $x$?"))
        steps = (
            f"The conjugate ${complex_text(a, -b)}$ is a root as well.",
            f"The two complex roots have sum ${2 * a}$ and product ${a * a} + {b * b} = {q[2]}$, "
            f"so they belong to the factor ${poly(q)}$.",
            f"The polynomial is $({linear(1, -c)})({poly(q)})$.",
            f"Multiplied out, it is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        z, w = a + b * sympy.I, c + d * sympy.I
        if level == 3:
            return same(answer, sympy.simplify(z / w))
        if level == 4:
            return same(answer, sympy.Abs(sympy.expand(z**n * w)))
        f = read(answer)
        x = sympy.Symbol("x")
        roots = (c, z, sympy.conjugate(z))
        return sympy.Poly(f, x).LC() == 1 and all(sympy.expand(f.subs(x, r)) == 0 for r in roots)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)
