"""Estimators against values computed by hand and by going through every subset."""

import itertools
import math
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrl.evaluation import estimate, majority_at_k, mcnemar, pass_at_k, wilson


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


def test_a_share_has_wilsons_interval():
    # Newcombe 1998, Statistics in Medicine 17, 857, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (count, total), bounds in published.items():
        assert wilson(count, total) == pytest.approx(bounds, abs=5e-5)
        assert estimate([1.0] * count + [0.0] * (total - count))[1:] == wilson(count, total)
    for count, total in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError, match="count must be from 0 to total"):
            wilson(count, total)


def test_of_shares_the_general_interval_is_that_of_agresti_and_coull():
    # The same formula on 0 and 2, which are both bounds: p = (9 + 1.92) / 33.84.
    share, total = (9 + 1.959964**2 / 2) / (30 + 1.959964**2), 30 + 1.959964**2
    half = 1.959964 * math.sqrt(share * (1 - share) / total)
    found = estimate([2.0] * 9 + [0.0] * 21, (0.0, 2.0))
    assert found == pytest.approx((0.6, 2 * (share - half), 2 * (share + half)))


@given(st.lists(st.sampled_from([0.0, 0.125, 0.5, 1.0]) | st.floats(0, 1), min_size=1, max_size=60), st.booleans())
def test_no_interval_is_a_point_and_each_holds_its_mean(values, paired):
    found = estimate([2 * v - 1 for v in values], (-1.0, 1.0)) if paired else estimate(values)
    assert found.low - 1e-12 <= found.mean <= found.high + 1e-12
    assert found.high - found.low > 0.5 / len(values) ** 0.5 / 10
    assert (-1 if paired else 0) <= found.low < found.high <= 1


def test_intervals_cover_what_they_say():
    """Of 4,000 simulated evaluations of 30 problems, at least 93 % of the intervals hold the true mean."""
    rng = np.random.default_rng(0)
    problems, samples, times = 30, 8, 4000
    for low, high in ((0.5, 0.5), (20.0, 1.0), (0.2, 0.2), (0.3, 3.0)):
        chances = rng.beta(low, high, size=(times, problems, 2))
        means = rng.binomial(samples, chances) / samples
        true = low / (low + high)
        single = [estimate(row) for row in means[:, :, 0]]
        assert np.mean([e.low <= true <= e.high for e in single]) >= 0.93
        paired = [estimate(row, (-1.0, 1.0)) for row in means[:, :, 1] - means[:, :, 0]]
        assert np.mean([e.low <= 0 <= e.high for e in paired]) >= 0.93


def test_a_value_out_of_bounds_is_refused():
    assert np.isnan(estimate([]).mean)
    for values in ([0.5, -0.5], [float("nan")], [1.5]):
        with pytest.raises(ValueError, match="Every value must be from 0 to 1"):
            estimate(values)


def test_the_estimators_load_no_torch():
    code = "import sys; from llmrl.evaluation import pass_at_k, estimate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_mcnemar_by_hand():
    # 1 against 7: twice the chance of at most one head in eight throws, (1 + 8) / 256.
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(2 * 9 / 256)
    assert mcnemar(4, 4) == mcnemar(0, 0) == 1
