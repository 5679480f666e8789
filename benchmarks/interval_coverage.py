"""How often 95 % intervals hold the true mean: ours against the percentile bootstrap, by simulation.

    python benchmarks/interval_coverage.py

Each row is 2,000 evaluations of N problems with 8 responses each (1 for shares). A problem's chance is drawn from a
beta distribution, so some sets are nearly all wrong or right.
"""

from __future__ import annotations

import numpy as np

from llmrl.evaluation import estimate

TIMES = 2000


def bootstrap(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile bootstrap over problems."""
    draws = values[rng.integers(len(values), size=(500, len(values)))].mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print one row for each number of problems, kind of value and distribution."""
    rng = np.random.default_rng(0)
    print("problems  values      true   ours  bootstrap  points of the bootstrap")
    for problems in (8, 30, 200):
        for low, high in ((0.05, 2.0), (0.5, 0.5), (2.0, 2.0), (20.0, 1.0)):
            for kind, samples in (("share", 1), ("mean", 8), ("pairs", 8)):
                chances = rng.beta(low, high, size=(TIMES, 2, problems))
                answers = rng.binomial(samples, chances) / samples
                paired = kind == "pairs"
                rows = answers[:, 1] - answers[:, 0] if paired else answers[:, 0]
                true = 0.0 if paired else low / (low + high)
                ours = [estimate(row, (-1.0, 1.0) if paired else (0.0, 1.0)) for row in rows]
                theirs = [bootstrap(row, rng) for row in rows]
                held = np.mean([e.low - 1e-12 <= true <= e.high + 1e-12 for e in ours])
                other = np.mean([a - 1e-12 <= true <= b + 1e-12 for a, b in theirs])
                points = np.mean([a == b for a, b in theirs])
                print(f"{problems:8}  {kind:6}  {true:8.3f}  {held:5.1%}  {other:9.1%}  {points:6.1%}")


if __name__ == "__main__":
    main()
