"""Whether two answers are the same under given rules.  The first argument is always the gold answer."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from fractions import Fraction

from llmrl.verifiers.math.algebra import Algebra
from llmrl.verifiers.math.answers import (
    Answer,
    Based,
    Builder,
    Combined,
    Dots,
    Equation,
    Inequality,
    Matrix,
    Piece,
    Pieces,
    Ratio,
    Scalar,
    Sequence,
    Words,
)
from llmrl.verifiers.math.line import as_pieces
from llmrl.verifiers.math.rules import GradingRules
from llmrl.verifiers.math.scalars import Scalars, clash
from llmrl.verifiers.math.texts import plain_words
from llmrl.verifiers.math.values import Value, number, proportion, single

_BASES = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
)


class Comparison:
    """Compares answers whose values live in one algebra.

    >>> from llmrl.verifiers.math.build import build
    >>> from llmrl.verifiers.math.parsing.parser import parse
    >>> do = Algebra()
    >>> gold, answer = (build(parse(text), do) for text in ("1, 2", "2, 1"))
    >>> Comparison(do, GradingRules()).same(gold, answer)
    True
    """

    def __init__(self, do: Algebra, rules: GradingRules) -> None:
        self.do = do
        self.rules = rules
        self.scalars = Scalars(do, rules)

    def same(self, gold: Answer, answer: Answer) -> bool:
        """Whether the answer says what the gold answer says."""
        if isinstance(gold, Equation) or isinstance(answer, Equation):
            return self._equations(gold, answer)
        if (
            isinstance(answer, Sequence)
            and answer.joiner == "or"
            and not (isinstance(gold, Sequence) and gold.kind != "tuple")
            and all(self.same(gold, item) for item in answer.items)
        ):
            return True  # one value in several notations
        if isinstance(gold, Builder) or isinstance(answer, Builder):
            return self._builders(gold, answer)
        if isinstance(gold, Pieces) or isinstance(answer, Pieces):
            return self._sets_of_reals(gold, answer)
        if not isinstance(gold, Sequence) and (alone := _alone(answer)) is not None:
            return self.same(gold, alone)
        if not isinstance(answer, Sequence) and (alone := _alone(gold)) is not None:
            return self.same(alone, answer)
        if isinstance(gold, Words) or isinstance(answer, Words):
            return self._words(gold, answer)
        if isinstance(gold, Based) or isinstance(answer, Based):
            return self._based(gold, answer)
        if isinstance(gold, Ratio) or isinstance(answer, Ratio):
            return self._ratios(gold, answer)
        if isinstance(gold, Matrix) or isinstance(answer, Matrix):
            return self._matrices(gold, answer)
        if isinstance(gold, Sequence) and isinstance(answer, Sequence):
            return self._sequences(gold, answer)
        if isinstance(gold, Combined) and isinstance(answer, Combined):
            return gold.operation == answer.operation and (
                self._matched(gold.operands, answer.operands)
                if gold.operation in ("cap", "cup", "piecewise")
                else self._in_order(gold.operands, answer.operands)
            )
        if isinstance(gold, Inequality) and isinstance(answer, Inequality):
            return self._inequalities(gold, answer)
        if isinstance(gold, Scalar) and isinstance(answer, Scalar):
            return self.scalars.same(gold, answer)
        return isinstance(gold, Dots) and isinstance(answer, Dots)

    # Words, bases, ratios

    def _words(self, gold: Answer, answer: Answer) -> bool:
        words = [_as_words(item) for item in (gold, answer)]
        if words[0] is None or words[1] is None:
            return False
        first, second = (plain_words(text, self.rules.case) for text in words if text is not None)
        return first == second and first != ""

    def _based(self, gold: Answer, answer: Answer) -> bool:
        if isinstance(gold, Based) and isinstance(answer, Based):
            return (gold.digits, _base(gold.base)) == (answer.digits, _base(answer.base))
        based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
        return (
            self.rules.units
            and isinstance(based, Based)
            and isinstance(other, Scalar)
            and (other.digits.lstrip("0") or other.word) == based.digits
        )

    def _ratios(self, gold: Answer, answer: Answer) -> bool:
        if isinstance(gold, Ratio) and isinstance(answer, Ratio):
            if gold.half or answer.half or gold.clock or answer.clock:
                return self._times_of_day(gold, answer)
            pairs = [
                (self.scalars.bare(a.value), self.scalars.bare(b.value))
                for a, b in zip(gold.items, answer.items, strict=False)
                if isinstance(a, Scalar) and isinstance(b, Scalar) and not clash(a.value, b.value)
            ]
            if not len(pairs) == len(gold.items) == len(answer.items):
                return False
            (a, b), *rest = pairs
            return all(self.scalars.equal(self.do.product(a, d), self.do.product(b, c)) for c, d in rest)
        ratio, other = (gold, answer) if isinstance(gold, Ratio) else (answer, gold)
        if isinstance(gold, Ratio) and gold.half and len(gold.items) == 1 and self.rules.units:
            return self.same(gold.items[0], answer)
        if not isinstance(ratio, Ratio) or not isinstance(other, Scalar):
            return False
        if len(ratio.items) != 2 or ratio.half or ratio.clock:
            return False
        a, b = (item.value if isinstance(item, Scalar) else None for item in ratio.items)  # type: ignore[assignment]
        return (
            a is not None and b is not None and bool(b.num) and self.scalars.equal(self.do.quotient(a, b), other.value)
        )

    def _times_of_day(self, gold: Ratio, answer: Ratio) -> bool:
        if gold.half != answer.half and ((gold.half and answer.half) or not self.rules.units):
            return False
        zero = Scalar(number(0))
        times = [(*time.items, zero)[: max(2, len(time.items))] for time in (gold, answer)]
        return self._in_order(*times)

    # Sequences and matrices

    def _sequences(self, gold: Sequence, answer: Sequence) -> bool:
        if any(isinstance(item, Dots) for item in gold.items):
            return self._in_order(gold.items, answer.items)
        if gold.kind == answer.kind == "set":
            return self._one_set(gold.items, answer.items)
        if len(gold.items) != len(answer.items):
            return False
        kinds = gold.kind, answer.kind
        if not _one_connective(gold, answer):
            return False
        if kinds == ("tuple", "tuple"):
            if len(gold.items) == 2 and {gold.brackets, answer.brackets} == {"()", "[]"}:
                return False  # an open interval is not a closed one
            return self._in_order(gold.items, answer.items)
        if "tuple" in kinds:
            return "list" in kinds and self.rules.tuple_parens and self._in_order(gold.items, answer.items)
        if kinds == ("list", "list") and (not self.rules.any_order or _labelled(gold) != _labelled(answer)):
            return self._in_order(gold.items, answer.items)
        return self._matched(gold.items, answer.items)

    def _in_order(self, gold: Items[Answer], answer: Items[Answer]) -> bool:
        return len(gold) == len(answer) and all(map(self.same, gold, answer))

    def _one_set(self, gold: Items[Answer], answer: Items[Answer]) -> bool:
        """Whether two sets have the same elements; one that is listed twice counts once."""
        return all(any(self.same(item, other) for other in answer) for item in gold) and all(
            any(self.same(item, other) for item in gold) for other in answer
        )

    def _matched(self, gold: Items[Answer], answer: Items[Answer]) -> bool:
        return _each_has_a_partner(gold, answer, self.same)

    def _matrices(self, gold: Answer, answer: Answer) -> bool:
        first, second = _rows(gold), _rows(answer)
        if first is None or second is None:
            return False
        return len(first) == len(second) and all(map(self._in_order, first, second))

    # Sets of reals, relations

    def _sets_of_reals(self, gold: Answer, answer: Answer) -> bool:
        first, second = as_pieces(gold), as_pieces(answer)
        if first is None or second is None:
            return False
        if first.variable and second.variable and first.variable != second.variable:
            return False
        if not self.rules.relations and (first.variable is None) != (second.variable is None):
            return False
        return _each_has_a_partner(first.pieces, second.pieces, self._piece)

    def _builders(self, gold: Answer, answer: Answer) -> bool:
        if isinstance(gold, Builder) and isinstance(answer, Builder):
            return self.same(gold.element, answer.element) and self._in_order(gold.conditions, answer.conditions)
        builder, other = (gold, answer) if isinstance(gold, Builder) else (answer, gold)
        if not isinstance(builder, Builder) or not builder.whole or not isinstance(other, Scalar):
            return False
        letters = {key for kind, key in other.value.atoms() if kind == "s"}
        if len(letters) != 1 or not letters <= set("kmnlj"):
            return False  # of a family such as k pi it need not be said that k is whole
        value = self.do.replace(other.value, "s", dict.fromkeys(letters, single(("s", "#1"))))
        return self.same(builder.element, Scalar(value))

    def _piece(self, gold: Piece, answer: Piece) -> bool:
        return (
            gold.low_closed == answer.low_closed
            and gold.high_closed == answer.high_closed
            and self.scalars.equal(gold.low, answer.low)
            and self.scalars.equal(gold.high, answer.high)
        )

    def _inequalities(self, gold: Inequality, answer: Inequality) -> bool:
        if gold.relation != answer.relation:
            return False
        ratio = self._factor(gold.value, answer.value)
        return ratio is not None and (ratio > 0 or gold.relation in ("ne", "="))

    def _factor(self, a: Value, b: Value) -> Fraction | None:
        """c with a = c b, when the quotient is a rational number; denominators of both are cleared."""
        if not a.num or not b.num:
            return None
        if a.den != b.den:
            a, b = Value(a.num, {(): Fraction(1)}), Value(b.num, {(): Fraction(1)})
        ratio = proportion(a.num, b.num)
        return ratio if ratio is not None else self.do.quotient(a, b).rational()

    def _equations(self, gold: Answer, answer: Answer) -> bool:
        if isinstance(gold, Equation) and isinstance(answer, Equation):
            a, b = self._assigned(gold, strict=True), self._assigned(answer, strict=True)
            if a and b and _one_name(a[0], b[0]) and self.same(a[1], b[1]):
                return True
            if a and b and a[0] == b[0] != "" and a[0].endswith("()") and self._of_one_variable(a[1], b[1]):
                return True
            return self._proportional(gold, answer)
        if isinstance(gold, Equation):
            assigned = self._assigned(gold, strict=True)
            return self.rules.assignments and assigned is not None and self.same(assigned[1], answer)
        assert isinstance(answer, Equation)
        assigned = self._assigned(answer, strict=False)
        return assigned is not None and self.same(gold, assigned[1])

    def _of_one_variable(self, gold: Answer, answer: Answer) -> bool:
        """Whether two functions of one variable are equal, whose variables have different names."""
        values = []
        for side in (gold, answer):
            letters = {key for kind, key in side.value.atoms() if kind == "s"} if isinstance(side, Scalar) else set()
            if not isinstance(side, Scalar) or len(letters) != 1 or side.value.opaque():
                return False
            values.append(self.do.replace(side.value, "s", dict.fromkeys(letters, single(("s", "#1")))))
        return self.scalars.equal(*values)

    def _assigned(self, equation: Equation, *, strict: bool) -> tuple[str, Answer] | None:
        """Name and value of ``x = 2 + 3 = 5``; None if the sides differ or nothing is named."""
        names = [name for name in equation.names if name is not None and (name or not strict)]
        rest = [
            side
            for side, name in zip(equation.sides, equation.names, strict=True)
            if name is None or (strict and not name)
        ]
        if not rest:
            return names[0], equation.sides[-1]
        if any(not self.same(rest[0], other) for other in rest[1:]):
            return None
        if names:
            return names[0], rest[-1]
        return None if strict and len(rest) < 2 else ("", rest[-1])

    def _proportional(self, gold: Equation, answer: Equation) -> bool:
        gaps = []
        for equation in (gold, answer):
            values = [side.value for side in equation.sides if isinstance(side, Scalar)]
            if len(values) != 2 or len(equation.sides) != 2:
                return False
            gaps.append(self.do.minus(*values))
        return self._factor(gaps[0], gaps[1]) is not None


def _one_connective(gold: Sequence, answer: Sequence) -> bool:
    """Whether statements are joined in the same way: "p and q" is not "p or q"; for values both list them."""
    joined = [{"land": "and", "lor": "or"}.get(item.joiner, item.joiner) for item in (gold, answer)]
    if joined[0] == joined[1]:
        return True
    if {"land", "lor"} & {gold.joiner, answer.joiner}:
        return False
    stated = all(isinstance(item, Scalar) and item.word for item in (*gold.items, *answer.items))
    return not (stated and set(joined) == {"and", "or"})


def _labelled(answer: Sequence) -> bool:
    """Whether each item has a name of its own."""
    names = [item.names[0] for item in answer.items if isinstance(item, Equation)]
    return len(set(names)) == len(answer.items)


def _one_name(a: str, b: str) -> bool:
    """Whether two left sides name one thing: y may stand for f(x)."""
    return a == b or ("y" in (a, b) and bool({a, b} & {"f()", "g()", "h()"}))


def _alone(answer: Answer) -> Answer | None:
    """The one item of a sequence; None where that is a sequence too, and so a row: ``[[1, 2]]``."""
    if not isinstance(answer, Sequence) or len(answer.items) != 1 or isinstance(answer.items[0], Sequence):
        return None
    return answer.items[0]


def _each_has_a_partner(gold: Items, answer: Items, same: Callable[..., bool]) -> bool:
    left = list(answer)
    for item in gold:
        partner = next((i for i, other in enumerate(left) if same(item, other)), None)
        if partner is None:
            return False
        left.pop(partner)
    return not left


def _rows(answer: Answer) -> tuple[tuple[Answer, ...], ...] | None:
    """An answer as a matrix: a tuple is a column, a tuple of tuples has rows."""
    if isinstance(answer, Matrix):
        return answer.rows
    if isinstance(answer, Sequence) and answer.kind == "tuple":
        inner = [item for item in answer.items if isinstance(item, Sequence) and item.kind == "tuple"]
        if len(inner) == len(answer.items):
            return tuple(item.items for item in inner)
        return tuple((item,) for item in answer.items)
    return None


def _as_words(answer: Answer) -> str | None:
    if isinstance(answer, Words):
        return answer.text
    return answer.word if isinstance(answer, Scalar) else None


def _base(text: str) -> str:
    r"""The base as digits: ``\text{two}`` is 2."""
    return str(_BASES.index(text)) if text in _BASES else text
