"""Files that commands read and that are not what was written: each is one sentence that names the file."""

import json
from types import SimpleNamespace

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0

from llmrl.commands.cli import main
from llmrl.training.folder import held

DAMAGES = {
    "cut": b'{"environments": {"x": ',
    "empty": b"",
    "no text": b"\xff\xfe\x00",
    "cut character": '{"environments": "\u00e9'.encode()[:-1],
    "deep": b"[" * 100_000,
    "long number": b"1" * 5000,
    "a list": b"[1, 2]",
    "another object": b'{"a": 1}',
    "wrong inside": b'{"environments": {"x": 3}, "env": 4}',
    "elsewhere": b'{"environments": {"x": {"responses": "../secret.jsonl"}}}',
}
ROW = {"group": 0, "greedy": True, "problem_id": 0, "reward": 1.0, "verdict": "correct"}


def refused(arguments, capsys, *words):
    assert main(arguments) in (1, 2)
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("damage", DAMAGES)
def test_compare_names_a_damaged_file(damage, tmp_path, capsys):
    (tmp_path / "secret.jsonl").write_text(json.dumps(ROW))
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / "results.json").write_bytes(DAMAGES[damage])
    refused(["compare", str(folder), str(folder)], capsys, "results.json")


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "empty"])
def test_compare_names_a_damaged_line(damage, tmp_path, capsys):
    file = tmp_path / "after.jsonl"
    file.write_bytes(json.dumps(ROW).encode() + b"\n" + DAMAGES[damage])
    refused(["compare", str(file), str(file)], capsys, "after.jsonl, line 2")


WRONG = [
    {"reward": "x"},
    {"reward": None},
    {"problem_id": [1]},
    {"problem_id": -1},
    {"problem_id": 10**40},
    {"group": {}},
    {"greedy": 1},
    {"vote": "x"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_compare_names_a_line_with_a_wrong_value(wrong, tmp_path, capsys):
    file = tmp_path / "after.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, **wrong}))
    refused(["compare", str(file), str(file)], capsys, "after.jsonl, line 2", next(iter(wrong)))


@pytest.fixture
def evaluation(tiny, tmp_path, capsys):
    """A finished evaluation, and its command."""
    folder = tmp_path / "e"
    command = ["eval", "--policy", str(tiny), "--env", "tests/SayA-v0", "--problems", "3", "--samples", "0"]
    command += ["--max-response-length", "2", "--batch", "1", "--output", str(folder)]
    assert main(command) == 0
    capsys.readouterr()
    return SimpleNamespace(folder=folder, command=command, file=folder / "tests-SayA-v0.jsonl")


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("wrong inside", "elsewhere")])
def test_eval_names_a_damaged_file(damage, name, evaluation, capsys):
    (evaluation.folder / name).write_bytes(DAMAGES[damage])
    refused(evaluation.command, capsys, name)


def test_an_evaluation_cut_inside_a_character_goes_on(evaluation):
    whole = evaluation.file.read_bytes()
    (evaluation.folder / "results.json").unlink()
    evaluation.file.write_bytes(whole + '{"problem": "\u00e9'.encode()[:-1])
    assert main(evaluation.command) == 0
    assert evaluation.file.read_bytes() == whole


@pytest.mark.parametrize("wrong", [{"reward": "x"}, {"group": 10**9}, {"group": [1]}, {"problem_id": {}}], ids=str)
def test_an_evaluation_goes_on_before_a_line_with_a_wrong_value(wrong, evaluation):
    whole = evaluation.file.read_bytes()
    (evaluation.folder / "results.json").unlink()
    evaluation.file.write_bytes(whole + json.dumps({**ROW, **wrong}).encode() + b"\n")
    assert main(evaluation.command) == 0
    assert evaluation.file.read_bytes() == whole


def test_an_evaluation_whose_settings_could_not_be_written_begins_again(evaluation):
    whole = evaluation.file.read_bytes()
    for path in evaluation.folder.glob("*.json*"):
        path.unlink()
    (evaluation.folder / ".settings.json").write_text('{"half')
    assert main(evaluation.command) == 0
    assert evaluation.file.read_bytes() == whole


@pytest.mark.parametrize("value", ["!!timestamp x", "!!bool x", "*a", "2001-99-99", "9" * 5000, "[" * 5000])
def test_an_option_that_is_no_value_of_yaml_is_named(value, evaluation, capsys):
    refused([*evaluation.command, "--env-options", f"goal={value}"], capsys, "--env-options", "no value of YAML")


def test_two_evaluations_in_one_folder_are_refused(evaluation, capsys):
    before = {path.name: path.read_bytes() for path in evaluation.folder.iterdir()}
    with held(evaluation.folder):
        refused(evaluation.command, capsys, "is in use by process")
    assert {path.name: path.read_bytes() for path in evaluation.folder.iterdir()} == before


def test_force_sets_an_evaluation_aside(evaluation):
    before = evaluation.file.read_bytes()
    assert main([*evaluation.command, "--seed", "1"]) == 2
    assert main([*evaluation.command, "--seed", "1", "--force"]) == 0
    assert (evaluation.folder / "replaced-1" / evaluation.file.name).read_bytes() == before
