"""The console script: what it lists, what it refuses, and that every command explains itself."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

import llmrl
from llmrl.commands.cli import COMMANDS, leave, main
from llmrl.commands.completion import SHELLS, script


def test_without_a_command_it_lists_them(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_an_unknown_command_is_refused_with_the_nearest_name(capsys):
    assert main(["trian"]) == 2
    assert "No command is called 'trian'. Did you mean 'train'" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_under_its_own_name(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: llmrl {name}" in capsys.readouterr().out


def test_algorithms_and_environments_are_listed(capsys):
    assert main(["algos", "espo", "dapo"]) == 0
    assert "arXiv:2512.00499" in capsys.readouterr().out
    assert main(["envs"]) == 0
    assert "llmrl/MATH-v0" in capsys.readouterr().out
    assert main(["envs", "llmrl/Countdown-v0"]) == 0
    assert "target" in capsys.readouterr().out
    assert main(["envs", "llmrl/Countdwn-v0"]) == 2
    assert "Did you mean 'llmrl/Countdown-v0'?" in capsys.readouterr().err


def test_the_version_is_shown(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"llmrl {llmrl.__version__}\n"


@pytest.mark.parametrize("module", ["llmrl", "llmrl.commands.cli", "llmrl.algorithms.run"])
def test_it_runs_as_a_module(module):
    out = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    assert "usage:" in out.stdout


@pytest.mark.parametrize(("status", "end"), [(0, "exit"), (3, "exit"), (130, "at once")])
def test_only_an_interrupted_process_ends_without_waiting_for_its_threads(status, end, monkeypatch):
    ended = []
    monkeypatch.setattr("os._exit", lambda status: ended.append(("at once", status)))
    monkeypatch.setattr("sys.exit", lambda status: ended.append(("exit", status)))
    leave(status)
    assert ended[0] == (end, status)


def test_code_that_ends_the_process_is_told_of(monkeypatch, capsys):
    from llmrl.commands import algos

    monkeypatch.setattr(algos, "run", lambda options: sys.exit(5))
    assert main(["algos"]) == 1
    assert "raised SystemExit(5)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["train", "-steps", "3"], "options begin with two dashes. Did you mean --steps 3?"),
        (["train", "algo=grpo"], "'algo=grpo' is not an option. Did you mean --algo grpo?"),
        (["train", "grpo"], "'grpo' does not belong to an option. Write --NAME grpo"),
        (["train", "--algo"], "--algo needs a value."),
        (["train", "--dry-run", "yes"], "A switch has no value"),
        (["train", "--train.steps", "1e3"], "--train.steps: expected a whole number, got '1e3'."),
        (["push", "runs/x"], "llmrl push needs OWNER/NAME: Name of the model on the hub"),
        (["compare"], "llmrl compare needs PATH PATH: The first evaluation. The second evaluation;"),
        (
            ["train", "--env.levels", "1-2"],
            "--env.levels: expected whole numbers with spaces between them or None, got '1-2'.",
        ),
        (["train", "--train.steps"], "--train.steps needs a value."),
        (["train", "--policy.dtype", "bf16"], "--policy.dtype: expected float32 or bfloat16, got 'bf16'."),
        (["train", "--reward", "format=0.1", "format=0.2"], "--reward: Two parts of the reward are called 'format'"),
        (["--versionn"], "Did you mean '--version'?"),
        (["eval", "--sampels", "3"], "There is no option --sampels. Did you mean --samples? --help lists the options."),
        (["study", "--algorithm", "dapo"], "There is no option --algorithm."),
    ],
)
def test_options_that_cannot_be_read_are_one_sentence(typed, said, capsys):
    assert main(typed) == 2
    (line,) = " ".join(capsys.readouterr().err.split()).split("error: ")[1:]
    assert said in line
    assert "╭" not in line


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """The scripts of ``llmrl completion``, in files by the name of their shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell))
    return folder


OFFERED = pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tr", {"train"}),
        ("pu", {"push"}),
        ("", set(COMMANDS)),
        ("push runs/x me/y --dr", {"--dry-run"}),
        ("train --train.learn", {"--train.learning-rate"}),
        ("train --policy.dtype b", {"bfloat16"}),
        ("eval --env-t", {"--env-timeout"}),
        ("nothing --x", set()),
    ],
)


@OFFERED
def test_bash_completes_commands_and_their_options(completion, typed, offered):
    words = " ".join(f"'{word}'" for word in ["llmrl", *typed.split(" ")])
    where = f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))"
    code = f"source {completion / 'bash'}; {where}; _llmrl; complete -p llmrl"
    done = subprocess.run(
        ["bash", "-c", code + "; printf '%s\\n' \"${COMPREPLY[@]}\""], capture_output=True, text=True, check=True
    )
    registered, *found = done.stdout.split("\n")
    assert registered == "complete -F _llmrl llmrl"
    assert {word.strip() for word in found if word.strip()} == offered


ZSH = """
compadd() { print -rl -- "${(@)@:#--}" }
_describe() { print -rl -- "${(@)${(P)2}%%:*}" }
compdef() { }
source $1
words=("${(@)argv[2,-1]}") CURRENT=$#words
_llmrl
"""
"""In the place of zsh's own functions ones that print what they are given."""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@OFFERED
def test_zsh_completes_commands_and_their_options(completion, typed, offered):
    words = ["llmrl", *typed.split(" ")]
    command = ["zsh", "-f", "-c", ZSH, "zsh", str(completion / "zsh"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    # The shell itself leaves out what does not begin with the last word.
    found = {word for line in done.stdout.splitlines() if (word := line.strip()).startswith(words[-1])} - {""}
    assert found == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@OFFERED
def test_fish_completes_commands_and_their_options(completion, typed, offered):
    code = f"source {completion / 'fish'}; complete --do-complete 'llmrl {typed}'"
    done = subprocess.run(["fish", "--no-config", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == offered
