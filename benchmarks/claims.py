"""The runs of ``docs/claims_plan.md``, and the rows of ``docs/claims.md`` from them.

python benchmarks/claims.py run --output runs/claims --minutes 120
python benchmarks/claims.py report --output runs/claims
python benchmarks/claims.py shipped
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro
from scipy import stats

from llmrl.studies.grid import Cell, make_grid
from llmrl.studies.page import score_figure
from llmrl.studies.results import Results
from llmrl.studies.running import run_cells
from llmrl.studies.statistics import SeedEstimate, estimate, pooled_mean
from llmrl.studies.store import Store, find_shipped

ONE_SIDED = "erc[sides=outward]"
EIGHT = ("dapo", "erc+dapo", "gppo", "erc+gppo", "gspo", "espo", "cispo", ONE_SIDED)
DUAL, FLOOR, WIDE = "dapo[dual_clip=3]", "espo[clip_floor=0.001]", "erc+dapo[low=0.5,high=2.0]"
RATES = (1e-3, 3e-3, 1e-2)
STALENESS = ((1, 0), (4, 0), (16, 0), (4, 4))
"""Updates per rollout, and how many rollouts old the sampling policy is."""
TUNING = range(100, 105)
MARGIN, INFERIOR = 0.005, 0.02


@dataclass
class Options:
    """Run the grids of the plan, or report what they gave."""

    action: tyro.conf.Positional[Literal["run", "report", "shipped"]]
    """Run the grids, report both, or report grid A from the runs that come with llmrl."""
    output: Path = Path("runs/claims")
    """Where the runs are."""
    minutes: float = 120
    """The time set for the runs."""


def suite(seeds: range) -> list[Cell]:
    """Grid A."""
    return make_grid(algorithms=(*EIGHT, DUAL, FLOOR, WIDE), seeds=seeds)


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
        ("a", suite(range(20))),
        ("b", staleness(TUNING)),
        ("b", staleness(range(20))),
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


def complete(folder: Path, cells: Callable[[range], list[Cell]]) -> tuple[Results, Results | None, int]:
    """The seeds that are complete, in order, and those of the tuning."""
    rows = Store(folder).read([*cells(range(20)), *cells(TUNING)])
    seeds = 0
    while seeds < 20 and all(cell in rows for cell in cells(range(seeds, seeds + 1))):
        seeds += 1
    tuning = [rows[c] for c in cells(TUNING) if c in rows]
    return Results([rows[c] for c in cells(range(seeds))], "dapo"), (Results(tuning) if tuning else None), seeds


def log(x: float) -> float:
    """Of numbers that may be 0."""
    return math.log(max(x, 1e-9))


def verdict(found: SeedEstimate, better: int, margin: float = MARGIN) -> str:
    """The plan's rule; ``better`` is 1 where the claim says more, -1 where it says less."""
    if found.low is None or found.high is None:
        return "too small to tell"
    low, high = sorted((better * found.low, better * found.high))
    if low > 0:
        return "confirmed"
    if high < 0 or (-margin < low and high < margin):
        return "refuted"
    return "too small to tell"


def compare(
    results: Results,
    first: str,
    second: str,
    number: str,
    better: int,
    *,
    strata: Sequence[str] | None = None,
    ratio: bool = False,
    mean: bool = False,
) -> str:
    """``second`` minus ``first``: the estimate, the verdict and, for a ratio, Wilcoxon's test."""
    pairs = results.differences(first, second, number, strata, log if ratio else float)
    found = estimate(pairs, pooled_mean) if mean else estimate(pairs)
    text = f"{found} | {verdict(found, better, 0.05 if ratio else MARGIN)}"
    if ratio:
        p = stats.wilcoxon(np.concatenate(pairs)).pvalue
        text += f" (log ratio; Wilcoxon p = {p:.1g})"
    return text


def tuned(results: Results, tuning: Results, updates: int, lag: int) -> dict[str, str]:
    """For each algorithm the stratum with the learning rate that is best on the tuning seeds."""
    best = {}
    for algorithm in EIGHT:
        strata = [s for s in tuning.strata if f"updates {updates}, lag {lag}" in s]
        scores = {s: float(tuning.values(algorithm, "final", [s])[0].mean()) for s in strata}
        best[algorithm] = max(scores, key=lambda s: scores[s])
    return best


def across(results: Results, first: str, second: str, where: dict[str, str]) -> SeedEstimate:
    """Final score of ``second`` minus ``first``, each at its own stratum, seed by seed."""
    a, b = (results.values(name, "final", [where[name]])[0] for name in (first, second))
    return estimate([b - a])


def report_suite(a: Results) -> None:
    """Print the rows of grid A."""
    for line in a.table():
        print(
            f"| {line.algorithm} | {line.score} | {line.difference or ''} | {line.better or ''} | {line.area} "
            f"| {100 * line.collapsed.value:.0f} % | {100 * line.zero_grad:.1f} % | {line.kl:.3f} "
            f"| {line.entropy:.2f} |"
        )
    print("\nper task: final score, minus dapo")
    for stratum in a.strata:
        found = {name: estimate(a.differences("dapo", name, "final", [stratum])) for name in a.algorithms[1:]}
        print(f"{stratum}: dapo {estimate(a.values('dapo', 'final', [stratum]))}")
        for name, value in found.items():
            print(f"    {name}: {value}")
    hard = sorted(a.strata, key=lambda s: np.mean([a.values(n, "final", [s])[0].mean() for n in EIGHT]))[:3]
    print("\n1 A erc+dapo - dapo, final:", compare(a, "dapo", "erc+dapo", "final", 1))
    print("1 A erc+gppo - gppo, final:", compare(a, "gppo", "erc+gppo", "final", 1))
    for number in ("grad_norm_cv", "grad_norm_jump", "entropy_variation"):
        print(f"3 {number}, erc+dapo / dapo:", compare(a, "dapo", "erc+dapo", number, -1, ratio=True))
    drift = {
        (row.cell.algorithm, row.cell.seed): log(row.summary["kl"] * row.summary["kl_unsampled_share"])
        for row in a.rows
        if row.cell.task == "distractors"
    }
    found = estimate([np.array([drift["erc+dapo", s] - drift["dapo", s] for s in a.seeds("dapo", "distractors")])])
    share = a.values("dapo", "kl_unsampled_share", ["distractors"])[0].mean()
    print(f"5 unsampled KL on distractors, log ratio: {found} | {verdict(found, -1)}; dapo's share {share:.2f}")
    print("6 zero_grad espo - gspo:", compare(a, "gspo", "espo", "zero_grad", -1))
    for number, other in (("area", "gspo"), ("area", "dapo")):
        print(f"7 {number} espo - {other}:", compare(a, other, "espo", number, 1))
        print(f"8 {number} espo - {other} on {hard}:", compare(a, other, "espo", number, 1, strata=hard))
    print("9 area gppo - dapo:", compare(a, "dapo", "gppo", "area", 1))
    print("10 area cispo - dapo:", compare(a, "dapo", "cispo", "area", 1))
    found = estimate(a.differences("dapo", ONE_SIDED, "final"))
    print(f"12 final one-sided - dapo: {found} | not inferior: {found.low is not None and found.low > -INFERIOR}")
    print("12 KL one-sided / dapo:", compare(a, "dapo", ONE_SIDED, "kl", -1, ratio=True))
    print("12 final one-sided - erc+dapo:", compare(a, "erc+dapo", ONE_SIDED, "final", 1))
    print("i dual clip - dapo, final:", compare(a, "dapo", DUAL, "final", -1))
    print("i dual clip / dapo, KL:", compare(a, "dapo", DUAL, "kl", 1, ratio=True))
    print("ii floor - espo, final:", compare(a, "espo", FLOOR, "final", 1))
    print("ii floor - espo, zero_grad:", compare(a, "espo", FLOOR, "zero_grad", -1))
    print("iii wide - dapo, final:", compare(a, "dapo", WIDE, "final", 1))
    print("iii wide - erc+dapo, final:", compare(a, "erc+dapo", WIDE, "final", 1))


def report_staleness(b: Results, tuning: Results, seeds: int) -> None:
    """Print the rows of grid B."""
    for updates, lag in STALENESS:
        where = tuned(b, tuning, updates, lag)
        for pair in (
            ("dapo", "erc+dapo"),
            ("gppo", "erc+gppo"),
            ("gspo", "espo"),
            ("dapo", "espo"),
            ("dapo", ONE_SIDED),
            ("dapo", "gppo"),
            ("dapo", "cispo"),
            ("dapo", "gspo"),
        ):
            found = across(b, *pair, where)
            print(
                f"1 B tuned, {updates} updates, lag {lag}: {pair[1]} - {pair[0]}: {found} | {verdict(found, 1)}"
                f" [{where[pair[1]]}] [{where[pair[0]]}]"
            )
    for rate in RATES:
        s = f"carry, learning_rate {rate:g}, updates 16, lag 0"
        kept, zero = (b.values(n, k, [s])[0].mean() for n, k in (("erc+dapo", "kept"), ("dapo", "zero_grad")))
        print(f"2 rate {rate:g}: ERC gates {100 * (1 - kept):.1f} %, dapo without gradient {100 * zero:.2f} %")
        for name in ("in_band_by_decile", "kept_by_update", "zero_grad_by_update"):
            for algorithm in ("dapo", "erc+dapo"):
                rows = [r.detail[name] for r in b.rows if r.cell.algorithm == algorithm and b.stratum(r) == s]
                print(f"    {algorithm} {name}: {np.mean(rows, 0).round(3).tolist()}")
    for updates, lag in ((16, 0), (4, 4)):
        s = f"carry, learning_rate 0.01, updates {updates}, lag {lag}"
        for number, claim in (("erc+dapo", 4), ("gspo", 11), ("gppo", 9), ("espo", 7), (ONE_SIDED, 12), ("cispo", 10)):
            rates = [int(b.values(n, "collapsed", [s])[0].sum()) for n in ("dapo", number)]
            print(
                f"{claim} {s}: collapsed dapo {rates[0]}, {number} {rates[1]} of {seeds}; difference "
                f"{compare(b, 'dapo', number, 'collapsed', -1, strata=[s], mean=True)}; KL "
                f"{compare(b, 'dapo', number, 'kl', -1, strata=[s], ratio=True)}; final "
                f"{compare(b, 'dapo', number, 'final', 1, strata=[s])}"
            )


def report(output: Path) -> None:
    """Print every row and draw the figures."""
    a, _, seeds = complete(output / "a", suite)
    b, tuning, seeds_b = complete(output / "b", staleness)
    assert tuning is not None
    print(f"A: {seeds} seeds, {len(a.rows)} runs; B: {seeds_b} seeds, {len(b.rows)} runs, {len(tuning.rows)} to tune\n")
    report_suite(a)
    report_staleness(b, tuning, seeds_b)
    draw(a, b, Path("docs/claims"))


def draw(a: Results, b: Results, folder: Path) -> None:
    """The three figures."""
    folder.mkdir(exist_ok=True)
    names = {ONE_SIDED: "one-sided ERC"}
    figure = score_figure(a)
    figure.axes[0].set_yticks(range(len(a.algorithms)), [names.get(n, n) for n in a.algorithms])
    figure.savefig(folder / "scores.png", dpi=110)
    figure, axes = plt.subplots(2, 4, figsize=(13, 5.5), constrained_layout=True, sharex=True, sharey="row")
    for column, (updates, lag) in enumerate(STALENESS):
        for number, algorithm in enumerate(EIGHT):
            strata = [f"carry, learning_rate {rate:g}, updates {updates}, lag {lag}" for rate in RATES]
            for row, name in enumerate(("final", "kl")):
                values = [b.values(algorithm, name, [s])[0] for s in strata]
                axes[row][column].plot(
                    RATES,
                    [v.mean() for v in values],
                    "o-",
                    ms=3,
                    color=f"C{number}",
                    label=names.get(algorithm, algorithm),
                )
        axes[0][column].set_title(f"{updates} update{'s' * (updates > 1)}" + (f", {lag} rollouts old" if lag else ""))
        axes[1][column].set_yscale("log")
        axes[1][column].set_xscale("log")
        axes[1][column].set_xlabel("learning rate")
    axes[0][0].set_ylabel("final score on carry")
    axes[1][0].set_ylabel("KL(old, new) a rollout")
    axes[0][0].legend(fontsize=7)
    figure.savefig(folder / "staleness.png", dpi=110)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    for number, rate in enumerate(RATES):
        s = f"carry, learning_rate {rate:g}, updates 16, lag 0"
        rows = [r for r in b.rows if r.cell.algorithm == "erc+dapo" and b.stratum(r) == s]
        axes[0].plot(range(1, 11), np.mean([r.detail["in_band_by_decile"] for r in rows], 0), "o-", label=f"{rate:g}")
        axes[1].plot(range(1, 17), np.mean([r.detail["kept_by_update"] for r in rows], 0), "o-", color=f"C{number}")
    axes[0].set_xlabel("decile of old entropy")
    axes[0].set_ylabel("share inside the band")
    axes[1].set_xlabel("update of a rollout")
    axes[0].legend(title="learning rate", fontsize=8)
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.savefig(folder / "kept.png", dpi=110)


def main(options: Options) -> None:
    """Run or report."""
    sys.path.insert(0, str(Path.cwd()))
    if options.action == "run":
        run(options.output, options.minutes)
    elif options.action == "report":
        report(options.output)
    else:
        report_suite(Results(list(find_shipped(suite(range(20))).values()), "dapo"))


if __name__ == "__main__":
    main(tyro.cli(Options))
