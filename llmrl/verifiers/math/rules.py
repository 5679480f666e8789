"""Options of the grader of mathematics: the differences that it may accept, each with a name.

The defaults accept what most public graders accept.  No option makes different values equal: a rounded
decimal is never the exact number, a set never a tuple, a row never a column.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GradingRules:
    r"""Options of :class:`~llmrl.verifiers.math.verifier.MathVerifier`.

    >>> from llmrl.verifiers import grade_answer
    >>> grade_answer("10", r"10\%").status, grade_answer("10", r"10\%", GradingRules(percent=False)).status
    ('correct', 'wrong')
    """

    percent: bool = True
    r"""``10`` counts for ``10\%`` and the other way round, in addition to ``0.1`` and ``1/10``, which always do."""
    units: bool = True
    r"""Units, degrees, currency and the base of digits may be left out or added; two known units that
    differ never match."""
    any_order: bool = True
    """Lists without brackets have no order."""
    tuple_parens: bool = True
    """``2, 3`` counts for the tuple ``(2, 3)``, and the other way round, in the same order."""
    unreduced: bool = True
    r"""``\frac{6}{8}``, ``\sqrt{16}``, ``2 \cdot 3`` count for their values."""
    assignments: bool = True
    """``5`` counts for the gold answer ``x = 5``.  The other way round is always allowed."""
    relations: bool = True
    r"""``-1 \le x \le 2`` counts for the interval ``[-1, 2]``, and the other way round."""
    rounded_gold: bool = True
    """A gold decimal of three digits or more that was rounded, such as ``1.732``, is met by an exact value
    that rounds to it.  A rounded answer is never accepted for an exact gold."""
    decimal_comma: bool = True
    """``2,74`` may be read as ``2.74`` where it has two decimals, and ``3,5`` as ``3.5`` for the gold answer 3.5."""
    case: bool = True
    """Capital letters in words make no difference."""
