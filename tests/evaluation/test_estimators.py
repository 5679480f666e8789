"""Estimators against values computed by hand and by going through every subset."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.evaluation import estimate, majority_at_k, mcnemar, pass_at_k


def test_pass_at_k_by_hand():
    # 5 responses, 2 correct: of the 10 pairs, 3 hold no correct one.
    assert pass_at_k(5, 2, 2) == pytest.approx(7 / 10)
    assert [pass_at_k(4, 0, k) for k in (1, 4)] == [0, 0]
    assert pass_at_k(8, 3, 1) == pytest.approx(3 / 8)
    assert pass_at_k(4, 3, 2) == 1  # one wrong response cannot fill a pair


def test_majority_by_hand():
    # Votes 7, 7, 3: every triple is won by 7; of the three pairs one is 7 7 and two are ties.
    assert majority_at_k(2, [1], 0, 3) == 1
    assert majority_at_k(2, [1], 0, 2) == pytest.approx((1 + 0.5 + 0.5) / 3)
    # The right one against three others, one vote each: a fair lot among four.
    assert majority_at_k(1, [1, 1, 1], 0, 4) == pytest.approx(1 / 4)
    # Two silent responses: the pairs are silent-silent (0), right-silent twice (1), right-wrong (1/2),
    # wrong-silent twice (0).
    assert majority_at_k(1, [1], 2, 2) == pytest.approx(2.5 / 6)
    # The majority is wrong.
    assert majority_at_k(2, [3], 0, 5) == 0
    assert majority_at_k(0, [1, 2], 1, 3) == 0


@given(
    st.integers(0, 4),
    st.lists(st.integers(1, 3), max_size=3),
    st.integers(0, 3),
    st.data(),
)
def test_majority_is_the_mean_over_all_subsets(right, wrong, silent, data):
    said = ["right"] * right + [f"w{i}" for i, n in enumerate(wrong) for _ in range(n)]
    said += [None] * silent
    if not said:
        return
    k = data.draw(st.integers(1, len(said)))
    scores = []
    for subset in itertools.combinations(said, k):
        votes = Counter(answer for answer in subset if answer is not None)
        best = [answer for answer, n in votes.items() if n == max(votes.values())]
        scores.append(Fraction(best.count("right"), max(len(best), 1)))
    assert majority_at_k(right, wrong, silent, k) == pytest.approx(float(sum(scores) / len(scores)))


def test_the_majority_of_one_is_the_mean_and_of_many_samples_is_quick():
    assert majority_at_k(3, [2, 1], 2, 1) == pytest.approx(3 / 8)
    assert 0 < majority_at_k(20, [1] * 40, 4, 32) < 1


@pytest.mark.parametrize("k", [0, 5])
def test_k_must_fit_the_samples(k):
    with pytest.raises(ValueError, match=rf"k must be in 1..4, the number of samples; got {k}"):
        pass_at_k(4, 1, k)
    with pytest.raises(ValueError, match=rf"k must be in 1..4, the number of samples; got {k}"):
        majority_at_k(2, [1], 1, k)


def test_the_interval_is_that_of_the_bootstrap_over_problems():
    values = [1.0] * 30 + [0.0] * 70
    found = estimate(values, resamples=20_000)
    assert found.mean == pytest.approx(0.3)
    # The mean of a resample is binomial / 100.
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert found.low == pytest.approx(0.3 - spread, abs=0.012)
    assert found.high == pytest.approx(0.3 + spread, abs=0.012)
    assert estimate(values) == estimate(values)
    assert np.isnan(estimate([]).mean)


def test_mcnemar_by_hand():
    # 1 against 7: twice the chance of at most one head in eight throws, (1 + 8) / 256.
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(2 * 9 / 256)
    assert mcnemar(4, 4) == mcnemar(0, 0) == 1
