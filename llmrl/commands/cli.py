"""The console script ``llmrl``: one word for what to do, then that command's own options."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from llmrl.registry import UnknownName, suggest


def main(arguments: list[str] | None = None) -> int:
    """Dispatch ``llmrl COMMAND ...``; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        Console(stderr=True).print(f"error: no command is called {name!r}. {suggest(name, COMMANDS)}", markup=False)
        return 2
    try:
        return COMMANDS[name][1](rest)
    except UnknownName as error:
        Console(stderr=True).print(f"error: {error}", markup=False)
        return 2


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (text, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: llmrl COMMAND [options]",
            "",
            *lines,
            "",
            "llmrl COMMAND --help explains its options.",
        ]
    )


def _in(module: str) -> Callable[[list[str]], int]:
    """The ``main`` of a module that is imported when the command is given, and not before."""

    def run(rest: list[str]) -> int:
        return importlib.import_module(module).main(rest)

    return run


def _algos(rest: list[str]) -> int:
    from llmrl.algorithms import ALGORITHMS, algorithm

    console = Console()
    for name in rest or ALGORITHMS:
        console.print(str(algorithm(name)), markup=False, highlight=False)
        console.print()
    return 0


def _envs(rest: list[str]) -> int:
    import gymnasium

    import llmrl  # noqa: F401  registers

    table = Table("id", "made by", title="environments")
    for env_id, spec in sorted(gymnasium.registry.items()):
        if env_id.startswith("llmrl/"):
            table.add_row(env_id, str(spec.entry_point))
    Console().print(table)
    return 0


COMMANDS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "train": ("train a policy against a verifier", _in("llmrl.commands.train")),
    "eval": (
        "measure the accuracy of a policy on environments",
        _in("llmrl.commands.eval"),
    ),
    "compare": (
        "compare two evaluations problem by problem",
        _in("llmrl.commands.compare"),
    ),
    "serve": ("sample with vLLM for a trainer elsewhere", _in("llmrl.commands.serve")),
    "report": (
        "write one HTML page of runs: curves, results, rollouts token by token",
        _in("llmrl.commands.report"),
    ),
    "replay": (
        "score saved rollouts under several algorithms, side by side",
        _in("llmrl.commands.replay"),
    ),
    "verify": (
        "grade a file of responses, audit a grader, check gold answers",
        _in("llmrl.commands.verify"),
    ),
    "algos": ("show algorithms as compositions of their parts; names narrow it down", _algos),
    "envs": ("list the environments", _envs),
}
