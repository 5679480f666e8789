"""Figures of several runs: a curve and a band for each group of seeds, and accuracy before and after.

:mod:`llmrl.reports.plots` has the figures of a single run.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from llmrl.evaluation import Estimate, Evaluation, estimate
from llmrl.reports.plots import smooth
from llmrl.reports.runs import Group, Run
from llmrl.training.metrics import KNOWN

PANELS = (
    "reward/accuracy",
    "reward/mean",
    "eval/greedy",
    "response_length/mean",
    "response_length/truncated",
    "actor/entropy",
    "actor/grad_norm",
    "actor/clip_fraction_low",
    "actor/clip_fraction_high",
    "actor/gate_fraction",
    "actor/zero_grad_fraction",
    "actor/kl_approx_k3",
)
POINTS = 400
"""Maximum number of points of a band, which is a few hundred pixels wide."""
LARGEST = 40
"""Maximum number of levels, and of subjects, in the figure of the accuracy: those with the most problems."""
_INK = "#010203"  # stands for the page's text colour, which is light or dark


class Series(NamedTuple):
    """A metric of one group, over the steps that all its runs have."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def values_of(run: Run, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric, at the steps that have one."""
    pairs = [(row["step"], row[name]) for row in run.metrics if row.get(name) is not None]
    table = np.array(pairs, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def band(runs: Sequence[Run], name: str) -> Series:
    """Mean, minimum and maximum over the runs, each smoothed first.

    >>> a = Run(None, "a", {}, [{"step": 1, "x": 0.0}, {"step": 2, "x": 1.0}])
    >>> b = Run(None, "b", {}, [{"step": 1, "x": 4.0}])
    >>> band([a, b], "x")
    Series(steps=array([1.]), mean=array([2.]), low=array([0.]), high=array([4.]))
    """
    curves = [values_of(run, name) for run in runs]
    curves = [(steps, values) for steps, values in curves if len(steps)]
    if not curves:
        empty = np.array([])
        return Series(empty, empty, empty, empty)
    common = curves[0][0]
    for steps, _ in curves[1:]:
        common = np.intersect1d(common, steps)
    smoothed = np.array(
        [smooth(values, max(len(values) // 20, 1) | 1)[np.isin(steps, common)] for steps, values in curves]
    )
    keep = slice(None, None, max(len(common) // POINTS, 1))
    table = smoothed[:, keep]
    return Series(common[keep], table.mean(0), table.min(0), table.max(0))


def curve_figures(groups: Sequence[Group]) -> Iterator[tuple[str, Figure]]:
    """A figure for each metric that any run has, with the metric's name."""
    for name in PANELS:
        if any(len(values_of(run, name)[0]) for group in groups for run in group.runs):
            with _style():
                figure, axis = plt.subplots(figsize=(5, 3.1), constrained_layout=True)
                for number, group in enumerate(groups):
                    _curve(axis, group, name, f"C{number % 10}")
                metric = KNOWN[name]
                axis.set_title(name, fontsize=10)
                axis.set_xlabel("step")
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
                axis.set_ylabel(metric.unit or name.split("/")[-1])
                if metric.unit == "share":
                    low, high = axis.get_ylim()
                    axis.set_ylim(max(low, -0.02), min(high, 1.02))
                axis.grid(alpha=0.25)
                axis.legend(fontsize=7, framealpha=0)
            yield name, figure
            plt.close(figure)


def _curve(axis: Any, group: Group, name: str, colour: str) -> None:
    for run in group.runs:
        axis.plot(*values_of(run, name), color=colour, alpha=0.25, linewidth=0.7)
    series = band(group.runs, name)
    if not len(series.steps):
        return
    label = group.label
    if len(group.runs) > 1:
        label += f": mean of {len(group.runs)} runs, band min to max"
        axis.fill_between(series.steps, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(series.steps, series.mean, color=colour, label=label, linewidth=1.6)


class Change(NamedTuple):
    """Greedy accuracy of a group on the same problems, before and after."""

    problems: int
    before: Estimate
    after: Estimate
    change: Estimate


def evaluated(runs: Sequence[Run]) -> list[Run]:
    """The runs with both evaluations: before and after training."""
    return [run for run in runs if {"before", "after"} <= set(run.evaluations)]


def change(runs: Sequence[Run], field: str | None = None, value: Any = None) -> Change | None:
    """Accuracy before and after training, and the paired difference; None if one is missing.

    A problem counts once, by its mean over the runs; the intervals are over problems.

    Args:
        runs: runs of one experiment; those without both evaluations, such as unfinished ones, are left out.
        field: use only the problems whose record has ``value`` in this field, such as ``"level"``.
    """
    complete = evaluated(runs)
    before, after = (_per_problem(complete, name, field, value) for name in ("before", "after"))
    both = [problem for problem in before if problem in after]
    if not both:
        return None
    pair = [[table[problem] for problem in both] for table in (before, after)]
    gain = [b - a for a, b in zip(*pair, strict=True)]
    return Change(len(both), estimate(pair[0]), estimate(pair[1]), estimate(gain, (-1.0, 1.0)))


def _per_problem(runs: Sequence[Run], name: str, field: str | None, value: Any) -> dict[int, float]:
    records = [
        record
        for run in runs
        for record in run.evaluations.get(name, ())
        if field is None or record.get(field) == value
    ]
    scores = Evaluation(records).scores(greedy=True)
    return {problem: float(np.mean(outcomes)) for problem, outcomes in scores.items()}


def accuracy_figure(groups: Sequence[Group]) -> Figure | None:
    """Accuracy before (hollow) and after (filled) by level and subject; None without evaluations."""
    records = [r for g in groups for run in g.runs for r in run.evaluations.get("before", ())]
    cells: list[tuple[str, str | None, Any]] = [("all", None, None)]
    axis_label = "greedy accuracy: hollow before, filled after; bars: 95 % over problems"
    for field, prefix in (("level", "level "), ("subject", "")):
        values = (record.get(field) for record in records)
        found = Counter(value for value in values if isinstance(value, (int, str)) and value)  # 0, "": unknown
        largest = [value for value, _ in found.most_common(LARGEST)]
        cells += [(prefix + str(v).replace("_", " "), field, v) for v in sorted(largest, key=str)]
        if len(found) > LARGEST:
            axis_label += f"\nOf {len(found)} {field}s, the {LARGEST} with the most problems are shown."
    table = [[change(g.runs, field, value) for g in groups] for _, field, value in cells]
    if not any(entry for row in table for entry in row):
        return None
    height = 0.32 * len(cells) * max(len(groups), 1.5) + 1.0
    with _style():
        figure, axis = plt.subplots(figsize=(8, height), constrained_layout=True)
        for number, group in enumerate(groups):
            offset = 0.7 * ((number + 0.5) / len(groups) - 0.5)
            for place, row in enumerate(table):
                if (entry := row[number]) is not None:
                    label = group.label if place == 0 else None
                    gap = 0.14 / len(groups)
                    _pair(axis, entry, place + offset, gap, f"C{number % 10}", label)
        axis.set_yticks(range(len(cells)), [name for name, *_ in cells])
        axis.invert_yaxis()
        axis.set_xlim(-0.02, 1.02)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axis.set_xlabel(axis_label)
        axis.grid(axis="x", alpha=0.25)
        axis.legend(fontsize=8, framealpha=0)
    plt.close(figure)
    return figure


def _pair(axis: Any, entry: Change, place: float, gap: float, colour: str, label: Any) -> None:
    for point, face, side in ((entry.before, "none", -1), (entry.after, colour, 1)):
        spread = [[max(point.mean - point.low, 0)], [max(point.high - point.mean, 0)]]
        axis.errorbar(
            point.mean,
            place + side * gap,
            xerr=spread,
            fmt="o",
            markersize=5,
            color=colour,
            markerfacecolor=face,
            elinewidth=0.9,
            capsize=2,
            label=label if face != "none" else None,
        )


@contextmanager
def _style() -> Iterator[None]:
    # A dollar sign in a setting does not start a formula.
    settings: dict[Any, Any] = {"font.size": 8, "text.parse_math": False}
    for name in ("text.", "xtick.", "ytick.", "grid.", "axes.edge", "axes.label"):
        settings[f"{name}color"] = _INK
    with matplotlib.rc_context(settings):
        yield


def inline_svg(figure: Figure, salt: str) -> str:
    """The figure as an ``<svg>`` with the page's colours.

    Args:
        salt: makes the identifiers of this figure unique in the page.
    """
    buffer = io.StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": salt}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return text.replace(_INK, "currentColor")
