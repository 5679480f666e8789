"""One HTML file about any number of runs: results, settings, curves and the tokens of some rollouts.

The file needs no other file, no network and no server. It is written rollout by rollout, so memory does not grow with
the number of rollouts.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, TextIO

from matplotlib.figure import Figure

from llmrl.evaluation import DifferentProblems, Evaluation, compare
from llmrl.evaluation.tables import difference_text
from llmrl.reports.curves import accuracy_figure, change, curve_figures, evaluated, inline_svg
from llmrl.reports.rollouts import Choice, Shown, json_text, recipes_for, shown_rollouts
from llmrl.reports.runs import Group, Run, group_runs
from llmrl.reports.settings import heading, html_table, settings_html
from llmrl.text import one_line
from llmrl.training.folder import refuse_traps

_ROLLOUTS = "<!-- rollouts -->"
_DPI = 110


def write_page(
    output: Path,
    runs: Sequence[Run],
    *,
    algorithms: Sequence[str] = (),
    choice: Choice | None = None,
    plots: Path | None = None,
    allow_code: bool = False,
) -> list[str]:
    """Write the page; returns the notes that it shows. The page gets its name only when it is complete.

    Args:
        algorithms: algorithms to compute on the saved tokens, in addition to each run's own.
        choice: the number of rollouts in the page.
        plots: a folder for every figure as a PNG and an SVG file.
        allow_code: import the modules that a run's config.yaml names.

    Raises:
        UnknownName: there is no algorithm with this name.
    """
    choice = choice or Choice()
    seen = [Shown() for _ in runs]
    recipes = [recipes_for(run, algorithms, s, allow_code) for run, s in zip(runs, seen, strict=True)]
    groups = group_runs(runs)
    figures = _figures(groups, plots)
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = output.with_name(f".writing-{output.name}")
    body = aside.with_name(f"{aside.name}.rollouts")
    for path in (aside, body):  # left by a process that was killed, or links, which would be written through
        path.unlink(missing_ok=True)
    # A response may hold half a surrogate pair, which no encoding can write.
    with aside.open("x", encoding="utf-8", errors="replace") as file:
        try:
            with body.open("x+", encoding="utf-8", errors="replace") as data:
                entries = _write_rollouts(data, runs, recipes, choice, seen)
                # All notes are known only now, and they belong at the top.
                notes = [f"{run.name}: {note}" for run in runs for note in run.notes]
                notes += [f"{r.name}: {n}" for r, s in zip(runs, seen, strict=True) for n in s.notes]
                head, tail = _frame(runs, groups, figures, notes).split(_ROLLOUTS)
                file.write(head)
                data.seek(0)
                while piece := data.read(1 << 20):
                    file.write(piece)
        finally:
            body.unlink(missing_ok=True)
        index = {
            "bounds": _bounds(runs, seen, choice),
            "rollouts": entries,
            "runs": [
                {
                    "name": run.name,
                    "algorithm": run.algorithm,
                    "recipes": [[name, str(recipe)] for name, recipe in made.items()],
                    "texts": s.texts,
                }
                for run, made, s in zip(runs, recipes, seen, strict=True)
            ],
        }
        _data_block(file, "index", index)
        file.write(tail)
    os.replace(aside, output)
    return notes


def _write_rollouts(
    file: TextIO,
    runs: Sequence[Run],
    recipes: Sequence[dict[str, Any]],
    choice: Choice,
    seen: Sequence[Shown],
) -> list[list[Any]]:
    """Write a block of data for each response; returns the values for the page's filters."""
    entries: list[list[Any]] = []
    for number, (run, made, s) in enumerate(zip(runs, recipes, seen, strict=True)):
        for entry in shown_rollouts(run, made, choice, s):
            _data_block(file, f"r{len(entries)}", entry)
            entries.append([number, entry["step"], entry.get("group"), entry.get("verdict")])
    return entries


def _data_block(file: TextIO, name: str, value: Any) -> None:
    file.write(f'<script type="application/json" id="{name}">{json_text(value)}</script>\n')


def _bounds(runs: Sequence[Run], seen: Sequence[Shown], choice: Choice) -> str:
    """A sentence with the share of the rollouts that the page shows."""
    shown = sum(step["shown"] for s in seen for step in s.steps)
    total = sum(step["total"] for s in seen for step in s.steps)
    files = sum(len(run.rollouts) for run in runs)
    return (
        f"The page shows {shown:,} of the {total:,} responses of {sum(len(s.steps) for s in seen)} steps; "
        f"{files} steps have rollouts. The limits are {choice.steps} steps of a run, {choice.per_step} responses of a "
        f"step (whole groups, evenly spaced) and {choice.max_tokens:,} tokens of a response. Advantages and "
        "log-probabilities are those of the run. The other algorithms show only their policy loss, with their default "
        "options."
    )


def _frame(runs: Sequence[Run], groups: Sequence[Group], figures: dict[str, str], notes: Iterable[str]) -> str:
    """The page without the rollouts."""
    files = resources.files("llmrl.reports")
    texts = {name: (files / name).read_text("utf-8") for name in ("page.html", "style.css", "viewer.js")}
    digest = hashlib.sha256(texts["viewer.js"].encode()).digest()
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    has_rollouts = any(run.rollouts for run in runs)
    return Template(texts["page.html"]).substitute(
        title=html.escape(", ".join(run.name for run in runs)),
        style=texts["style.css"],
        script=texts["viewer.js"],
        script_hash=base64.b64encode(digest).decode(),
        notes=f'<ul class="notes">{items}</ul>' if items else "",
        results=_results(groups, runs) + figures.pop("accuracy", ""),
        settings_title=heading(runs),
        settings=settings_html(runs),
        curves=f'<div class="figures">{"".join(figures.values())}</div>'
        if figures
        else "<p>No step is finished yet.</p>",
        empty="The responses are shown by a script, which this browser does not run."
        if has_rollouts
        else "The runs have no rollouts: see --checkpoint.rollouts-every of the training command.",
    )


def _figures(groups: Sequence[Group], plots: Path | None) -> dict[str, str]:
    """Every figure as an element of the page."""
    elements = {}
    for name, figure in curve_figures(groups):
        elements[name] = f"<figure>{inline_svg(figure, name)}</figure>"
        _save(figure, plots, name)
    bars = accuracy_figure(groups)
    if bars is not None:
        elements["accuracy"] = f'<figure class="wide">{inline_svg(bars, "accuracy")}</figure>'
        _save(bars, plots, "accuracy")
    return elements


def _save(figure: Figure, plots: Path | None, name: str) -> None:
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        refuse_traps(plots)
        for kind in ("png", "svg"):
            figure.savefig(plots / f"{name.replace('/', '_')}.{kind}", dpi=_DPI)


def _results(groups: Sequence[Group], runs: Sequence[Run]) -> str:
    """A row for each run, and one for each group of several runs; for a single run every measure."""
    rows: list[list[str]] = []
    pooled = []
    for group in groups:
        for run in group.runs:
            rows.append(_result_row(run.name, group.label, run.settings.get("seed"), [run]))
        if len(group.runs) > 1:
            pooled.append(len(rows))
            complete, count = len(evaluated(group.runs)), len(group.runs)
            counted = str(count) if complete == count else f"{complete} of {count}"
            rows.append(_result_row(f"{counted} runs together", group.label, "", group.runs))
    head = ("run", "algorithm", "seed", "steps", "problems", "before", "after", "change")
    measures = _measures(runs[0]) if len(runs) == 1 else ""
    asked = "; ".join(dict.fromkeys(one_line(str(run.asked)) for run in runs if run.asked is not None))
    return (
        html_table(head, rows, numbers_from=4, pooled=pooled)
        + measures
        + f"<p>Greedy accuracy{' on ' if asked else ''}{html.escape(asked)}, with 95 % intervals over problems. The "
        "change is a paired difference. For several runs, the value of a problem is its mean over the runs with both "
        "evaluations.</p>"
    )


def _result_row(name: str, label: str, seed: Any, runs: Sequence[Run]) -> list[str]:
    steps = {str(run.metrics[-1]["step"]) if run.metrics else "0" for run in runs}
    entry = change(runs)
    numbers = ["-", "-", "-", "-"]
    if entry is not None:
        points = f"{difference_text(entry.change)} points"
        numbers = [str(entry.problems), str(entry.before), str(entry.after), points]
    return [name, label, str(seed), ", ".join(sorted(steps, key=int)), *numbers]


def _measures(run: Run) -> str:
    """Every measure of both evaluations; nothing if one is missing or has other problems."""
    if set(run.evaluations) != {"before", "after"}:
        return ""
    try:
        both = compare(Evaluation(run.evaluations["before"]), Evaluation(run.evaluations["after"]))
    except DifferentProblems as error:
        return f"<p>{html.escape(str(error))}</p>"
    rows = [
        [name, str(both.first[name]), str(both.second[name]), f"{difference_text(gain)} points"]
        for name, gain in both.difference.items()
    ]
    return html_table(("measure", "before", "after", "change"), rows, numbers_from=1)
