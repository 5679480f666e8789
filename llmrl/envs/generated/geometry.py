"""Generated geometry: angles, polygons, circles, right and similar triangles, solids, coordinates.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from llmrl.envs.generated.latex import (
    draw_until,
    frac,
    integer,
    nonzero,
    paren,
    pick,
    same,
    sample,
    signed,
    split_square,
    surd,
    term,
    times,
)
from llmrl.envs.generated.template import Draft, template

TRIANGLES = ("ABC", "DEF", "PQR", "XYZ", "KLM", "RST")
TRIPLES = (
    *((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29), (12, 35, 37)),
    *((9, 40, 41), (28, 45, 53), (11, 60, 61), (33, 56, 65), (16, 63, 65), (48, 55, 73)),
)


def point(x: int | Fraction, y: int | Fraction) -> str:
    """A point of the plane as an ordered pair."""
    return f"({frac(x)},{frac(y)})"


@template("geometry", levels=(1, 2))
def angle_sum(rng: np.random.Generator, level: int) -> Draft:
    """The missing angle of a triangle or of a quadrilateral."""
    if level == 1:
        a, b = integer(rng, 20, 85), integer(rng, 20, 85)
        name = pick(rng, TRIANGLES)
        value = 180 - a - b
        given = [a, b]
        problem = pick(
            rng,
            (
                f"Two angles of a triangle measure ${a}$ and ${b}$ degrees. How many degrees is the third angle?",
                rf"In triangle ${name}$, $\angle {name[0]} = {a}^\circ$ and $\angle {name[1]} = "
                rf"{b}^\circ$. How many degrees is $\angle {name[2]}$?",
            ),
        )
        steps: tuple[str, ...] = (
            f"The two angles sum to ${a} + {b} = {a + b}$.",
            f"The third angle is $180 - {a + b} = {value}$.",
        )
    else:
        given = [integer(rng, 50, 110) for _ in range(3)]
        a, b, c = given
        value = 360 - a - b - c
        problem = pick(
            rng,
            (
                f"Three angles of a quadrilateral measure ${a}$, ${b}$ and ${c}$ degrees. "
                "How many degrees is the fourth angle?",
                f"A quadrilateral has angles of ${a}$, ${b}$, ${c}$ and $x$ degrees. Find $x$.",
            ),
        )
        steps = (
            f"First ${a} + {b} = {a + b}$.",
            f"The three angles sum to ${a + b} + {c} = {a + b + c}$.",
            f"The fourth angle is $360 - {a + b + c} = {value}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        return same(str(value), sympy.solve(sum(given, x) - 180 * (len(given) - 1), x)[0])

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def rectangle_sides(rng: np.random.Generator, level: int) -> Draft:
    """The perimeter of a rectangle from its area, and the area from the perimeter."""
    shape = pick(rng, ("rectangle", "rectangular garden", "rectangular field", "rectangular room"))
    a = integer(rng, 3, 9)
    if level == 1:
        b = draw_until(lambda: integer(rng, 3, 15), lambda n: n != a)
        value = 2 * (a + b)
        problem = pick(
            rng,
            (
                f"A {shape} has area ${a * b}$ and one side of length ${a}$. What is its perimeter?",
                f"One side of a {shape} is ${a}$ and its area is ${a * b}$. Find its perimeter.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"The other side is ${a * b} \div {a} = {b}$.",
            f"Two sides sum to ${a} + {b} = {a + b}$.",
            f"The perimeter is ${times(2, a + b)}$.",
        )
    else:
        b = draw_until(lambda: integer(rng, 8, 24), lambda n: n != a)
        value = a * b
        problem = pick(
            rng,
            (
                f"A {shape} has perimeter ${2 * (a + b)}$ and one side of length ${a}$. What is its area?",
                f"The perimeter of a {shape} is ${2 * (a + b)}$, and its width is ${a}$. Find the area.",
            ),
        )
        steps = (
            rf"Two sides sum to ${2 * (a + b)} \div 2 = {a + b}$.",
            f"The other side is ${a + b} - {a} = {b}$.",
            f"The area is ${times(a, b)}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 1:
            other = sympy.solve(a * x - a * b, x)[0]
            return same(str(value), sympy.Polygon((0, 0), (a, 0), (a, other), (0, other)).perimeter)
        other = sympy.solve(2 * a + 2 * x - 2 * (a + b), x)[0]
        return same(str(value), sympy.Polygon((0, 0), (a, 0), (a, other), (0, other)).area)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def cut_out_area(rng: np.random.Generator, level: int) -> Draft:
    """The area left when a small rectangle or a square is cut out of a rectangle."""
    a, b = integer(rng, 5, 9), integer(rng, 5, 12 if level == 1 else 19)
    c = integer(rng, 2, 4)
    d = c if level == 1 else integer(rng, 2, 4)
    whole, hole = a * b, c * d
    value = whole - hole
    piece = f"a square of side ${c}$" if level == 1 else f"a rectangle of sides ${c}$ and ${d}$"
    problem = pick(
        rng,
        (
            f"From a rectangle of sides ${a}$ and ${b}$, {piece} is cut out. What area remains?",
            f"A sheet of paper measures ${a}$ by ${b}$. After {piece} is cut away, what is the area of the rest?",
            f"A lawn is ${a}$ meters by ${b}$ meters, with a pond in the shape of {piece}. "
            "What is the area of the grass, in square meters?",
        ),
    )
    steps = (
        f"The large area is ${times(a, b)}$.",
        f"The small area is ${times(c, d)}$.",
        f"The rest is ${whole} - {hole} = {value}$.",
    )

    def referee() -> bool:
        import sympy

        corner = (a - c, b - d)
        outline = sympy.Polygon((0, 0), (a, 0), (a, b - d), corner, (a - c, b), (0, b))
        return same(str(value), outline.area)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def box_measure(rng: np.random.Generator, level: int) -> Draft:
    """The volume and the surface of a rectangular box."""
    name = pick(rng, ("rectangular box", "rectangular prism", "rectangular block"))
    if level == 1:
        a, b, c = integer(rng, 2, 9), integer(rng, 2, 9), integer(rng, 2, 6)
        value = a * b * c
        problem = pick(
            rng,
            (
                f"A {name} measures ${a}$ by ${b}$ by ${c}$. What is its volume?",
                f"Find the volume of a {name} with edges ${a}$, ${b}$ and ${c}$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"The base area is ${times(a, b)}$.",
            f"The volume is ${times(c, a * b)}$.",
        )
    else:
        a, b, c = (integer(rng, 2, 8) for _ in range(3))
        half = a * b + a * c + b * c
        value = 2 * half
        problem = pick(
            rng,
            (
                f"A {name} measures ${a}$ by ${b}$ by ${c}$. What is its surface area?",
                f"Find the surface area of a {name} with edges ${a}$, ${b}$ and ${c}$.",
            ),
        )
        steps = (
            f"The faces: ${times(a, b)}$, ${times(a, c)}$, ${times(b, c)}$.",
            f"The first two sum to ${a * b} + {a * c} = {a * b + a * c}$.",
            f"All three sum to ${a * b + a * c} + {b * c} = {half}$.",
            f"The surface area is ${times(2, half)}$.",
        )

    def referee() -> bool:
        import sympy

        x, y, z = sympy.symbols("x y z")
        volume = sympy.integrate(1, (x, 0, a), (y, 0, b), (z, 0, c))
        if level == 1:
            return same(str(value), volume)
        grown = (a + 2 * x) * (b + 2 * x) * (c + 2 * x)
        return same(str(value), sympy.diff(grown, x).subs(x, 0))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def triangle_and_trapezoid_area(rng: np.random.Generator, level: int) -> Draft:
    """The area of a triangle from base and height, of a trapezoid from its bases and height."""
    if level == 1:
        half, h = integer(rng, 2, 24), integer(rng, 3, 9)
        base = 2 * half
        value = half * h
        name = pick(rng, TRIANGLES)
        problem = pick(
            rng,
            (
                f"A triangle has base ${base}$ and height ${h}$. What is its area?",
                f"Find the area of a triangle with base ${base}$ and height ${h}$.",
                f"In triangle ${name}$, ${name[:2]} = {base}$ and the altitude from ${name[2]}$ "
                f"is ${h}$. Find the area.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"Half the base is ${base} \div 2 = {half}$.",
            f"The area is ${times(half, h)}$.",
        )
    else:
        a, h = integer(rng, 3, 18), integer(rng, 3, 9)
        b = draw_until(lambda: integer(rng, 3, 24), lambda n: n != a and (n + a) % 2 == 0)
        value = (a + b) // 2 * h
        problem = pick(
            rng,
            (
                f"A trapezoid has parallel sides ${a}$ and ${b}$ and height ${h}$. What is its area?",
                f"Find the area of a trapezoid with bases ${a}$ and ${b}$ and height ${h}$.",
            ),
        )
        steps = (
            f"The bases sum to ${a} + {b} = {a + b}$.",
            rf"Half of that is ${a + b} \div 2 = {(a + b) // 2}$.",
            f"The area is ${times((a + b) // 2, h)}$.",
        )

    def referee() -> bool:
        import sympy

        top = [(1, h)] if level == 1 else [(b + 1, h), (1, h)]
        return same(str(value), sympy.Polygon((0, 0), (base if level == 1 else a, 0), *top).area)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def right_triangle(rng: np.random.Generator, level: int) -> Draft:
    """A side of a right triangle from the two others, as a square root."""
    name = pick(rng, TRIANGLES)
    p, q, r = name[0], name[1], name[2]
    if level == 1:
        a, b = draw_until(
            lambda: (integer(rng, 1, 12), integer(rng, 1, 12)),
            lambda s: split_square(s[0] ** 2 + s[1] ** 2)[0] == 1,
        )
        square = a * a + b * b
        problem = pick(
            rng,
            (
                f"A rectangle has sides ${a}$ and ${b}$. How long is its diagonal?",
                f"The legs of a right triangle are ${a}$ and ${b}$. How long is the hypotenuse?",
                f"Triangle ${name}$ has a right angle at ${q}$, ${p}{q} = {a}$ and ${q}{r} = {b}$. Find ${p}{r}$.",
            ),
        )
        last = f"The square of the length is ${a * a} + {b * b} = {square}$"
    else:
        a, b = draw_until(
            lambda: (integer(rng, 4, 15), integer(rng, 1, 12)),
            lambda s: s[0] > s[1] and split_square(s[0] ** 2 - s[1] ** 2)[0] == 1,
        )
        square = a * a - b * b
        problem = pick(
            rng,
            (
                f"A ladder of length ${a}$ leans against a wall, its foot ${b}$ from the wall. How high does it reach?",
                f"A right triangle has hypotenuse ${a}$ and a leg ${b}$. How long is the other leg?",
                f"Triangle ${name}$ has a right angle at ${q}$, ${p}{r} = {a}$ and ${p}{q} = {b}$. Find ${q}{r}$.",
            ),
        )
        last = f"The square of the length is ${a * a} - {b * b} = {square}$"
    answer = surd(1, square)
    steps = (
        rf"Squares: ${a} \cdot {a} = {a * a}$ and ${b} \cdot {b} = {b * b}$.",
        f"{last}.",
        f"So the length is ${answer}$.",
    )

    def referee() -> bool:
        import sympy

        if level == 1:
            return same(answer, sympy.Point(a, 0).distance((0, b)))
        x = sympy.Symbol("x", positive=True)
        return same(answer, sympy.solve(x**2 + b**2 - a**2, x)[0])

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def similar_triangles(rng: np.random.Generator, level: int) -> Draft:
    """A side or the perimeter of a triangle similar to a given one."""
    one, two = sample(rng, TRIANGLES, 2)
    k = integer(rng, 2, 9 if level == 1 else 7)
    if level == 1:
        a, b = sample(rng, range(2, 13), 2)
        value = k * b
        problem = pick(
            rng,
            (
                f"Triangles ${one}$ and ${two}$ are similar with ${one[:2]} = {a}$, "
                f"${two[:2]} = {k * a}$ and ${one[1:]} = {b}$. What is ${two[1:]}$?",
                rf"Given $\triangle {one} \sim \triangle {two}$, ${one[:2]} = {a}$, "
                f"${one[1:]} = {b}$ and ${two[:2]} = {k * a}$, find ${two[1:]}$.",
            ),
        )
        sides = [a, b]
        steps: tuple[str, ...] = (
            rf"The scale is ${k * a} \div {a} = {k}$.",
            f"So ${two[1:]} = {times(k, b)}$.",
        )
    else:
        sides = sorted(
            draw_until(
                lambda: [integer(rng, 3, 12) for _ in range(3)],
                lambda s: 2 * max(s) < sum(s) and sorted(s)[0] < sorted(s)[1],
            )
        )
        a, b, c = sides
        total = a + b + c
        value = k * total
        problem = pick(
            rng,
            (
                f"A triangle has sides ${a}$, ${b}$ and ${c}$. The shortest side of a similar "
                f"triangle is ${k * a}$. What is its perimeter?",
                f"The sides of a triangle are ${a}$, ${b}$, ${c}$. Find the perimeter of a similar "
                f"triangle whose shortest side is ${k * a}$.",
            ),
        )
        steps = (
            rf"The scale is ${k * a} \div {a} = {k}$.",
            f"Sides: ${a} + {b} = {a + b}$ and ${a + b} + {c} = {total}$.",
            f"The perimeter is ${times(k, total)}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 1:
            return same(str(value), sympy.solve(x * a - b * (k * a), x)[0])
        return same(str(value), sum(sympy.Rational(k * a, a) * side for side in sides))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def circle_area(rng: np.random.Generator, level: int) -> Draft:
    r"""Areas and circumferences of circles and rings, with $\pi$."""
    r = integer(rng, 2, 12 if level == 1 else 11)
    if level == 1:
        n, w = integer(rng, 2, 5), 2 * r
        kind = integer(rng, 0, 1)
        if kind:
            answer = term(n * r * r, r"\pi")
            problem = pick(
                rng,
                (
                    f"What is the total area of ${n}$ circles of diameter ${w}$?",
                    f"Find the sum of the areas of ${n}$ circles, each of diameter ${w}$.",
                    f"A pattern has ${n}$ separate circles of diameter ${w}$. What is their total area?",
                ),
            )
            steps: tuple[str, ...] = (
                rf"The radius is ${w} \div 2 = {r}$.",
                rf"One circle: ${r} \cdot {r} = {r * r}$ times $\pi$.",
                rf"All: ${times(n, r * r)}$, so the area is ${answer}$.",
            )
        else:
            h = draw_until(lambda: integer(rng, 2, 12), lambda x: x != r)
            count = r * r + h * h
            answer = term(count, r"\pi")
            problem = pick(
                rng,
                (
                    f"Two circles have radii ${r}$ and ${h}$. What is the sum of their areas?",
                    f"Find the total area of two circles of radius ${r}$ and ${h}$.",
                    f"Circles of radius ${r}$ and ${h}$ do not overlap. What area do they cover?",
                ),
            )
            steps = (
                rf"Squares: ${r} \cdot {r} = {r * r}$ and ${h} \cdot {h} = {h * h}$.",
                rf"The sum is ${r * r} + {h * h} = {count}$, so the area is ${answer}$.",
            )
        radii = [(n, r)] if kind else [(1, r), (1, h)]
    else:
        big = integer(rng, r + 1, 15)
        doubled = bool(integer(rng, 0, 1))
        count = big * big - r * r
        answer = term(count, r"\pi")
        word, factor = ("diameters", 2) if doubled else ("radii", 1)
        x, y = factor * big, factor * r
        problem = pick(
            rng,
            (
                f"Two concentric circles have {word} ${x}$ and ${y}$. What is the area of the ring between them?",
                f"Find the area between two concentric circles with {word} ${y}$ and ${x}$.",
            ),
        )
        steps = (
            *((rf"Radii: ${x} \div 2 = {big}$ and ${y} \div 2 = {r}$.",) if doubled else ()),
            rf"Squares: ${big} \cdot {big} = {big * big}$ and ${r} \cdot {r} = {r * r}$.",
            rf"So ${big * big} - {r * r} = {count}$ and the area is ${answer}$.",
        )
        radii = [(1, big), (-1, r)]

    def referee() -> bool:
        import sympy

        return same(answer, sum(m * sympy.Circle((0, 0), radius).area for m, radius in radii))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("geometry", levels=(1, 2))
def segment_in_plane(rng: np.random.Generator, level: int) -> Draft:
    """The midpoint and the length of a segment in the coordinate plane."""
    p, q = sample(rng, "ABCDPQRS", 2)
    if level == 1:
        x, y = integer(rng, 0, 20), integer(rng, 0, 20)
        dx, dy = nonzero(rng, -(x // 2), 10), nonzero(rng, -(y // 2), 10)
        u, v = x + 2 * dx, y + 2 * dy
        answer = point(x + dx, y + dy)
        problem = pick(
            rng,
            (
                f"What is the midpoint of the segment from ${point(x, y)}$ to ${point(u, v)}$?",
                f"Points ${p} = {point(x, y)}$ and ${q} = {point(u, v)}$ are given. Find the midpoint of ${p}{q}$.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"First: ${x} + {u} = {x + u}$ and ${x + u} \div 2 = {x + dx}$.",
            rf"Second: ${y} + {v} = {y + v}$ and ${y + v} \div 2 = {y + dy}$.",
            f"The midpoint is ${answer}$.",
        )
    else:
        x, y = integer(rng, 0, 9), integer(rng, 0, 9)
        u, v = draw_until(
            lambda: (x + integer(rng, 1, 9), y + integer(rng, 1, 9)),
            lambda s: split_square((s[0] - x) ** 2 + (s[1] - y) ** 2)[0] == 1,
        )
        dx, dy = u - x, v - y
        answer = surd(1, dx * dx + dy * dy)
        problem = pick(
            rng,
            (
                f"What is the distance between ${point(x, y)}$ and ${point(u, v)}$?",
                f"Points ${p} = {point(x, y)}$ and ${q} = {point(u, v)}$ are given. Find the length ${p}{q}$.",
            ),
        )
        steps = (
            f"Differences: ${u} - {x} = {dx}$ and ${v} - {y} = {dy}$.",
            rf"Squares: ${dx} \cdot {dx} = {dx * dx}$ and ${dy} \cdot {dy} = {dy * dy}$.",
            rf"The sum is ${dx * dx} + {dy * dy} = {dx * dx + dy * dy}$.",
            f"The distance is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        line = sympy.Segment((x, y), (u, v))
        if level == 1:
            return same(answer, *line.midpoint.args)
        return same(answer, line.length)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("geometry", levels=(3, 4, 5))
def triangle_lengths(rng: np.random.Generator, level: int) -> Draft:
    """Altitudes and radii of right triangles and of triangles with whole sides and area."""
    scale = integer(rng, 1, 9 if level == 3 else 4)
    name = pick(rng, TRIANGLES)
    if level == 3:
        a, b, c = (scale * side for side in pick(rng, TRIPLES))
        value = Fraction(a * b, c)
        problem = pick(
            rng,
            (
                f"A right triangle has legs ${a}$ and ${b}$. What is the length of the altitude to the hypotenuse?",
                f"The legs of a right triangle are ${b}$ and ${a}$. Find the distance from the "
                "vertex of the right angle to the hypotenuse.",
                f"Triangle ${name}$ has a right angle at ${name[2]}$, ${name[1:]} = {a}$ and "
                f"${name[0]}{name[2]} = {b}$. Find the altitude from ${name[2]}$.",
            ),
        )
        steps: tuple[str, ...] = (
            rf"The hypotenuse is $\sqrt{{{a}^2 + {b}^2}} = \sqrt{{{c * c}}} = {c}$.",
            rf"Twice the area is ${a} \cdot {b} = {a * b}$, and it equals ${c}$ times the "
            "altitude.",
            rf"The altitude is $\frac{{{a * b}}}{{{c}}} = {frac(value)}$."
            if value.denominator > 1 and math.gcd(a * b, c) > 1
            else f"The altitude is ${frac(value)}$.",
        )
    else:
        (p, h, u), (q, k, v) = sample(rng, TRIPLES, 2)
        if integer(rng, 0, 1):
            p, h = h, p
        # The two right triangles are scaled to the same height and put together along it.
        common = math.lcm(h, k)
        one, two = common // h, common // k
        a, b, c = sample(rng, (u * one, v * two, p * one + q * two), 3)
        reduced = math.gcd(a, b, c)
        if max(a, b, c) > 160 * reduced:
            return triangle_lengths(rng, level)
        a, b, c = (scale * side // reduced for side in (a, b, c))
        area = Fraction(math.isqrt((a + b + c) * (-a + b + c) * (a - b + c) * (a + b - c)), 4)
        s = Fraction(a + b + c, 2)
        heron = (
            f"Half the perimeter is $s = {frac(s)}$.",
            rf"By Heron's formula the area is "
            rf"$\sqrt{{{frac(s)} \cdot {frac(s - a)} \cdot {frac(s - b)} \cdot {frac(s - c)}}} = "
            rf"{frac(area)}$.",
        )
        sides = f"A triangle has sides ${a}$, ${b}$ and ${c}$. "
        if level == 4:
            value = 2 * area / a
            ask = (
                f"What is the length of the altitude to the side of length ${a}$?",
                f"Find the altitude to the side of length ${a}$.",
            )
            last = rf"The altitude is $2 \cdot {frac(area)} \div {a} = {frac(value)}$."
        elif integer(rng, 0, 1):
            value = a * b * c / (4 * area)
            ask = ("What is the radius of its circumscribed circle?", "Find its circumradius.")
            last = (
                rf"The circumradius is ${a} \cdot {b} \cdot {c} \div {frac(4 * area)} = "
                rf"{frac(value)}$."
            )
        else:
            value = area / s
            ask = ("What is the radius of its inscribed circle?", "Find its inradius.")
            last = rf"The inradius is ${frac(area)} \div {frac(s)} = {frac(value)}$."
        problem = sides + pick(rng, ask)
        steps = (*heron, last)

    def referee() -> bool:
        import sympy

        if level == 3:
            line = sympy.Line((a, 0), (0, b))
            return same(frac(value), line.distance(sympy.Point(0, 0)))
        cosine = sympy.Rational(a * a + b * b - c * c, 2 * a * b)
        sine = sympy.sqrt(1 - cosine**2)
        if level == 4:
            return same(frac(value), b * sine)
        expected = c / (2 * sine) if "circum" in problem else a * b * sine / (a + b + c)
        return same(frac(value), expected)

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)


@template("geometry", levels=(3, 4, 5))
def round_solids(rng: np.random.Generator, level: int) -> Draft:
    """Cones from their slant height, recast spheres, frustums."""
    if level == 3:
        k = integer(rng, 1, 4)
        r, h, slant = (k * side for side in pick(rng, TRIPLES[:9]))
        if integer(rng, 0, 1):
            r, h = h, r
        volume = Fraction(r * r * h, 3)
        width = pick(rng, (f"radius ${r}$", f"diameter ${2 * r}$"))
        problem = pick(
            rng,
            (
                f"A right circular cone has base {width} and slant height ${slant}$. What is its volume?",
                f"Find the volume of a cone whose base has {width} and whose slant height is ${slant}$.",
            ),
        )
        answer = volume_text(volume)
        steps: tuple[str, ...] = (
            f"The base radius is ${r}$.",
            rf"The height is $\sqrt{{{slant}^2 - {r}^2}} = {h}$.",
            rf"The volume is $\frac{{1}}{{3}} \pi \cdot {r}^2 \cdot {h} = {answer}$.",
        )
    elif level == 4:
        r, base, count = integer(rng, 2, 12), integer(rng, 2, 15), integer(rng, 1, 6)
        height = Fraction(4 * count * r**3, base * base)
        answer = frac(height)
        balls = "A metal ball" if count == 1 else f"A set of ${count}$ metal balls"
        each = "" if count == 1 else " each"
        problem = (f"{balls} of radius ${r}${each} is melted and recast as a cone with base radius ${base}$. ") + pick(
            rng, ("What is the height of the cone?", "Find the height of the cone.")
        )
        total = Fraction(4 * count * r**3, 3)
        steps = (
            rf"The metal has volume ${count} \cdot \frac{{4}}{{3}} \pi \cdot {r}^3 = "
            rf"{volume_text(total)}$.",
            rf"The cone has volume $\frac{{1}}{{3}} \pi \cdot {base * base} h$.",
            rf"So $h = {frac(3 * total)} \div {base * base} = {answer}$.",
        )
    else:
        r = integer(rng, 1, 10)
        big, h = integer(rng, r + 1, 15), integer(rng, 2, 15)
        squares = big * big + big * r + r * r
        answer = volume_text(Fraction(h * squares, 3))
        problem = pick(
            rng,
            (
                f"A frustum of a cone has base radii ${big}$ and ${r}$ and height ${h}$. What is its volume?",
                f"A bucket has the shape of a frustum of a cone with radii ${r}$ and ${big}$ and "
                f"height ${h}$. What volume does it hold?",
            ),
        )
        full = Fraction(h * big, big - r)
        steps = (
            f"The frustum is a cone of radius ${big}$ without a cone of radius ${r}$, and their "
            f"heights $H$ and $H - {h}$ are in the ratio of the radii.",
            rf"From $(H - {h}) \cdot {big} = H \cdot {r}$ we get $H = {frac(full)}$.",
            rf"The volume is $\frac{{1}}{{3}} \pi ({big}^2 \cdot {frac(full)} - {r}^2 \cdot "
            rf"{frac(full - h)}) = {answer}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x", positive=True)
        if level == 3:
            top = sympy.sqrt(slant**2 - r**2)
            return same(answer, sympy.integrate(sympy.pi * (r * x / top) ** 2, (x, 0, top)))
        if level == 4:
            ball = sympy.integrate(sympy.pi * (r**2 - x**2), (x, 0, r)) * 2 * count
            return same(answer, sympy.solve(sympy.pi * base**2 * x / 3 - ball, x)[0])
        radius = r + (big - r) * x / h
        return same(answer, sympy.integrate(sympy.pi * radius**2, (x, 0, h)))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


def volume_text(value: Fraction) -> str:
    r"""A rational multiple of $\pi$ with $\pi$ in the numerator.

    >>> volume_text(Fraction(4, 3)), volume_text(Fraction(6))
    ('\\frac{4\\pi}{3}', '6\\pi')
    """
    top = term(value.numerator, r"\pi")
    return top if value.denominator == 1 else rf"\frac{{{top}}}{{{value.denominator}}}"


@template("geometry", levels=(3, 4, 5))
def circle_parts(rng: np.random.Generator, level: int) -> Draft:
    """Sectors, chords and common tangents."""
    if level == 3:
        r = integer(rng, 2, 24)
        degrees = pick(rng, (20, 30, 36, 40, 45, 60, 72, 80, 100, 120, 135, 140, 150, 160, 200, 240))
        share = Fraction(degrees, 360)
        arc = integer(rng, 0, 1)
        value = share * (2 * r if arc else r * r)
        answer = volume_text(value)
        what = "the length of its arc" if arc else "its area"
        problem = (rf"A sector of a circle of radius ${r}$ has a central angle of ${degrees}^\circ$. ") + pick(
            rng, (f"What is {what}?", f"Find {what}.")
        )
        whole = 2 * r if arc else r * r
        steps: tuple[str, ...] = (
            rf"The sector is ${frac(share)}$ of the circle.",
            rf"The whole circle has {'circumference' if arc else 'area'} ${whole}\pi$.",
            rf"So the result is ${frac(share)} \cdot {whole}\pi = {answer}$.",
        )
    elif level == 4:
        r = integer(rng, 3, 25)
        d = integer(rng, 1, r - 1)
        answer = surd(2, r * r - d * d)
        problem = pick(
            rng,
            (
                f"A chord of a circle of radius ${r}$ is ${d}$ away from the center. How long is the chord?",
                f"In a circle of radius ${r}$, find the length of a chord whose distance from the center is ${d}$.",
                f"A sphere of radius ${r}$ is cut by a plane at distance ${d}$ from its center. "
                "What is the diameter of the circle of intersection?",
            ),
        )
        steps = (
            rf"Half the length is a leg of a right triangle with hypotenuse ${r}$ and leg ${d}$.",
            rf"Its square is ${r * r} - {d * d} = {r * r - d * d}$.",
            rf"The length is $2\sqrt{{{r * r - d * d}}} = {answer}$."
            if answer != rf"2\sqrt{{{r * r - d * d}}}"
            else f"The length is ${answer}$.",
        )
    else:
        r, big = sorted(sample(rng, range(1, 16), 2))
        inner = bool(integer(rng, 0, 1))
        d = r + big + integer(rng, 1, 12)
        leg = r + big if inner else big - r
        answer = surd(1, d * d - leg * leg)
        kind = "internal" if inner else "external"
        problem = (f"Two circles have radii ${big}$ and ${r}$, and their centers are ${d}$ apart. ") + pick(
            rng,
            (
                f"What is the length of a common {kind} tangent segment?",
                f"Find the length of their common {kind} tangent, between the points of tangency.",
            ),
        )
        how = "sum" if inner else "difference"
        shown = f"{big} + {r}" if inner else f"{big} - {r}"
        steps = (
            "Move the tangent parallel to itself until it goes through a center.",
            f"It becomes a leg of a right triangle with hypotenuse ${d}$; the other leg is the "
            f"{how} of the radii, ${shown} = {leg}$.",
            rf"The square of the length is ${d * d} - {leg * leg} = {d * d - leg * leg}$.",
            f"So the length is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 3:
            angle = sympy.rad(degrees)
            return same(answer, angle * r if arc else sympy.integrate(angle * x, (x, 0, r)))
        if level == 4:
            ends = sympy.solve(x**2 + d**2 - r**2, x)
            return same(answer, max(ends) - min(ends))
        # A line through the similarity center: its tangent lengths to both circles.
        sign = 1 if inner else -1
        far = sympy.Rational(d * big, big + sign * r)
        near = far * r / big
        long, short = sympy.sqrt(far**2 - big**2), sympy.sqrt(near**2 - r**2)
        return same(answer, long + sign * short)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("geometry", levels=(3, 4, 5))
def coordinate_geometry(rng: np.random.Generator, level: int) -> Draft:
    """Areas by coordinates, distances from lines, circumcenters."""
    if level == 3:
        (a, b), (c, d), (e, f) = corners = draw_until(
            lambda: [(integer(rng, -9, 9), integer(rng, -9, 9)) for _ in range(3)],
            lambda s: (s[1][0] - s[0][0]) * (s[2][1] - s[0][1]) != (s[2][0] - s[0][0]) * (s[1][1] - s[0][1]),
        )
        cross = (c - a) * (f - b) - (e - a) * (d - b)
        answer = frac(Fraction(abs(cross), 2))
        shown = f"${point(a, b)}$, ${point(c, d)}$ and ${point(e, f)}$"
        problem = pick(
            rng,
            (
                f"What is the area of the triangle with vertices {shown}?",
                f"Find the area of the triangle whose vertices are {shown}.",
            ),
        )
        steps: tuple[str, ...] = (
            f"From the first vertex the sides go by ${point(c - a, d - b)}$ and ${point(e - a, f - b)}$.",
            rf"Twice the area is the absolute value of ${c - a} \cdot {paren(f - b)} - "
            rf"{paren(e - a)} \cdot {paren(d - b)} = {cross}$.",
            f"The area is ${answer}$.",
        )
    elif level == 4:
        a, b = draw_until(lambda: (integer(rng, 1, 12), nonzero(rng, -12, 12)), lambda s: math.gcd(*s) == 1)
        c = nonzero(rng, -20, 20)
        x, y = draw_until(
            lambda: (nonzero(rng, -9, 9), nonzero(rng, -9, 9)),
            lambda s: a * s[0] + b * s[1] != c,
        )
        top, square = abs(a * x + b * y - c), a * a + b * b
        answer = surd(Fraction(top, square), square)
        line = f"{term(a, 'x')} {signed(b)}y = {c}".replace(" 1y", " y")
        problem = pick(
            rng,
            (
                f"What is the distance from the point ${point(x, y)}$ to the line ${line}$?",
                f"Find the radius of the circle with center ${point(x, y)}$ that is tangent to the line ${line}$.",
            ),
        )
        steps = (
            rf"At the point, ${a} \cdot {paren(x)} {signed(b)} \cdot {paren(y)} = "
            rf"{a * x + b * y}$, which differs from ${c}$ by ${top}$.",
            rf"The normal $({a},{b})$ has length $\sqrt{{{a * a} + {b * b}}} = "
            rf"{surd(1, square)}$.",
            f"The distance is ${top}$ divided by ${surd(1, square)}$, which is ${answer}$.",
        )
    else:
        u, v = integer(rng, -9, 9), integer(rng, -9, 9)
        half, p, q = nonzero(rng, -6, 6), nonzero(rng, -9, 9), nonzero(rng, -6, 6)
        (a, b), (c, d), (e, f) = corners = [(u, v), (u + 2 * half, v), (u + p, v + q)]
        height = Fraction(p * p + q * q - 2 * half * p, 2 * q)
        answer = point(u + half, v + height)
        problem = pick(
            rng,
            (
                f"What is the center of the circle through ${point(a, b)}$, ${point(c, d)}$ and ${point(e, f)}$?",
                f"A circle passes through the points ${point(a, b)}$, ${point(c, d)}$ and "
                f"${point(e, f)}$. Find its center.",
            ),
        )
        steps = (
            f"The first two points lie on the line $y = {b}$, so the center has $x = {u + half}$, "
            "halfway between them.",
            f"Let the center be $({u + half},y)$ and $t = y {signed(-v)}$ its height above that "
            "line; its distances to the first and the third point are equal."
            if v
            else f"Let the center be $({u + half},t)$; its distances to the first and the third point are equal.",
            rf"So ${half * half} + t^2 = {(half - p) ** 2} + (t {signed(-q)})^2$, which gives "
            rf"${2 * q}t = {p * p + q * q - 2 * half * p}$ and $t = {frac(height)}$.",
            f"The center is ${answer}$.",
        )

    def referee() -> bool:
        import sympy

        if level == 3:
            return same(answer, abs(sympy.Polygon(*corners).area))
        s, t = sympy.symbols("s t")
        if level == 4:
            foot = sympy.solve((a * s + b * t - c, b * (s - x) - a * (t - y)), (s, t))
            return same(answer, sympy.sqrt((foot[s] - x) ** 2 + (foot[t] - y) ** 2))
        return same(answer, *sympy.Triangle(*corners).circumcenter.args)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("geometry", levels=(3, 4, 5))
def parallel_cuts(rng: np.random.Generator, level: int) -> Draft:
    """Segments and areas cut off by parallels in triangles and trapezoids."""
    name = pick(rng, TRIANGLES)
    p, q, r = name[0], name[1], name[2]
    m, n = pick(rng, (("U", "V"), ("M", "N"), ("G", "H")))
    m, n = ("S", "T") if {m, n} & set(name) else (m, n)
    m, n = ("J", "W") if {m, n} & set(name) else (m, n)
    start = (
        f"In triangle ${name}$, point ${m}$ on ${p}{q}$ and point ${n}$ on ${p}{r}$ are such that "
        rf"${m}{n} \parallel {q}{r}$. "
    )
    a, b, c = integer(rng, 2, 15), integer(rng, 2, 15), integer(rng, 2, 30)
    if level == 3:
        value = Fraction(c * (a + b), a)
        problem = start + pick(
            rng,
            (
                f"If ${p}{m} = {a}$, ${m}{q} = {b}$ and ${m}{n} = {c}$, what is ${q}{r}$?",
                f"Given ${p}{m} = {a}$, ${m}{q} = {b}$ and ${m}{n} = {c}$, find ${q}{r}$.",
            ),
        )
        steps: tuple[str, ...] = (
            f"Triangles ${p}{m}{n}$ and ${name}$ are similar.",
            f"Here ${p}{q} = {a} + {b} = {a + b}$.",
            rf"So ${q}{r} = {c} \cdot \frac{{{a + b}}}{{{a}}} = {frac(value)}$.",
        )
    elif level == 4:
        value = Fraction(c * ((a + b) ** 2 - a * a), a * a)
        problem = start + (f"Suppose ${p}{m} = {a}$, ${m}{q} = {b}$, and triangle ${p}{m}{n}$ has area ${c}$. ")
        problem += pick(
            rng,
            (
                f"What is the area of the trapezoid ${m}{n}{r}{q}$?",
                f"Find the area of quadrilateral ${m}{n}{r}{q}$.",
            ),
        )
        whole = Fraction(c * (a + b) ** 2, a * a)
        steps = (
            f"Triangles ${p}{m}{n}$ and ${name}$ are similar, with sides in the ratio ${a} : {a + b}$.",
            rf"Areas go by squares: triangle ${name}$ has area ${c} \cdot "
            rf"\frac{{{(a + b) ** 2}}}{{{a * a}}} = {frac(whole)}$.",
            f"The rest has area ${frac(whole)} - {c} = {frac(value)}$.",
        )
    else:
        a, b = sample(rng, range(2, 16), 2)
        value = Fraction(c * (a + b) ** 2, a * a)
        problem = (
            f"In trapezoid $ABCD$ the parallel sides are $AB = {a}$ and $CD = {b}$, and the "
            f"diagonals meet at $E$. Triangle $ABE$ has area ${c}$. "
        ) + pick(rng, ("What is the area of the trapezoid?", "Find the area of $ABCD$."))
        one, two = Fraction(c * b * b, a * a), Fraction(c * b, a)
        steps = (
            f"Triangles $ABE$ and $CDE$ are similar with sides in the ratio ${a} : {b}$.",
            rf"So $CDE$ has area ${c} \cdot \frac{{{b * b}}}{{{a * a}}} = {frac(one)}$.",
            rf"Since $AE : EC = {a} : {b}$, triangles $BCE$ and $DAE$ each have area ${c} \cdot "
            rf"\frac{{{b}}}{{{a}}} = {frac(two)}$.",
            rf"The trapezoid has area ${c} + {frac(one)} + 2 \cdot {frac(two)} = {frac(value)}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 3:
            return same(frac(value), sympy.solve(x * a - c * (a + b), x)[0])
        if level == 4:
            # The height above the cut is a, so that the base of the small triangle is 2c / a.
            return same(frac(value), sympy.integrate(2 * c * x / a / a, (x, a, a + b)))
        h = sympy.Rational(2 * c, a)
        corners = [(0, 0), (a, 0), (b, h * (a + b) / a), (0, h * (a + b) / a)]
        return same(frac(value), sympy.Polygon(*corners).area)

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)
