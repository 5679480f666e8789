"""Generated counting and probability: choices, arrangements, dice, urns, expectation, paths.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from functools import cache

import numpy as np

from llmrl.envs.generated.latex import draw_until, frac, integer, pick, raw_frac, reduced, sample, times
from llmrl.envs.generated.template import Draft, template

COLOURS = ("red", "blue", "green", "white", "black", "yellow")
WORDS = (
    "LEVEL",
    "PAPER",
    "BANANA",
    "COFFEE",
    "LETTER",
    "PEPPER",
    "BALLOON",
    "MISSISSIPPI",
    "ALGEBRA",
    "SUCCESS",
    "COMMITTEE",
    "POSSESS",
    "ADDRESS",
    "BUTTER",
    "GOOGLE",
    "SEVEN",
    "TATTOO",
    "RIVER",
    "KAYAK",
    "MINIMUM",
    "CIVIC",
    "ROTATOR",
    "STATS",
    "ERROR",
    "TENNESSEE",
    "INDEED",
    "RECEIVE",
    "ASSESS",
    "COCOA",
    "NINETEEN",
    "PARALLEL",
    "TOMORROW",
    "EFFECT",
    "GEOMETRY",
    "EQUATION",
)


def same_fraction(answer: str, value: object) -> bool:
    """Whether a rendered integer or fraction is what the referee computed."""
    import sympy

    return frac(Fraction(int(sympy.numer(value)), int(sympy.denom(value)))) == answer


@template("counting_and_probability", levels=(1, 2))
def independent_choices(rng: np.random.Generator, level: int) -> Draft:
    """One of each kind, with some combinations left out."""
    steps: tuple[str, ...]
    low, high = (2, 9) if level == 1 else (3, 9)
    a, b = integer(rng, low, high), integer(rng, low, high)
    things = pick(
        rng,
        (
            ("shirts", "pairs of pants", "outfits", "hats"),
            ("soups", "main dishes", "meals", "desserts"),
            ("roads from A to B", "roads from B to C", "routes", "roads from C to D"),
        ),
    )
    if level == 1:
        gone = integer(rng, 1, 9) if a * b > 12 else 1
        value = a * b - gone
        problem = pick(
            rng,
            (
                f"There are ${a}$ {things[0]} and ${b}$ {things[1]}. How many {things[2]} are possible if ${gone}$ of "
                "them is ruled out?"
                if gone == 1
                else f"There are ${a}$ {things[0]} and ${b}$ {things[1]}. How many {things[2]} are possible if ${gone}$ of "
                "them are ruled out?",
                f"With ${a}$ {things[0]} and ${b}$ {things[1]}, all {things[2]} but ${gone}$ are allowed. How many is that?",
            ),
        )
        steps = (
            rf"In all there are ${a} \cdot {b} = {a * b}$.",
            f"Take away: ${a * b} - {gone} = {value}$.",
        )
    else:
        c = integer(rng, 2, 5)
        gone = integer(rng, 1, 20)
        value = a * b * c - gone
        problem = pick(
            rng,
            (
                f"There are ${a}$ {things[0]}, ${b}$ {things[1]} and ${c}$ {things[3]}. All {things[2]} but ${gone}$ "
                "are allowed. How many is that?",
                f"How many {things[2]} are made of ${a}$ {things[0]}, ${b}$ {things[1]} and ${c}$ {things[3]}, if "
                f"${gone}$ are ruled out?",
            ),
        )
        steps = (
            rf"The first two give ${a} \cdot {b} = {a * b}$.",
            f"With the third: ${times(c, a * b)}$.",
            f"Take away: ${a * b * c} - {gone} = {value}$.",
        )

    def referee() -> bool:
        sizes = (a, b) if level == 1 else (a, b, c)
        count = sum(1 for _ in itertools.product(*(range(n) for n in sizes)))
        return count - gone == value

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(1, 2))
def pairs_and_handshakes(rng: np.random.Generator, level: int) -> Draft:
    """Unordered pairs, all or across two groups."""
    steps: tuple[str, ...]
    if level == 1:
        n, extra = integer(rng, 4, 12), integer(rng, 2, 60)
        whole = n * (n - 1)
        value = whole // 2 + extra
        problem = pick(
            rng,
            (
                f"${n}$ people all shake hands once with each other, and ${extra}$ more handshakes follow. How many "
                "handshakes are there in all?",
                f"${n}$ teams each play each other once, and then ${extra}$ more games. How many games are played?",
            ),
        )
        steps = (
            f"${times(n - 1, n)}$.",
            rf"Each pair is counted twice: ${whole} \div 2 = {whole // 2}$.",
            f"In all ${whole // 2} + {extra} = {value}$.",
        )

        def referee() -> bool:
            import sympy

            return bool(sympy.binomial(n, 2) + extra == value)

    else:
        a, b, extra = integer(rng, 3, 9), integer(rng, 3, 9), integer(rng, 2, 30)
        whole = a * (a - 1)
        across = whole // 2 + a * b
        value = across + extra
        problem = pick(
            rng,
            (
                f"${a}$ hosts shake hands with each other and with each of ${b}$ guests. Then ${extra}$ more handshakes "
                "follow. How many is that in all?",
                f"Each of ${a}$ home teams plays every other home team once and each of ${b}$ guest teams once. Then "
                f"${extra}$ more games follow. How many is that?",
            ),
        )
        steps = (
            rf"Among the first: ${a} \cdot {a - 1} = {whole}$ and ${whole} \div 2 = {whole // 2}$.",
            rf"Across: ${a} \cdot {b} = {a * b}$.",
            f"Together ${whole // 2} + {a * b} = {across}$.",
            f"In all ${across} + {extra} = {value}$.",
        )

        def referee() -> bool:
            import sympy

            return bool(sympy.binomial(a + b, 2) - sympy.binomial(b, 2) + extra == value)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(1, 2))
def urn(rng: np.random.Generator, level: int) -> Draft:
    """The probability of one colour, or of not getting one."""
    colours = sample(rng, COLOURS, 2 + (level == 2))
    counts = [integer(rng, 2, 24 if level == 1 else 12) for _ in colours]
    total = sum(counts)
    contents = ", ".join(f"${n}$ {c}" for n, c in zip(counts[:-1], colours[:-1], strict=True))
    contents += f" and ${counts[-1]}$ {colours[-1]}"
    head: tuple[str, ...]
    if level == 1:
        good, what = counts[0], colours[0]
        head = (f"There are ${counts[0]} + {counts[1]} = {total}$ marbles.",)
    else:
        good, what = counts[0] + counts[1], f"not {colours[2]}"
        head = (
            f"Not {colours[2]} are ${counts[0]} + {counts[1]} = {good}$.",
            f"In all there are ${good} + {counts[2]} = {total}$.",
        )
    answer = frac(Fraction(good, total))
    problem = pick(
        rng,
        (
            f"A bag holds {contents} marbles. One is drawn at random. What is the probability that it is {what}?",
            f"From {contents} marbles one is chosen at random. Find the probability that it is {what}.",
        ),
    )
    common = math.gcd(good, total)
    steps = [*head]
    if common == 1:
        steps.append(f"The probability is ${answer}$.")
    else:
        steps.append(f"The share is ${raw_frac(good, total)}$.")
        steps.append(f"Divide by ${common}$: ${answer}$.")

    def referee() -> bool:
        import sympy

        last, every = counts[-1], sum(counts)
        return same_fraction(answer, 1 - sympy.Rational(last, every))

    return Draft(problem=problem, answer=answer, steps=tuple(steps), referee=referee)


@template("counting_and_probability", levels=(1, 2))
def two_draws(rng: np.random.Generator, level: int) -> Draft:
    """Two independent events, or one after the other without putting back."""
    if level == 1:
        a, b, c, d = draw_until(
            lambda: (
                integer(rng, 1, 8),
                integer(rng, 2, 9),
                integer(rng, 1, 6),
                integer(rng, 2, 7),
            ),
            lambda n: n[0] < n[1] and n[2] < n[3],
        )
        p, q = Fraction(a, b), Fraction(c, d)
        problem = pick(
            rng,
            (
                f"Two independent events have probabilities ${frac(p)}$ and ${frac(q)}$. What is the probability that "
                "both happen?",
                f"It rains with probability ${frac(p)}$, and independently the bus is late with probability "
                f"${frac(q)}$. Find the probability of both.",
            ),
        )
        top, bottom = p.numerator * q.numerator, p.denominator * q.denominator
        head = [
            f"Multiply the tops: ${times(p.numerator, q.numerator)}$.",
            f"Multiply the bottoms: ${times(p.denominator, q.denominator)}$.",
        ]
        value = p * q
    else:
        good, b, c = draw_until(
            lambda: (integer(rng, 2, 9), integer(rng, 1, 9), integer(rng, 1, 9)),
            lambda n: sum(n) <= 13,
        )
        total = good + b + c
        problem = pick(
            rng,
            (
                f"A box has ${good}$ red, ${b}$ blue and ${c}$ green {pick(rng, ('bulbs', 'pens'))}. Two are taken "
                "without replacement. What is the probability that both are red?",
                f"Two of ${good}$ red, ${b}$ blue and ${c}$ green balls are drawn without replacement. Find the "
                "probability that both are red.",
            ),
        )
        top, bottom = good * (good - 1), total * (total - 1)
        head = [
            f"In all there are ${good} + {b} + {c} = {total}$.",
            f"Ways: ${times(good - 1, good)}$ of ${times(total - 1, total)}$.",
        ]
        value = Fraction(top, bottom)
    answer = frac(value)
    common = math.gcd(top, bottom)
    steps = [*head, f"The probability is ${raw_frac(top, bottom)}$."]
    if common > 1:
        steps.append(f"Divide by ${common}$: ${answer}$.")

    def referee() -> bool:
        import sympy

        if level == 1:
            cells = itertools.product(range(b), range(d))
            exact = sympy.Rational(sum(i < a and j < c for i, j in cells), b * d)
        else:
            exact = sympy.binomial(good, 2) / sympy.binomial(good + b + c, 2)
        return same_fraction(answer, exact)

    return Draft(problem=problem, answer=answer, steps=tuple(steps), referee=referee)


@template("counting_and_probability", levels=(1, 2))
def expected_value(rng: np.random.Generator, level: int) -> Draft:
    """What a game pays on average."""
    sides = pick(rng, (3, 4, 5, 6, 8, 10)) if level == 1 else pick(rng, (3, 4, 5, 6, 8))
    win = integer(rng, 1, sides - 1)
    other = sides - win
    while True:
        x, y = integer(rng, 2, 40 if level == 1 else 20), integer(rng, 0, 12) if level == 2 else 0
        if (win * x + other * y) % sides == 0 and x != y:
            break
    value = (win * x + other * y) // sides
    lose = f"\\${y} otherwise" if level == 2 else "nothing otherwise"
    problem = pick(
        rng,
        (
            f"A spinner has ${sides}$ equal parts. On ${win}$ of them you win \\${x}, and {lose}. How many dollars do "
            "you win on average?",
            f"In ${win}$ of ${sides}$ equally likely cases a game pays \\${x}, and {lose}. Find its expected value in "
            "dollars.",
        ),
    )
    steps: tuple[str, ...]
    if level == 1:
        steps = (
            f"The good cases pay ${times(win, x)}$.",
            rf"Divide by ${sides}$: ${win * x} \div {sides} = {value}$.",
        )
    else:
        steps = (
            f"The good cases pay ${times(win, x)}$.",
            rf"The others pay ${other} \cdot {y} = {other * y}$.",
            f"Together ${win * x} + {other * y} = {win * x + other * y}$.",
            rf"Divide by ${sides}$: ${win * x + other * y} \div {sides} = {value}$.",
        )

    def referee() -> bool:
        import sympy

        mean = sympy.Rational(win, sides) * x + (1 - sympy.Rational(win, sides)) * y
        return same_fraction(str(value), mean)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(1, 2))
def overlapping_groups(rng: np.random.Generator, level: int) -> Draft:
    """Inclusion and exclusion for two groups."""
    both = integer(rng, 2, 12)
    a, b = both + integer(rng, 2, 20), both + integer(rng, 2, 20)
    union = a + b - both
    pair = pick(rng, (("French", "Spanish"), ("chess", "tennis"), ("cats", "dogs"), ("tea", "coffee")))
    steps: tuple[str, ...]
    if level == 1:
        value, total = union, union
        problem = pick(
            rng,
            (
                f"In a class ${a}$ students like {pair[0]}, ${b}$ like {pair[1]} and ${both}$ like both. How many like "
                "at least one?",
                f"${a}$ people chose {pair[0]}, ${b}$ chose {pair[1]}, and ${both}$ chose both. How many people chose "
                "something?",
            ),
        )
        steps = (
            f"Add: ${a} + {b} = {a + b}$.",
            f"Those in both count once: ${a + b} - {both} = {value}$.",
        )
    else:
        total = union + integer(rng, 3, 30)
        value = total - union
        problem = pick(
            rng,
            (
                f"Of ${total}$ students, ${a}$ like {pair[0]}, ${b}$ like {pair[1]} and ${both}$ like both. How many "
                "like neither?",
                f"${total}$ people were asked: ${a}$ chose {pair[0]}, ${b}$ chose {pair[1]}, ${both}$ both. How many "
                "chose neither?",
            ),
        )
        steps = (
            f"Add: ${a} + {b} = {a + b}$.",
            f"Those in both count once: ${a + b} - {both} = {union}$.",
            f"Neither: ${total} - {union} = {value}$.",
        )

    def referee() -> bool:
        first, second = set(range(a)), set(range(a - both, a - both + b))
        together = len(first | second)
        return value == (together if level == 1 else total - together)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(1, 2))
def seats_in_order(rng: np.random.Generator, level: int) -> Draft:
    """Ordered choices without repetition, and some more."""
    steps: tuple[str, ...]
    n = integer(rng, 4, 12) if level == 1 else integer(rng, 4, 10)
    if level == 1:
        more = integer(rng, 2, 80)
        value = n * (n - 1) + more
        problem = pick(
            rng,
            (
                f"A club of ${n}$ chooses a president and a different secretary, or one of ${more}$ outside offers. "
                "How many choices are there?",
                f"Count the ways to give first and second prize to ${n}$ runners, and add ${more}$. What is the result?",
            ),
        )
        steps = (
            f"The ordered choices: ${times(n - 1, n)}$.",
            f"Add: ${n * (n - 1)} + {more} = {value}$.",
        )

        def referee() -> bool:
            return len(list(itertools.permutations(range(n), 2))) + more == value

    else:
        m, gone = integer(rng, 3, 9), integer(rng, 1, 20)
        both = n * (n - 1) * m
        value = both - gone
        problem = pick(
            rng,
            (
                f"A club of ${n}$ elects a chair and a different deputy, and one of ${m}$ guests speaks. ${gone}$ of the "
                "outcomes are ruled out. How many are left?",
                f"First and second prize go to two of ${n}$ runners and a cup to one of ${m}$ riders. All outcomes but "
                f"${gone}$ are allowed. How many is that?",
            ),
        )
        steps = (
            rf"The first two: ${n} \cdot {n - 1} = {n * (n - 1)}$.",
            f"With the third: ${times(m, n * (n - 1))}$.",
            f"Take away: ${both} - {gone} = {value}$.",
        )

        def referee() -> bool:
            return len(list(itertools.permutations(range(n), 2))) * m - gone == value

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(3,))
def word_arrangements(rng: np.random.Generator, level: int) -> Draft:
    """Arrangements of letters of which some are equal."""
    letters = sorted(pick(rng, WORDS))
    keep = integer(rng, 4, min(len(letters), 8))
    chosen = sample(rng, letters, keep)
    word = "".join(chosen)
    repeats = sorted((word.count(c) for c in set(word) if word.count(c) > 1), reverse=True)
    value = math.factorial(len(word)) // math.prod(math.factorial(r) for r in repeats)
    problem = pick(
        rng,
        (
            rf"How many different arrangements of the letters $\text{{{word}}}$ are there?",
            rf"In how many distinguishable ways can the letters of $\text{{{word}}}$ be ordered?",
        ),
    )
    under = "".join(f"{r}!" for r in repeats)
    text = rf"\frac{{{len(word)}!}}{{{under}}}" if repeats else f"{len(word)}!"
    steps = (
        f"There are ${len(word)}$ letters"
        + (
            f", of which groups of {', '.join(f'${r}$' for r in repeats)} are equal." if repeats else ", all different."
        ),
        f"The number of arrangements is ${text} = {value}$.",
    )

    def referee() -> bool:
        if len(word) <= 7:
            return len(set(itertools.permutations(word))) == value
        import sympy

        count = sympy.factorial(len(word))
        for letter in set(word):
            count /= sympy.factorial(word.count(letter))
        return bool(count == value)

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(3, 4))
def committees(rng: np.random.Generator, level: int) -> Draft:
    """Committees with conditions on two groups."""
    women, men = integer(rng, 4, 10), integer(rng, 4, 10)
    size = integer(rng, 3, 4 if level == 3 else 5)
    wanted = integer(rng, 1, size - 1)
    at_least = level == 4
    cases = range(wanted, size + 1) if at_least else (wanted,)
    counts = [math.comb(women, k) * math.comb(men, size - k) for k in cases]
    value = sum(counts)
    rule = f"at least ${wanted}$" if at_least else f"exactly ${wanted}$"
    problem = pick(
        rng,
        (
            f"A committee of ${size}$ is chosen from ${women}$ women and ${men}$ men. How many committees have {rule} "
            f"{'woman' if wanted == 1 else 'women'}?",
            f"In how many ways can ${size}$ people be chosen from ${women}$ women and ${men}$ men so that {rule} "
            f"{'is a woman' if wanted == 1 else 'are women'}?",
        ),
    )
    steps = tuple(
        rf"With ${k}$ of the women: $\binom{{{women}}}{{{k}}}\binom{{{men}}}{{{size - k}}} = {n}$."
        for k, n in zip(cases, counts, strict=True)
    ) + ((f"The sum is ${' + '.join(map(str, counts))} = {value}$.",) if len(counts) > 1 else ())

    def referee() -> bool:
        from sympy import Poly, symbols

        x, y = symbols("x y")
        product = Poly((1 + x * y) ** women * (1 + y) ** men, x, y)
        return sum(product.coeff_monomial(x**k * y**size) for k in cases) == value

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(3, 4))
def dice_sums(rng: np.random.Generator, level: int) -> Draft:
    """The probability of a sum of dice."""
    sides = (pick(rng, (4, 6, 8, 10, 12)), pick(rng, (4, 6, 8, 10, 12, 20)))
    target = integer(rng, 3, sum(sides) - 1)
    above = level == 4
    outcomes = [x + y for x in range(1, sides[0] + 1) for y in range(1, sides[1] + 1)]
    good = sum(s > target if above else s == target for s in outcomes)
    answer = frac(Fraction(good, len(outcomes)))
    rule = f"greater than ${target}$" if above else f"equal to ${target}$"
    alike = sides[0] == sides[1]
    problem = pick(
        rng,
        (
            f"A fair ${sides[0]}$-sided die and {'another' if alike else 'a'} fair ${sides[1]}$-sided die are rolled. "
            f"What is the probability that the sum is {rule}?",
            f"Two fair dice are rolled, one with ${sides[0]}$ sides and the other {'also ' if alike else ''}with "
            f"${sides[1]}$. Find the probability that the sum is {rule}.",
        ),
    )
    steps = (
        f"There are ${times(*sides)}$ equally likely outcomes.",
        f"The sum is {rule} in ${good}$ of them.",
        f"The probability is ${reduced(good, len(outcomes))}$.",
    )

    def referee() -> bool:
        import sympy

        x = sympy.symbols("x")
        product = sympy.Poly(sum(x**k for k in range(1, sides[0] + 1)) * sum(x**k for k in range(1, sides[1] + 1)), x)
        fitting = range(target + 1, sum(sides) + 1) if above else (target,)
        count = sum(product.coeff_monomial(x**k) for k in fitting)
        return same_fraction(answer, sympy.Rational(count, sides[0] * sides[1]))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("counting_and_probability", levels=(4, 5))
def lattice_paths(rng: np.random.Generator, level: int) -> Draft:
    """Shortest paths on a grid, with a point to avoid."""
    right, up = integer(rng, 4, 8 if level == 4 else 11), integer(rng, 4, 8 if level == 4 else 11)
    x, y = integer(rng, 1, right - 1), integer(rng, 1, up - 1)
    whole = math.comb(right + up, up)
    through = math.comb(x + y, y) * math.comb(right - x + up - y, up - y)
    value = through if level == 4 else whole - through
    rule = "pass through" if level == 4 else "avoid"
    problem = pick(
        rng,
        (
            f"Moving one unit right or up at a time, how many paths from $(0,0)$ to $({right},{up})$ {rule} the point "
            f"$({x},{y})$?",
            f"How many lattice paths of steps right and up lead from the origin to $({right},{up})$ and {rule} "
            f"$({x},{y})$?",
        ),
    )
    steps = (
        rf"There are $\binom{{{x + y}}}{{{y}}} = {math.comb(x + y, y)}$ paths to the point.",
        rf"There are $\binom{{{right - x + up - y}}}{{{up - y}}} = {math.comb(right - x + up - y, up - y)}$ from there on.",
        rf"So ${math.comb(x + y, y)} \cdot {math.comb(right - x + up - y, up - y)} = {through}$ paths pass through it.",
        *(
            (rf"Of $\binom{{{right + up}}}{{{up}}} = {whole}$ paths there remain ${whole} - {through} = {value}$.",)
            if level == 5
            else ()
        ),
    )

    def referee() -> bool:
        @cache
        def count(i: int, j: int, seen: bool) -> int:
            seen = seen or (i, j) == (x, y)
            if (i, j) == (right, up):
                return seen == (level == 4)
            ahead = count(i + 1, j, seen) if i < right else 0
            return ahead + (count(i, j + 1, seen) if j < up else 0)

        return count(0, 0, False) == value

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(4, 5))
def conditional(rng: np.random.Generator, level: int) -> Draft:
    """Which urn it came from: Bayes' rule with whole numbers."""
    a, b, c, d = (integer(rng, 1, 9) for _ in range(4))
    k = 1 if level == 4 else integer(rng, 2, 4)
    first, second = Fraction(a, a + b), Fraction(c, c + d)
    answer = frac(k * first / (k * first + second))
    chance = "One bag is chosen at random" if level == 4 else f"Bag A is chosen ${k}$ times as often as bag B"
    in_a, in_b = (f"${red}$ red and ${blue}$ blue {'ball' if blue == 1 else 'balls'}" for red, blue in ((a, b), (c, d)))
    drawn = f"{chance}, and a ball is drawn from the chosen bag."
    problem = pick(
        rng,
        (
            f"Bag A has {in_a}, and bag B has {in_b}. {drawn} The ball is red. What is the probability that it came "
            "from bag A?",
            f"Bag A holds {in_a}, and bag B holds {in_b}. {drawn} Given that the ball is red, find the probability "
            "that it came from bag A.",
        ),
    )
    steps = (
        f"Red has probability ${raw_frac(a, a + b)}$ from bag A and ${raw_frac(c, c + d)}$ from bag B.",
        f"Bags A and B are chosen in the ratio ${k}:1$, so red balls from them are in the ratio of ${frac(k * first)}$ "
        f"to ${frac(second)}$.",
        f"The sum of the two numbers is ${frac(k * first + second)}$, and bag A's share of it is ${answer}$.",
    )

    def referee() -> bool:
        import sympy

        prior = sympy.Rational(k, k + 1)
        red_a, red_b = prior * sympy.Rational(a, a + b), (1 - prior) * sympy.Rational(c, c + d)
        return same_fraction(answer, red_a / (red_a + red_b))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("counting_and_probability", levels=(3, 4, 5))
def binomial_terms(rng: np.random.Generator, level: int) -> Draft:
    """A coefficient of a power of a binomial."""
    n = integer(rng, 4, 4 + level)
    k = integer(rng, 1, n - 1)
    a = integer(rng, 1, 2 + level)
    b = integer(rng, 1, 2 + level) * (1 if level == 3 else int(rng.choice([-1, 1])))
    value = math.comb(n, k) * a**k * b ** (n - k)
    inner = f"{'' if a == 1 else a}x {'-' if b < 0 else '+'} {abs(b)}"
    symbol = "x" if k == 1 else f"x^{k}"
    problem = pick(
        rng,
        (
            f"What is the coefficient of ${symbol}$ in the expansion of $({inner})^{n}$?",
            f"Find the coefficient of ${symbol}$ in $({inner})^{n}$.",
        ),
    )
    shown = f"({b})" if b < 0 else str(b)
    steps = (
        rf"The term is $\binom{{{n}}}{{{k}}} \cdot {a}^{k} \cdot {shown}^{{{n - k}}}$ times ${symbol}$.",
        rf"Here $\binom{{{n}}}{{{k}}} = {math.comb(n, k)}$, ${a}^{k} = {a**k}$ and ${shown}^{{{n - k}}} = {b ** (n - k)}$.",
        f"The coefficient is ${value}$.",
    )

    def referee() -> bool:
        import sympy

        x = sympy.symbols("x")
        return sympy.Poly((a * x + b) ** n, x).coeff_monomial(x**k) == value

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("counting_and_probability", levels=(5,))
def repeated_trials(rng: np.random.Generator, level: int) -> Draft:
    """Exactly so many successes in independent trials."""
    n = integer(rng, 4, 7)
    k = integer(rng, 2, n - 1)
    p = draw_until(lambda: Fraction(integer(rng, 1, 4), integer(rng, 2, 6)), lambda f: 0 < f < 1)
    answer = frac(math.comb(n, k) * p**k * (1 - p) ** (n - k))
    problem = pick(
        rng,
        (
            f"A coin shows heads with probability ${frac(p)}$. It is tossed ${n}$ times. What is the probability of "
            f"exactly ${k}$ heads?",
            f"Each of ${n}$ independent trials succeeds with probability ${frac(p)}$. Find the probability of exactly "
            f"${k}$ successes.",
            f"A player hits with probability ${frac(p)}$ each time. What is the probability of exactly ${k}$ hits in "
            f"${n}$ attempts?",
        ),
    )
    steps = (
        rf"There are $\binom{{{n}}}{{{k}}} = {math.comb(n, k)}$ orders.",
        f"Each has probability ${frac(p**k * (1 - p) ** (n - k))}$.",
        f"The product is ${answer}$.",
    )

    def referee() -> bool:
        import sympy

        x, rate = sympy.symbols("x"), sympy.Rational(p.numerator, p.denominator)
        return same_fraction(answer, sympy.Poly((rate * x + 1 - rate) ** n, x).coeff_monomial(x**k))

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)
