"""Folders from elsewhere that are traps: pipes, loops of links, links to files of the user, huge and strange values.

Each ends in one sentence, without waiting, and no file outside of the folder is changed.
"""

import json
import os
import shutil

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
from example_run import write_rollouts, write_run
from small_run import EASY, small_run

from llmrl.commands import cli
from llmrl.commands.cli import main


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A run, an evaluation and a study; their commands by name."""
    place = tmp_path_factory.mktemp("made")
    size = "--algo grpo --train.steps 2 --checkpoint.every 1 --checkpoint.rollouts-every 1 --eval.problems 2 --env.goal"
    train = ["train", *small_run(tiny, *size.split(), EASY)]
    evaluate = ["eval", "--policy", str(tiny), "--env", "tests/SayA-v0", "--problems", "2", "--samples", "1"]
    study = ["study", "--algos", "dapo", "--tasks", "hack", "--seeds", "1", "--rollouts", "2"]
    commands = {"run": train, "evaluation": [*evaluate, "--max-response-length", "2"], "study": study}
    for name, command in commands.items():
        assert main([*command, "--output", str(place / name)]) == 0
    return place, commands


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """A copy of all three that may be changed."""
    place, commands = made
    shutil.copytree(place, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    again = {name: [*command, "--output", name] for name, command in commands.items()}
    again["run"] += ["--resume", "auto", "--train.steps", "3"]
    return again


def refused(arguments, capsys, *words):
    capsys.readouterr()
    assert main(arguments) in (1, 2)
    said = capsys.readouterr().err
    assert "error: " in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.jsonl", ".holder.json", "eval/before.jsonl", "best.json", "x"]
)
def test_a_run_with_a_pipe_is_not_resumed(name, copied, tmp_path, capsys):
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    refused(copied["run"], capsys, name, "is a pipe, a socket or a device")


def test_a_pipe_in_place_of_a_file_is_not_waited_for(copied, tmp_path, capsys):
    for name in ("run/metrics.jsonl", "evaluation/tests-SayA-v0.jsonl", "study/results.json"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
    refused(["push", "run", "me/model", "--dry-run"], capsys, "metrics.jsonl", "a pipe")
    refused(["compare", "evaluation", "evaluation"], capsys, "tests-SayA-v0.jsonl", "a pipe")
    refused(copied["evaluation"], capsys, "tests-SayA-v0.jsonl", "a pipe")
    refused(copied["study"], capsys, "results.json", "a pipe")
    file = tmp_path / "run" / "rollouts" / "step_000002.jsonl"
    file.unlink()
    os.mkfifo(file)
    assert main(["report", "run", "--algo", "", "--rollouts", "2"]) == 0
    refused(["replay", "run"], capsys, "step_000002")


@pytest.mark.parametrize("name", ["x", "latest", "good", "best", "config.yaml", "rollouts", "checkpoint-000009"])
def test_a_loop_of_links_in_a_run_is_a_sentence_at_most(name, copied, tmp_path, capsys):
    path = tmp_path / "run" / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)
    capsys.readouterr()
    assert main(copied["run"]) in (0, 1, 2)
    assert main(["push", "run", "me/model", "--dry-run"]) in (0, 2)


def test_a_pipe_in_the_folder_of_a_model_is_refused(copied, tmp_path, tiny, capsys):
    folder = shutil.copytree(tiny, tmp_path / "model")
    os.mkfifo(folder / "adapter_config.json")
    refused(["eval", "--policy", "model", "--output", "o"], capsys, "adapter_config.json", "a pipe")


def test_a_loop_of_links_as_an_argument_is_a_sentence(copied, tmp_path, capsys):
    (tmp_path / "loop").symlink_to("loop")
    rollouts = "run/rollouts/step_000002.jsonl"
    for arguments in (
        ["push", "loop", "me/model"],
        ["report", "loop"],
        ["replay", "loop"],
        ["compare", "loop", "loop"],
        ["verify", "loop"],
        ["verify", rollouts, "--output", "loop"],
        [*copied["run"], "--output", "loop"],
        [*copied["run"], "--resume", "loop"],
        [*copied["study"], "--output", "loop"],
    ):
        refused(arguments, capsys)


@pytest.mark.parametrize("target", ["config.yaml", "nowhere", "/etc", "checkpoint-x", "."])
def test_good_may_lead_to_anything(target, copied, tmp_path):
    (tmp_path / "run" / "good").symlink_to(target)
    assert main(copied["run"]) == 0


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("run/replay/step_000002.json", ["replay", "run", "--algo", "dapo"]),
        ("run/replay/step_000002.png", ["replay", "run", "--algo", "dapo"]),
        ("run/replay", ["replay", "run", "--algo", "dapo"]),
        ("study/results.json", ["study"]),
        ("study/figures/scores.svg", ["study"]),
        ("report_plots/accuracy.png", ["report", "run", "--algo", "", "--plots"]),
        (".writing-report.html", ["report", "run", "--algo", ""]),
        ("report.html", ["report", "run", "--algo", ""]),
        ("graded.jsonl", ["verify", "run/rollouts/step_000002.jsonl", "--gold", "problem"]),
        ("disagreements.jsonl", ["verify", "run/rollouts/step_000002.jsonl", "--gold", "problem", "--audit", "math"]),
    ],
    ids=str,
)
def test_nothing_is_written_through_a_link(name, command, copied, tmp_path):
    outside = tmp_path.parent / f"{tmp_path.name}-mine"
    (outside / "folder").mkdir(parents=True)
    for mine in (outside / "file", outside / "folder" / "step_000002.json"):
        mine.write_text("mine")
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / ("folder" if name == "run/replay" else "file"))
    main(copied["study"] if command == ["study"] else command)
    assert [mine.read_text() for mine in (outside / "file", outside / "folder" / "step_000002.json")] == ["mine"] * 2
    assert len(list(outside.rglob("*"))) == 3


def test_a_checkpoint_under_another_name_is_refused(copied, tmp_path, capsys):
    (tmp_path / "run" / "checkpoint-000002").rename(tmp_path / "run" / "my-model")
    refused(["push", "run/my-model", "me/model", "--dry-run"], capsys, "my-model", "name of a checkpoint")
    refused([*copied["run"], "--resume", "run/my-model"], capsys, "my-model", "name of a checkpoint")


@pytest.mark.parametrize("lacking", ["tokens", "finish_reason"])
def test_an_evaluation_without_what_a_summary_reads(lacking, copied, tmp_path, capsys):
    file = tmp_path / "evaluation" / "tests-SayA-v0.jsonl"
    whole = file.read_bytes()
    rows = [json.loads(line) for line in whole.splitlines()]
    for row in rows:
        del row[lacking]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(copied["evaluation"], capsys, "tests-SayA-v0.jsonl, line 1", lacking)
    (tmp_path / "evaluation" / "results.json").unlink()
    assert main(copied["evaluation"]) == 0  # without a result they are responses in progress, and asked again
    assert file.read_bytes() == whole


def test_a_run_whose_first_evaluation_is_damaged_is_complete_without_a_picture_of_it(copied, tmp_path, capsys):
    file = tmp_path / "run" / "eval" / "before.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        del row["tokens"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(copied["run"]) == 0
    assert "Plots are left out: " in capsys.readouterr().out


def test_a_message_that_quotes_a_file_is_short(copied, tmp_path, capsys):
    file = tmp_path / "evaluation" / "settings.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "temperature": "x" * 100_000}))
    refused(copied["evaluation"], capsys, "(100002 characters)")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"y" * 100_000: 1, "answer": "1"}))
    assert main(["verify", str(rows)]) == 2
    assert len(capsys.readouterr().err) < cli.LONGEST + 100


def test_no_memory_is_a_sentence(monkeypatch, capsys):
    def fill(options):
        raise MemoryError

    monkeypatch.setattr("llmrl.commands.algos.run", fill)
    refused(["algos"], capsys, "No memory is left")


@pytest.mark.parametrize("field", ["detail", "answer", "level", "verdict", "advantage"])
@pytest.mark.parametrize("value", [{"a": float("nan")}, [float("inf")], [[1]]], ids=str)
def test_a_report_shows_a_response_with_a_strange_value(field, value, tmp_path):
    run = write_run(tmp_path / "espo-0", bare=True)
    file = write_rollouts(run, ["one", "two"])
    rows = [json.loads(line) for line in file.read_bytes().splitlines()]
    file.write_text("".join(json.dumps({**row, field: value}) + "\n" for row in rows))
    assert main(["report", str(run), "--algo", "", "--output", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize("field", ["level", "subject"])
def test_a_report_of_evaluations_with_a_strange_level(field, tmp_path):
    run = write_run(tmp_path / "espo-0", steps=1)
    for name in ("before", "after"):
        file = run / "eval" / f"{name}.jsonl"
        rows = [{**json.loads(line), field: [1]} for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["report", str(run), "--algo", "", "--output", str(tmp_path / "page.html")]) == 0


def test_a_name_with_escapes_is_no_escape_in_a_warning(copied, tmp_path, capsys):
    run = (tmp_path / "run").rename(tmp_path / "r \x1b]0;owned\x07")
    (run / "metrics.jsonl").write_text("no json\n" + (run / "metrics.jsonl").read_text())
    capsys.readouterr()
    assert main(["push", str(run), "me/model", "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
