"""The console script ``llmrl``: the name of a command, then the options of that command.

Every command is a module with ``parse(arguments, prog)``, which returns its options, and ``run(options)``, which
returns the exit status. An error in either is shown as one sentence here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from llmrl.errors import UserError
from llmrl.registry import SEARCHED, suggest
from llmrl.terminal import Terminal, messages_as_text, show_traceback
from llmrl.text import visible

BROKEN_OFF = 1
LONGEST = 8000
"""Maximum number of characters of an error."""
INTERRUPTED = 130


class Command(NamedTuple):
    """The module of a command, and a summary of a few words."""

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "train": Command("llmrl.commands.train", "train a policy against a verifier"),
    "eval": Command("llmrl.commands.eval", "measure the accuracy of a policy on environments"),
    "compare": Command("llmrl.commands.compare", "compare two evaluations problem by problem"),
    "serve": Command("llmrl.commands.serve", "run vLLM as a server for a trainer on another machine"),
    "study": Command("llmrl.commands.study", "compare algorithms on small exact tasks, with intervals"),
    "report": Command(
        "llmrl.commands.report", "write one HTML page about runs: curves, results, rollouts token by token"
    ),
    "push": Command("llmrl.commands.push", "upload a checkpoint with its card to the Hugging Face hub"),
    "replay": Command("llmrl.commands.replay", "compare several algorithms on the same saved rollouts"),
    "verify": Command("llmrl.commands.verify", "grade a file of responses, compare two graders, check gold answers"),
    "algos": Command("llmrl.commands.algos", "show the algorithms with their components and numbers"),
    "envs": Command("llmrl.commands.envs", "list the environments, or show one with its options"),
    "completion": Command("llmrl.commands.completion", "print the script for tab completion in bash, zsh or fish"),
}


def start() -> NoReturn:
    """The console script: :func:`main`, and the end of the process."""
    leave(main())


def leave(status: int) -> NoReturn:
    """End the process; after an interruption at once, since a thread may be in a call that takes minutes or hangs."""
    if status == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: list[str] | None = None, prog: str = "llmrl") -> int:
    """Run ``llmrl COMMAND ...``.

    Args:
        arguments: the arguments after ``llmrl``; None: the command line of this process.
        prog: the name of the program in the help.

    Returns:
        The exit status: 0 for success; 2 if an input cannot be used and nothing was done; 1 if the command failed
        after it had started; 130 after Ctrl-C. A command may have further ones.
    """
    if arguments is None:
        arguments, sys.excepthook = sys.argv[1:], show_traceback
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from llmrl import __version__

        print(f"llmrl {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        known = ("--help", "--version") if name.startswith("-") else COMMANDS
        return _fail(f"No command is called {name!r}. {suggest(name, known)}", UserError.exit_status)
    with messages_as_text():
        return run(COMMANDS[name].module, rest, f"{prog} {name}")


def run(module: str, arguments: list[str], prog: str) -> int:
    """Run one command, and turn an error into one sentence and an exit status."""
    SEARCHED[:] = [str(Path.cwd())]
    try:
        command: Any = importlib.import_module(module)
        options = _parsed(command, arguments, prog)
        try:
            return command.run(options)
        except SystemExit as error:
            return _fail(
                f"Code that the command called raised SystemExit({error.code!r}). Finished work is kept.",
                BROKEN_OFF,
            )
    except UserError as error:
        return _fail(str(error), error.exit_status)
    except UnicodeError as error:  # half a surrogate pair in a name
        return _fail(f"The input is not valid text: {error}", UserError.exit_status)
    except OSError as error:
        return _fail(str(error), BROKEN_OFF)
    except MemoryError as error:
        return _fail(f"No memory is left ({error}). Finished work is kept.", BROKEN_OFF)
    except KeyboardInterrupt:
        return _fail(
            "Stopped at once. Finished work is kept. Continue with train --resume auto, or with the same eval command.",
            INTERRUPTED,
        )


def _parsed(command: Any, arguments: list[str], prog: str) -> Any:
    """The options; an error of the parser, which would end the process, becomes one sentence.

    Raises:
        UserError: the options cannot be read.
        SystemExit: after --help.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = command.parse(arguments, prog)
    except SystemExit as error:
        if not error.code:
            raise
        from llmrl.training.complaints import one_sentence

        raise UserError(one_sentence(said.getvalue())) from error
    except Exception:
        _pass_on(said)
        raise
    _pass_on(said)
    return options


def _pass_on(said: io.StringIO) -> None:
    """Show what was written to the standard error stream, without control characters."""
    if said.getvalue():
        Terminal(stderr=True).say(said.getvalue().rstrip("\n"))


def _fail(text: str, status: int) -> int:
    # A value from a file, which a message quotes, may be of any length.
    Terminal(stderr=True).say(f"error: {visible(text, LONGEST)}", style="red")
    return status


def _usage() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: llmrl COMMAND [options]",
            "",
            *(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "llmrl COMMAND --help explains its options. llmrl --version shows the version.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
