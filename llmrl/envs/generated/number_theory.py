"""Generated number theory: divisors, remainders, digits, bases, congruences.

Levels 1 and 2 take two to four elementary operations, each written out in one step of the solution.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from llmrl.envs.generated.latex import draw_until, integer, pick, sample, term, times
from llmrl.envs.generated.template import Draft, template

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)


def in_base(value: int, base: int) -> str:
    """The digits of a number in a base up to 10.

    >>> in_base(11, 2), in_base(0, 3)
    ('1011', '0')
    """
    digits = ""
    while value or not digits:
        value, digit = divmod(value, base)
        digits = str(digit) + digits
    return digits


def power_text(prime: int, exponent: int) -> str:
    """A prime power as a factor.

    >>> power_text(3, 1), power_text(2, 4)
    ('3', '2^4')
    """
    return str(prime) if exponent == 1 else f"{prime}^{exponent}"


def is_number(answer: str, value: object) -> bool:
    """Whether an integer answer is what the referee computed."""
    return int(answer) == value


@template("number_theory", levels=(1, 2))
def remainder_of_sum(rng: np.random.Generator, level: int) -> Draft:
    """The remainder of a sum or product by the remainders of its parts."""
    m = integer(rng, 3, 9)
    a, b = integer(rng, 2, 9) * m, integer(rng, 2, 9) * m
    r, s = integer(rng, 1, m - 1), integer(rng, 1, m - 1)
    if level == 1:
        text, joined, sign = f"{a + r} + {b + s}", r + s, "+"
    else:
        text, joined, sign = rf"{a + r} \cdot {b + s}", r * s, r"\cdot"
    value = joined % m
    problem = pick(
        rng,
        (
            f"What is the remainder when ${text}$ is divided by ${m}$?",
            f"Find the remainder when ${text}$ is divided by ${m}$.",
            rf"Compute ${text} \pmod{{{m}}}$.",
        ),
    )
    steps = (
        f"${a + r} - {a} = {r}$, so the first remainder is ${r}$.",
        f"${b + s} - {b} = {s}$, so the second is ${s}$.",
        f"Then ${r} {sign} {s} = {joined}$.",
        f"The remainder of ${joined}$ is ${value}$.",
    )

    def referee() -> bool:
        import sympy

        x, y = sympy.Integer(a + r), sympy.Integer(b + s)
        return is_number(str(value), sympy.Mod(x + y if level == 1 else x * y, m))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(1, 2))
def lcm_and_gcd(rng: np.random.Generator, level: int) -> Draft:
    """Greatest common divisor or least common multiple of two numbers."""
    g = integer(rng, 2, 9) if level == 1 else integer(rng, 4, 12)
    top = 7 if level == 1 else 9
    p, q = draw_until(lambda: (integer(rng, 2, top), integer(rng, 2, top)), lambda pq: math.gcd(*pq) == 1)
    a, b = g * p, g * q
    divisor = bool(rng.integers(2))
    if divisor:
        value = g
        problem = pick(
            rng,
            (
                f"What is the greatest common divisor of ${a}$ and ${b}$?",
                f"Find the greatest common factor of ${a}$ and ${b}$.",
                rf"Compute $\gcd({a}, {b})$.",
            ),
        )
        steps = (
            rf"${a} = {g} \cdot {p}$ and ${b} = {g} \cdot {q}$.",
            f"${p}$ and ${q}$ have no common factor.",
            f"So the greatest common divisor is ${g}$.",
        )
    else:
        value = g * p * q
        problem = pick(
            rng,
            (
                f"What is the least common multiple of ${a}$ and ${b}$?",
                f"Find the smallest positive integer that is a multiple of both ${a}$ and ${b}$.",
            ),
        )
        steps = (
            rf"${a} = {g} \cdot {p}$ and ${b} = {g} \cdot {q}$.",
            f"${p}$ and ${q}$ have no common factor.",
            f"The least common multiple is ${times(q, a)}$.",
        )

    def referee() -> bool:
        import sympy

        return is_number(str(value), sympy.gcd(a, b) if divisor else sympy.lcm(a, b))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(1, 2))
def base_to_ten(rng: np.random.Generator, level: int) -> Draft:
    """A number in another base, written in base ten."""
    base = integer(rng, 3, 9)
    if level == 1:
        high, low = integer(rng, 1, base - 1), integer(rng, 0, base - 1)
        other = integer(rng, 3, 30)
        number, value = f"{high}{low}_{{{base}}}", high * base + low + other
        problem = pick(
            rng,
            (
                f"What is ${number} + {other}$ in base ten, if ${other}$ is in base ten?",
                f"Write ${number}$ in base ten, then add ${other}$. What is the result?",
            ),
        )
        steps = (
            f"${times(high, base)}$.",
            f"${high * base} + {low} = {high * base + low}$.",
            f"The sum is ${high * base + low} + {other} = {value}$.",
        )
    else:
        x, y, z = integer(rng, 1, 2), integer(rng, 0, base - 1), integer(rng, 0, base - 1)
        number, value = f"{x}{y}{z}_{{{base}}}", x * base * base + y * base + z
        problem = pick(
            rng,
            (
                f"What is ${number}$ in base ten?",
                f"Convert ${number}$ to base ten.",
                f"Express the base-${base}$ number ${number}$ in base ten.",
            ),
        )
        steps = (
            rf"${x} \cdot {base * base} = {x * base * base}$ and ${y} \cdot {base} = {y * base}$.",
            f"${x * base * base} + {y * base} = {x * base * base + y * base}$.",
            f"${x * base * base + y * base} + {z} = {value}$.",
        )

    def referee() -> bool:
        digits = number.split("_")[0]
        return is_number(str(value), int(digits, base) + (other if level == 1 else 0))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(1, 2))
def digit_sums(rng: np.random.Generator, level: int) -> Draft:
    """Divisibility by 9 or 11 decides a missing digit."""
    m = 9 if level == 1 else 11
    length = 3 if level == 1 else 4
    steps: tuple[str, ...]
    while True:
        digits = [integer(rng, 1, 9) for _ in range(length)]
        place = integer(rng, 1, length - 1)
        if level == 1:
            rest = sum(d for i, d in enumerate(digits) if i != place)
            missing = -rest % 9
            if missing == 0:
                continue
            target = rest + missing
            known = [d for i, d in enumerate(digits) if i != place]
            steps = (
                f"The known digits sum to ${known[0]} + {known[1]} = {rest}$.",
                f"The next multiple of $9$ is ${target}$.",
                f"So the digit is ${target} - {rest} = {missing}$.",
            )
        else:
            odd = [d for i, d in enumerate(digits) if i % 2 == 0 and i != place]
            even = [d for i, d in enumerate(digits) if i % 2 == 1 and i != place]
            full, single = (odd, even) if place % 2 == 1 else (even, odd)
            total = sum(full)
            missing = (total - single[0]) % 11
            if missing > 9 or total < single[0]:
                continue
            steps = (
                f"The places that are complete give ${full[0]} + {full[1]} = {total}$.",
                rf"The other places give ${single[0]} + \square$.",
                f"They differ by ${total} - {single[0]} = {total - single[0]}$.",
                f"Modulo $11$ the digit is ${missing}$.",
            )
        break
    shown = "".join(r"\square " if i == place else str(d) for i, d in enumerate(digits)).strip()
    problem = pick(
        rng,
        (
            rf"The number ${shown}$ is divisible by ${m}$. Which digit is $\square$?",
            rf"Find the digit $\square$ such that ${shown}$ is a multiple of ${m}$.",
            f"Which digit in the box makes ${shown}$ divisible by ${m}$?",
        ),
    )

    def referee() -> bool:
        fitting = [d for d in range(10) if int(shown.replace(r"\square", str(d)).replace(" ", "")) % m == 0]
        return fitting == [missing]

    return Draft(problem=problem, answer=str(missing), steps=steps, referee=referee)


@template("number_theory", levels=(1, 2, 3))
def count_divisors(rng: np.random.Generator, level: int) -> Draft:
    """How many positive divisors a number has, from its prime factorisation."""
    while True:
        count = 2 if level == 1 else 3
        primes = sorted(int(p) for p in rng.choice(PRIMES[:8], size=count, replace=False))
        exponents = [integer(rng, 1, 7 if level == 1 else 5) for _ in primes]
        number = math.prod(p**e for p, e in zip(primes, exponents, strict=True))
        if number < 10**7:
            break
    factors = [power_text(p, e) for p, e in zip(primes, exponents, strict=True)]
    product_text = r" \cdot ".join(factors)
    value = math.prod(e + 1 for e in exponents)
    shown = str(number) if level == 3 else product_text
    problem = pick(
        rng,
        (
            f"How many positive divisors does ${shown}$ have?",
            f"Find the number of positive divisors of ${shown}$.",
            f"How many positive integers divide ${shown}$?",
        ),
    )
    plus = [e + 1 for e in exponents]
    running = [plus[0]]
    for p in plus[1:]:
        running.append(running[-1] * p)
    products = [
        rf"${before} \cdot {p} = {after}$" for (before, after), p in zip(pairwise(running), plus[1:], strict=True)
    ]
    head = (f"We factor ${number} = {product_text}$.",) if level == 3 else ()
    steps = (
        *head,
        "Add $1$ to each exponent: " + ", ".join(f"${e} + 1 = {e + 1}$" for e in exponents) + ".",
        "Multiply: " + ", ".join(products) + ".",
    )

    def referee() -> bool:
        import sympy

        return is_number(str(value), sympy.divisor_count(number))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(1, 2))
def multiples_between(rng: np.random.Generator, level: int) -> Draft:
    """How many multiples of a number lie in a range."""
    m = integer(rng, 3, 9) if level == 1 else integer(rng, 4, 9)
    first = 1 if level == 1 else integer(rng, 2, 8)
    last = first + integer(rng, 4, 11)
    low = m * first - integer(rng, 1, m - 1)
    high = m * last + integer(rng, 1, m - 1)
    value = last - first + 1
    problem = pick(
        rng,
        (
            f"How many multiples of ${m}$ are between ${low}$ and ${high}$?",
            f"How many integers between ${low}$ and ${high}$ are divisible by ${m}$?",
        ),
    )
    steps = (
        rf"The first is ${m} \cdot {first} = {m * first}$.",
        f"The last is ${times(last, m)}$.",
        f"There are ${last} - {first} + 1 = {value}$.",
    )

    def referee() -> bool:
        return is_number(str(value), sum(n % m == 0 for n in range(low, high + 1)))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(1, 2))
def clock_and_calendar(rng: np.random.Generator, level: int) -> Draft:
    """Hours and weekdays, counted around."""
    days = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
    steps: tuple[str, ...]
    if level == 1:
        start, gone = integer(rng, 1, 12), integer(rng, 13, 60)
        total = start + gone
        value = total % 12 or 12
        problem = pick(
            rng,
            (
                f"A clock shows ${start}$ o'clock. What hour does it show after ${gone}$ hours?",
                f"It is ${start}$ o'clock on a $12$-hour clock. What hour will it be ${gone}$ hours later?",
            ),
        )
        away = total - value
        steps = (
            f"Add: ${start} + {gone} = {total}$.",
            f"Full turns take away ${away}$: ${total} - {away} = {value}$.",
        )

        def referee() -> bool:
            hour = start
            for _ in range(gone):
                hour = hour % 12 + 1
            return is_number(str(value), hour)

        answer = str(value)
    else:
        begin, gone = integer(rng, 0, 6), integer(rng, 20, 99)
        weeks, left = divmod(gone, 7)
        answer = rf"\text{{{days[(begin + left) % 7]}}}"
        problem = pick(
            rng,
            (
                f"Today is {days[begin]}. What day of the week will it be in ${gone}$ days?",
                f"If today is {days[begin]}, which day of the week is it ${gone}$ days from now?",
            ),
        )
        steps = (
            f"${weeks}$ weeks are ${times(7, weeks)}$ days.",
            f"Left over are ${gone} - {7 * weeks} = {left}$ days.",
            f"${left}$ days after {days[begin]} comes ${answer}$.",
        )

        def referee() -> bool:
            import datetime

            day = datetime.date(2023, 1, 1) + datetime.timedelta(days=begin + gone)
            return answer == rf"\text{{{day:%A}}}"

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("number_theory", levels=(3, 4))
def last_digits(rng: np.random.Generator, level: int) -> Draft:
    """The last digit, or the remainder, of a large power."""
    exponent = integer(rng, 20, 2500)
    if level == 3:
        base, m = draw_until(lambda: integer(rng, 2, 99), lambda b: b % 10 > 1), 10
        what = f"the units digit of ${base}^{{{exponent}}}$"
    else:
        base, m = draw_until(
            lambda: (integer(rng, 2, 30), pick(rng, (7, 9, 11, 13))),
            lambda bm: math.gcd(*bm) == 1 and bm[0] % bm[1] > 1,
        )
        what = f"the remainder when ${base}^{{{exponent}}}$ is divided by ${m}$"
    problem = pick(rng, (f"What is {what}?", f"Find {what}."))
    cycle = [base % m]
    while (following := cycle[-1] * base % m) != cycle[0]:
        cycle.append(following)
    place = exponent % len(cycle)
    value = cycle[place - 1]
    steps = (
        f"Modulo ${m}$ the powers of ${base}$ are " + ", ".join(f"${c}$" for c in cycle) + ", and then repeat.",
        f"The period is ${len(cycle)}$, and ${exponent}$ leaves the remainder ${place}$ when divided by it.",
        f"So the power is congruent to ${value}$.",
    )

    def referee() -> bool:
        return is_number(str(value), pow(base, exponent, m))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(3, 4))
def modular_inverse(rng: np.random.Generator, level: int) -> Draft:
    """A linear congruence with one solution."""
    m = pick(rng, (7, 11, 13, 17, 19) if level == 3 else (23, 29, 31, 37, 41, 43, 47))
    a, b = integer(rng, 2, m - 1), integer(rng, 1, m - 1)
    inverse = pow(a, -1, m)
    value = inverse * b % m
    text = rf"{a}x \equiv {b} \pmod{{{m}}}"
    problem = pick(
        rng,
        (
            rf"Find the integer $x$ with $0 \le x < {m}$ such that ${text}$.",
            rf"Solve ${text}$ for $0 \le x < {m}$.",
            f"What is the smallest nonnegative integer $x$ that satisfies ${text}$?",
        ),
    )
    steps = (
        rf"Since ${a} \cdot {inverse} = {a * inverse} \equiv 1 \pmod{{{m}}}$, the inverse of ${a}$ is ${inverse}$.",
        rf"Then $x \equiv {inverse} \cdot {b} = {inverse * b}$.",
        rf"Reduced modulo ${m}$ this is ${value}$.",
    )

    def referee() -> bool:
        return [x for x in range(m) if (a * x - b) % m == 0] == [int(value)]

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(3, 4, 5))
def chinese_remainders(rng: np.random.Generator, level: int) -> Draft:
    """The smallest number with given remainders."""
    moduli = draw_until(
        lambda: sorted({integer(rng, 3, 13 if level < 5 else 17) for _ in range(2 if level == 3 else 3)}),
        lambda ms: len(ms) == (2 if level == 3 else 3) and math.lcm(*ms) == math.prod(ms),
    )
    remainders = [integer(rng, 1, m - 1) for m in moduli]
    whole = math.prod(moduli)
    value = next(n for n in range(1, whole + 1) if all(n % m == r for m, r in zip(moduli, remainders, strict=True)))
    parts = [f"${r}$ when divided by ${m}$" for m, r in zip(moduli, remainders, strict=True)]
    listed = ", ".join(parts[:-1]) + f" and {parts[-1]}"
    problem = pick(
        rng,
        (
            f"What is the smallest positive integer that leaves a remainder of {listed}?",
            f"Find the least positive integer with remainder {listed}.",
        ),
    )
    steps, found, step = [], remainders[0], moduli[0]
    steps.append(f"Numbers with the first remainder are ${found} + {step}k$.")
    for m, r in zip(moduli[1:], remainders[1:], strict=True):
        while found % m != r:
            found += step
        step *= m
        steps.append(
            f"The first of them with remainder ${r}$ modulo ${m}$ is ${found}$, and they repeat every ${step}$."
        )

    def referee() -> bool:
        from sympy.ntheory.modular import crt

        return is_number(str(value), crt(moduli, remainders)[0])

    return Draft(problem=problem, answer=str(value), steps=tuple(steps), referee=referee)


@template("number_theory", levels=(4, 5))
def divisor_sums(rng: np.random.Generator, level: int) -> Draft:
    """The sum of the divisors of a number, all or the even ones."""
    odd = sample(rng, PRIMES[1:13], 1) if level == 4 else sample(rng, PRIMES[1:8], 2)
    primes = [2, *sorted(odd)]
    exponents = [integer(rng, 1, 6), *(integer(rng, 1, 2) for _ in primes[1:])]
    number = math.prod(p**e for p, e in zip(primes, exponents, strict=True))
    even = bool(rng.integers(2))
    sums = [sum(p**k for k in range(e + 1)) for p, e in zip(primes, exponents, strict=True)]
    if even:
        sums[0] -= 1
    value = math.prod(sums)
    kind = "positive even divisors" if even else "positive divisors"
    problem = pick(
        rng,
        (
            f"What is the sum of the {kind} of ${number}$?",
            f"Find the sum of all {kind} of ${number}$.",
        ),
    )
    factored = r" \cdot ".join(power_text(p, e) for p, e in zip(primes, exponents, strict=True))
    brackets = []
    for i, (p, e) in enumerate(zip(primes, exponents, strict=True)):
        begin = 1 if even and i == 0 else 0
        brackets.append("(" + " + ".join(str(p**k) for k in range(begin, e + 1)) + ")")
    steps = (
        f"We factor ${number} = {factored}$.",
        f"The sum is ${''.join(brackets)}$" + (", where the power of $2$ is at least $1$." if even else "."),
        "This is $" + r" \cdot ".join(map(str, sums)) + f" = {value}$.",
    )

    def referee() -> bool:
        import sympy

        wanted = [d for d in sympy.divisors(number) if d % 2 == 0 or not even]
        return is_number(str(value), sum(wanted))

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)


@template("number_theory", levels=(3, 4, 5))
def other_bases(rng: np.random.Generator, level: int) -> Draft:
    """Sums and products in another base."""
    base = integer(rng, 3, 9)
    a = integer(rng, base, base**3 - 1 if level > 3 else base**2 - 1)
    b = integer(rng, base, base**2 - 1)
    times_sign = level == 5
    whole = a * b if times_sign else a + b
    left, right = f"{in_base(a, base)}_{{{base}}}", f"{in_base(b, base)}_{{{base}}}"
    sign = r"\cdot" if times_sign else "+"
    answer = f"{in_base(whole, base)}_{{{base}}}"
    problem = pick(
        rng,
        (
            f"Compute ${left} {sign} {right}$. Express your answer in base ${base}$.",
            f"What is ${left} {sign} {right}$ in base ${base}$?",
        ),
    )
    steps = (
        f"In base ten the numbers are ${a}$ and ${b}$.",
        f"${a} {sign} {b} = {whole}$.",
        f"In base ${base}$ this is ${answer}$.",
    )

    def referee() -> bool:
        digits = answer.split("_")[0]
        x, y = (int(text.split("_")[0], base) for text in (left, right))
        return int(digits, base) == (x * y if times_sign else x + y)

    return Draft(problem=problem, answer=answer, steps=steps, referee=referee)


@template("number_theory", levels=(4, 5))
def diophantine(rng: np.random.Generator, level: int) -> Draft:
    """How many solutions in positive integers a linear equation has."""
    a, b = draw_until(
        lambda: (integer(rng, 2, 9), integer(rng, 3, 13)), lambda ab: math.gcd(*ab) == 1 and ab[0] < ab[1]
    )
    c = integer(rng, 40, 150 if level == 4 else 400)
    ys = [y for y in range(1, c // b + 1) if (c - b * y) % a == 0 and c - b * y > 0]
    value = len(ys)
    problem = pick(
        rng,
        (
            f"How many ordered pairs $(x,y)$ of positive integers satisfy ${a}x + {b}y = {c}$?",
            f"Find the number of pairs of positive integers $(x,y)$ with ${a}x + {b}y = {c}$.",
        ),
    )
    residue = c * pow(b, -1, a) % a
    steps = (
        rf"Modulo ${a}$ the equation is ${term(b % a, 'y')} \equiv {c % a}$, so $y \equiv {residue} \pmod{{{a}}}$.",
        rf"From $x \ge 1$ we get $y \le {(c - a) // b}$.",
        f"In this range there is ${value}$ such $y$." if value == 1 else f"In this range there are ${value}$ such $y$.",
    )

    def referee() -> bool:
        return is_number(
            str(value),
            sum(a * x + b * y == c for x in range(1, c + 1) for y in range(1, c // b + 1)),
        )

    return Draft(problem=problem, answer=str(value), steps=steps, referee=referee)
