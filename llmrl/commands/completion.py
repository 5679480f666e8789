"""``llmrl completion``: the script with which a shell completes commands and options.

tyro writes a function for each command; the scripts here choose between them by the first word.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from llmrl.commands import cli

_BASH = """
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
_ZSH = """
_llmrl() {{
    if (( CURRENT == 2 )); then
        compadd -- {names}
    elif (( $+functions[_tyro_llmrl_$words[2]] )); then
        local command=$words[2]
        words=("llmrl $command" "${{(@)words[3,-1]}}")
        (( CURRENT -= 1 ))
        "_tyro_llmrl_$command"
    fi
}}
compdef _llmrl llmrl
"""
_FISH = """
complete --command llmrl --no-files --condition __fish_use_subcommand --arguments '{names}'
for command in {names}
    complete --command llmrl --no-files --condition "__fish_seen_subcommand_from $command" \\
        --arguments "(_tyro_llmrl_$command)"
end
"""


def _of_bash(text: str) -> str:
    return text


def _of_zsh(text: str) -> str:
    """The function alone: what tyro writes behind it calls it at once."""
    return text.rpartition("\ntypeset -A opt_args")[0] + "\n"


def _of_fish(text: str) -> str:
    """The function alone, for which ``llmrl COMMAND`` is one word, as it is for the other shells."""
    text = text.partition("\n# Register completion")[0] + "\n"
    for how in ("(commandline -xpc)", "(commandline -opc)"):
        text = text.replace(f"set words {how}", f"set words {how}[2..-1]")
    return text


SHELLS: dict[str, tuple[Callable[[str], str], str]] = {
    "bash": (_of_bash, _BASH),
    "zsh": (_of_zsh, _ZSH),
    "fish": (_of_fish, _FISH),
}
"""For each shell what is kept of tyro's text, and what chooses between the commands."""


@dataclass
class CompletionOptions:
    """Print the script with which a shell completes the commands of llmrl and their options.

    In this shell: source <(llmrl completion) in bash, source <(llmrl completion zsh) in zsh after compinit, and llmrl
    completion fish | source in fish. In every shell: write it to
    ~/.local/share/bash-completion/completions/llmrl, into ~/.zshrc as the line above, or to
    ~/.config/fish/completions/llmrl.fish.
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional] = "bash"
    """Whose script."""


def parse(arguments: list[str], prog: str) -> CompletionOptions:
    """The options of a command line."""
    return tyro.cli(CompletionOptions, args=arguments, prog=prog)


def run(options: CompletionOptions) -> int:
    """Print the script."""
    print(script(options.shell), end="")
    return 0


def script(shell: str = "bash") -> str:
    """Tyro's function for each command, and what chooses between them.

    Args:
        shell: a name of :data:`SHELLS`.
    """
    kept, dispatch = SHELLS[shell]
    parts = [kept(_of_command(name, command.module, shell)) for name, command in cli.COMMANDS.items()]
    return "".join(parts) + dispatch.format(names=" ".join(cli.COMMANDS))


def _of_command(name: str, module: str, shell: str) -> str:
    command: Any = importlib.import_module(module)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):  # it prints, and then ends
        command.parse(["--tyro-print-completion", shell], f"llmrl {name}")
    return said.getvalue()
