"""Estimators of evaluation: from counts of responses to numbers with confidence intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A mean over problems and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(per_problem: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean over problems, with the percentile bootstrap over problems.

    Problems are resampled, not responses: the responses to one problem are not independent.  Of
    differences between two policies on the same problems it gives the paired interval.

    >>> estimate([1.0] * 50)
    Estimate(mean=1.0, low=1.0, high=1.0)
    """
    values = np.asarray(per_problem, dtype=float)
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that at least one of k responses drawn without replacement is correct, unbiased.

        1 - C(n - c, k) / C(n, k)

    Source: Chen et al. 2021, arXiv:2107.03374, eq. 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 4), round(pass_at_k(5, 2, 2), 3)
    (0.25, 1.0, 0.7)
    """
    _check_k(k, samples)
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority_at_k(right: int, wrong: Sequence[int], silent: int, k: int) -> float:
    r"""Expected score of a majority vote among k responses drawn without replacement, exactly.

    Every response with an answer votes for it; one without does not vote.  The answer with the most
    votes wins.  Where several answers have the most votes, each wins with the same chance, so the
    right one scores 1 / (number of them).  Without any vote the score is 0.

        sum_v  C(right, v) [x^(k-v)] (1 + x)^silent prod_i sum_(t <= v) C(wrong_i, t) x^t z^[t = v]
               / C(n, k),      with z^j read as 1 / (1 + j)

    Args:
        right: responses with the right answer.
        wrong: for each wrong answer, the responses that give it.
        silent: responses without an answer.
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
    """Two-sided exact p-value of two policies being equally good, from where they disagree.

    Under that hypothesis a problem that one of them alone gets right is as likely the first's as
    the second's, so the counts are binomial with chance 1/2.

    Args:
        only_first: problems that the first alone gets right.
        only_second: problems that the second alone gets right.

    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = Fraction(sum(math.comb(total, i) for i in range(fewer + 1)), 2**total)
    return float(min(2 * tail, Fraction(1)))


def _check_k(k: int, samples: int) -> None:
    if not 1 <= k <= samples:
        raise ValueError(f"k must be in 1..{samples}, the number of samples; got {k}.")
