"""The kinds of answers that trees are evaluated to: a scalar, a sequence, a matrix, pieces of the line, ...

:mod:`.build` makes these from a tree, :mod:`.compare` says which are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from llmrl.verifiers.math.parsing.tree import Node
from llmrl.verifiers.math.values import Value


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or expression."""

    value: Value
    percent: bool = False
    decimals: int | None = None
    """Digits after the point of a plain decimal."""
    digits: str = ""
    """Those of a plain number, as written."""
    word: str | None = None
    """The letters, if nothing else is there: ``ABC`` may be a product or a name."""
    written: Node | None = field(default=None, compare=False)
    """The tree of an expression; None for a plain number, or one with a unit."""


@dataclass(frozen=True, slots=True)
class Words:
    """An answer that holds no mathematics."""

    text: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Items with what encloses them: ``list`` (nothing), ``set``, ``tuple``."""

    kind: str
    items: tuple[Answer, ...]
    brackets: str = ""
    joiner: str = ","
    """Between the items of a list: a comma, ``and``, ``or``, or ``pm`` for the two values of a plus-minus."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of equal length."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval, or a point where both ends are the same."""

    low: Value
    low_closed: bool
    high: Value
    high_closed: bool


@dataclass(frozen=True, slots=True)
class Pieces:
    """A union of intervals and points of the real line."""

    pieces: tuple[Piece, ...]
    variable: str | None = None


@dataclass(frozen=True, slots=True)
class Builder:
    """All values of an element whose parameters meet conditions; the parameters have names of their own: #1, #2."""

    element: Answer
    conditions: tuple[Answer, ...]
    whole: bool = False
    """Whether there is one parameter, which runs through the integers."""


@dataclass(frozen=True, slots=True)
class Combined:
    """An intersection or difference that is not worked out."""

    operation: str
    operands: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """Sides joined by equality signs."""

    sides: tuple[Answer, ...]
    names: tuple[str | None, ...]
    """For each side: the name it is, such as ``x`` or ``f(x)``; '' for other name-like text."""


@dataclass(frozen=True, slots=True)
class Inequality:
    """``value`` stands in ``relation`` to zero: ``<``, ``le`` or ``ne``."""

    relation: str
    value: Value


@dataclass(frozen=True, slots=True)
class Ratio:
    """Numbers between colons: a ratio, or a time of the day."""

    items: tuple[Answer, ...]
    half: str = ""
    """``timeam`` or ``timepm``."""
    clock: bool = False
    """Whether they are written as a time of the day is."""


@dataclass(frozen=True, slots=True)
class Based:
    """Digits with the base they are in."""

    digits: str
    base: str


@dataclass(frozen=True, slots=True)
class Dots:
    """The dots in a sequence."""


Answer = Scalar | Words | Sequence | Matrix | Pieces | Builder | Combined | Equation | Inequality | Ratio | Based | Dots
