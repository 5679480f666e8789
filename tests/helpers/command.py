"""Commands as the console script runs them."""

from llmrl.commands.cli import main


def train(arguments):
    """``llmrl train ARGUMENTS``; returns the exit status."""
    return main(["train", *arguments])
