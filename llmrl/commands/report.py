"""``llmrl report RUN [RUN...]``: one HTML page of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llmrl.report.page import write_page
from llmrl.report.rollouts import Choice
from llmrl.report.runs import ReportError, read_runs
from llmrl.terminal import Terminal


@dataclass(kw_only=True)
class ReportOptions:
    """Write one HTML page of finished or running runs: results, curves, and rollouts token by token.

    Runs whose settings differ in their seed alone become one curve with a band. The page needs no
    network; open it in any browser.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of runs."""
    output: Path = Path("report.html")
    """The page."""
    algo: str = "dapo,gspo,espo,erc"
    """Algorithms, with commas between them, that the saved tokens are put through beside each run's own."""
    steps: int = 12
    """Steps of a run whose rollouts are in the page, evenly spaced."""
    rollouts: int = 24
    """Responses of a step that are in the page: whole groups, evenly spaced; 0: none."""
    max_tokens: int = 2000
    """Tokens of a response that are in the page."""
    plots: bool = False
    """Write the figures as PNG and SVG files too, into a folder beside the page."""
    allow_code: bool = False
    """Import the module that a run's config.yaml names as its algorithm. A run from elsewhere could name any."""


def parse(arguments: list[str], prog: str) -> ReportOptions:
    """The options of a command line."""
    return tyro.cli(ReportOptions, args=arguments, prog=prog)


def run(options: ReportOptions) -> int:
    """Write the page.

    Raises:
        ReportError: no page can be made of these runs.
    """
    console = Terminal(stderr=True)
    _check(options)
    choice = Choice(
        steps=options.steps if options.rollouts else 0,
        per_step=options.rollouts,
        max_tokens=options.max_tokens,
    )
    names = [name.strip() for name in options.algo.split(",") if name.strip()]
    plots = options.output.with_name(f"{options.output.stem}_plots") if options.plots else None
    notes = write_page(
        options.output,
        read_runs(options.runs),
        algorithms=names,
        choice=choice,
        plots=plots,
        allow_code=options.allow_code,
    )
    for note in notes:
        console.say(f"note: {note}")
    megabytes = options.output.stat().st_size / 1e6
    Terminal().say(f"report: {options.output} ({megabytes:.1f} MB)")
    if plots is not None:
        Terminal().say(f"plots: {plots}")
    return 0


def _check(options: ReportOptions) -> None:
    if not options.runs:
        raise ReportError("No run is given. Give the folders of runs: llmrl report runs/espo-0.")
    for name in ("steps", "rollouts", "max_tokens"):
        lowest = 0 if name == "rollouts" else 1
        value = getattr(options, name)
        if value < lowest:
            flag = name.replace("_", "-")
            raise ReportError(f"--{flag} must be {lowest} or more, got {value}.")
