"""The settings in a page: first those that are not at their defaults, then a collapsed list of the others."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from llmrl.reports.runs import Run, differences
from llmrl.text import one_line
from llmrl.training.defaults import changed


def heading(runs: Sequence[Run]) -> str:
    """The title of the section."""
    return "Settings" if len(runs) == 1 else "Settings that differ"


def settings_html(runs: Sequence[Run]) -> str:
    """The section: the settings of one run; or those that differ between several, with a collapsed list for each."""
    if len(runs) == 1:
        return _of_one(runs[0])
    table = differences(runs)
    rows = [(name, *("" if value is None else str(value) for value in values)) for name, values in table.items()]
    differing = html_table(("setting", *(run.name for run in runs)), rows) if rows else "<p>None.</p>"
    return differing + "".join(_folded(f"settings of {run.name}", _of_one(run)) for run in runs)


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int | None = None, pooled: Sequence[int] = ()
) -> str:
    """A table of texts, with all markup escaped.

    Args:
        head: its headings.
        rows: its cells.
        numbers_from: the first column of numbers.
        pooled: the rows that combine several runs.
    """
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    mark = " class=number"
    body = "".join(
        f"<tr{' class=pooled' if place in pooled else ''}>"
        + "".join(
            f"<td{mark if numbers_from is not None and i >= numbers_from else ''}>{html.escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{body}</table></div>'


def _of_one(run: Run) -> str:
    first = changed(run.config)
    rest = {name: value for name, value in run.settings.items() if name not in first}
    parts = [f'<p class="facts">{html.escape(_facts(run))}</p>']
    parts.append(html_table(("not at its default", "value"), _rows(first)))
    if rest:
        parts.append(_folded(f"{len(rest)} settings at their defaults", html_table(("setting", "value"), _rows(rest))))
    return "".join(parts)


def _facts(run: Run) -> str:
    """Date, versions and machine of the run, if its record has them."""
    record = run.record
    packages = record.get("packages")
    versions = packages if isinstance(packages, Mapping) else {}
    gpus = record.get("gpus")
    facts = {
        "started": record.get("date"),
        "llmrl": versions.get("llmrl"),
        "commit": record.get("commit"),
        "torch": versions.get("torch"),
        "on": ", ".join(map(str, gpus)) if isinstance(gpus, list) and gpus else f"{record.get('cpus')} CPU cores",
    }
    said = " · ".join(f"{name} {one_line(str(value))}" for name, value in facts.items() if value)
    return said if record else "There is no environment.json with the date and the machine of the run."


def _rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, one_line(str(value), 1000)) for name, value in settings.items()]


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"
