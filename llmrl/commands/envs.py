"""``llmrl envs``: the list of environments, or one environment with its options."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import gymnasium
import tyro
from rich.table import Table

from llmrl.errors import ConfigError
from llmrl.registry import load_object, suggest
from llmrl.terminal import Terminal


@dataclass
class EnvsOptions:
    """List the environments, or show one with its options."""

    id: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[ID]")] = None
    """Id of one environment; by default all of llmrl's."""


def parse(arguments: list[str], prog: str) -> EnvsOptions:
    """The options of a command line."""
    return tyro.cli(EnvsOptions, args=arguments, prog=prog)


def run(options: EnvsOptions) -> int:
    """Print them.

    Raises:
        ConfigError: there is no such environment.
    """
    import llmrl  # noqa: F401  registers

    known = [name for name in sorted(gymnasium.registry) if name.startswith("llmrl/")]
    console = Terminal()
    if options.id is None:
        table = Table("id", "task", title="environments")
        for name in known:
            table.add_row(name, (inspect.getdoc(_made_by(name)) or "").split("\n")[0])
        console.print(table)
        return 0
    if options.id not in gymnasium.registry:
        raise ConfigError(f"No environment is called {options.id!r}. {suggest(options.id, known)}")
    made_by = _made_by(options.id)
    console.say(options.id, style="bold")
    for text in (inspect.getdoc(made_by), inspect.getdoc(vars(made_by).get("__init__"))):
        if text:
            console.say(text)
    return 0


def _made_by(name: str) -> type:
    entry = gymnasium.spec(name).entry_point
    return load_object(entry) if isinstance(entry, str) else entry  # type: ignore[return-value]
