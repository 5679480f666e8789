"""``llmrl train``, also ``python -m llmrl.algorithms.run``: train a policy against a verifier."""

from __future__ import annotations

from llmrl.distributed.world import launched
from llmrl.errors import UserError
from llmrl.terminal import Terminal
from llmrl.training.config import Config

STOPPED = 3
"""Exit status of a run that a signal stopped after it wrote a checkpoint."""


def parse(arguments: list[str], prog: str) -> Config:
    """The settings of a command line and of the files that it names."""
    from llmrl.training.command_line import parse

    return parse(arguments, prog=prog)


def run(config: Config) -> int:
    """Train, then plot; returns 0 after a complete run or a dry run, 3 after a run that a signal stopped."""
    from llmrl.reports.plots import plot_run
    from llmrl.training.session import train

    done = train(config)
    if done is None:
        return 0
    if not done.finished:
        # A launcher that restarts what fails must not restart this.
        return STOPPED if launched() == 1 else 0
    if done.rank > 0:
        return 0
    console = Terminal()
    try:
        for path in plot_run(done.folder):
            console.say(f"plot: {path}")
    except UserError as error:  # the files were changed meanwhile; the model is whole
        console.say(f"Plots are left out: {error}")
    console.say(f"model: {done.folder / 'latest'}")
    return 0
