"""Figures of one run: learning curves, trust-region fractions, lengths, accuracy by level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from llmrl.evaluation.outcomes import SUMMARIZED, Evaluation
from llmrl.training.metrics import KNOWN
from llmrl.training.metrics_file import read_metrics

PANELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "learning": (
        ("reward/accuracy", "reward/mean"),
        ("response_length/mean",),
        ("actor/entropy",),
        ("actor/grad_norm",),
    ),
    "trust_region": (
        ("actor/clip_fraction_low", "actor/clip_fraction_high"),
        ("actor/zero_grad_fraction", "actor/gate_fraction"),
        ("actor/kl_approx_k3",),
        ("actor/ratio_min", "actor/ratio_max"),
    ),
    "sampling": (
        ("groups/mixed", "groups/zero_std", "dynamic_sampling/acceptance"),
        ("verifier/no_answer", "response_length/truncated"),
        ("rollout/mismatch_max",),
        ("time/generate", "time/score", "time/update"),
    ),
}


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean that ignores missing values; windows are shorter at the ends.

    >>> smooth(np.array([0.0, 3.0, 6.0]), 3).tolist()
    [1.5, 3.0, 4.5]
    """
    known = ~np.isnan(values)
    place = np.arange(len(values))
    low = np.maximum(place - window // 2, 0)
    high = np.minimum(place + window // 2 + 1, len(values))
    sums, counts = (np.concatenate(([0.0], np.cumsum(x))) for x in (np.where(known, values, 0.0), known))
    count = counts[high] - counts[low]
    mean = np.full(len(values), np.nan)
    return np.divide(sums[high] - sums[low], count, out=mean, where=count > 0)


def plot_run(folder: Path) -> list[Path]:
    """Write ``plots/*.png`` of a run's folder; returns their paths.

    Raises:
        DamagedFile: an evaluation of the run is not what was written.
    """
    rows = read_metrics(folder / "metrics.jsonl")
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    written: list[Path] = []
    if rows:
        for name, panels in PANELS.items():
            written.append(_curves(rows, panels, plots / f"{name}.png", folder.name))
    before, after = (folder / "eval" / f"{name}.jsonl" for name in ("before", "after"))
    if before.is_file() and after.is_file():
        pair = [Evaluation.read(path, SUMMARIZED).summary() for path in (before, after)]
        written.append(_bars(pair[0], pair[1], plots / "evaluation.png"))
    return written


def _curves(rows: list[dict[str, Any]], panels: tuple[tuple[str, ...], ...], path: Path, title: str) -> Path:
    steps = np.array([row["step"] for row in rows])
    window = max(len(rows) // 20, 1) | 1
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.5), constrained_layout=True, sharex=True)
    for axis, names in zip(axes.flat, panels, strict=True):
        for number, name in enumerate(names):
            values = np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=float)
            if np.isnan(values).all():
                continue
            axis.plot(steps, values, color=f"C{number}", alpha=0.25, linewidth=1)
            # Dashes keep a curve visible under another one.
            style = "-" if number == 0 else "--"
            axis.plot(steps, smooth(values, window), style, color=f"C{number}", label=name)
        axis.set_ylabel(KNOWN[names[0]].unit or names[0].split("/")[-1])
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("step")
    figure.suptitle(title, parse_math=False)  # a dollar sign in a name does not start a formula
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _bars(before: dict[str, Any], after: dict[str, Any], path: Path) -> Path:
    """Greedy accuracy before and after, over all problems, by level and by subject, with intervals."""
    cells: list[tuple[str, Any, Any]] = [("all", before["greedy"], after["greedy"])]
    for group in ("by_level", "by_subject"):
        prefix = "level " if group == "by_level" else ""
        for key, estimate in before[group].items():
            if key in after[group] and key != "None":
                cells.append((prefix + key.replace("_", " "), estimate, after[group][key]))
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(cells) + 1.5), constrained_layout=True)
    places = np.arange(len(cells))
    for offset, label, colour in ((-0.2, "before", "C7"), (0.2, "after", "C0")):
        estimates = [cell[1] if label == "before" else cell[2] for cell in cells]
        means = np.array([estimate["mean"] for estimate in estimates])
        spread = np.abs(np.array([[estimate["low"], estimate["high"]] for estimate in estimates]).T - means)
        axis.barh(places + offset, means, 0.38, xerr=spread, label=label, color=colour, capsize=2)
    axis.set_yticks(places, [cell[0] for cell in cells], parse_math=False)  # a subject may hold dollar signs
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.set_xlabel("greedy accuracy, 95 % interval over problems")
    axis.legend(loc="lower right")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
