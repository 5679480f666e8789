"""The hostile corpus through every command: as problem, response, gold answer, name of a folder and error message."""

import json

import pytest
from hostile import HOSTILE

from llmrl.commands.cli import main


def check(capsys):
    """Nothing that a terminal obeys has been printed."""
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert all(sign.isprintable() or sign == "\n" for sign in text)
        assert "Traceback" not in text


@pytest.fixture
def graded(tmp_path):
    """Every hostile text as response, answer and id."""
    rows = [{"id": t, "problem": t, "answer": t, "response": f"\\boxed{{{t}}}"} for t in HOSTILE.values()]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("more", [(), ("--golds",), ("--audit", "math_verify")])
def test_verify(graded, tmp_path, monkeypatch, capsys, more):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", str(graded), *more]) in (0, 1)
    check(capsys)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("null", "long line")])
def test_an_error_that_quotes_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = HOSTILE[name]
    for arguments in (
        [text],
        ["algos", text],
        ["envs", text],
        ["compare", text, text],
        ["report", text],
        ["replay", text],
        ["train", "--algo", text],
        ["train", "--env", text],
        ["train", "--policy", text, "--output", "x"],
        ["eval", "--policy", text],
    ):
        if text.startswith("-"):
            continue
        assert main(arguments) in (1, 2), arguments
        check(capsys)
