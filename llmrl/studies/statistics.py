"""Estimates with intervals over seeds: interquartile means, paired differences, probability of improvement.

Runs fall into strata, such as tasks; a bootstrap draws seeds within each stratum (scipy.stats.bootstrap with one
sample per stratum). With fewer than ``MIN_SEEDS`` seeds in a stratum there is no interval, because an interval from
so few numbers is too narrow. Nor is there one if all numbers of every stratum are equal, because they do not say how
much others would differ.

The measures are those of Agarwal et al. 2021, arXiv:2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmrl.errors import ConfigError
from llmrl.evaluation.estimators import wilson

MIN_SEEDS = 5
"""Minimum number of seeds of a stratum for an interval."""
RESAMPLES = 2000
LEVEL = 0.95

Array = NDArray[np.float64]
Statistic = Callable[..., Any]


@dataclass(frozen=True)
class SeedEstimate:
    """A number with its 95 % interval, or without one."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    """The reason that there is no interval."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "note": self.note}


def _scipy() -> Any:
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        raise ConfigError("A study's intervals need scipy. Install it: pip install 'llmrl[study]'.") from error
    return stats


def iqm(x: Array, axis: int = -1) -> Any:
    """The interquartile mean: a quarter of the values, rounded down, is left out at each end.

    >>> float(iqm(np.array([0.0, 1.0, 3.0, 100.0])))
    2.0
    """
    n = x.shape[axis]
    cut = n // 4
    kept = np.sort(x, axis=axis).take(range(cut, n - cut), axis=axis)
    return kept.mean(axis=axis)


def pooled_iqm(*strata: Array, axis: int = -1) -> Any:
    """The interquartile mean of all strata together."""
    return iqm(np.concatenate(strata, axis=axis), axis=axis)


def pooled_mean(*strata: Array, axis: int = -1) -> Any:
    """The mean over strata of their means."""
    return np.mean([x.mean(axis=axis) for x in strata], axis=0)


def estimate(strata: Sequence[Array], statistic: Statistic = pooled_iqm, resamples: int = RESAMPLES) -> SeedEstimate:
    """A statistic of the runs and its interval, seeds drawn within each stratum.

    Args:
        strata: an array of the numbers of its seeds for each stratum.
        statistic: (strata, axis) -> number.
        resamples: number of bootstrap resamples.

    >>> estimate([np.array([0.5, 0.5, 0.5])]).note
    'no interval: 3 seeds, at least 5 are needed'
    >>> estimate([np.full(5, 0.5)]).note
    'no interval: the numbers of all seeds are equal'
    """
    value = float(statistic(*strata, axis=-1))
    note = _too_few(strata)
    if not note and all((x == x[0]).all() for x in strata):
        note = "no interval: the numbers of all seeds are equal"
    if note:
        return SeedEstimate(value, note=note)
    low, high = _interval(strata, statistic, resamples)
    return SeedEstimate(value, float(low), float(high))


def estimate_curve(
    strata: Sequence[Array], statistic: Statistic = pooled_iqm
) -> tuple[Array, Array | None, Array | None]:
    """The same for each of K points.

    Args:
        strata: [K, seeds] each.

    Returns:
        values, lower and upper bounds, [K] each; the bounds None with too few seeds.
    """
    value = statistic(*strata, axis=-1)
    return (value, None, None) if _too_few(strata) else (value, *_interval(strata, statistic, RESAMPLES // 2))


def _too_few(strata: Sequence[Array]) -> str:
    seeds = min(x.shape[-1] for x in strata)
    return f"no interval: {seeds} seed{'s' * (seeds != 1)}, at least {MIN_SEEDS} are needed" * (seeds < MIN_SEEDS)


def _interval(strata: Sequence[Array], statistic: Statistic, resamples: int) -> tuple[Any, Any]:
    found = _scipy().bootstrap(
        tuple(strata),
        statistic,
        n_resamples=resamples,
        vectorized=True,
        axis=-1,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return found.confidence_interval.low, found.confidence_interval.high


def improvement(first: Sequence[Array], second: Sequence[Array]) -> SeedEstimate:
    """The probability that a run of ``second`` beats one of ``first``, a tie counting half, averaged over strata.

    If one side wins (or ties) every comparison, every resample gives the same number. The interval is then Wilson's
    for as many runs as the smaller side has.

    >>> improvement([np.array([0.0, 1.0])], [np.array([1.0, 2.0])]).value
    0.875
    >>> str(improvement([np.arange(5.0)], [np.arange(5.0) + 5]))
    '1.000 [0.566, 1.000]'
    """
    count = len(first)

    def statistic(*samples: Array, axis: int = -1) -> Any:
        found = []
        for x, y in zip(samples[:count], samples[count:], strict=True):
            x, y = x[..., :, None], y[..., None, :]
            found.append(((y > x) + 0.5 * (y == x)).mean(axis=(-2, -1)))
        return np.mean(found, axis=0)

    value = float(statistic(*first, *second))
    if note := _too_few([*first, *second]):
        return SeedEstimate(value, note=note)
    low, high = _interval([*first, *second], statistic, RESAMPLES // 4)
    if low == high:
        runs = min(sum(map(len, side)) for side in (first, second))
        low, high = wilson(value * runs, runs)
    return SeedEstimate(value, float(low), float(high))


def rate(events: int, runs: int) -> SeedEstimate:
    """A share of runs with Wilson's interval.

    >>> str(rate(0, 20))
    '0.000 [0.000, 0.161]'
    """
    if runs < MIN_SEEDS:
        return SeedEstimate(events / runs, note=f"no interval: {runs} runs, at least {MIN_SEEDS} are needed")
    return SeedEstimate(events / runs, *wilson(events, runs))


def profile(strata: Sequence[Array], thresholds: Array) -> tuple[Array, Array | None, Array | None]:
    """The share of runs above each threshold, strata counting equally, with pointwise intervals.

    Args:
        strata: an array of the numbers of its seeds for each stratum.
        thresholds: [K].
    """
    above = [(x[None, :] > thresholds[:, None]).astype(float) for x in strata]
    return estimate_curve(above, pooled_mean)
