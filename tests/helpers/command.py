"""Runs as a user starts them."""

from llmrl.commands.cli import main
from llmrl.training import session


def train(arguments):
    """``llmrl train ARGUMENTS``; returns the exit status."""
    return main(["train", *arguments])


def trained(config):
    """The folder of a run with these settings; None after a dry run."""
    outcome = session.train(config)
    return None if outcome is None else outcome.folder
