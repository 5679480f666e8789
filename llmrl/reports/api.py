"""The report as a Python function, as ``llmrl report`` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from llmrl.registry import refuses_unknown_arguments
from llmrl.reports.page import write_page
from llmrl.reports.rollouts import Choice
from llmrl.reports.runs import ReportError, read_runs


@dataclass(frozen=True)
class Page:
    """A written page."""

    path: Path
    """The HTML file; it needs no network."""
    notes: list[str]
    """Notes on data that could not be read or shown; the page shows them too."""
    plots: Path | None
    """The folder of the figure files; None if none were requested."""


@refuses_unknown_arguments
def report(
    *runs: str | PathLike[str],
    output: str | Path = "report.html",
    algorithms: Sequence[str] = ("dapo", "gspo", "espo", "erc"),
    steps: int = 12,
    rollouts: int = 24,
    max_tokens: int = 2000,
    plots: bool = False,
    allow_code: bool = False,
) -> Page:
    """Write one HTML page about finished or unfinished runs: results, curves, and rollouts token by token.

    Args:
        runs: folders of runs, or results of :func:`llmrl.train`.
        output: path of the page.
        algorithms: algorithms to compute on the saved tokens, in addition to each run's own.
        steps: number of steps of each run whose rollouts the page shows, evenly spaced.
        rollouts: number of responses of each step, in whole groups, evenly spaced; 0: none.
        max_tokens: maximum number of tokens of a response.
        plots: also write the figures as PNG and SVG files, into a folder next to the page.
        allow_code: import the module that a run's ``config.yaml`` names as its algorithm.

    Raises:
        ReportError: no page can be made of these runs.

    >>> report()
    Traceback (most recent call last):
    llmrl.reports.runs.ReportError: No run is given. Give the folders of runs: llmrl report runs/espo-0.
    """
    if not runs:
        raise ReportError("No run is given. Give the folders of runs: llmrl report runs/espo-0.")
    for name, value, lowest in (("steps", steps, 1), ("rollouts", rollouts, 0), ("max_tokens", max_tokens, 1)):
        if value < lowest:
            raise ReportError(f"{name} must be {lowest} or more, got {value}.")
    if isinstance(algorithms, str):
        raise ReportError(f"algorithms must be a list of names, got {algorithms!r}.")
    page = Path(output)
    if page.is_dir():
        raise ReportError(f"output must be a file, and {page} is a folder. Give a name such as {page / 'report.html'}.")
    for run in runs:
        if not isinstance(run, (str, PathLike)):
            raise ReportError(f"A run is a folder, or what llmrl.train returned, got {type(run).__name__}.")
    choice = Choice(steps=steps if rollouts else 0, per_step=rollouts, max_tokens=max_tokens)
    figures = page.with_name(f"{page.stem}_plots") if plots else None
    folders = [Path(run) for run in runs]
    notes = write_page(
        page, read_runs(folders), algorithms=algorithms, choice=choice, plots=figures, allow_code=allow_code
    )
    return Page(page, notes, figures)
