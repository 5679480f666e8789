"""Whether two numbers or expressions are the same answer: units, percents, letters, and rounded gold decimals."""

from __future__ import annotations

from fractions import Fraction

from llmrl.verifiers.math import numeric
from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.answers import Scalar
from llmrl.verifiers.math.evaluate import has_point, is_reduced
from llmrl.verifiers.math.parsing.units import droppable
from llmrl.verifiers.math.rules import GradingRules
from llmrl.verifiers.math.texts import plain_words
from llmrl.verifiers.math.values import PI, Exponent, Monomial, Polynomial, Value, number, single


class Scalars:
    """Compares numbers and expressions whose values live in one algebra.

    >>> from llmrl.verifiers.math.build import build
    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> do = Algebra()
    >>> gold, answer = (build(parse(text), do) for text in ("1.732x", r"\\sqrt{3} x"))
    >>> Scalars(do, GradingRules()).same(gold, answer), Scalars(do, GradingRules()).same(answer, gold)
    (True, False)
    """

    def __init__(self, do: Algebra, rules: GradingRules) -> None:
        self.do = do
        self.rules = rules

    def equal(self, gold: Value, answer: Value) -> bool:
        """Whether two values are equal."""
        if self.do.equal(gold, answer):
            return True
        if not gold.opaque() and not answer.opaque():
            return False
        return numeric.agree(self.do, gold, answer)

    def same(self, gold: Scalar, answer: Scalar) -> bool:
        """Whether two scalars are the same answer."""
        if self.rules.case and gold.word in tuple("ABCDE") and answer.word == gold.word.lower():
            return True  # a choice
        if gold.word and answer.word and min(len(gold.word), len(answer.word)) > 1:
            words = [plain_words(word, self.rules.case) for word in (gold.word, answer.word)]
            if words[0] == words[1] or len(gold.word) > 2 or not (gold.word + answer.word).islower():
                return words[0] == words[1]
        if not self.rules.unreduced and answer.written is not None and not is_reduced(answer.written):
            return False
        a, b = gold.value, answer.value
        if self.equal(a, b) or self._antiderivatives(a, b):
            return True
        if self.rules.units:
            if self._letters_for_units(a, b):
                return True
            bare_a, bare_b = self.bare(a), self.bare(b)
            if (bare_a is not a or bare_b is not b) and not clash(a, b):
                percents = (bare_a is a or gold.percent) and (bare_b is b or answer.percent)  # 25 dollars is not 25%
                if self.equal(bare_a, bare_b) or (percents and self._percents(gold, answer, bare_a, bare_b)):
                    return True
                half_turn = {"deg": single(PI, 1, Fraction(1, 180))}
                if self.equal(self.do.replace(a, "u", half_turn), self.do.replace(b, "u", half_turn)):
                    return True
        return self._percents(gold, answer, a, b) or self._rounded(gold, answer)

    def _antiderivatives(self, gold: Value, answer: Value) -> bool:
        """Whether both add a constant of integration, and the rest differs by a constant: ``x^2 + C``, ``x^2 + 1 + c``.

        In the gold answer it must be a capital C: a small letter may be a number that the problem names.
        """
        first, second = self._integrated(gold, ("C",)), self._integrated(answer, ("C", "c"))
        if first is None or second is None:
            return False
        return self.equal(first, second) or self.do.minus(first, second).constant()

    def _integrated(self, value: Value, letters: tuple[str, ...]) -> Value | None:
        """The function to which one of these letters is added, which is nowhere else in it."""
        for letter in letters:
            if ("s", letter) in value.atoms():
                rest = self.do.minus(value, single(("s", letter)))
                named = [key for kind, key in rest.atoms() if kind == "s"]
                return None if rest.constant() or not all(map(str.islower, named)) else rest
        return None

    def _letters_for_units(self, a: Value, b: Value) -> bool:
        """``3 m`` may be three metres or a product: equal if one is read as the other is."""
        names = {atom[1] for value in (a, b) for atom in value.atoms() if atom[0] == "u"}
        letters = {name: single(("s", name)) for name in names if len(name) == 1}
        return bool(letters) and self.equal(self.do.replace(a, "u", letters), self.do.replace(b, "u", letters))

    def bare(self, value: Value) -> Value:
        """The value without the units that may be left out; other words are part of the answer.

        Of an amount in several units, such as 2 h 30 min, none may be left out.
        """
        if len({tuple(part for part in monomial if part[0][0] == "u") for monomial in value.num}) > 1:
            return value
        names = {key for kind, key in value.atoms() if kind == "u"}
        return self.do.replace(value, "u", {name: number(1) for name in names if droppable(name)}) if names else value

    def _percents(self, gold: Scalar, answer: Scalar, a: Value, b: Value) -> bool:
        if not self.rules.percent or gold.percent == answer.percent:
            return False
        hundred = number(100)
        a = self.do.product(a, hundred) if gold.percent else a
        b = self.do.product(b, hundred) if answer.percent else b
        return self.equal(a, b)

    def _rounded(self, gold: Scalar, answer: Scalar) -> bool:
        """A gold answer that was itself rounded: ``1.732`` for an answer of exactly the root of 3."""
        if not self.rules.rounded_gold or _rounds(answer) or not _rounds(gold):
            return False
        if gold.decimals is None:
            return self._rounded_coefficients(gold.value, answer.value)
        target = gold.value.rational()
        if target is None or not gold.decimals or _significant(gold.digits) < 3:
            return False
        return self._rounds_to(answer.value, target, gold.decimals)

    def _rounded_coefficients(self, gold: Value, answer: Value) -> bool:
        """Whether two polynomials have the same terms, and each coefficient is equal or rounds to the gold one."""
        wanted, found = _coefficients(gold), _coefficients(answer)
        if wanted is None or found is None or wanted.keys() != found.keys():
            return False
        for term, coefficient in found.items():
            target = wanted[term].rational()
            if target is None:
                return False
            if self.equal(wanted[term], coefficient):
                continue
            decimals = _decimals(target)
            if decimals is None or _significant(str(abs(target.numerator) * 10**decimals // target.denominator)) < 3:
                return False
            if not self._rounds_to(coefficient, target, decimals):
                return False
        return True

    def _rounds_to(self, value: Value, target: Fraction, decimals: int) -> bool:
        """Whether a number with more digits than these rounds to the target."""
        exact = value.rational()
        distance = Fraction(1, 2 * 10**decimals)
        if exact is not None:
            return _decimals(exact) is None and abs(exact - target) <= distance
        return numeric.within(self.do, value, target, distance)


def clash(a: Value, b: Value) -> bool:
    """Whether both have units, and not the same."""
    units = [_dimension(value) for value in (a, b)]
    return bool(units[0] and units[1]) and units[0] != units[1]


def _dimension(value: Value) -> set[tuple[str, Exponent]]:
    """The units of a value with their exponents."""
    above = {(_singular(atom[1]), e) for monomial in value.num for atom, e in monomial if atom[0] == "u"}
    return above | {(_singular(atom[1]), -e) for m in value.den for atom, e in m if atom[0] == "u"}


def _singular(name: str) -> str:
    return name[:-1] if name.startswith("?") and name.endswith("s") else name


def _rounds(answer: Scalar) -> bool:
    """Whether a decimal stands in it, which may be rounded."""
    return answer.decimals is not None or (answer.written is not None and has_point(answer.written))


def _coefficients(value: Value) -> dict[Monomial, Value] | None:
    """The real constant in front of each product of symbols; None where symbols stand below, or in a function."""
    if any(kind in ("s", "E", "f", "r", "u") for part in value.den for (kind, _), _ in part):
        return None
    if any(kind in ("f", "r", "u") for part in value.num for (kind, _), _ in part):
        return None
    terms: dict[Monomial, Polynomial] = {}
    for monomial, coefficient in value.num.items():
        term = tuple(power for power in monomial if power[0][0] in ("s", "E", "i"))
        rest = tuple(power for power in monomial if power[0][0] not in ("s", "E", "i"))
        terms.setdefault(term, {})[rest] = coefficient
    return {term: Value(above, value.den) for term, above in terms.items()}


def _decimals(value: Fraction) -> int | None:
    """Digits after the point; None where they never end.

    >>> _decimals(Fraction(577, 1000)), _decimals(Fraction(1, 3))
    (3, None)
    """
    counts, rest = [], value.denominator
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        counts.append(count)
    return max(counts) if rest == 1 else None


def _significant(digits: str) -> int:
    """Digits of a number between the leading and the trailing zeros."""
    return len(digits.strip("-").replace(".", "").strip("0"))
