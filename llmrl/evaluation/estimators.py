"""Estimators of evaluation: from counts of responses to numbers with confidence intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

Z = 1.959964
"""Quantile of the normal distribution for 95 % intervals."""


class Estimate(NamedTuple):
    """A mean over problems and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(per_problem: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate:
    """Mean over problems with a 95 % interval of positive width.

    The unit is the problem, since the responses to one problem are not independent. Called with the differences
    between two policies on the same problems and ``bounds`` -1 and 1, it returns the paired interval.

    If every value is 0 or 1 and the bounds are 0 and 1, it is Wilson's interval of a share (:func:`wilson`). Otherwise,
    for n values x in [a, b] and z = 1.96, z^2 / 2 further values are added at each bound:

        N = n + z^2,   m = (sum x + z^2 (a + b) / 2) / N
        v = (sum (x - m)^2 + z^2 ((a - m)^2 + (b - m)^2) / 2) / N
        interval = m - z sqrt(v / N), m + z sqrt(v / N), cut at a and b

    If all values are a or b, this is the interval of Agresti and Coull. A percentile bootstrap would have no width if
    all values are equal, and is too narrow for few problems.

    Args:
        per_problem: one value a problem, each within the bounds.
        bounds: the smallest and the largest possible value.

    Raises:
        ValueError: a value is not within the bounds.

    Source: Agresti and Coull 1998, The American Statistician 52, 119; for pairs Bonett and Price 2012, Statistical
    Methods in Medical Research 21, 355.

    >>> print(estimate([1.0] * 50), "and", estimate([0.5] * 50))
    100.0 % [92.9, 100.0] and 50.0 % [46.4, 53.6]
    """
    values = np.asarray(per_problem, dtype=float)
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    least, most = bounds
    if not ((values >= least) & (values <= most)).all():
        raise ValueError(f"Every value must be from {least:g} to {most:g}, got {values.min():g} to {values.max():g}.")
    mean = float(values.mean())
    if bounds == (0.0, 1.0) and np.isin(values, bounds).all():
        return Estimate(mean, *wilson(int(values.sum()), len(values)))
    added = Z * Z / 2
    total = len(values) + 2 * added
    middle = (values.sum() + added * (least + most)) / total
    squares = ((values - middle) ** 2).sum() + added * ((least - middle) ** 2 + (most - middle) ** 2)
    half = Z * math.sqrt(squares) / total
    return Estimate(mean, float(max(least, middle - half)), float(min(most, middle + half)))


def wilson(count: float, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share; it has a positive width also if none or all are counted.

    It assumes that the counted things are independent. With several responses to each problem it is too narrow.

    Args:
        count: how many of them have the property; something may count half.
        total: how many there are, at least 1.

    Source: Wilson 1927, Journal of the American Statistical Association 22, 209.

    >>> [round(bound, 4) for bound in wilson(50, 50)]
    [0.9287, 1.0]
    """
    if not 0 <= count <= total or total < 1:
        raise ValueError(f"count must be from 0 to total, and total at least 1, got {count} of {total}.")
    share, square = count / total, Z * Z
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = Z / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return (0.0 if count == 0 else centre - half), (1.0 if count == total else centre + half)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of k responses is correct.

        1 - C(n - c, k) / C(n, k)

    Source: Chen et al. 2021, arXiv:2107.03374, eq. 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 4), round(pass_at_k(5, 2, 2), 3)
    (0.25, 1.0, 0.7)
    """
    _check_k(k, samples)
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority_at_k(right: int, wrong: Sequence[int], silent: int, k: int) -> float:
    r"""Exact expected score of a majority vote among k responses, drawn without replacement.

    Every response with an answer votes for it. The answer with the most votes wins. If several answers have
    the most votes, each wins with the same chance, so the right one scores 1 / (number of such answers). If
    no response has an answer, the score is 0.

        sum_v  C(right, v) [x^(k-v)] (1 + x)^silent prod_i sum_(t <= v) C(wrong_i, t) x^t z^[t = v]
               / C(n, k),      with z^j read as 1 / (1 + j)

    Args:
        right: number of responses with the right answer.
        wrong: for each wrong answer, the number of responses that give it.
        silent: number of responses without an answer.
        k: how many responses vote.

    Returns:
        The mean over all C(n, k) subsets.

    >>> majority_at_k(2, [1], 0, 3), majority_at_k(1, [1], 0, 2), majority_at_k(0, [], 4, 4)
    (1.0, 0.5, 0.0)
    """
    samples = right + sum(wrong) + silent
    _check_k(k, samples)
    won = Fraction(0)
    for votes in range(1, min(right, k) + 1):
        # (votes for wrong answers, wrong answers with as many votes as the right one) -> subsets
        ways = Counter({(0, 0): 1})
        for size in wrong:
            more: Counter[tuple[int, int]] = Counter()
            for (used, ties), count in ways.items():
                for drawn in range(min(size, votes, k - votes - used) + 1):
                    place = used + drawn, ties + (drawn == votes)
                    more[place] += count * math.comb(size, drawn)
            ways = more
        for (used, ties), count in ways.items():
            rest = math.comb(silent, k - votes - used)
            won += Fraction(math.comb(right, votes) * count * rest, 1 + ties)
    return float(won / math.comb(samples, k))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of the hypothesis that two policies are equally good.

    Under this hypothesis, each problem that only one policy gets right belongs to either policy with chance
    1/2, so the counts are binomial.

    Args:
        only_first: number of problems that only the first policy gets right.
        only_second: number of problems that only the second policy gets right.

    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = Fraction(sum(math.comb(total, i) for i in range(fewer + 1)), 2**total)
    return float(min(2 * tail, Fraction(1)))


def _check_k(k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"k must be in 1..{samples}, the number of samples; got {k}.")
