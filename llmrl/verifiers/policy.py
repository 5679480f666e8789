"""The matters of taste in grading, each one named option."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GradingPolicy:
    """What counts as the same answer where reasonable graders differ.

    The defaults are lenient about how an answer is written and strict about what it says: a rounded
    decimal is never an irrational number, a set never a tuple, a row never a column.

    >>> GradingPolicy(percent=False).percent
    False
    """

    percent: bool = True
    """``10%`` may stand for 10 as well as for 0.1."""
    units: bool = True
    """Units, degree signs and currency may be left out or added; two known units must still agree."""
    list_order: bool = True
    """A list without brackets has no order: ``1, 2`` is ``2, 1``."""
    brackets: bool = True
    """A tuple may be written without its brackets or as ``x=1, y=2``."""
    names: bool = True
    """``x = 5`` may be written ``5``, and the other way round."""
    unreduced: bool = True
    """Numbers need not be worked out: ``6/8`` is ``3/4`` and ``2^3`` is ``8``."""
    decimal_comma: bool = True
    """``1,5`` may be read as ``1.5``."""
    case: bool = True
    """Words may be written in any case."""
    positive_letters: bool = True
    """Letters under roots are positive, where both answers have such roots."""
    decimal_digits: int | None = None
    """A decimal with at least so many significant digits stands for the number it rounds."""
    unmarked: bool = True
    """Where a response marks no answer, its last formula or number is the answer."""
    workers: bool = True
    """What the own parser cannot read is given to Math-Verify, in processes that can be killed."""


DEFAULT_POLICY = GradingPolicy()
