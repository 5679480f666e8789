"""The console script: what it lists, what it refuses, and that every command explains itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llmrl
from llmrl.commands.cli import COMMANDS, main
from llmrl.commands.completion import script


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


def test_code_that_ends_the_process_is_told_of(monkeypatch, capsys):
    from llmrl.commands import algos

    monkeypatch.setattr(algos, "run", lambda options: sys.exit(5))
    assert main(["algos"]) == 1
    assert "ended it by SystemExit(5)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """The script of ``llmrl completion``, in a file."""
    path = tmp_path_factory.mktemp("completion") / "llmrl.bash"
    path.write_text(script())
    return path


@pytest.mark.parametrize(
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
def test_bash_completes_commands_and_their_options(completion, typed, offered):
    words = " ".join(f"'{word}'" for word in ["llmrl", *typed.split(" ")])
    code = (
        f"source {completion}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _llmrl; complete -p llmrl"
    )
    done = subprocess.run(
        ["bash", "-c", code + "; printf '%s\\n' \"${COMPREPLY[@]}\""], capture_output=True, text=True, check=True
    )
    registered, *found = done.stdout.split("\n")
    assert registered == "complete -F _llmrl llmrl"
    assert {word.strip() for word in found if word.strip()} == offered
