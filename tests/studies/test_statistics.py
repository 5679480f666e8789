"""Estimates against numbers worked out by hand, and intervals against simulated data."""

from __future__ import annotations

import numpy as np
import pytest

from llmrl.evaluation.estimators import wilson
from llmrl.studies.statistics import (
    MIN_SEEDS,
    estimate,
    estimate_curve,
    improvement,
    iqm,
    pooled_iqm,
    pooled_mean,
    profile,
    rate,
)


def numbers(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


class TestValues:
    def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end(self):
        assert iqm(numbers(9, 1, 2, 3, 4, 5, 6, -50)) == pytest.approx((2 + 3 + 4 + 5) / 4)
        assert iqm(numbers(1, 2, 6)) == pytest.approx(3)  # a quarter of three is no whole value

    def test_strata_are_pooled_for_the_interquartile_mean_and_count_equally_for_the_mean(self):
        a, b = numbers(0, 0, 0, 0, 0, 0), numbers(1, 1)
        assert pooled_iqm(a, b) == pytest.approx(0)
        assert pooled_mean(a, b) == pytest.approx(0.5)

    def test_improvement_counts_ties_half_and_strata_equally(self):
        first, second = [numbers(0, 2), numbers(1)], [numbers(1, 2), numbers(0)]
        assert improvement(first, second).value == pytest.approx(((1 + 0 + 1 + 0.5) / 4 + 0) / 2)

    def test_a_profile_is_the_share_above(self):
        share, low, _ = profile([numbers(0.1, 0.5), numbers(0.5, 0.9)], numbers(0.0, 0.5, 1.0))
        assert share.tolist() == [1.0, 0.25, 0.0]
        assert low is None

    def test_wilsons_interval_is_the_published_one(self):
        found = rate(7, 20)  # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with z = 1.96
        assert (found.low, found.high) == (pytest.approx(0.1812, abs=1e-4), pytest.approx(0.5671, abs=1e-4))


class TestIntervals:
    def test_too_few_seeds_in_one_stratum_give_none(self):
        found = estimate([np.arange(20.0), np.arange(MIN_SEEDS - 1.0)])
        assert (found.low, found.high) == (None, None)
        assert f"{MIN_SEEDS - 1} seeds" in found.note
        assert rate(1, 3).low is None
        assert improvement([np.arange(3.0)], [np.arange(3.0)]).low is None

    def test_the_difference_between_tasks_is_no_uncertainty_over_seeds(self):
        near = np.arange(10) / 1e6
        found = estimate([0.1 + near, 0.9 + near])
        assert found.low == pytest.approx(found.high, abs=1e-4) == pytest.approx(found.value, abs=1e-4)

    def test_equal_numbers_have_no_interval_of_width_zero(self):
        found = estimate([np.full(5, 0.3), np.full(5, 0.7)])
        assert (found.low, found.high) == (None, None)
        assert "seeds are equal" in found.note
        assert "1 seed," in estimate([np.array([0.5])]).note

    @pytest.mark.parametrize(
        ("first", "second", "share", "runs"),
        [
            ([np.arange(5.0)], [np.arange(5.0) + 5], 1, 5),
            ([np.arange(7.0) + 5], [np.arange(5.0)], 0, 5),
            ([np.zeros(5), np.arange(5.0)], [np.zeros(5), np.arange(5.0) + 5], 0.75, 10),
        ],
    )
    def test_one_side_that_always_wins_has_wilsons_interval(self, first, second, share, runs):
        found = improvement(first, second)
        assert found.value == share
        assert (found.low, found.high) == wilson(share * runs, runs)

    def test_a_curve_has_an_interval_at_each_place(self):
        rng = np.random.default_rng(0)
        data = [rng.normal([[0.0], [5.0]], [[0.1], [1.0]], (2, 20))]
        value, low, high = estimate_curve(data)
        assert value.shape == low.shape == high.shape == (2,)
        assert (low < value).all()
        assert (value < high).all()
        assert high[1] - low[1] > 3 * (high[0] - low[0])

    @pytest.mark.parametrize(("seeds", "least"), [(20, 0.88), (5, 0.75)])
    def test_intervals_cover_the_truth_about_as_often_as_they_say(self, seeds, least):
        """Two tasks with means 0.2 and 0.3; the interquartile mean of symmetric data is the mean."""
        rng = np.random.default_rng(1)
        trials, covered = 150, 0
        for _ in range(trials):
            data = [rng.normal(0.25, 0.05, seeds) for _ in range(2)]
            found = estimate(data, resamples=400)
            covered += found.low <= 0.25 <= found.high
        assert least <= covered / trials <= 0.99
