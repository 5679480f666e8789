"""``llmrl train``, also ``python -m llmrl.algorithms.run``: train a policy against a verifier."""

from __future__ import annotations

from llmrl.training.config import Config


def parse(arguments: list[str], prog: str) -> Config:
    """The settings of a command line and of the files that it names."""
    from llmrl.training.config import parse

    return parse(arguments, prog=prog)


def run(config: Config) -> int:
    """Train; 0 after a run, a dry run or a clean stop."""
    from llmrl.training.session import train

    train(config)
    return 0
