"""``llmrl completion``: the script for tab completion of commands and options.

tyro writes a function for each command. The scripts here select one of them by the first word.
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
    """The function without the code after it, which would call it at once."""
    return text.rpartition("\ntypeset -A opt_args")[0] + "\n"


def _of_fish(text: str) -> str:
    """The function without the code after it; ``llmrl COMMAND`` is one word for it, as for the other shells."""
    text = text.partition("\n# Register completion")[0] + "\n"
    for how in ("(commandline -xpc)", "(commandline -opc)"):
        text = text.replace(f"set words {how}", f"set words {how}[2..-1]")
    return text


SHELLS: dict[str, tuple[Callable[[str], str], str]] = {
    "bash": (_of_bash, _BASH),
    "zsh": (_of_zsh, _ZSH),
    "fish": (_of_fish, _FISH),
}
"""For each shell, a function that cuts tyro's script, and the script that selects a command."""


@dataclass
class CompletionOptions:
    """Print the script for tab completion of the commands of llmrl and their options.

    For the current shell:
        bash    source <(llmrl completion)
        zsh     source <(llmrl completion zsh)    after compinit
        fish    llmrl completion fish | source

    For every new shell:
        bash    write the script to ~/.local/share/bash-completion/completions/llmrl
        zsh     add the line above to ~/.zshrc
        fish    write the script to ~/.config/fish/completions/llmrl.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional] = "bash"
    """The shell."""


def parse(arguments: list[str], prog: str) -> CompletionOptions:
    """The options of a command line."""
    return tyro.cli(CompletionOptions, args=arguments, prog=prog)


def run(options: CompletionOptions) -> int:
    """Print the script."""
    print(script(options.shell), end="")
    return 0


def script(shell: str = "bash") -> str:
    """Tyro's function for each command, and the code that selects one of them.

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
