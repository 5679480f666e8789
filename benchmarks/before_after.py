"""What a user gets: the default run of each shipped algorithm, several seeds, before and after.

This is a table of products and compares no objectives: recipes bring their own refills and penalties, and all of them
end at the same ceiling.  ``llmrl study`` compares objectives.

    python benchmarks/before_after.py --output runs/before_after --jobs 1

Each run is the command that a user would type, in a process of its own; a finished run is not repeated.
Prints the table of ``benchmarks/README.md`` and writes ``before_after.png`` with the learning curves.
"""

from __future__ import annotations

import json
import platform
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import tyro

from llmrl.reports.plots import smooth
from llmrl.training.metrics_file import read_metrics

ALGORITHMS = ("espo", "erc", "gspo", "gppo", "dapo", "grpo", "ppo")


@dataclass
class Options:
    """Run the default run of every algorithm with several seeds; before and after, side by side."""

    output: Path = Path("runs/before_after")
    """Where the runs go."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """Which ones."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Which seeds."""
    jobs: int = 1
    """Runs at the same time; each then gets its share of the cores."""
    threads: int | None = None
    """Threads of each run; by default all cores."""
    extra: tuple[str, ...] = ()
    """Further options of each run, such as --train.steps=20."""


def run(options: Options, algorithm: str, seed: int) -> dict[str, Any]:
    """One run, unless it is there already; returns its figures."""
    folder = options.output / f"{algorithm}-{seed}"
    record = folder / "benchmark.json"
    if not record.is_file():
        command = [
            sys.executable,
            "-m",
            "llmrl.algorithms.run",
            "--algo",
            algorithm,
            "--seed",
            str(seed),
            "--output",
            str(folder),
            "--force",
            *options.extra,
        ]
        if options.threads is not None:
            command += ["--threads", str(options.threads)]
        began = time.monotonic()
        with (options.output / f"{algorithm}-{seed}.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
        record.write_text(json.dumps({"seconds": time.monotonic() - began, "largest_process_so_far_gib": peak}))
    figures = json.loads(record.read_text())
    for name in ("before", "after"):
        figures[name] = json.loads((folder / "eval" / f"{name}.json").read_text())
    figures["metrics"] = read_metrics(folder / "metrics.jsonl")
    print(
        f"{algorithm} seed {seed}: {100 * figures['before']['greedy']['mean']:.1f} -> "
        f"{100 * figures['after']['greedy']['mean']:.1f} in {figures['seconds']:.0f} s",
        flush=True,
    )
    return figures


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: one row per product, the mean over seeds and each seed's gain."""
    lines = [
        "| algorithm | greedy before | greedy after | gain, points | each seed | avg@4 before | avg@4 after "
        "| length | minutes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for algorithm, runs in results.items():

        def mean(name: str, key: str, runs: list[dict[str, Any]] = runs) -> float:
            return 100 * float(np.mean([run[name][key]["mean"] for run in runs]))

        gains = [100 * (r["after"]["greedy"]["mean"] - r["before"]["greedy"]["mean"]) for r in runs]
        lengths = [np.mean([r[name]["response_length"] for r in runs]) for name in ("before", "after")]
        lines.append(
            f"| {algorithm} | {mean('before', 'greedy'):.1f} | {mean('after', 'greedy'):.1f} "
            f"| **{np.mean(gains):+.1f}** | {', '.join(f'{gain:+.1f}' for gain in gains)} "
            f"| {mean('before', 'avg@4'):.1f} | {mean('after', 'avg@4'):.1f} "
            f"| {lengths[0]:.0f} -> {lengths[1]:.0f} "
            f"| {np.mean([r['seconds'] for r in runs]) / 60:.1f} |"
        )
    return "\n".join(lines)


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Training accuracy, entropy, response length and lost gradient: mean over seeds and the range."""
    panels = (
        ("reward/accuracy", "training accuracy"),
        ("response_length/mean", "response length, tokens"),
        ("actor/entropy", "entropy, nats"),
        ("actor/zero_grad_fraction", "tokens without gradient"),
    )
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), constrained_layout=True, sharex=True)
    for axis, (name, title) in zip(axes.flat, panels, strict=True):
        for number, (algorithm, runs) in enumerate(results.items()):
            length = min(len(r["metrics"]) for r in runs)
            curves = np.array(
                [
                    smooth(
                        np.array([np.nan if m.get(name) is None else m[name] for m in r["metrics"][:length]]),
                        7,
                    )
                    for r in runs
                ]
            )
            steps = np.arange(1, length + 1)
            axis.plot(steps, np.nanmean(curves, 0), color=f"C{number}", label=algorithm)
            axis.fill_between(steps, np.nanmin(curves, 0), np.nanmax(curves, 0), color=f"C{number}", alpha=0.12)
        axis.set_title(title)
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("step")
    axes[0][0].legend(ncols=2, fontsize=8)
    figure.savefig(path, dpi=110)


def main(options: Options) -> None:
    """All runs, the table and the curves."""
    options.output.mkdir(parents=True, exist_ok=True)
    pairs = [(a, s) for s in options.seeds for a in options.algorithms]
    with ThreadPoolExecutor(options.jobs) as pool:
        figures = list(pool.map(lambda pair: run(options, *pair), pairs))
    results: dict[str, list[dict[str, Any]]] = {a: [] for a in options.algorithms}
    for (algorithm, _), figure in zip(pairs, figures, strict=True):
        results[algorithm].append(figure)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"\ncommit {commit}, {time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}\n")
    print(table(results))
    plot(results, options.output / "before_after.png")


if __name__ == "__main__":
    main(tyro.cli(Options))
