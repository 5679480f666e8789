"""The runs of ``docs/claims_plan.md``, and the rows of ``docs/claims.md`` from them.

python benchmarks/claims.py run --output runs/claims --minutes 45
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from llmrl.study.grid import Cell, Store, make_grid
from llmrl.study.running import run_cells

ONE_SIDED = "benchmarks.one_sided_erc:one_sided"
EIGHT = ("dapo", "erc+dapo", "gppo", "erc+gppo", "gspo", "espo", "cispo", ONE_SIDED)
IDEAS = ("dapo[dual_clip=3]", "espo[clip_floor=0.001]", "erc+dapo[low=0.5,high=2.0]")
RATES = (1e-3, 3e-3, 1e-2)
STALENESS = ((1, 0), (4, 0), (16, 0), (4, 4))
"""Updates per rollout, and how many rollouts old the sampling policy is."""


def suite(seeds: range) -> list[Cell]:
    """Grid A."""
    return make_grid(algorithms=(*EIGHT, *IDEAS), seeds=seeds)


def staleness(seeds: range) -> list[Cell]:
    """Grid B, seed by seed."""
    return [
        cell
        for seed in seeds
        for updates, lag in STALENESS
        for cell in make_grid(
            tasks=("carry",), algorithms=EIGHT, seeds=(seed,), learning_rates=RATES, updates=(updates,), lags=(lag,)
        )
    ]


def run(output: Path, minutes: float) -> None:
    """Both grids in this process, until they are done or the time is over."""
    end = time.monotonic() + 60 * minutes
    plan = (
        ("a", suite(range(10))),
        ("b", staleness(range(100, 105))),
        ("b", staleness(range(10))),
        ("a", suite(range(10, 20))),
        ("b", staleness(range(10, 20))),
    )
    for name, cells in plan:
        store = Store(output / name)
        known = store.read(cells)
        left = [cell for cell in cells if cell not in known]
        print(f"{time.strftime('%H:%M:%S')} grid {name}: {len(left)} of {len(cells)} runs to do", flush=True)
        for row in run_cells(left):
            store.write(row)
            if time.monotonic() > end:
                print(f"{time.strftime('%H:%M:%S')} the time is over", flush=True)
                return


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    run(Path(sys.argv[sys.argv.index("--output") + 1]), float(sys.argv[sys.argv.index("--minutes") + 1]))
