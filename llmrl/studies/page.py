"""Figures of a study, and one HTML page with tables and figures that needs no other file."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmrl.studies.results import Line, Results

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
"""
HEADER = (
    "algorithm",
    "final score",
    "minus {baseline}",
    "P(better)",
    "area",
    "collapsed",
    "no gradient",
    "KL",
    "entropy",
    "runs",
    "failed",
)


def cells(line: Line) -> list[str]:
    """A line of the table as text, under ``HEADER``."""
    return [
        line.algorithm,
        str(line.score),
        "" if line.difference is None else str(line.difference),
        "" if line.better is None else str(line.better),
        str(line.area),
        f"{100 * line.collapsed.value:.0f} %",
        f"{100 * line.zero_grad:.1f} %",
        f"{line.kl:.4f}",
        f"{line.entropy:.2f}",
        str(line.runs),
        str(line.failed),
    ]


def _color(results: Results, algorithm: str) -> str:
    return f"C{results.algorithms.index(algorithm) % 10}"


def _dashes(results: Results, algorithm: str) -> str:
    return ("-", "--", ":", "-.")[results.algorithms.index(algorithm) // 10 % 4]


def score_figure(results: Results) -> Figure:
    """Final score of each algorithm with its interval, and the paired difference to the baseline."""
    table = results.table()
    figure, axes = plt.subplots(1, 2, figsize=(10, 1.2 + 0.36 * len(table)), constrained_layout=True, sharey=True)
    for place, line in enumerate(table):
        color = _color(results, line.algorithm)
        for axis, number in ((axes[0], line.score), (axes[1], line.difference)):
            if number is not None:
                if number.low is not None:
                    axis.plot([number.low, number.high], [place, place], color=color, lw=3, alpha=0.5)
                axis.plot(number.value, place, "o", color=color)
    axes[0].set_yticks(range(len(table)), [line.algorithm for line in table])
    axes[0].invert_yaxis()
    axes[0].set_xlabel("final score, interquartile mean")
    axes[1].axvline(0, color="black", lw=0.8)
    axes[1].set_xlabel(f"minus {results.baseline}, seed by seed")
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure


def _curve(axis: Axes, results: Results, algorithm: str, number: str, stratum: str | None) -> None:
    found = results.curve(algorithm, number, stratum)
    if found:
        place, value, low, high = found
        color = _color(results, algorithm)
        axis.plot(place, value, color=color, ls=_dashes(results, algorithm), label=algorithm)
        if low is not None:
            axis.fill_between(place, low, high, color=color, alpha=0.12)


def curves_figure(results: Results, number: str = "score") -> Figure:
    """Sample efficiency: the score over the run, all strata together, with pointwise bands."""
    figure, axis = plt.subplots(figsize=(7.5, 4.5), constrained_layout=True)
    for algorithm in results.complete():
        _curve(axis, results, algorithm, number, None)
    axis.set_xlabel("share of the responses of a run")
    axis.set_ylabel(f"{number}, interquartile mean")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


def tasks_figure(results: Results, number: str = "score") -> Figure:
    """The same for each stratum."""
    columns = min(3, len(results.strata))
    rows = -(-len(results.strata) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 2.8 * rows), constrained_layout=True, squeeze=False, sharex=True
    )
    for axis, stratum in zip(axes.flat, results.strata, strict=False):
        for algorithm in results.algorithms:
            _curve(axis, results, algorithm, number, stratum)
        axis.set_title(stratum, fontsize=9)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(results.strata) :]:
        axis.set_axis_off()
    axes[0][0].legend(fontsize=6)
    return figure


def profile_figure(results: Results) -> Figure:
    """Performance profiles: the share of runs above each score."""
    figure, axis = plt.subplots(figsize=(7.5, 4.5), constrained_layout=True)
    for algorithm in results.complete():
        threshold, share, low, high = results.profile(algorithm)
        color = _color(results, algorithm)
        axis.plot(threshold, share, color=color, ls=_dashes(results, algorithm), label=algorithm)
        if low is not None:
            axis.fill_between(threshold, low, high, color=color, alpha=0.12)
    axis.set_xlabel("final score")
    axis.set_ylabel("share of runs above it")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    return figure


MOST_PANELS = 24
"""With more strata the page has no separate curves, because they would be unreadable."""


def write_page(results: Results, folder: Path) -> Path:
    """``page.html`` and ``figures/*.png`` and ``.svg``; returns the page."""
    figures = {}
    if results.complete():
        figures = {
            "scores": score_figure(results),
            "curves": curves_figure(results),
            "profiles": profile_figure(results),
        }
    if 1 < len(results.strata) <= MOST_PANELS:
        figures["tasks"] = tasks_figure(results)
    pictures = folder / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, figure in figures.items():
        figure.savefig(pictures / f"{name}.png", dpi=110)
        text = io.StringIO()
        figure.savefig(text, format="svg")
        (pictures / f"{name}.svg").write_text(text.getvalue())
        drawn[name] = text.getvalue()[text.getvalue().index("<svg") :]
        plt.close(figure)
    versions = ", ".join(f"{task} {version}" for task, version in results.versions.items())
    body = [
        f"<h1>Study of {len(results.algorithms)} algorithms</h1>",
        f"<p>Tasks and their versions: {html.escape(versions)}. Scores are in [0, 1]; the optimum is 1. Brackets "
        "are 95 % intervals from a stratified bootstrap over seeds. They cover only the randomness of sampling, since "
        "every run has the same start point.</p>",
        *(f"<p><b>Note.</b> {html.escape(note)}</p>" for note in results.notes()),
        _html_table(results, None),
    ]
    titles = {
        "scores": "Final scores and differences",
        "curves": "Sample efficiency",
        "profiles": "Performance profiles",
        "tasks": "Sample efficiency by task",
    }
    body += [f"<h2>{titles[name]}</h2>{svg}" for name, svg in drawn.items()]
    if len(results.strata) > 1:
        body += [f"<h2>{html.escape(s)}</h2>{_html_table(results, [s])}" for s in results.strata]
    page = folder / "page.html"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Study</title><style>{_STYLE}</style>'
        f"<body>{''.join(body)}</body></html>\n"
    )
    return page


def _html_table(results: Results, strata: Sequence[str] | None) -> str:
    head = "".join(f"<th>{html.escape(name.format(baseline=results.baseline))}</th>" for name in HEADER)
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(line)) + "</tr>"
        for line in results.table(strata)
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"
