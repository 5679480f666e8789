"""How the default run's settings were chosen: one changed at a time, the same number of responses each.

    python benchmarks/sweep.py --output runs/sweep

Prints the table of ``benchmarks/README.md``; a finished run is not repeated.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro

from llmrl.training.metrics_file import read_metrics

VARIANTS: tuple[dict[str, float], ...] = (
    {},
    {"learning-rate": 5e-5},
    {"learning-rate": 1e-4},
    {"learning-rate": 4e-4},
    {"learning-rate": 8e-4},
    {"updates-per-step": 1},
    {"updates-per-step": 4},
    {"prompts-per-step": 8},
    {"prompts-per-step": 32},
    {"warmup-steps": 1},
)
"""What is changed of ``--train``."""


@dataclass
class Options:
    """Short runs of one algorithm, each with one setting changed."""

    output: Path = Path("runs/sweep")
    """Where the runs go."""
    algorithm: str = "espo"
    """Which one."""
    responses: int = 2304
    """How many responses each run samples."""
    problems: int = 256
    """How many held-out problems it is evaluated on, greedily."""
    jobs: int = 1
    """Runs at the same time."""
    threads: int | None = None
    """Threads of each run; by default all cores."""


def run(options: Options, variant: dict[str, float]) -> str:
    """One run, unless it is there already; returns its row."""
    name = "-".join(f"{k}-{v:g}" for k, v in variant.items()) or "defaults"
    folder = options.output / name
    steps = options.responses // (int(variant.get("prompts-per-step", 16)) * 8)
    if not (folder / "eval" / "after.json").is_file():
        command = [
            sys.executable,
            "-m",
            "llmrl.algorithms.run",
            "--algo",
            options.algorithm,
            "--output",
            str(folder),
            "--force",
            "--train.steps",
            str(steps),
            "--eval.problems",
            str(options.problems),
            "--eval.samples",
            "0",
            *(f"--train.{k}={v:g}" for k, v in variant.items()),
        ]
        if options.threads is not None:
            command += ["--threads", str(options.threads)]
        with (options.output / f"{name}.log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)
    greedy = {
        when: 100 * json.loads((folder / "eval" / f"{when}.json").read_text())["greedy"]["mean"]
        for when in ("before", "after")
    }
    metrics = read_metrics(folder / "metrics.jsonl")
    last = [m["reward/accuracy"] for m in metrics[-max(len(metrics) // 6, 1) :]]
    entropy = metrics[-1]["actor/entropy"]
    changed = ", ".join(f"{k} {v:g}" for k, v in variant.items()) or "the defaults"
    row = (
        f"| {changed} | {steps} | {greedy['before']:.1f} | {greedy['after']:.1f} "
        f"| {100 * sum(last) / len(last):.1f} | {entropy:.3f} |"
    )
    print(row, flush=True)
    return row


def main(options: Options) -> None:
    """All runs, then the table."""
    options.output.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(lambda variant: run(options, variant), VARIANTS))
    print(
        f"\n{options.algorithm}, {options.responses} responses, {time.strftime('%Y-%m-%d')}\n\n"
        "| changed | steps | greedy before | greedy after | sampled at the end | entropy at the end |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(rows)
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
