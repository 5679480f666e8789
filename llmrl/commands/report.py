"""``llmrl report RUN [RUN...]``: one HTML page about runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llmrl.algorithms.spelling import split_names
from llmrl.reports.api import report
from llmrl.terminal import Terminal


@dataclass(kw_only=True)
class ReportOptions:
    """Write one HTML page about finished or unfinished runs: results, curves, and rollouts token by token.

    Runs that differ only in the seed become one curve with a band. The page needs no network; open it in any browser.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    output: Path = Path("report.html")
    """Path of the page."""
    algo: Annotated[str, tyro.conf.arg(aliases=("--algos",))] = "dapo,gspo,espo,erc"
    """Algorithms, separated by commas, to compute on the saved tokens in addition to each run's own; options follow in
    brackets."""
    steps: int = 12
    """Number of steps of each run whose rollouts the page shows, evenly spaced."""
    rollouts: int = 24
    """Number of responses of each step that the page shows, in whole groups, evenly spaced; 0: none."""
    max_tokens: int = 2000
    """Maximum number of tokens of a response in the page."""
    plots: bool = False
    """Also write the figures as PNG and SVG files, into a folder next to the page."""
    allow_code: bool = False
    """Import the module that a run's config.yaml names as its algorithm. Use it only for runs that you trust."""


def parse(arguments: list[str], prog: str) -> ReportOptions:
    """The options of a command line."""
    return tyro.cli(ReportOptions, args=arguments, prog=prog)


def run(options: ReportOptions) -> int:
    """Write the page.

    Raises:
        ReportError: no page can be made of these runs.
    """
    page = report(
        *options.runs,
        output=options.output,
        algorithms=split_names([options.algo]),
        steps=options.steps,
        rollouts=options.rollouts,
        max_tokens=options.max_tokens,
        plots=options.plots,
        allow_code=options.allow_code,
    )
    console = Terminal(stderr=True)
    for note in page.notes:
        console.say(f"note: {note}")
    megabytes = page.path.stat().st_size / 1e6
    Terminal().say(f"report: {page.path} ({megabytes:.1f} MB)")
    if page.plots is not None:
        Terminal().say(f"plots: {page.plots}")
    return 0
