"""Generated prealgebra: arithmetic, fractions, percents, averages, ratios, rates, powers, decimals.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from llmrl.envs.generated.latex import (
    NAMES,
    decimal,
    frac,
    integer,
    nonzero,
    paren,
    pick,
    power,
    raw_frac,
    read,
    reduced,
    same,
    sample,
    signed,
    surd,
    times,
)
from llmrl.envs.generated.template import Draft, template

ASK = ("Compute ${}$.", "Evaluate ${}$.", "What is the value of ${}$?", "Find the value of ${}$.")
SIMPLIFY = ("Compute ${}$.", "Simplify ${}$.", "What is ${}$? Express your answer as a fraction.")
GOODS = ("pens", "apples", "notebooks", "tickets", "muffins", "candles", "stickers", "roses")
THINGS = ("marbles", "coins", "stamps", "cards", "shells", "candies", "beads", "books")


@template("prealgebra", levels=(1, 2, 3))
def order_of_operations(rng: np.random.Generator, level: int) -> Draft:
    """Products, sums and differences in one expression."""
    form = integer(rng, 0, 2)
    if level == 1:
        a, d = integer(rng, 3, 40), integer(rng, 2, 20)
        b, c = integer(rng, 2, 9), integer(rng, 3, 9)
        if form == 0:
            text, value = rf"{a} + {b} \cdot {c} - {d}", a + b * c - d
            steps: tuple[str, ...] = (
                f"First multiply: ${times(b, c)}$.",
                f"Then add: ${a} + {b * c} = {a + b * c}$.",
                f"Then subtract: ${a + b * c} - {d} = {value}$.",
            )
        elif form == 1:
            b, s = sorted((b, b + integer(rng, 1, 6)))
            text, value = rf"({b} + {s - b}) \cdot {c} + {d}", s * c + d
            steps = (
                f"First add: ${b} + {s - b} = {s}$.",
                f"Then multiply: ${times(s, c)}$.",
                f"Then add: ${s * c} + {d} = {value}$.",
            )
        else:
            a = b * c + integer(rng, 1, 30)
            text, value = rf"{a} - {b} \cdot {c} + {d}", a - b * c + d
            steps = (
                f"First multiply: ${times(b, c)}$.",
                f"Then subtract: ${a} - {b * c} = {a - b * c}$.",
                f"Then add: ${a - b * c} + {d} = {value}$.",
            )
    elif level == 2:
        a, b = integer(rng, 3, 9), integer(rng, 6, 18)
        c, d = integer(rng, 2, 9), integer(rng, 3, 12)
        if form == 0:
            text, value = rf"{a} \cdot {b} + {c} \cdot {d}", a * b + c * d
            steps = (
                f"First multiply: ${times(a, b)}$.",
                f"Also multiply: ${times(c, d)}$.",
                f"Then add: ${a * b} + {c * d} = {value}$.",
            )
        elif form == 1:
            c = b + integer(rng, 2, 13)
            text, value = rf"{a} \cdot ({c} - {b}) + {d}", a * (c - b) + d
            steps = (
                f"First subtract: ${c} - {b} = {c - b}$.",
                f"Then multiply: ${times(a, c - b)}$.",
                f"Then add: ${a * (c - b)} + {d} = {value}$.",
            )
        else:
            product = a * integer(rng, 3, 15)
            text, value = rf"{product} \div {a} + {c} \cdot {d}", product // a + c * d
            steps = (
                rf"First divide: ${product} \div {a} = {product // a}$.",
                f"Also multiply: ${times(c, d)}$.",
                f"Then add: ${product // a} + {c * d} = {value}$.",
            )
    else:
        a, b, e = integer(rng, 3, 12), integer(rng, 2, 9), integer(rng, 2, 6)
        d = integer(rng, 1, 9)
        c = d + e * integer(rng, 1, 3)
        quotient = (c - d) ** 2 // e
        text, value = rf"{a}^2 - {b} \cdot ({c} - {d})^2 \div {e}", a * a - b * quotient
        steps = (
            f"In the parentheses, ${c} - {d} = {c - d}$, and ${c - d}^2 = {(c - d) ** 2}$.",
            f"Multiplying by ${b}$ gives ${b * (c - d) ** 2}$.",
            f"Dividing by ${e}$ gives ${b * quotient}$.",
            f"Since ${a}^2 = {a * a}$, the value is ${a * a} - {b * quotient} = {value}$.",
        )
    return Draft(
        problem=pick(rng, ASK).format(text),
        answer=str(value),
        steps=steps,
        referee=lambda: same(str(value), read(text)),
    )


@template("prealgebra", levels=(1, 2))
def signed_numbers(rng: np.random.Generator, level: int) -> Draft:
    """Sums, differences and products of integers of either sign."""
    bound = 12 if level == 1 else 30
    a, b, c = (nonzero(rng, -bound, bound) for _ in range(3))
    if level == 1:
        b = -abs(b)
        text, total = f"{a} - {paren(b)} {signed(c)}", a - b + c
        steps: tuple[str, ...] = (
            f"Subtracting ${b}$ is adding ${-b}$: ${a} + {-b} = {a - b}$.",
            f"Then ${a - b} {signed(c)} = {total}$.",
        )
    else:
        c, d = -integer(rng, 2, 9), integer(rng, 2, 9)
        text, total = rf"{a} - {paren(b)} + {d} \cdot {paren(c)}", a - b + c * d
        steps = (
            rf"First multiply: ${d} \cdot {paren(c)} = {c * d}$.",
            f"Then ${a} {signed(-b)} = {a - b}$.",
            f"Then ${a - b} {signed(c * d)} = {total}$.",
        )
    return Draft(
        problem=pick(rng, ASK).format(text),
        answer=str(total),
        steps=steps,
        referee=lambda: same(str(total), read(text)),
    )


@template("prealgebra", levels=(1, 2))
def fraction_sum(rng: np.random.Generator, level: int) -> Draft:
    """The sum or difference of two fractions, in lowest terms."""
    while True:
        b = integer(rng, 2, 9)
        d = b * integer(rng, 2, 5) if level == 1 else integer(rng, 3, 12)
        common = math.lcm(b, d)
        a, c = integer(rng, 1, b), integer(rng, 1, d)
        p, q = a * common // b, c * common // d
        sign = pick(rng, (1, -1)) if p > q else 1
        if math.gcd(a, b) != 1 or math.gcd(c, d) != 1 or common > 60 or a == b or c == d:
            continue
        if level == 1 or common not in (b, d):
            break
    top = p + sign * q
    value = Fraction(top, common)
    op = "+" if sign > 0 else "-"
    steps = [f"The common denominator is ${common}$."]
    if b != common:
        steps.append(f"${raw_frac(a, b)} = {raw_frac(p, common)}$.")
    if d != common:
        steps.append(f"${raw_frac(c, d)} = {raw_frac(q, common)}$.")
    steps.append(f"The numerators give ${p} {op} {q} = {top}$, so ${raw_frac(top, common)}$.")
    if value.denominator != common:
        shared = common // value.denominator
        steps.append(f"Divide both by ${shared}$: ${raw_frac(top, common)} = {frac(value)}$.")
    text = f"{raw_frac(a, b)} {op} {raw_frac(c, d)}"
    return Draft(
        problem=pick(rng, SIMPLIFY).format(text),
        answer=frac(value),
        steps=tuple(steps),
        referee=lambda: same(frac(value), read(text)),
    )


@template("prealgebra", levels=(1, 2))
def shopping(rng: np.random.Generator, level: int) -> Draft:
    """The cost of several things, or the change from a bill."""
    name, (item, other) = pick(rng, NAMES), sample(rng, GOODS, 2)
    if level == 1:
        n, p, q = integer(rng, 2, 9), integer(rng, 2, 9), integer(rng, 5, 60)
        value = n * p + q
        extra = pick(rng, ("a bag", "a shirt", "a game", "a book"))
        problem = pick(
            rng,
            (
                rf"{name} buys ${n}$ {item} at \${p} each and {extra} for \${q}. "
                "How many dollars does this cost in all?",
                rf"One pays \${p} for each of ${n}$ {item} and \${q} for {extra}. "
                f"How many dollars does {name} pay for everything?",
            ),
        )
        steps: tuple[str, ...] = (
            f"The {item} cost ${times(n, p)}$ dollars.",
            f"In all this is ${n * p} + {q} = {value}$ dollars.",
        )

        def referee() -> bool:
            return same(str(value), sum([p] * n, q))

    else:
        n, p = integer(rng, 3, 9), integer(rng, 6, 15)
        m, q = integer(rng, 2, 6), integer(rng, 2, 9)
        cost = n * p + m * q
        bill = next(bill for bill in (50, 100, 200) if bill > cost)
        value = bill - cost
        problem = rf"{name} buys ${n}$ {item} at \${p} each and ${m}$ {other} at \${q} each, " + pick(
            rng,
            (
                rf"and pays \${bill}. How many dollars of change are due?",
                rf"having \${bill} at first. How many dollars are left?",
            ),
        )
        steps = (
            f"The {item} cost ${times(n, p)}$ dollars.",
            f"The {other} cost ${times(m, q)}$ dollars.",
            f"Together this is ${n * p} + {m * q} = {cost}$ dollars.",
            f"What is left is ${bill} - {cost} = {value}$ dollars.",
        )

        def referee() -> bool:
            import sympy

            rest = sympy.Symbol("r")
            bought = sympy.Matrix([n, m]).dot(sympy.Matrix([p, q]))
            return same(str(value), sympy.solve(rest + bought - bill, rest)[0])

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("prealgebra", levels=(1, 2))
def percent_of(rng: np.random.Generator, level: int) -> Draft:
    """A percentage of a number, or a price after a discount or a rise."""
    tenth = integer(rng, 2, 15) if level == 1 else integer(rng, 4, 20)
    n, k = 10 * tenth, integer(rng, 2, 9)
    if level == 2 and k > 5:
        k = integer(rng, 2, 5)
    part = k * tenth
    thing = pick(rng, ("jacket", "lamp", "bicycle", "chair", "watch", "radio"))
    steps = [rf"$10\%$ of ${n}$ is ${tenth}$.", rf"${10 * k}\%$ of ${n}$ is ${times(k, tenth)}$."]
    down = rng.integers(2) == 0
    if level == 1 and rng.integers(2) == 0:
        value, factor = part, Fraction(k, 10)
        problem = pick(
            rng,
            (
                rf"What is ${10 * k}\%$ of ${n}$?",
                rf"Find ${10 * k}\%$ of ${n}$.",
                rf"A school has ${n}$ students, and ${10 * k}\%$ of them sing. How many sing?",
                rf"Of ${n}$ seats in a hall, ${10 * k}\%$ are taken. How many seats are taken?",
            ),
        )
    elif down:
        value, factor = n - part, 1 - Fraction(k, 10)
        problem = pick(
            rng,
            (
                rf"A {thing} that costs \${n} is on sale at ${10 * k}\%$ off. "
                "What is the sale price, in dollars?",
                rf"The price of a {thing} is \${n}. It falls by ${10 * k}\%$. "
                "What is the new price, in dollars?",
            ),
        )
        steps.append(f"The new price is ${n} - {part} = {value}$ dollars.")
    else:
        value, factor = n + part, 1 + Fraction(k, 10)
        problem = pick(
            rng,
            (
                rf"The price of a {thing} rises by ${10 * k}\%$ from \${n}. "
                "What is the new price, in dollars?",
                rf"A club with ${n}$ members grows by ${10 * k}\%$. How many members has it then?",
            ),
        )
        unit = "dollars" if "dollars" in problem else "members"
        word = "price" if unit == "dollars" else "number"
        steps.append(f"The new {word} is ${n} + {part} = {value}$ {unit}.")

    def referee() -> bool:
        import sympy

        return same(str(value), sympy.Integer(n) * sympy.Rational(str(factor)))

    return Draft(problem=problem, answer=str(value), steps=tuple(steps), referee=referee)


@template("prealgebra", levels=(1, 2))
def average(rng: np.random.Generator, level: int) -> Draft:
    """The mean of three or four numbers, or the number that a given mean asks for."""
    count = 3 if level == 1 else 4
    missing = level == 2 and rng.integers(2) == 0
    while True:
        numbers = [integer(rng, 2, 16 if level == 1 else 25) for _ in range(count)]
        if sum(numbers) % count == 0 and len(set(numbers)) == count:
            break
    mean = sum(numbers) // count
    listed = numbers[: count - missing]
    text = ", ".join(f"${x}$" for x in listed[:-1]) + f" and ${listed[-1]}$"
    running, sums = listed[0], []
    for x in listed[1:]:
        sums.append(f"${running} + {x} = {running + x}$")
        running += x
    added = ", ".join(sums)
    if missing:
        value = numbers[-1]
        total = times(count, mean)
        problem = pick(
            rng,
            (
                f"The average of four numbers is ${mean}$. Three of them are {text}. What is the fourth number?",
                f"Four numbers have a mean of ${mean}$. If {text} are three of them, what is the fourth?",
            ),
        )
        steps: tuple[str, ...] = (
            f"The four numbers add up to ${total}$.",
            f"The three given ones: {added}.",
            f"The fourth is ${count * mean} - {running} = {value}$.",
        )
    else:
        value = mean
        problem = pick(
            rng,
            (
                f"What is the average of {text}?",
                f"Find the mean of the numbers {text}.",
                f"{pick(rng, NAMES)} scores {text} points in {count} games. What is the mean score?",
            ),
        )
        steps = (f"Add: {added}.", rf"Divide by ${count}$: ${running} \div {count} = {value}$.")

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if missing:
            return same(str(value), sympy.solve((sum(listed) + x) / 4 - mean, x)[0])
        return same(str(value), sympy.solve(sum(n - x for n in listed), x)[0])

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("prealgebra", levels=(1, 2))
def rectangle(rng: np.random.Generator, level: int) -> Draft:
    """Perimeter and area of a rectangle from two facts about it."""
    unit = pick(rng, ("inches", "feet", "meters", "centimeters"))
    shape = pick(rng, ("rectangle", "rectangular garden", "rectangular room", "rectangular sheet"))
    width = integer(rng, 3, 9)
    length = width + integer(rng, 1, 9 if level == 1 else 12)
    around, area = 2 * (length + width), length * width
    first = rng.integers(2) == 0
    if level == 1:
        less = length - width
        wanted, value = ("perimeter", around) if first else ("area", area)
        squares = unit if first else f"square {unit}"
        problem = pick(
            rng,
            (
                f"The length of a {shape} is ${length}$ {unit}, and its width is ${less}$ {unit} "
                f"less. What is its {wanted}, in {squares}?",
                f"A {shape} is ${length}$ {unit} long. It is ${less}$ {unit} longer than wide. "
                f"Find its {wanted} in {squares}.",
            ),
        )
        last = (
            (
                f"Length and width together: ${length} + {width} = {length + width}$.",
                f"The perimeter is ${times(2, length + width)}$.",
            )
            if first
            else (f"The area is ${times(width, length)}$.",)
        )
        steps: tuple[str, ...] = (f"The width is ${length} - {less} = {width}$.", *last)
    elif first:
        value = around
        problem = f"The area of a {shape} is ${area}$ square {unit} and its width is ${width}$ {unit}. " + pick(
            rng, (f"What is its perimeter, in {unit}?", f"Find the perimeter in {unit}.")
        )
        steps = (
            rf"The length is ${area} \div {width} = {length}$.",
            f"Length and width together: ${length} + {width} = {length + width}$.",
            f"The perimeter is ${times(2, length + width)}$.",
        )
    else:
        value = area
        problem = (
            f"The perimeter of a {shape} is ${around}$ {unit} and its width is ${width}$ {unit}. "
            + pick(rng, ("What is its area, in square units?", "Find the area in square units."))
        ).replace("square units", f"square {unit}")
        steps = (
            rf"Length and width together: ${around} \div 2 = {length + width}$.",
            f"The length is ${length + width} - {width} = {length}$.",
            f"The area is ${times(width, length)}$.",
        )

    def referee() -> bool:
        import sympy

        corners = ((0, 0), (length, 0), (length, width), (0, width))
        polygon = sympy.Polygon(*(sympy.Point(*c) for c in corners))
        return same(str(value), polygon.perimeter if first else polygon.area)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("prealgebra", levels=(1, 2))
def ratio_share(rng: np.random.Generator, level: int) -> Draft:
    """Sharing an amount in a ratio."""
    while True:
        a, b = integer(rng, 1, 7), integer(rng, 2, 9)
        if a < b and math.gcd(a, b) == 1 and a + b <= (9 if level == 1 else 12):
            break
    unit = integer(rng, 2, 9) if level == 1 else integer(rng, 5, 15)
    total = unit * (a + b)
    (first, second), things = sample(rng, NAMES, 2), pick(rng, THINGS)
    problem = pick(
        rng,
        (
            f"{first} and {second} share ${total}$ {things} in the ratio ${a}:{b}$. ",
            f"The ratio of {first}'s {things} to {second}'s is ${a}:{b}$. They have ${total}$ in all. ",
        ),
    )
    steps = [
        f"There are ${a} + {b} = {a + b}$ parts.",
        rf"Each part is ${total} \div {a + b} = {unit}$.",
    ]
    if level == 2 and rng.integers(2) == 0:
        share = b - a
        problem += f"How many more {things} does {second} have than {first}?"
        steps.append(f"{second} has ${b} - {a} = {share}$ parts more.")
        steps.append(f"The difference is ${times(share, unit)}$.")
    else:
        who, share = pick(rng, ((first, a), (second, b)))
        problem += pick(rng, (f"How many {things} does {who} get?", f"How many of the {things} go to {who}?"))
        steps.append(f"{who} has ${share}$ of the parts: ${times(share, unit)}$.")
    value = share * unit

    def referee() -> bool:
        import sympy

        x, y = sympy.symbols("x y")
        root = sympy.solve((x + y - total, b * x - a * y), (x, y))
        wanted = {a: root[x], b: root[y]}.get(share) if "more" not in problem else None
        return same(str(value), root[y] - root[x] if wanted is None else wanted)

    return Draft(problem=problem, answer=str(value), steps=tuple(steps), referee=referee)


@template("prealgebra", levels=(1, 2))
def unit_rate(rng: np.random.Generator, level: int) -> Draft:
    """What a number of things costs, weighs or takes when another number is known."""
    n, m = sample(rng, range(2, 10), 2)
    rate = integer(rng, 2, 9) if level == 1 else integer(rng, 6, 18)
    fee = integer(rng, 2, 30) if level == 2 else 0
    goods, name = pick(rng, GOODS), pick(rng, NAMES)
    problem, one, unit = pick(
        rng,
        (
            (
                rf"If ${n}$ {goods} cost \${n * rate}, how many dollars do ${m}$ {goods} cost"
                + (f" when ${fee}$ dollars are added for delivery?" if fee else "?"),
                "One costs",
                "dollars",
            ),
            (
                f"{name} reads ${n * rate}$ pages in ${n}$ hours. At this rate, how many pages "
                + (
                    f"are read after ${m}$ more hours, if ${fee}$ pages were read before them?"
                    if fee
                    else f"does {name} read in ${m}$ hours?"
                ),
                "One hour gives",
                "pages",
            ),
            (
                f"A pump moves ${n * rate}$ liters in ${n}$ minutes. A tank "
                + (f"holds ${fee}$ liters now. How many liters does it hold" if fee else "is empty.")
                + ("" if fee else " How many liters are in it")
                + f" after ${m}$ minutes of pumping?",
                "One minute gives",
                "liters",
            ),
        ),
    )
    steps = [
        rf"{one} ${n * rate} \div {n} = {rate}$ {unit}.",
        f"For ${m}$ this is ${times(m, rate)}$ {unit}.",
    ]
    value = m * rate + fee
    if fee:
        steps.append(f"In all there are ${m * rate} + {fee} = {value}$ {unit}.")

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        return same(str(value), sympy.solve(n * (x - fee) - m * (n * rate), x)[0])

    return Draft(problem=problem, answer=str(value), steps=tuple(steps), referee=referee)


@template("prealgebra", levels=(3, 4, 5))
def fraction_expression(rng: np.random.Generator, level: int) -> Draft:
    """Nested fractions and mixed operations on them."""
    a, b, c, d, e, f = (integer(rng, 2, 9) for _ in range(6))
    one, two, three = Fraction(a, b), Fraction(c, d), Fraction(e, f)
    if level == 3:
        text = rf"{raw_frac(a, b)} \cdot {raw_frac(c, d)} + {raw_frac(e, f)}"
        value = one * two + three
        steps: tuple[str, ...] = (
            f"The product is ${reduced(a * c, b * d)}$.",
            rf"Adding, ${frac(one * two)} + {frac(three)} = {frac(value)}$.",
        )
    elif level == 4:
        text = raw_frac(f"{raw_frac(a, b)} + {raw_frac(c, d)}", raw_frac(e, f))
        value = (one + two) / three
        steps = (
            f"The numerator is ${frac(one)} + {frac(two)} = {frac(one + two)}$.",
            rf"Dividing by ${frac(three)}$ is multiplying by ${frac(1 / three)}$.",
            rf"So the value is ${frac(one + two)} \cdot {frac(1 / three)} = {frac(value)}$.",
        )
    else:
        inner = d + Fraction(1, e)
        middle = b + c / inner
        value = a + 1 / middle
        bottom = raw_frac(c, f"{d} + {raw_frac(1, e)}")
        text = f"{a} + {raw_frac(1, f'{b} + {bottom}')}"
        steps = (
            f"From the inside, ${d} + {raw_frac(1, e)} = {frac(inner)}$.",
            f"Then ${b} + {c} \\div {frac(inner)} = {b} + {frac(c / inner)} = {frac(middle)}$.",
            f"Its reciprocal is ${frac(1 / middle)}$.",
            f"So the value is ${a} + {frac(1 / middle)} = {frac(value)}$.",
        )
    return Draft(
        problem=pick(rng, (*ASK, "Simplify ${}$.")).format(text),
        answer=frac(value),
        steps=steps,
        referee=lambda: same(frac(value), read(text)),
    )


@template("prealgebra", levels=(3, 4, 5))
def percent_change(rng: np.random.Generator, level: int) -> Draft:
    """Successive percent changes, and what they amount to."""
    up, down = 5 * integer(rng, 1, 12), 5 * integer(rng, 1, 12)
    thing, name = pick(rng, ("shop", "farm", "museum", "club")), pick(rng, NAMES)
    grown = Fraction(100 + up, 100)
    shrunk = Fraction(100 - down, 100)
    if level == 3:
        start = 400 * integer(rng, 1, 12)
        middle, value = start * grown, start * grown * shrunk
        problem = (
            rf"A {thing} has ${start}$ visitors in May. In June the number rises by ${up}\%$, "
            rf"and in July it falls by ${down}\%$. "
            + pick(rng, ("How many visitors come in July?", "Find the number of visitors in July."))
        )
        steps: tuple[str, ...] = (
            rf"The June number is ${start} \cdot {decimal(grown)} = {frac(middle)}$.",
            rf"The July number is ${frac(middle)} \cdot {decimal(shrunk)} = {frac(value)}$.",
        )
    elif level == 4:
        value = (grown * shrunk - 1) * 100
        problem = (
            rf"{name} raises the price of a painting by ${up}\%$ and later lowers the new price by "
            rf"${down}\%$. By what percent has the price changed in all? "
            "Give a decrease as a negative number."
        )
        steps = (
            rf"The first change multiplies the price by ${decimal(grown)}$.",
            rf"The second multiplies it by ${decimal(shrunk)}$.",
            rf"Together the factor is ${decimal(grown * shrunk)}$.",
            rf"The change is ${decimal(grown * shrunk)} - 1 = {decimal(value / 100)}$, "
            rf"that is ${decimal(value)}\%$.",
        )
    else:
        again = 5 * integer(rng, 1, 20)
        factor = grown * Fraction(100 + again, 100)
        value = 100 * (factor - 1) / factor
        problem = rf"A price rises by ${up}\%$ and then by another ${again}\%$. " + pick(
            rng,
            (
                "By what percent must the new price be lowered to return to the original price? ",
                "By what percent is the original price lower than the final price? ",
            ),
        )
        problem += "Express your answer as a common fraction or an integer."
        steps = (
            rf"Let the original price be $100$. The final price is "
            rf"$100 \cdot {decimal(grown)} \cdot {decimal(factor / grown)} = "
            rf"{decimal(100 * factor)}$.",
            rf"The difference is ${decimal(100 * factor - 100)}$, and as a part of the final price "
            rf"it is ${frac(value / 100)}$.",
            rf"In percent this is $100 \cdot {frac(value / 100)} = {frac(value)}$.",
        )
    answer = decimal(value) if level == 4 else frac(value)

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 3:
            june = start + sympy.Rational(up * start, 100)
            return same(answer, june - june * down / 100)
        if level == 4:
            high = 100 + sympy.Integer(up)
            return same(answer, high - high * down / 100 - 100)
        last = (100 + up) * (100 + again)
        return same(answer, sympy.solve(last * (100 - x) - 10**6, x)[0])

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("prealgebra", levels=(3, 4, 5))
def repeating_decimal(rng: np.random.Generator, level: int) -> Draft:
    """A terminating or repeating decimal as a common fraction."""
    digits = integer(rng, 1, 9 if level == 3 and rng.integers(3) == 0 else 98)
    if level == 3:
        whole = integer(rng, 0, 9)
        places = pick(rng, (2, 3)) if digits > 9 else 2
        value = whole + Fraction(digits, 10**places)
        text, plain = f"{whole}.{digits:0{places}d}", ""
        steps: tuple[str, ...] = (
            f"There are ${places}$ decimal places, so the denominator is ${10**places}$.",
            f"So ${text} = {reduced(whole * 10**places + digits, 10**places)}$.",
        )
    elif level == 4:
        while digits % 11 == 0:
            digits = integer(rng, 1, 98)
        whole, plain = integer(rng, 0, 3), ""
        value = whole + Fraction(digits, 99)
        text = rf"{whole}.\overline{{{digits:02d}}}"
        steps = (
            f"Let $x = {text}$; then $100x = {100 * whole + digits}.\\overline{{{digits:02d}}}$.",
            f"Subtracting gives $99x = {99 * whole + digits}$.",
            f"So $x = {reduced(99 * whole + digits, 99)}$.",
        )
    else:
        while digits % 11 == 0:
            digits = integer(rng, 1, 98)
        whole, plain = 0, str(integer(rng, 1, 9))
        top = int(plain) * 99 + digits
        value = Fraction(top, 990)
        text = rf"0.{plain}\overline{{{digits:02d}}}"
        steps = (
            f"Let $x = {text}$; then $10x = {plain}.\\overline{{{digits:02d}}}$.",
            f"Also $1000x = {plain}{digits:02d}.\\overline{{{digits:02d}}}$.",
            f"Subtracting gives $990x = {plain}{digits:02d} - {plain} = {top}$.",
            f"So $x = {reduced(top, 990)}$.",
        )
    problem = pick(
        rng,
        (
            f"Express ${text}$ as a common fraction in lowest terms.",
            f"Write ${text}$ as a fraction in simplest form.",
            f"What common fraction is equal to ${text}$?",
        ),
    )

    def referee() -> bool:
        import sympy

        if level == 3:
            return same(frac(value), sympy.Rational(text))
        n = sympy.Symbol("n")
        tail = sympy.summation(digits * sympy.Rational(1, 100) ** n, (n, 1, sympy.oo))
        return same(frac(value), sympy.Rational(f"{whole}.{plain or 0}") + tail / 10 ** len(plain))

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)


@template("prealgebra", levels=(3, 4, 5))
def powers_and_roots(rng: np.random.Generator, level: int) -> Draft:
    """Quotients of powers, square roots, and whole numbers between two roots."""
    if level == 3:
        base = pick(rng, (2, 3, 5))
        m, n, left = integer(rng, 3, 9), integer(rng, 3, 9), integer(rng, 1, 4)
        k = m + n - left
        text = raw_frac(rf"{power(str(base), m)} \cdot {power(str(base), n)}", power(str(base), k))
        answer = str(base**left)
        problem = pick(rng, (*ASK, "Simplify ${}$.")).format(text)
        steps: tuple[str, ...] = (
            f"The numerator is ${power(str(base), m + n)}$, since ${m} + {n} = {m + n}$.",
            f"Dividing by ${power(str(base), k)}$ leaves the exponent ${m + n} - {k} = {left}$.",
            f"So the value is ${base}^{left} = {answer}$.",
        )

        def referee() -> bool:
            return same(answer, read(text))

    elif level == 4:
        radicand = pick(rng, (2, 3, 5, 6, 7, 10))
        a, b = sample(rng, range(2, 12), 2)
        p, q = a * a * radicand, b * b * radicand
        answer = surd(a + b, radicand)
        root = rf"\sqrt{{{radicand}}}"
        text = rf"\sqrt{{{p}}} + \sqrt{{{q}}}"
        problem = pick(
            rng,
            (
                "Simplify ${}$.",
                "Write ${}$ in simplest radical form.",
                "Express ${}$ as one term.",
            ),
        ).format(text)
        steps = (
            rf"Since ${p} = {a}^2 \cdot {radicand}$, $\sqrt{{{p}}} = {a}{root}$.",
            rf"Since ${q} = {b}^2 \cdot {radicand}$, $\sqrt{{{q}}} = {b}{root}$.",
            f"The sum is $({a} + {b}){root} = {answer}$.",
        )

        def referee() -> bool:
            return same(answer, read(text))

    else:
        low = integer(rng, 5, 90)
        high = low + integer(rng, 60, 900)
        first, last = math.isqrt(low) + 1, math.isqrt(high - 1)
        answer = str(last - first + 1)
        problem = pick(
            rng,
            (
                rf"How many integers $n$ satisfy $\sqrt{{{low}}} < n < \sqrt{{{high}}}$?",
                rf"How many whole numbers lie strictly between $\sqrt{{{low}}}$ and "
                rf"$\sqrt{{{high}}}$?",
            ),
        )
        steps = (
            f"The condition is ${low} < n^2 < {high}$.",
            f"The smallest such integer is ${first}$, since ${first - 1}^2 = {(first - 1) ** 2}$ "
            f"and ${first}^2 = {first**2}$.",
            f"The largest is ${last}$, since ${last}^2 = {last**2}$ and ${last + 1}^2 = {(last + 1) ** 2}$.",
            f"There are ${last} - {first} + 1 = {answer}$ of them.",
        )

        def referee() -> bool:
            import sympy

            inside = sympy.Interval.open(sympy.sqrt(low), sympy.sqrt(high))
            return same(answer, sum(1 for n in range(2, high // 2) if n in inside))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("prealgebra", levels=(3, 4, 5))
def mean_and_median(rng: np.random.Generator, level: int) -> Draft:
    """Combined means, and means that depend on an unknown number."""
    if level == 3:
        m, n = sample(rng, range(4, 26), 2)
        p, q = sample(rng, range(60, 96), 2)
        value = Fraction(m * p + n * q, m + n)
        problem = (
            f"A class has ${m}$ girls and ${n}$ boys. The girls' mean score on a test is ${p}$, "
            f"and the boys' is ${q}$. "
            + pick(rng, ("What is the mean score of the class?", "Find the mean of all scores."))
            + " Express your answer as a common fraction or an integer."
        )
        steps: tuple[str, ...] = (
            rf"The girls' scores sum to ${m} \cdot {p} = {m * p}$.",
            rf"The boys' scores sum to ${n} \cdot {q} = {n * q}$.",
            f"The mean is ${reduced(m * p + n * q, m + n)}$.",
        )
    elif level == 4:
        n, mean, rise = integer(rng, 3, 12), integer(rng, 20, 80), nonzero(rng, -5, 5)
        value = Fraction(mean + (n + 1) * rise)
        problem = (
            f"The mean of ${n}$ numbers is ${mean}$. After one more number is added to the list, the mean is "
            f"${mean + rise}$. " + pick(rng, ("What number was added?", "Find the number that was added."))
        )
        total, new = n * mean, (n + 1) * (mean + rise)
        steps = (
            rf"At first the numbers sum to ${n} \cdot {mean} = {total}$.",
            rf"Then they sum to ${n + 1} \cdot {mean + rise} = {new}$.",
            f"The new number is ${new} - {total} = {frac(value)}$.",
        )
    else:
        a, b, c, d = sorted(sample(rng, range(1, 40), 4))
        total = a + b + c + d
        middles = (b, c)
        low, high = (5 * m - total for m in middles)
        between = Fraction(total, 4)
        found = [Fraction(x) for x, ok in ((low, low <= b), (high, high >= c)) if ok]
        if b < between < c:
            found.append(between)
        if not found:
            return mean_and_median(rng, level)
        value = sum(found, Fraction(0))
        problem = f"The mean of the five numbers ${a}$, ${b}$, ${c}$, ${d}$ and $x$ equals their median. " + pick(
            rng,
            (
                "What is the sum of all possible values of $x$?",
                "Find the sum of all real values of $x$ for which this holds.",
            ),
        )
        no, yes = "does not fit", "fits"
        steps = (
            f"The mean is $\\frac{{{total} + x}}{{5}}$.",
            rf"If $x \le {b}$, the median is ${b}$, so $x = {5 * b} - {total} = {low}$, "
            f"which {yes if low <= b else no}.",
            rf"If $x \ge {c}$, the median is ${c}$, so $x = {5 * c} - {total} = {high}$, "
            f"which {yes if high >= c else no}.",
            f"If $x$ lies between them, it is the median, so $4x = {total}$ and "
            f"$x = {frac(between)}$, which {yes if b < between < c else no}.",
            f"The possible values sum to ${frac(value)}$.",
        )

    def referee() -> bool:
        import sympy

        x = sympy.Symbol("x")
        if level == 3:
            return same(frac(value), sympy.solve(m * (p - x) + n * (q - x), x)[0])
        if level == 4:
            return same(frac(value), sympy.solve((n * mean + x) / (n + 1) - mean - rise, x)[0])
        # Every solution makes the mean equal to one of the five numbers; try all five.
        five = (a, b, c, d, x)
        tries = {sympy.solve(sum(five) / 5 - y, x)[0] for y in five}
        good = [t for t in tries if sorted((a, b, c, d, t))[2] == sum((a, b, c, d, t)) / 5]
        return same(frac(value), sum(good))

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)


@template("prealgebra", levels=(3, 4, 5))
def speed_and_work(rng: np.random.Generator, level: int) -> Draft:
    """Conversions of speed, average speed, and work done together."""
    name = pick(rng, NAMES)
    if level == 3:
        seconds, way = integer(rng, 4, 60), 10 * integer(rng, 2, 90)
        value = Fraction(way * 18, seconds * 5)
        problem = f"{name} rides ${way}$ meters in ${seconds}$ seconds. " + pick(
            rng,
            (
                "What is this speed in kilometers per hour? ",
                f"At this speed, how many kilometers does {name} ride in an hour? ",
            ),
        )
        problem += "Express your answer as a common fraction or an integer."
        speed = Fraction(way, seconds)
        steps: tuple[str, ...] = (
            f"The speed is ${reduced(way, seconds)}$ meters per second.",
            rf"An hour has $3600$ seconds, so the distance in an hour is $3600 \cdot {frac(speed)} = "
            rf"{frac(3600 * speed)}$ meters.",
            rf"That is ${frac(3600 * speed)} \div 1000 = {frac(value)}$ kilometers.",
        )
    elif level == 4:
        u, v = sample(rng, range(10, 80), 2)
        value = Fraction(2 * u * v, u + v)
        problem = (
            f"{name} goes to a town at ${u}$ miles per hour and comes back the same way at ${v}$ "
            "miles per hour. What is the average speed of the whole trip, in miles per hour? "
            "Express your answer as a common fraction or an integer."
        )
        steps = (
            "Let the town be $1$ mile away; then the whole trip is $2$ miles.",
            rf"It takes $\frac{{1}}{{{u}}} + \frac{{1}}{{{v}}} = "
            rf"{frac(Fraction(u + v, u * v))}$ hours.",
            rf"The average speed is $2 \div {frac(Fraction(u + v, u * v))} = {frac(value)}$.",
        )
    else:
        u, v = sorted(sample(rng, range(2, 16), 2))
        w = integer(rng, v + 1, 40)
        rate = Fraction(1, u) + Fraction(1, v) - Fraction(1, w)
        value = 1 / rate
        problem = (
            f"One pipe fills a tank in ${u}$ hours, another in ${v}$ hours, and a drain empties "
            f"the full tank in ${w}$ hours. In how many hours do the two pipes fill the "
            "tank when the drain is open? Express your answer as a common fraction or an integer."
        )
        steps = (
            rf"In an hour the pipes fill $\frac{{1}}{{{u}}} + \frac{{1}}{{{v}}} = "
            rf"{frac(Fraction(u + v, u * v))}$ of the tank.",
            rf"With the drain open it is ${frac(Fraction(u + v, u * v))} - \frac{{1}}{{{w}}} = "
            rf"{frac(rate)}$.",
            f"So filling takes ${frac(value)}$ hours.",
        )

    def referee() -> bool:
        import sympy

        t = sympy.Symbol("t")
        if level == 3:
            from sympy.physics import units

            shown = units.convert_to(way * units.m / (seconds * units.s), [units.km, units.hour])
            return same(frac(value), shown * units.hour / units.km)
        if level == 4:
            return same(frac(value), sympy.solve(t * v + t * u - 2 * u * v, t)[0])
        return same(frac(value), sympy.solve(t * v * w + t * u * w - t * u * v - u * v * w, t)[0])

    return Draft(problem=problem, answer=frac(value), steps=steps, referee=referee)
