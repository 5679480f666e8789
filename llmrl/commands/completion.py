"""``llmrl completion``: the script with which bash completes commands and options."""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass
from typing import Any

import tyro

from llmrl.commands import cli

_DISPATCH = """
_llmrl() {{
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{names}" -- "${{COMP_WORDS[1]}}"))
    elif declare -F "_tyro_llmrl_${{COMP_WORDS[1]}}" > /dev/null; then
        local command=${{COMP_WORDS[1]}}
        COMP_WORDS=("llmrl $command" "${{COMP_WORDS[@]:2}}")
        COMP_CWORD=$((COMP_CWORD - 1))
        "_tyro_llmrl_$command"
    fi
}}
complete -F _llmrl llmrl
"""
"""The first word is a command; what follows is completed by that command's own function."""


@dataclass
class CompletionOptions:
    """Print the script with which bash completes the commands of llmrl and their options.

    To use it in this shell: source <(llmrl completion). In every shell: llmrl completion >
    ~/.local/share/bash-completion/completions/llmrl
    """


def parse(arguments: list[str], prog: str) -> CompletionOptions:
    """The options of a command line."""
    return tyro.cli(CompletionOptions, args=arguments, prog=prog)


def run(options: CompletionOptions) -> int:
    """Print the script."""
    print(script(), end="")
    return 0


def script() -> str:
    """Tyro's function for each command, and one that chooses between them."""
    parts = [_of_command(name, command.module) for name, command in cli.COMMANDS.items()]
    return "".join(parts) + _DISPATCH.format(names=" ".join(cli.COMMANDS))


def _of_command(name: str, module: str) -> str:
    command: Any = importlib.import_module(module)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):  # it prints, and then ends
        command.parse(["--tyro-print-completion", "bash"], f"llmrl {name}")
    return said.getvalue()
