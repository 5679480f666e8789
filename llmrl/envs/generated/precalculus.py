"""Generated precalculus: trigonometry, vectors, matrices, polar form, rotations, lines and planes.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from llmrl.envs.generated.latex import (
    draw_until,
    frac,
    integer,
    nonzero,
    paren,
    pick,
    product,
    raw_frac,
    read,
    same,
    sample,
    signed,
    split_square,
    surd,
    term,
    terms,
)
from llmrl.envs.generated.template import Draft, template

Entry = int | Fraction
TRIPLES = (
    *((3, 4, 5), (4, 3, 5), (5, 12, 13), (12, 5, 13), (8, 15, 17), (15, 8, 17), (7, 24, 25)),
    *((24, 7, 25), (20, 21, 29), (21, 20, 29), (12, 35, 37), (9, 40, 41), (40, 9, 41)),
)


def matrix(rows: Sequence[Sequence[Entry]], kind: str = "pmatrix") -> str:
    r"""A matrix, a column vector or a determinant.

    >>> matrix([[1, 2], [3, 4]], "vmatrix")
    '\\begin{vmatrix} 1 & 2 \\\\ 3 & 4 \\end{vmatrix}'
    """
    body = r" \\ ".join(" & ".join(frac(entry) for entry in row) for row in rows)
    return rf"\begin{{{kind}}} {body} \end{{{kind}}}"


def column(*entries: Entry) -> str:
    r"""A column vector.

    >>> column(1, Fraction(-1, 2))
    '\\begin{pmatrix} 1 \\\\ -\\frac{1}{2} \\end{pmatrix}'
    """
    return matrix([[entry] for entry in entries])


def entries_of(text: str) -> list[list[Any]]:
    """The entries of a rendered matrix as sympy numbers, row by row; the referees' reader."""
    body = text.split("pmatrix}")[1].removesuffix(r"\end{").strip()
    return [[read(entry) for entry in row.split("&")] for row in body.split(r"\\")]


def total(values: Sequence[int]) -> str:
    """A sum with its value.

    >>> total([3, -4, 10])
    '3 - 4 + 10 = 9'
    """
    head = " ".join([str(values[0]), *(signed(value) for value in values[1:])])
    return f"{head} = {sum(values)}"


@template("precalculus", levels=(1, 2))
def determinant_2x2(rng: np.random.Generator, level: int) -> Draft:
    """The determinant of a two by two matrix, and an entry that makes it a given number."""
    a, c = integer(rng, 2, 9), integer(rng, 1, 9)
    if level == 1:
        b, d = integer(rng, 1, 9), integer(rng, 1, 9)
    else:
        b, d = nonzero(rng, -9, 9), integer(rng, 2, 19)
    value = a * d - b * c
    text = matrix([[a, b], [c, d]], "vmatrix")
    problem = pick(
        rng,
        (
            f"Compute ${text}$.",
            f"What is the value of the determinant ${text}$?",
            f"Find the determinant of the matrix ${matrix([[a, b], [c, d]])}$.",
        ),
    )
    steps = (
        f"First diagonal: ${product(a, d)}$.",
        f"Second diagonal: ${product(b, c)}$.",
        f"The determinant is ${a * d} {signed(-b * c)} = {value}$.",
    )

    def referee() -> bool:
        import sympy

        return same(str(value), sympy.Matrix([[a, b], [c, d]]).det())

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def dot_product(rng: np.random.Generator, level: int) -> Draft:
    """The dot product of two vectors of the plane or of space."""
    size = 2 if level == 1 else 3
    low = 1 if level == 1 else -7
    u = [nonzero(rng, low, 12) if level == 1 else integer(rng, 1, 7) for _ in range(size)]
    v = [nonzero(rng, -9 if level == 1 else low, 9) for _ in range(size)]
    parts = [x * y for x, y in zip(u, v, strict=True)]
    value = sum(parts)
    p, q = pick(rng, ((r"\mathbf{u}", r"\mathbf{v}"), (r"\mathbf{a}", r"\mathbf{b}")))
    wordings = (
        rf"Compute ${column(*u)} \cdot {column(*v)}$.",
        rf"Find the dot product of ${column(*u)}$ and ${column(*v)}$.",
        rf"If ${p} = {column(*u)}$ and ${q} = {column(*v)}$, what is ${p} \cdot {q}$?",
    )
    # The last wording is too long for three entries.
    problem = pick(rng, wordings if level == 1 else wordings[:2])
    shown = [f"${product(x, y)}$" for x, y in zip(u, v, strict=True)]
    steps = (
        f"Products: {', '.join(shown)}.",
        *((f"First ${total(parts[:2])}$.",) if level == 2 else ()),
        f"The dot product is ${total([sum(parts[:-1]), parts[-1]])}$.",
    )

    def referee() -> bool:
        import sympy

        return same(str(value), sympy.Matrix(u).dot(sympy.Matrix(v)))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def vector_combination(rng: np.random.Generator, level: int) -> Draft:
    """A linear combination of two vectors of the plane."""
    a, b = integer(rng, 2, 6), 1 if level == 1 else integer(rng, 2, 5)
    sign = pick(rng, (1, -1))
    u = [integer(rng, 1, 9), integer(rng, 1, 9)]
    v = [nonzero(rng, 1 if level == 1 else -9, 12 if level == 1 else 9) for _ in range(2)]
    first, second = (a * x + sign * b * y for x, y in zip(u, v, strict=True))
    answer = column(first, second)
    op = "+" if sign > 0 else "-"
    factor = "" if b == 1 else str(b)
    p, q = pick(rng, ((r"\mathbf{u}", r"\mathbf{v}"), (r"\mathbf{a}", r"\mathbf{b}")))
    problem = pick(
        rng,
        (
            rf"Compute ${a} {column(*u)} {op} {factor} {column(*v)}$.",
            rf"If ${p} = {column(*u)}$ and ${q} = {column(*v)}$, find ${a}{p} {op} {factor}{q}$.",
        ),
    ).replace("  ", " ")
    lines = []
    for word, x, y in zip(("Top", "Bottom"), u, v, strict=True):
        other = "" if b == 1 else f", ${product(b, y)}$"
        lines.append(f"{word}: ${product(a, x)}${other}, ${total([a * x, sign * b * y])}$.")
    steps = (*lines, f"The vector is ${answer}$.")

    def referee() -> bool:
        import sympy

        expected = a * sympy.Matrix(u) + sign * b * sympy.Matrix(v)
        return sympy.Matrix(entries_of(answer)) == expected

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def matrix_times_vector(rng: np.random.Generator, level: int) -> Draft:
    """A two by two matrix times a column vector."""
    low = 1 if level == 1 else -7
    rows = [[integer(rng, 1, 7), nonzero(rng, low, 7)] for _ in range(2)]
    x, y = integer(rng, 1, 6 if level == 1 else 9), integer(rng, 1, 6 if level == 1 else 9)
    if level == 1:
        rows[0][1] = -rows[0][1] if integer(rng, 0, 1) else rows[0][1]
    answer = column(*(r[0] * x + r[1] * y for r in rows))
    text = f"{matrix(rows)} {column(x, y)}"
    problem = pick(rng, ("Compute ${}$.", "Find the product ${}$.", "What vector is ${}$?")).format(text)
    lines = [
        f"{word}: ${product(r[0], x)}$, ${product(r[1], y)}$, ${total([r[0] * x, r[1] * y])}$."
        for word, r in zip(("Top", "Bottom"), rows, strict=True)
    ]
    steps = (*lines, f"The product is ${answer}$.")

    def referee() -> bool:
        import sympy

        return sympy.Matrix(entries_of(answer)) == sympy.Matrix(rows) * sympy.Matrix([x, y])

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def orthogonal_vectors(rng: np.random.Generator, level: int) -> Draft:
    """The entry of a vector, or of a matrix, that makes a product vanish."""
    k = pick(rng, ("k", "x", "t", "a", "c", "m"))
    a = integer(rng, 2, 9)
    if level == 1:
        b, c = draw_until(lambda: (integer(rng, 2, 12), nonzero(rng, -12, 12)), lambda s: s[0] * s[1] % a == 0)
        value = b * c // a
        text = rf"\begin{{vmatrix}} {a} & {b} \\ {c} & {k} \end{{vmatrix}} = 0"
        problem = pick(
            rng,
            (
                f"Find ${k}$ such that ${text}$.",
                f"For what value of ${k}$ is ${text}$?",
                f"If ${text}$, what is ${k}$?",
            ),
        )
        steps: tuple[str, ...] = (
            rf"The diagonals are equal: ${a}{k} = {frac(b)} \cdot {paren(c)}$.",
            f"Here ${product(b, c)}$.",
            rf"So ${k} = {b * c} \div {a} = {value}$.",
        )
    else:
        b, rest, value = integer(rng, 2, 9), nonzero(rng, -9, 9), nonzero(rng, -12, 12)
        other = -(a * value + b * rest)
        u = rf"\begin{{pmatrix}} {a} \\ {b} \\ 1 \end{{pmatrix}}"
        v = rf"\begin{{pmatrix}} {k} \\ {rest} \\ {other} \end{{pmatrix}}"
        problem = pick(
            rng,
            (
                f"Find ${k}$ if the vectors ${u}$ and ${v}$ are orthogonal.",
                f"For what ${k}$ are ${u}$ and ${v}$ perpendicular?",
            ),
        )
        known = b * rest + other
        steps = (
            f"The known products: ${product(b, rest)}$ and ${product(1, other)}$.",
            f"They sum to ${total([b * rest, other])}$, so ${a}{k} = {-known}$.",
            rf"So ${k} = {-known} \div {a} = {value}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 1:
            return same(str(value), sympy.solve(sympy.Matrix([[a, b], [c, x]]).det(), x)[0])
        dot = sympy.Matrix([a, b, 1]).dot(sympy.Matrix([x, rest, other]))
        return same(str(value), sympy.solve(dot, x)[0])

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def vector_length(rng: np.random.Generator, level: int) -> Draft:
    """The length of a vector, and the distance of two points of space."""
    if level == 1:
        v = draw_until(
            lambda: [nonzero(rng, -12, 12) for _ in range(2)],
            lambda s: split_square(sum(x * x for x in s))[0] == 1,
        )
    else:
        v = draw_until(
            lambda: [nonzero(rng, -9, 9) for _ in range(3)],
            lambda s: split_square(sum(x * x for x in s))[0] == 1,
        )
    squares = [x * x for x in v]
    answer = surd(1, sum(squares))
    name = pick(rng, ("u", "v", "w", "a", "b"))
    bold = rf"\mathbf{{{name}}}"
    where = f"({','.join(map(str, v))})"
    problem = pick(
        rng,
        (
            rf"Find the length of the vector ${column(*v)}$.",
            rf"If ${bold} = {column(*v)}$, what is $\|{bold}\|$?",
            rf"What is the distance from the origin to the point ${where}$?",
        ),
    )
    shown = ", ".join(rf"${abs(x)} \cdot {abs(x)} = {x * x}$" for x in v)
    steps = (
        f"Squares: {shown}.",
        *((f"First ${total(squares[:2])}$.",) if level == 2 else ()),
        f"The sum of squares is ${total([sum(squares[:-1]), squares[-1]])}$.",
        f"The length is ${answer}$.",
    )

    def referee() -> bool:
        import sympy

        return same(answer, sympy.Matrix(v).norm())

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def special_angles(rng: np.random.Generator, level: int) -> Draft:
    """Sums of multiples of the rational values of sine, cosine and tangent."""
    table = (
        *((r"\sin 30^\circ", Fraction(1, 2)), (r"\cos 60^\circ", Fraction(1, 2))),
        *((r"\tan 45^\circ", Fraction(1)), (r"\sin 90^\circ", Fraction(1))),
        *((r"\cos 0^\circ", Fraction(1)), (r"\cos 180^\circ", Fraction(-1))),
        *((r"\cos 120^\circ", Fraction(-1, 2)), (r"\sin 150^\circ", Fraction(1, 2))),
        *((r"\tan 135^\circ", Fraction(-1)), (r"\sin 270^\circ", Fraction(-1))),
    )
    halves = [entry for entry in table if entry[1].denominator == 2]
    wholes = [entry for entry in table if entry[1].denominator == 1]
    if level == 1:
        chosen = [pick(rng, halves[:2]), pick(rng, wholes[:3])]
    else:
        chosen = [*sample(rng, halves, 2), pick(rng, wholes)]
    factors = [
        integer(rng, 2, 20) * (2 if value.denominator == 2 else 1) * (pick(rng, (1, -1)) if i else 1)
        for i, (_, value) in enumerate(chosen)
    ]
    text = terms([(f, " " + name) for f, (name, _) in zip(factors, chosen, strict=True)])
    text = text.replace("  ", " ")
    parts = [int(f * value) for f, (_, value) in zip(factors, chosen, strict=True)]
    value = sum(parts)
    problem = pick(rng, ("Compute ${}$.", "What is the value of ${}$?", "Find the exact value of ${}$.")).format(text)
    lines = [
        rf"${name} = {frac(v)}$: ${frac(f)} \cdot {paren(v)} = {part}$."
        for f, (name, v), part in zip(factors, chosen, parts, strict=True)
    ]
    steps = (*lines, f"The sum is ${total(parts)}$.")

    def referee() -> bool:
        import sympy

        functions = {"sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan}
        expected = 0
        for f, (name, _) in zip(factors, chosen, strict=True):
            word, degrees = name.removesuffix(r"^\circ").lstrip("\\").split()
            expected += f * functions[word](sympy.rad(int(degrees)))
        return same(str(value), expected)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def right_triangle_ratios(rng: np.random.Generator, level: int) -> Draft:
    """A trigonometric ratio of a right triangle from its sides."""
    letters = pick(rng, ("ABC", "PQR", "XYZ", "DEF", "KLM"))
    p, q, r = letters[0], letters[1], letters[2]
    if level == 1:
        a, b = draw_until(lambda: (integer(rng, 1, 12), integer(rng, 1, 12)), lambda s: math.gcd(*s) == 1)
        k = integer(rng, 2, 6)
        u, v = k * a, k * b
        value = Fraction(u, v)
        answer = frac(value)
        problem = pick(
            rng,
            (
                f"In triangle ${letters}$ the angle at ${q}$ is right, ${p}{q} = {v}$ and "
                rf"${q}{r} = {u}$. What is $\tan {p}$?",
                f"Triangle ${letters}$ has a right angle at ${q}$, with ${q}{r} = {u}$ and "
                rf"${p}{q} = {v}$. Find $\tan {p}$.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"The tangent is $\frac{{{q}{r}}}{{{p}{q}}} = {raw_frac(u, v)}$.",
            rf"Divide by ${k}$: ${u} \div {k} = {a}$ and ${v} \div {k} = {b}$.",
            rf"So $\tan {p} = {answer}$.",
        )
    else:
        u, v = draw_until(
            lambda: (integer(rng, 1, 12), integer(rng, 2, 12)),
            lambda s: split_square(s[0] ** 2 + s[1] ** 2)[0] == 1,
        )
        square = u * u + v * v
        value = Fraction(u * u, square)
        answer = frac(value)
        problem = pick(
            rng,
            (
                f"In triangle ${letters}$ the angle at ${q}$ is right, ${p}{q} = {v}$ and "
                rf"${q}{r} = {u}$. What is $\sin^2 {p}$?",
                rf"The acute angle ${p.lower()}$ has $\tan {p.lower()} = {raw_frac(u, v)}$. "
                rf"Find $\sin^2 {p.lower()}$.",
            ),
        )
        steps = (
            rf"Squares of the legs: ${u} \cdot {u} = {u * u}$ and ${v} \cdot {v} = {v * v}$.",
            f"The hypotenuse squared is ${u * u} + {v * v} = {square}$.",
            f"The ratio of squares is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        angle = sympy.atan(sympy.Rational(u, v))
        return same(answer, sympy.tan(angle) if level == 1 else sympy.sin(angle) ** 2)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(1, 2))
def quarter_turns(rng: np.random.Generator, level: int) -> Draft:
    """A quarter turn of a point of the plane, about the origin and about another point."""
    x, y = nonzero(rng, -12, 12), nonzero(rng, -12, 12)
    clockwise = bool(integer(rng, 0, 1))
    way = "clockwise" if clockwise else "counterclockwise"
    if level == 1:
        p, q = nonzero(rng, -12, 12), nonzero(rng, -12, 12)
        turned = (y, -x) if clockwise else (-y, x)
        value = (turned[0] + p, turned[1] + q)
        problem = (
            rf"The point $({x},{y})$ is rotated $90^\circ$ {way} about the origin, then moved by "
            f"${column(p, q)}$. "
        ) + pick(rng, ("Where does it end?", "Find its image.", "What is its new position?"))
        steps: tuple[str, ...] = (
            f"The turn takes $({x},{y})$ to $({turned[0]},{turned[1]})$.",
            f"Add: ${total([turned[0], p])}$ and ${total([turned[1], q])}$.",
            f"The image is $({value[0]},{value[1]})$.",
        )
    else:
        p, q = nonzero(rng, -9, 9), nonzero(rng, -9, 9)
        dx, dy = x - p, y - q
        turned = (dy, -dx) if clockwise else (-dy, dx)
        value = (turned[0] + p, turned[1] + q)
        problem = (rf"The point $({x},{y})$ is rotated $90^\circ$ {way} about the point $({p},{q})$. ") + pick(
            rng, ("Find its image.", "What is its image?", "Where does it end?")
        )
        steps = (
            f"Differences: ${total([x, -p])}$ and ${total([y, -q])}$.",
            f"The turn takes $({dx},{dy})$ to $({turned[0]},{turned[1]})$.",
            f"Add: ${total([turned[0], p])}$ and ${total([turned[1], q])}$.",
            f"The image is $({value[0]},{value[1]})$.",
        )
    answer = f"({value[0]},{value[1]})"

    def referee() -> bool:
        import sympy

        angle = -sympy.pi / 2 if clockwise else sympy.pi / 2
        if level == 1:
            return same(answer, *sympy.Point(x, y).rotate(angle).translate(p, q).args)
        return same(answer, *sympy.Point(x, y).rotate(angle, sympy.Point(p, q)).args)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(3, 4, 5))
def cross_products(rng: np.random.Generator, level: int) -> Draft:
    """Cross products, areas of triangles in space, volumes of parallelepipeds."""
    u, v, w = draw_until(
        lambda: [[integer(rng, -6, 6) for _ in range(3)] for _ in range(3)],
        lambda s: any(cross(s[0], s[1])) and any(cross(s[1], s[2])),
    )
    normal = cross(u, v)
    if level == 3:
        answer = column(*normal)
        problem = pick(
            rng,
            (
                rf"Compute ${column(*u)} \times {column(*v)}$.",
                rf"Find the cross product of ${column(*u)}$ and ${column(*v)}$.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"First: ${u[1]} \cdot {paren(v[2])} - {paren(u[2])} \cdot {paren(v[1])} = "
            rf"{normal[0]}$.",
            rf"Second: ${u[2]} \cdot {paren(v[0])} - {paren(u[0])} \cdot {paren(v[2])} = "
            rf"{normal[1]}$.",
            rf"Third: ${u[0]} \cdot {paren(v[1])} - {paren(u[1])} \cdot {paren(v[0])} = "
            rf"{normal[2]}$.",
            f"The cross product is ${answer}$.",
        )
    elif level == 4:
        corners = [w, [x + y for x, y in zip(w, u, strict=True)]]
        corners.append([x + y for x, y in zip(w, v, strict=True)])
        shown = [f"$({','.join(map(str, corner))})$" for corner in corners]
        square = sum(x * x for x in normal)
        answer = surd(Fraction(1, 2), square)
        problem = pick(
            rng,
            (
                f"What is the area of the triangle with vertices {', '.join(shown[:2])} and {shown[2]}?",
                f"Find the area of the triangle in space whose vertices are {', '.join(shown[:2])} and {shown[2]}.",
            ),
        )
        steps = (
            f"From the first vertex the sides are ${column(*u)}$ and ${column(*v)}$.",
            f"Their cross product is ${column(*normal)}$.",
            f"The sum of the squares of its entries is ${square}$.",
            rf"The area is half its length, ${answer}$.",
        )
    else:
        value = abs(sum(x * y for x, y in zip(normal, w, strict=True)))
        if value == 0:
            return cross_products(rng, level)
        answer = str(value)
        problem = pick(
            rng,
            (
                f"What is the volume of the parallelepiped spanned by ${column(*u)}$, "
                f"${column(*v)}$ and ${column(*w)}$?",
                f"Find the volume of the parallelepiped with edges ${column(*u)}$, ${column(*v)}$ and ${column(*w)}$.",
            ),
        )
        steps = (
            f"The cross product of the first two edges is ${column(*normal)}$.",
            rf"Its dot product with the third edge is ${normal[0]} \cdot {paren(w[0])} + "
            rf"{paren(normal[1])} \cdot {paren(w[1])} + {paren(normal[2])} \cdot {paren(w[2])} = "
            rf"{sum(x * y for x, y in zip(normal, w, strict=True))}$.",
            f"The volume is the absolute value, ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        a, b = sympy.Matrix(u), sympy.Matrix(v)
        if level == 3:
            return sympy.Matrix(entries_of(answer)) == a.cross(b)
        if level == 4:
            return same(answer, sympy.sqrt(a.dot(a) * b.dot(b) - a.dot(b) ** 2) / 2)
        return same(answer, abs(sympy.Matrix([u, v, w]).det()))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


def cross(u: Sequence[int], v: Sequence[int]) -> list[int]:
    """The cross product.

    >>> cross([1, 0, 0], [0, 1, 0])
    [0, 0, 1]
    """
    return [
        u[1] * v[2] - u[2] * v[1],
        u[2] * v[0] - u[0] * v[2],
        u[0] * v[1] - u[1] * v[0],
    ]


@template("precalculus", levels=(3, 4, 5))
def matrices(rng: np.random.Generator, level: int) -> Draft:
    """Inverses, matrix equations, determinants of three rows."""
    if level < 5:
        (a, b), (c, d) = rows = draw_until(
            lambda: [[integer(rng, -9, 9), integer(rng, -9, 9)] for _ in range(2)],
            lambda s: s[0][0] * s[1][1] != s[0][1] * s[1][0],
        )
        det = a * d - b * c
    if level == 3:
        inverse = [[Fraction(d, det), Fraction(-b, det)], [Fraction(-c, det), Fraction(a, det)]]
        answer = matrix(inverse)
        problem = pick(
            rng,
            (
                f"Find the inverse of the matrix ${matrix(rows)}$.",
                rf"Compute ${matrix(rows)}^{{-1}}$.",
                rf"If $\mathbf{{A}} = {matrix(rows)}$, what is $\mathbf{{A}}^{{-1}}$?",
            ),
        )
        steps: tuple[str, ...] = (
            rf"The determinant is ${a} \cdot {paren(d)} - {paren(b)} \cdot {paren(c)} = {det}$.",
            f"Swap the diagonal entries and change the signs of the others: ${matrix([[d, -b], [-c, a]])}$.",
            f"Dividing by ${det}$ gives ${answer}$.",
        )
    elif level == 4:
        x, y = nonzero(rng, -9, 9), nonzero(rng, -9, 9)
        p, q = a * x + b * y, c * x + d * y
        answer = column(x, y)
        problem = pick(
            rng,
            (
                rf"Find the vector $\mathbf{{v}}$ such that ${matrix(rows)} \mathbf{{v}} = "
                rf"{column(p, q)}$.",
                rf"Solve ${matrix(rows)} \mathbf{{v}} = {column(p, q)}$ for $\mathbf{{v}}$.",
            ),
        )
        steps = (
            rf"The determinant is ${a} \cdot {paren(d)} - {paren(b)} \cdot {paren(c)} = {det}$.",
            rf"By Cramer's rule the first entry is ${p} \cdot {paren(d)} - {paren(b)} \cdot "
            rf"{paren(q)} = {p * d - b * q}$ divided by ${det}$, that is ${x}$.",
            rf"The second is ${a} \cdot {paren(q)} - {paren(p)} \cdot {paren(c)} = "
            rf"{a * q - p * c}$ divided by ${det}$, that is ${y}$.",
            f"So the vector is ${answer}$.",
        )
    else:
        rows = [[integer(rng, -7, 7) for _ in range(3)] for _ in range(3)]
        minors = cross(rows[1], rows[2])
        parts = [x * y for x, y in zip(rows[0], minors, strict=True)]
        answer = str(sum(parts))
        problem = pick(
            rng,
            (
                f"Compute ${matrix(rows, 'vmatrix')}$.",
                f"What is the value of the determinant ${matrix(rows, 'vmatrix')}$?",
            ),
        )
        steps = (
            "Expand along the first row.",
            f"The cofactors are ${minors[0]}$, ${minors[1]}$ and ${minors[2]}$.",
            f"The products with the first row are ${parts[0]}$, ${parts[1]}$ and ${parts[2]}$.",
            f"The determinant is ${total(parts)}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 3:
            return sympy.Matrix(entries_of(answer)) * sympy.Matrix(rows) == sympy.eye(2)
        if level == 4:
            return sympy.Matrix(rows).LUsolve(sympy.Matrix([p, q])) == sympy.Matrix(entries_of(answer))
        return same(answer, sympy.Matrix(rows).det())

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(3, 4, 5))
def angle_formulas(rng: np.random.Generator, level: int) -> Draft:
    """Double angles, sums of angles, and half angles from given rational values."""
    x, y = pick(rng, (("x", "y"), (r"\alpha", r"\beta"), ("A", "B"), (r"\theta", r"\varphi")))
    if level == 3:
        p, q = draw_until(
            lambda: (integer(rng, 1, 11), integer(rng, 2, 12)),
            lambda s: s[0] < s[1] and math.gcd(*s) == 1,
        )
        given = pick(rng, ("sin", "cos"))
        sign = pick(rng, (1, -1))
        value = (1 - 2 * Fraction(p, q) ** 2) * (1 if given == "sin" else -1)
        shown = rf"\{given} {x} = {frac(Fraction(sign * p, q))}"
        problem = pick(rng, (rf"If ${shown}$, what is $\cos 2{x}$?", rf"Given ${shown}$, find $\cos 2{x}$."))
        square = frac(Fraction(p, q) ** 2)
        rule = rf"1 - 2 \sin^2 {x}" if given == "sin" else rf"2 \cos^2 {x} - 1"
        work = rf"1 - 2 \cdot {square}" if given == "sin" else rf"2 \cdot {square} - 1"
        steps: tuple[str, ...] = (
            rf"The square is $\{given}^2 {x} = {square}$.",
            rf"We use $\cos 2{x} = {rule}$.",
            rf"So $\cos 2{x} = {work} = {frac(value)}$.",
        )
    else:
        (a, b, c), (d, e, f) = pick(rng, TRIPLES), pick(rng, TRIPLES)
        kind = pick(rng, ("sin", "cos"))
        sign = pick(rng, (1, -1))
        obtuse = level == 5
        s1, c1 = Fraction(a, c), Fraction(b, c)
        s2, c2 = Fraction(d, f), Fraction(-e if obtuse else e, f)
        value = s1 * c2 + sign * c1 * s2 if kind == "sin" else c1 * c2 - sign * s1 * s2
        op = "+" if sign > 0 else "-"
        wanted = rf"\{kind} ({x} {op} {y})"
        where = f"${x}$ is acute and ${y}$ is obtuse" if obtuse else f"${x}$ and ${y}$ are acute"
        first = rf"\sin {x} = {frac(s1)}"
        second = rf"\sin {y} = {frac(s2)}" if obtuse else rf"\cos {y} = {frac(c2)}"
        problem = f"The angle {where}, with ${first}$ and ${second}$. ".replace(
            f"The angle ${x}$ and", f"The angles ${x}$ and"
        ) + pick(rng, (f"What is ${wanted}$?", f"Find the exact value of ${wanted}$."))
        found = rf"\cos {y} = {frac(c2)}" if obtuse else rf"\sin {y} = {frac(s2)}"
        left, right = (s1 * c2, c1 * s2) if kind == "sin" else (c1 * c2, s1 * s2)
        rule = (
            rf"\sin {x} \cos {y} {op} \cos {x} \sin {y}"
            if kind == "sin"
            else rf"\cos {x} \cos {y} {'-' if sign > 0 else '+'} \sin {x} \sin {y}"
        )
        real = sign if kind == "sin" else -sign
        steps = (
            rf"From $\sin^2 + \cos^2 = 1$ and the quadrants, $\cos {x} = {frac(c1)}$ and "
            rf"${found}$.",
            f"We use ${wanted} = {rule}$.",
            rf"The value is ${frac(left)} {signed(real * right)} = {frac(value)}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 3:
            inverse = sympy.asin if given == "sin" else sympy.acos
            angle = inverse(sympy.Rational(sign * p, q))
            return same(frac(value), sympy.expand_trig(sympy.cos(2 * angle)))
        one = sympy.Rational(b, c) + sympy.I * sympy.Rational(a, c)
        cosine = sympy.sqrt(1 - sympy.Rational(d, f) ** 2) * (-1 if obtuse else 1)
        two = cosine + sympy.I * sympy.Rational(d, f)
        turned = sympy.expand(one * (two if sign > 0 else sympy.conjugate(two)))
        return same(frac(value), sympy.im(turned) if kind == "sin" else sympy.re(turned))

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)


@template("precalculus", levels=(3, 4, 5))
def polar_form(rng: np.random.Generator, level: int) -> Draft:
    """Polar to rectangular coordinates and powers of complex numbers."""
    # Degrees of the first quadrant with twice the cosine and twice the sine, as radicands.
    bases = {0: (4, 0), 30: (3, 1), 45: (2, 2), 60: (1, 3), 90: (0, 4)}
    degrees = 90 * integer(rng, 0, 3) + pick(rng, (30, 45, 60))
    folded = degrees % 180 if degrees % 180 <= 90 else 180 - degrees % 180
    cosine, sine = bases[folded]
    sx = -1 if 90 < degrees < 270 else 1
    sy = -1 if degrees > 180 else 1
    angle = angle_text(Fraction(degrees, 180))
    if level < 5:
        r = integer(rng, 1, 40)
        x, y = surd(Fraction(sx * r, 2), cosine), surd(Fraction(sy * r, 2), sine)
    if level == 3:
        answer = f"({x},{y})"
        problem = pick(
            rng,
            (
                rf"Convert the point $(r,\theta) = \left( {r}, {angle} \right)$ from polar to "
                "rectangular coordinates.",
                rf"A point has polar coordinates $\left( {r}, {angle} \right)$. Find its "
                "rectangular coordinates.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"We have $x = {r} \cos {angle} = {x}$.",
            rf"Also $y = {r} \sin {angle} = {y}$.",
            f"The point is ${answer}$.",
        )
    elif level == 4:
        answer = rf"\left( {r}, {angle} \right)"
        problem = (f"Convert the point $({x},{y})$ to polar coordinates. ") + pick(
            rng,
            (
                r"Write your answer as $(r,\theta)$ with $r > 0$ and $0 \le \theta < 2\pi$.",
                r"Express it in the form $(r,\theta)$, where $r > 0$ and $0 \le \theta < 2\pi$.",
            ),
        )
        half = rf"\cos \theta = {surd(Fraction(sx, 2), cosine)}"
        other = rf"\sin \theta = {surd(Fraction(sy, 2), sine)}"
        steps = (
            f"The sum of the squares of the coordinates is ${r * r}$, so $r = {r}$.",
            f"So ${half}$ and ${other}$.",
            rf"This gives $\theta = {angle}$, and the point is ${answer}$.",
        )
    else:
        k, n = integer(rng, 1, 5), integer(rng, 3, 9)
        a, b = surd(sx * k, cosine), surd(sy * k, sine)
        end = degrees * n % 360
        fold = end % 180 if end % 180 <= 90 else 180 - end % 180
        tx = -1 if 90 < end < 270 else 1
        ty = -1 if end > 180 else 1
        re, im = (
            surd(Fraction(sign * (2 * k) ** n, 2), radicand)
            for sign, radicand in zip((tx, ty), bases[fold], strict=True)
        )
        plus = {"1": "i", "-1": "-i"}
        middle = plus.get(b, f"{b}i")
        number = f"{a} + {middle}".replace("+ -", "- ")
        both = f"{re} + {im}i".replace("+ -", "- ")
        answer = f"{im}i" if re == "0" else re if im == "0" else both
        problem = pick(
            rng,
            (
                f"Compute $({number})^{n}$. Express your answer in the form $a + bi$.",
                f"Write $({number})^{n}$ in the form $a + bi$.",
            ),
        )
        steps = (
            rf"The absolute value is ${2 * k}$ and the angle is ${degrees}^\circ$.",
            rf"The power has absolute value ${2 * k}^{n} = {(2 * k) ** n}$ and angle "
            rf"${n} \cdot {degrees}^\circ = {n * degrees}^\circ$, which is the same as "
            rf"${end}^\circ$.",
            f"So it is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 3:
            turn = sympy.pi * sympy.Rational(degrees, 180)
            return same(answer, r * sympy.cos(turn), r * sympy.sin(turn))
        if level == 4:
            z = read(x) + sympy.I * read(y)
            inside = answer.replace(r"\left(", "").replace(r"\right)", "")
            return same(inside, sympy.Abs(z), sympy.arg(z) + (2 * sympy.pi if sy < 0 else 0))
        return same(answer, sympy.expand(read(number) ** n))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


def angle_text(value: Fraction) -> str:
    r"""A rational multiple of $\pi$ as an angle.

    >>> angle_text(Fraction(5, 6)), angle_text(Fraction(1, 4))
    ('\\frac{5\\pi}{6}', '\\frac{\\pi}{4}')
    """
    top = term(value.numerator, r"\pi")
    return top if value.denominator == 1 else raw_frac(top, value.denominator)


@template("precalculus", levels=(3, 4, 5))
def projections(rng: np.random.Generator, level: int) -> Draft:
    """Projections, cosines of angles between vectors, reflections."""
    u = [nonzero(rng, -9, 9) for _ in range(2)]
    v = [nonzero(rng, -6, 6) for _ in range(2)]
    if level == 4:
        u.append(nonzero(rng, -9, 9))
        v.append(nonzero(rng, -6, 6))
    dot = sum(x * y for x, y in zip(u, v, strict=True))
    square = sum(y * y for y in v)
    length = sum(x * x for x in u)
    if dot == 0:
        return projections(rng, level)
    ratio = Fraction(dot, square)
    if level == 3:
        answer = column(*(ratio * y for y in v))
        problem = pick(
            rng,
            (
                f"Find the projection of ${column(*u)}$ onto ${column(*v)}$.",
                f"What is the projection of the vector ${column(*u)}$ onto ${column(*v)}$?",
            ),
        )
        last = f"The projection is ${answer}$."
    elif level == 4:
        answer = surd(Fraction(dot, length * square), length * square)
        problem = pick(
            rng,
            (
                rf"Let $\theta$ be the angle between ${column(*u)}$ and ${column(*v)}$. Find "
                r"$\cos \theta$.",
                f"What is the cosine of the angle between ${column(*u)}$ and ${column(*v)}$?",
            ),
        )
        last = ""
    else:
        answer = column(*(2 * ratio * y - x for x, y in zip(u, v, strict=True)))
        problem = pick(
            rng,
            (
                f"Find the reflection of ${column(*u)}$ over the line through the origin with "
                f"direction ${column(*v)}$.",
                f"The vector ${column(*u)}$ is reflected over the line spanned by ${column(*v)}$. What is the image?",
            ),
        )
        last = f"The reflection is twice the projection minus the vector, ${answer}$."
    first = f"The dot product is ${total([x * y for x, y in zip(u, v, strict=True)])}$."
    if level == 4:
        steps: tuple[str, ...] = (
            first,
            f"The squares of the lengths are ${length}$ and ${square}$.",
            rf"So $\cos \theta = \frac{{{dot}}}{{\sqrt{{{length}}} \cdot \sqrt{{{square}}}}} = "
            rf"{answer}$.",
        )
    else:
        steps = (
            first,
            rf"The direction has squared length ${total([y * y for y in v])}$.",
            f"The projection is ${frac(ratio)}$ times the direction."
            if level == 3
            else f"The projection onto the line is ${column(*(ratio * y for y in v))}$.",
            last,
        )

    def referee() -> bool:
        import sympy

        a, b = sympy.Matrix(u), sympy.Matrix(v)
        if level == 3:
            return sympy.Matrix(entries_of(answer)) == a.project(b)
        if level == 4:
            # The law of cosines in the triangle of the two vectors.
            side = (a - b).dot(a - b)
            return same(answer, (a.dot(a) + b.dot(b) - side) / (2 * a.norm() * b.norm()))
        image = sympy.Point(*u).reflect(sympy.Line((0, 0), tuple(v)))
        return sympy.Matrix(entries_of(answer)) == sympy.Matrix(image.args)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("precalculus", levels=(3, 4, 5))
def lines_and_planes(rng: np.random.Generator, level: int) -> Draft:
    """Where a line meets a plane, distances from planes, planes through three points."""
    n = draw_until(
        lambda: [nonzero(rng, -6, 6) for _ in range(3)],
        lambda s: s[0] > 0 and math.gcd(*s) == 1,
    )
    p = [integer(rng, -7, 7) for _ in range(3)]
    d = nonzero(rng, -20, 20)
    plane = f"{terms(list(zip(n, 'xyz', strict=True)))} = {d}"
    at = sum(x * y for x, y in zip(n, p, strict=True))
    if level == 3:
        u = [nonzero(rng, -5, 5) for _ in range(3)]
        t = nonzero(rng, -4, 4)
        speed = sum(x * y for x, y in zip(n, u, strict=True))
        if speed == 0:
            return lines_and_planes(rng, level)
        d = at + t * speed
        plane = f"{terms(list(zip(n, 'xyz', strict=True)))} = {d}"
        answer = f"({','.join(str(x + t * y) for x, y in zip(p, u, strict=True))})"
        problem = (f"A line is parametrized by ${column(*p)} + t {column(*u)}$. ") + pick(
            rng,
            (
                f"Where does it meet the plane ${plane}$?",
                f"Find its point of intersection with the plane ${plane}$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"On the line the left side of the equation is ${linear_in_t(speed, at)}$.",
            f"From ${linear_in_t(speed, at)} = {d}$ we get $t = {t}$.",
            f"The point is ${answer}$.",
        )
    elif level == 4:
        if at == d:
            return lines_and_planes(rng, level)
        square = sum(x * x for x in n)
        answer = surd(Fraction(abs(at - d), square), square)
        shown = f"({','.join(map(str, p))})"
        problem = pick(
            rng,
            (
                f"What is the distance from the point ${shown}$ to the plane ${plane}$?",
                f"A sphere with center ${shown}$ is tangent to the plane ${plane}$. Find its radius.",
            ),
        )
        steps = (
            f"At the point the left side is ${at}$, which differs from ${d}$ by ${abs(at - d)}$.",
            rf"The normal vector has length $\sqrt{{{square}}}$.",
            rf"The distance is $\frac{{{abs(at - d)}}}{{\sqrt{{{square}}}}}$, that is ${answer}$.",
        )
    else:
        u, v = ([integer(rng, -5, 5) for _ in range(3)] for _ in range(2))
        normal = cross(u, v)
        if not any(normal):
            return lines_and_planes(rng, level)
        common = math.gcd(*normal)
        lead = next(x for x in normal if x)
        n = [x // common * (1 if lead > 0 else -1) for x in normal]
        d = sum(x * y for x, y in zip(n, p, strict=True))
        answer = f"{terms([*zip(n, 'xyz', strict=True), (-d, '')])} = 0"
        corners = [p, [x + y for x, y in zip(p, u, strict=True)]]
        corners.append([x + y for x, y in zip(p, v, strict=True)])
        names = [f"$({','.join(map(str, corner))})$" for corner in corners]
        problem = (f"Find the equation of the plane through {names[0]}, {names[1]} and {names[2]}. ") + pick(
            rng,
            (
                "Write it as $Ax + By + Cz + D = 0$ with coprime integers and the first nonzero coefficient positive.",
                "Give it in the form $Ax + By + Cz + D = 0$, where the coefficients are coprime "
                "integers and the first nonzero one is positive.",
            ),
        )
        steps = (
            f"Two directions in the plane are ${column(*u)}$ and ${column(*v)}$.",
            f"Their cross product is ${column(*normal)}$, so a normal vector is ${column(*n)}$.",
            f"Its dot product with the first point is ${d}$.",
            f"So the plane is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 3:
            line = sympy.Line3D(sympy.Point3D(*p), direction_ratio=u)
            body = sympy.Plane(sympy.Point3D(sympy.Rational(d, n[0]), 0, 0), normal_vector=n)
            return same(answer, *body.intersection(line)[0].args)
        if level == 4:
            body = sympy.Plane(sympy.Point3D(sympy.Rational(d, n[0]), 0, 0), normal_vector=n)
            return same(answer, body.distance(sympy.Point3D(*p)))
        left = read(answer.split("=")[0])
        at_corners = [left.subs(dict(zip("xyz", corner, strict=True))) for corner in corners]
        return at_corners == [0, 0, 0] and math.gcd(*n, d) == 1

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


def linear_in_t(a: int, b: int) -> str:
    """The expression b + at, constant first, as on a parametrized line.

    >>> linear_in_t(-1, 4), linear_in_t(2, 0)
    ('4 - t', '2t')
    """
    return terms([(b, ""), (a, "t")])
