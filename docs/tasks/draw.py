"""Draws the pictures of the task pages: the score over a run, from a study's folder.

python docs/tasks/draw.py runs/study
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from llmrl.studies import Results, load
from llmrl.studies.grid import Row

SHOWN = ("dapo", "erc+dapo", "gppo", "gspo", "espo", "cispo", "erc[sides=outward]")


def draw(results: Results, task: str, path: Path) -> None:
    """Score and entropy over the rollouts, the mean of the seeds and the range."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3), constrained_layout=True)
    for number, algorithm in enumerate(SHOWN):
        rows = [r for r in results.rows if r.cell.task == task and r.cell.algorithm == algorithm and not r.failed]
        for axis, name in zip(axes, ("score", "entropy"), strict=True):
            if rows:
                _line(axis, rows, name, f"C{number}", algorithm)
    axes[0].set_ylabel("score (the optimum is 1)")
    axes[1].set_ylabel("entropy of an answer, nats")
    for axis in axes:
        axis.set_xlabel("rollout")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _line(axis: plt.Axes, rows: list[Row], name: str, color: str, label: str) -> None:
    curves = [row.curves[name] for row in rows]
    # A score that costs time is not there for every rollout; its places are even.
    places = np.linspace(0, rows[0].cell.settings.rollouts, len(curves[0]))
    mean = np.mean(curves, axis=0)
    axis.plot(places, mean, color=color, label=label)
    axis.fill_between(
        places,
        np.min(curves, axis=0),
        np.max(curves, axis=0),
        color=color,
        alpha=0.12,
        lw=0,
    )


def main() -> None:
    """A picture for each task of the study."""
    results = load(Path(sys.argv[1]))
    for task in dict.fromkeys(row.cell.task for row in results.rows):
        draw(results, task, Path(__file__).parent / f"{task}.png")


if __name__ == "__main__":
    main()
