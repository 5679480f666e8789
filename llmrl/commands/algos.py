"""``llmrl algos``: the algorithms with their components and every number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from llmrl.errors import ConfigError
from llmrl.terminal import Terminal


@dataclass
class AlgosOptions:
    """Show algorithms with their components: ratio, clip, gates, aggregation, credit, and every number."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Names of algorithms, such as dapo, erc+gspo or module:name; by default all."""


def parse(arguments: list[str], prog: str) -> AlgosOptions:
    """The options of a command line."""
    return tyro.cli(AlgosOptions, args=arguments, prog=prog)


def run(options: AlgosOptions) -> int:
    """Print them.

    Raises:
        ConfigError: a name cannot be made into an algorithm without further arguments.
    """
    from llmrl.algorithms import ALGORITHMS, algorithm

    console = Terminal()
    for name in options.names or ALGORITHMS:
        try:
            text = str(algorithm(name))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{name}: {error}") from error
        console.say(text)
        console.print()
    return 0
