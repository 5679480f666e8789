"""Evaluations as tables for a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from llmrl.evaluation.estimators import Estimate
from llmrl.evaluation.pairs import Comparison
from llmrl.terminal import Terminal

SHARES = {
    "no_answer": "no answer",
    "timeout": "timeout",
    "invalid": "no verdict",
    "truncated": "truncated",
}


def show_summaries(console: Terminal, summaries: dict[str, dict[str, Any]]) -> None:
    """Print the numbers of all environments side by side, then those of each environment by subject and level.

    Args:
        console: where to print.
        summaries: the :meth:`~llmrl.evaluation.Evaluation.summary` of each environment.
    """
    table = Table("", title="accuracy in %, 95 % intervals over problems")
    for env_id in summaries:
        table.add_column(env_id, justify="right")
    parts = list(summaries.values())
    table.add_row("problems", *(str(part["problems"]) for part in parts))
    for name in dict.fromkeys(name for part in parts for name in _measures(part)):
        table.add_row(name, *(_interval(part.get(name)) for part in parts))
    table.add_section()
    for key, heading in SHARES.items():
        table.add_row(f"{heading}, greedy / sampled", *(_share(part, key) for part in parts))
    table.add_row("tokens, greedy / sampled", *(_length(part) for part in parts))
    if any(part["dropped_prompts"] for part in parts):
        table.add_row("prompts dropped", *(str(part["dropped_prompts"]) for part in parts))
    console.print(table)
    for env_id, part in summaries.items():
        cells = _cells(env_id, part)
        if cells.row_count > 1:
            console.print(cells)


def _cells(env_id: str, summary: dict[str, Any]) -> Table:
    names = _measures(summary)
    largest = max((int(name[5:]) for name in names if name.startswith("pass@")), default=0)
    several = [n for n in (f"pass@{largest}", f"maj@{largest}") if n in names]
    average = [name for name in names if name.startswith("avg@")]
    table = Table("", title=env_id, box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("n", "greedy", *average, *several):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, prefix in (("by_subject", ""), ("by_level", "level ")):
        for value, cell in summary[group].items():
            if value not in ("None", "", "0"):
                shown = [_interval(cell, 0), *(_interval(cell[name], 0) for name in average)]
                shown += [f"{100 * cell[name]['mean']:.1f}" for name in several]
                label = prefix + value.replace("_", " ")
                table.add_row(label, str(cell["problems"]), *shown)
        table.add_section()
    return table


def show_comparison(console: Terminal, title: str, result: Comparison) -> None:
    """Print every measure of both policies with the difference, and the counts of greedy responses that differ."""
    table = Table("", "first", "second", "second - first", title=f"{title} in %, 95 % intervals")
    for name, difference in result.difference.items():
        sides = [_interval(side[name]._asdict()) for side in (result.first, result.second)]
        table.add_row(name, *sides, difference_text(difference))
    console.print(table)
    counts = Table("greedy responses", "second right", "second wrong")
    counts.add_row("first right", str(result.both), str(result.only_first))
    counts.add_row("first wrong", str(result.only_second), str(result.neither))
    console.print(counts)
    console.print(f"McNemar's exact test: p = {result.p_value:.2g}", highlight=False)


def difference_text(difference: Estimate) -> str:
    """A difference in points with its interval.

    >>> difference_text(Estimate(0.125, -0.01, 0.26))
    '+12.5 [-1.0, +26.0]'
    """
    mean, low, high = (f"{100 * value:+.1f}" for value in difference)
    return f"{mean} [{low}, {high}]"


def _measures(summary: dict[str, Any]) -> list[str]:
    return [name for name in summary if name == "greedy" or "@" in name]


def _interval(cell: dict[str, Any] | None, digits: int = 1) -> str:
    if cell is None:
        return "-"
    low, high = (f"{100 * cell[end]:.{digits}f}" for end in ("low", "high"))
    return f"{100 * cell['mean']:.1f} [{low}, {high}]"


def _share(summary: dict[str, Any], key: str) -> str:
    parts = [summary, summary["sampled"]] if "sampled" in summary else [summary]
    return " / ".join(f"{100 * part[key]:.1f}" for part in parts)


def _length(summary: dict[str, Any]) -> str:
    parts = [summary, summary["sampled"]] if "sampled" in summary else [summary]
    return " / ".join(f"{part['response_length']:.0f}" for part in parts)
