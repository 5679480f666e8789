"""Every block of the tutorials and of the FAQ runs in order, as a reader pastes it, and prints what the page shows.

What a block is, its first line says:

- ``python`` is executed in the page's one namespace; if it begins with ``# NAME.py`` it is saved under that
  name, and with ``# NAME.py, continued`` put behind what is there.
- ``sh`` are commands. ``llmrl`` runs in this process, everything else in one of its own.
- ``sh not-run`` needs a GPU, a network or weights that are not here; its ``llmrl train`` commands must be understood.
- ``text`` is what the block before it prints, exactly. ``text one-run`` is what one run printed: its times and
  rounding are of that machine, so it is not compared.

A page shows settings with which one sees something happen. :data:`SHORTER` says what is put in their place here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from llmrl.commands.cli import main
from llmrl.training.command_line import parse

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "tutorials"
PAGES = {path.stem: path for path in sorted([*FOLDER.glob("*.md"), FOLDER.parent / "faq.md"])}
BLOCK = re.compile(r"^```(python|sh|text)( [\w-]+)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)

SHORTER = {
    "first_run": [
        ("--train.steps 8", "--train.steps 1 --train.prompts-per-step 2"),
        ("--train.steps 10", "--train.steps 2 --train.prompts-per-step 2"),
        ("problems 64", "problems 4"),
        ('"prompts_per_step": 4', '"prompts_per_step": 1'),
        ('"problems": 8', '"problems": 2'),
    ],
    "objective": [
        ("--tasks hack carry --seeds 5", "--tasks hack --seeds 1 --rollouts 2"),
        ("--train.steps 30", "--train.steps 1 --train.prompts-per-step 1 --eval.problems 0"),
    ],
    "own_data": [
        ("--eval.problems 40", "--eval.problems 2"),
        ("--train.steps 6 --train.prompts-per-step 8", "--train.steps 1 --train.prompts-per-step 1"),
        ("--problems 40 --samples 8", "--problems 2 --samples 1"),
    ],
    "processes": [
        ("--train.steps 2 --train.prompts-per-step 4", "--train.steps 1 --train.prompts-per-step 2"),
        ("--train.steps 3 --train.prompts-per-step 4", "--train.steps 2 --train.prompts-per-step 2"),
    ],
    "tool": [("--train.steps 3 --train.prompts-per-step 4", "--train.steps 1 --train.prompts-per-step 1")],
}
"""For each page: what it shows, and what runs here in its place."""


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Language, the word behind it, and content of each block of a page.

    >>> blocks("```sh not-run\\nllmrl\\n```\\n")
    [('sh', 'not-run', 'llmrl\\n')]
    """
    return [(language, word.strip(), body) for language, word, body in BLOCK.findall(text)]


def commands(body: str) -> list[list[str]]:
    """The words of each command of a block.

    >>> commands("cd x  # go there\\nllmrl train \\\\\\n  --seed 1\\n")
    [['cd', 'x'], ['llmrl', 'train', '--seed', '1']]
    """
    lines = body.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def in_a_shell(words: list[str]) -> None:
    """Run one command as a process of its own, and print what it printed."""
    module = {"torchrun": ["-m", "torch.distributed.run"], "python": [], "pytest": ["-m", "pytest"]}[words[0]]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *module, *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout, end="")


def execute(language: str, body: str, names: dict[str, object]) -> None:
    """Do what a reader does with a block of code."""
    if language == "sh":
        for words in commands(body):
            if words[0] != "llmrl":
                in_a_shell(words)
            else:
                assert main(words[1:]) == 0, words
    elif saved := re.match(r"# (\w+\.py)(, continued)?\n", body):
        with Path(saved[1]).open("a" if saved[2] else "w") as file:
            file.write(body)
    else:
        exec(compile(body, "<page>", "exec"), names)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder from which modules are imported, and of which nothing stays behind."""
    modules, environments = set(sys.modules), set(gymnasium.registry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    for name in set(gymnasium.registry) - environments:
        del gymnasium.registry[name]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_as_it_is_pasted(page, folder, capsys):
    text = PAGES[page].read_text()
    for shown, used in SHORTER.get(page, []):
        assert shown in text, f"the page no longer shows {shown!r}"
        text = text.replace(shown, used)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for language, word, body in blocks(text):
        if language != "text" and word != "not-run":
            capsys.readouterr()
            execute(language, body, names)
            printed = capsys.readouterr().out
        elif language == "text" and not word:
            assert printed == body
        elif word == "not-run":
            for words in commands(body):
                if "llmrl" in words and words[words.index("llmrl") + 1] == "train":
                    parse(words[words.index("llmrl") + 2 :])


def test_a_page_that_shows_something_else_is_found(folder, capsys, monkeypatch):
    for name in ("wrong", "right"):
        monkeypatch.setitem(PAGES, name, folder / f"{name}.md")
    (folder / "wrong.md").write_text("```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n")
    with pytest.raises(AssertionError):
        test_a_page_runs_as_it_is_pasted("wrong", folder, capsys)
    (folder / "right.md").write_text("```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n")
    test_a_page_runs_as_it_is_pasted("right", folder, capsys)
