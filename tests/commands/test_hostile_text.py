"""The hostile corpus through every command: as problem, response, gold answer, name, option and error message.

Both tables hold every command, and a new one is missed until it is in them.
"""

import contextlib
import json
import re

import pytest
import yaml
from example_run import write_rollouts, write_run
from hostile import HOSTILE
from tiny import tiny_folder

from llmrl.commands.cli import COMMANDS, main

TEXTS = [text for name, text in HOSTILE.items() if name != "many lines"]
NAMES = {name: text for name, text in HOSTILE.items() if name not in ("null", "long line", "many lines")}
"""What a command line and a file system can hold."""


def is_text(text):
    """Whether a file in UTF-8 can hold it."""
    return text.encode(errors="ignore").decode() == text


ALL = "".join(text for text in NAMES.values() if is_text(text))
NOWHERE = {
    "train": ["--train.steps", "-1"],
    "eval": ["--policy", "./nowhere"],
    "compare": ["nowhere", "nowhere"],
    "serve": ["--port", "-1"],
    "study": ["--tasks", "nowhere"],
    "report": ["nowhere"],
    "replay": ["nowhere"],
    "verify": ["nowhere.jsonl"],
    "algos": ["nowhere"],
    "envs": ["nowhere"],
    "push": ["nowhere", "owner/name"],
    "completion": ["nowhere"],
}
"""What each command refuses without doing anything, whatever else is given."""


def harmless(capsys):
    """Nothing that a terminal obeys or hides has been printed."""
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert all(sign.isprintable() or sign == "\n" for sign in text), repr(
            next(line for line in text.split("\n") if not line.isprintable())
        )
        assert "Traceback" not in text
    return shown.out + shown.err


def status_of(arguments):
    try:
        return main(arguments)
    except SystemExit as ended:  # the parser of options ends by itself
        return ended.code


def options_of(command, capsys):
    """The options of a command that take a text, as its help shows them."""
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    return sorted(set(re.findall(r"^[│ ]*(--[a-z][a-z0-9.-]*) [^-\s]", shown, re.MULTILINE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_refuses_it_in_words_that_can_be_printed(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    options = options_of(command, capsys)
    options = options[:: len(options) // 16 + 1]  # train has many
    for arguments in ([ALL], ["--" + ALL], *([option, ALL] for option in options)):
        assert status_of([command, *NOWHERE[command], *arguments]) in (1, 2), arguments
        harmless(capsys)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_that_is_given_it_as_a_name_says_so(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = NAMES[name]
    for command, arguments in {
        "train": ["--algo", text],
        "eval": ["--policy", text],
        "compare": [text, text],
        "serve": ["--host", text, "--port", "-1"],
        "study": ["--tasks", text],
        "report": [text],
        "replay": [text],
        "verify": [text],
        "algos": [text],
        "envs": [text],
        "push": [text, text],
        "completion": [text],
    }.items():
        assert status_of([command, *arguments]) in (1, 2), command
        harmless(capsys)
    assert status_of([text]) == 2
    harmless(capsys)


# As what a command reads


def problems(folder):
    """A data set whose problems, answers and further fields are hostile."""
    rows = [{"problem": text, "answer": text, "subject": text, "level": text} for text in TEXTS if is_text(text)]
    file = folder / "r $\\frac{$ [red].jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def model(folder):
    return str(tiny_folder(folder / "model [bold]", sharpness=1.0, num_hidden_layers=1))


def train(folder):
    options = ["--train.steps", "1", "--train.prompts-per-step", "2", "--train.group-size", "2", "--eval.problems", "2"]
    options += ["--policy.max-response-length", "2", "--policy.max-prompt-length", "30000", "--algo", "grpo"]
    return [
        "train",
        *("--policy", model(folder), "--data", str(problems(folder)), *options),
        *("--output", str(folder / "run $\\frac{$ [red] <b>")),
    ]


def evaluate(folder):
    file = problems(folder)
    options = ["--problems", "30", "--samples", "0", "--max-response-length", "2", "--max-prompt-length", "30000"]
    options += ["--env", "llmrl/Data-v0", "--env-options", f"source={json.dumps(str(file))}", "split=all"]
    return ["eval", "--policy", model(folder), *options, "--output", str(folder / "e [red]")]


def compare(folder):
    records = [
        {"problem_id": i, "greedy": True, "reward": i % 2, "verdict": text, "subject": text, "level": text}
        | {"problem": text, "response": text, "extracted": text}
        for i, text in enumerate(TEXTS)
    ]
    for name in ("one [red]", "two"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return ["compare", str(folder / "one [red].jsonl"), str(folder / "two.jsonl")]


def run_of_a_stranger(folder):
    run = write_run(folder / "r $\\frac{$ [red] <img src=x onerror=alert(1)>", steps=2)
    write_rollouts(run, [text for text in TEXTS if is_text(text)][:20])
    config = yaml.safe_load((run / "config.yaml").read_text())
    printable = [text for text in TEXTS if is_text(text)]
    config["policy"] |= {f"x{i}": text for i, text in enumerate(printable)}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "hints.txt").write_text("\n".join(printable))
    return run


def report(folder):
    return ["report", str(run_of_a_stranger(folder)), "--output", str(folder / "page.html"), "--plots"]


def replay(folder):
    arguments = train(folder)
    assert main(arguments) == 0
    return ["replay", arguments[-1], "--algo", "dapo,gspo"]


def verify(folder):
    rows = [{"id": t, "problem": t, "answer": t, "response": f"\\boxed{{{t}}}"} for t in TEXTS]
    file = folder / "rows [red].jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["verify", str(file)]


def study(folder):
    return [
        "study",
        "--algos",
        "dapo",
        "--tasks",
        "hack",
        "--seeds",
        "1",
        "--rollouts",
        "2",
        "--output",
        str(folder / ALL[:40].replace("/", " ")),
    ]


def push(folder):
    arguments = train(folder)
    assert main(arguments) == 0
    return ["push", arguments[-1], "owner/name", "--dry-run"]


READS = {
    "train": train,
    "eval": evaluate,
    "compare": compare,
    "serve": lambda folder: ["serve", "--port", "-1", "--name", *NAMES.values()],
    "study": study,
    "report": report,
    "replay": replay,
    "verify": verify,
    "algos": lambda folder: ["algos", *NAMES.values()],
    "envs": lambda folder: ["envs", ALL],
    "push": push,
    "completion": lambda folder: ["completion"],
}
STATUSES = {"serve": (1, 2), "algos": (2,), "envs": (2,), "verify": (1,)}
"""Of those that end with another one than 0: three read nothing but their options, and some responses are wrong."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reads_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMRL_TOKEN", "the-token-of-the-tests")
    arguments = READS[command](tmp_path)
    capsys.readouterr()
    assert status_of(arguments) in STATUSES.get(command, (0,)), capsys.readouterr().err[-2000:]
    harmless(capsys)
    if command == "report":
        page = (tmp_path / "page.html").read_text()
        assert "<img src=x" not in page
        assert "\x1b" not in page


@pytest.mark.parametrize("more", [("--golds",), ("--audit", "math_verify")])
def test_verify_in_its_other_ways(more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*verify(tmp_path), *more]) in (0, 1)
    harmless(capsys)
