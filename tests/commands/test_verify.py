"""``llmrl verify``: what it writes, what it prints, what it says of files it cannot use, its exit status."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest

from llmrl.commands.cli import main
from llmrl.commands.verify import wilson

ROWS = [
    {"id": "a", "answer": r"\frac12", "response": r"\boxed{0.5}"},
    {"id": "b", "answer": "7", "response": ""},
    {"id": "c", "answer": 5, "response": r"\boxed{6}"},
]
GRADERS = """
from llmrl.verifiers import Verdict

def says_yes(responses, golds):
    return [Verdict(1.0, "correct", extracted="yes") for _ in responses]

def forgets_one(responses, golds):
    return []

def has_no_opinion(responses, golds):
    return [Verdict(0.0, "timeout", detail="too slow") for _ in responses]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder with a module of graders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "their_graders.py").write_text(GRADERS)
    yield tmp_path
    sys.modules.pop("their_graders", None)


def write(path, rows):
    text = "\n".join(json.dumps(row) for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_of_a_run_the_rollouts_are_graded(folder):
    (folder / "run" / "rollouts").mkdir(parents=True)
    (folder / "run" / "run.json").write_text("{}")
    write(folder / "run" / "rollouts" / "step_000001.jsonl", ROWS)
    assert main(["verify", "run"]) == 0
    assert len(read(folder / "graded.jsonl")) == len(ROWS)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_every_row_gets_a_line_and_the_table_counts_them(folder, capsys, name):
    write(folder / name, ROWS)
    assert main(["verify", name]) == 0
    lines = read(folder / "graded.jsonl")
    assert [(line["id"], line["verdict"], line["score"]) for line in lines] == [
        ("a", "correct", 1.0),
        ("b", "no_answer", 0.0),
        ("c", "wrong", 0.0),
    ]
    assert lines[0]["extracted"] == "0.5"
    assert lines[0]["rule"] == "boxed"
    assert lines[2]["gold"] == "5"
    shown = capsys.readouterr().out
    assert "3 rows, mean score 0.3333" in shown
    assert "33.33 %" in shown
    assert "[6.15, 79.23]" in shown


def test_batches_join_in_order(folder):
    rows = [{"answer": str(i % 3), "response": rf"\boxed{{{i % 2}}}"} for i in range(25)]
    write(folder / "rows.jsonl", rows)
    main(["verify", "rows.jsonl", "--batch", "4", "--output", "deep/er/out.jsonl"])
    lines = read(folder / "deep" / "er" / "out.jsonl")
    assert [line["score"] for line in lines] == [float(i % 3 == i % 2) for i in range(25)]


def test_columns_have_other_names_and_other_places(folder):
    write(folder / "rows.jsonl", [{"truth": "4", "said": "4"}, {"truth": "4", "said": "5"}])
    assert main(["verify", "rows.jsonl", "--gold", "truth", "--response", "said"]) == 0
    assert [line["verdict"] for line in read(folder / "graded.jsonl")] == ["correct", "wrong"]
    for row in ({"Answer": "4"}, {"reward_model": {"ground_truth": "4"}}):
        write(folder / "rows.jsonl", [{**row, "response": "4"}])
        assert main(["verify", "rows.jsonl"]) == 0
    write(folder / "rows.jsonl", [{"solution": r"so \boxed{4}", "response": "4"}])
    assert main(["verify", "rows.jsonl"]) == 0
    write(folder / "rows.jsonl", [{"answer": "2 + 2 is\n#### 4", "response": "4"}])
    assert main(["verify", "rows.jsonl"]) == 0
    assert read(folder / "graded.jsonl")[0]["verdict"] == "correct"


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (
            '{"answer": "1", "response": "1"}\n{"answer": "1", "respones": "1"}',
            [],
            "rows.jsonl, line 2: there is no column 'response'. Did you mean 'respones'?",
        ),
        (
            '{"answer": "1", "response": "1"}',
            ["--gold", "anwser"],
            "no column 'anwser'. Did you mean 'answer'?",
        ),
        (
            '{"answer": "1", "response": "1"}\n\n{"answer": [1], "response": "1"}',
            [],
            "rows.jsonl, line 3, column 'answer': expected text, got list.",
        ),
        ('{"answer": "1",}', [], "rows.jsonl, line 1, column "),
        ("", [], "rows.jsonl holds no rows."),
        (
            '{"answer": "1", "response": "1"}',
            ["--output", "rows.jsonl"],
            "--output rows.jsonl would overwrite the file that is graded.",
        ),
        ('{"answer": "1", "response": "1"}', ["--batch", "0"], "--batch must be at least 1, got 0"),
        (
            '{"answer": "1", "response": "1"}',
            ["--verifier", "maths"],
            "No verifier is called 'maths'. Did you mean 'math'?",
        ),
        (
            '{"answer": "1", "response": "1"}',
            ["--verifier", "their_graders:says_yess"],
            "has no 'says_yess'. Did you mean 'says_yes'?",
        ),
        (
            '{"answer": "1", "response": "1"}',
            ["--verifier", "their_graders:Verdict"],
            "'their_graders:Verdict' is the class Verdict, no verifier.",
        ),
        (
            '{"answer": "1", "response": "1"}',
            ["--verifier", "their_graders:forgets_one"],
            "'their_graders:forgets_one' returned 0 verdicts for 1 responses.",
        ),
    ],
)
def test_what_cannot_be_used_is_named(folder, capsys, text, arguments, words):
    (folder / "rows.jsonl").write_text(text)
    assert main(["verify", "rows.jsonl", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (folder / "graded.jsonl").exists()


def test_a_file_that_is_not_there_suggests_the_nearest(folder, capsys):
    write(folder / "rows.jsonl", ROWS)
    assert main(["verify", "row.jsonl"]) == 2
    assert "Did you mean 'rows.jsonl'?" in capsys.readouterr().err


def test_rows_without_a_verdict_change_the_exit_status(folder):
    write(folder / "rows.jsonl", ROWS)
    assert main(["verify", "rows.jsonl", "--verifier", "their_graders:has_no_opinion"]) == 1
    assert {line["detail"] for line in read(folder / "graded.jsonl")} == {"too slow"}


def test_an_audit_shows_and_writes_where_two_graders_disagree(folder, capsys):
    write(folder / "rows.jsonl", ROWS)
    assert main(["verify", "rows.jsonl", "--audit", "their_graders:says_yes"]) == 1
    found = read(folder / "disagreements.jsonl")
    assert [line["id"] for line in found] == ["b", "c"]
    assert found[1]["math"]["verdict"] == "wrong"
    assert found[1]["their_graders:says_yes"]["extracted"] == "yes"
    assert found[1]["response"] == r"\boxed{6}"
    shown = " ".join(capsys.readouterr().out.split())
    assert "agree on 1 of 3 rows" in shown
    assert "disagreements.jsonl" in shown


def test_an_audit_by_math_verify_runs_in_workers_and_agrees_on_easy_rows(folder, capsys):
    write(folder / "rows.jsonl", ROWS)
    assert main(["verify", "rows.jsonl", "--audit", "math_verify"]) == 0
    assert read(folder / "disagreements.jsonl") == []
    assert "agree on 3 of 3 rows" in " ".join(capsys.readouterr().out.split())


def test_gold_answers_that_cannot_be_parsed_are_listed_by_id(folder, capsys):
    rows = [*ROWS, {"problem_id": 17, "answer": r"\frac{1}{0}"}, {"answer": " "}]
    write(folder / "rows.jsonl", rows)
    assert main(["verify", "rows.jsonl", "--golds"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 of 5 gold answers cannot be parsed." in shown
    assert "17" in shown
    assert "a division by zero" in shown
    assert "line 5" in shown
    write(folder / "rows.jsonl", ROWS)
    assert main(["verify", "rows.jsonl", "--golds"]) == 0


def test_hostile_text_reaches_the_terminal_and_the_files_harmlessly(folder, capsys):
    hostile = "\\boxed{5\u202e\x1b[2J\ud800[red]}"
    write(folder / "rows.jsonl", [{"answer": "5", "response": hostile}])
    assert main(["verify", "rows.jsonl", "--audit", "their_graders:says_yes"]) == 1
    shown = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\ud800"} & set(shown)
    assert read(folder / "disagreements.jsonl")[0]["response"] == hostile
    write(folder / "rows.jsonl", [{"answer": "5", "response": "\\boxed{" + "x" * 100 + "}"}])
    main(["verify", "rows.jsonl", "--audit", "their_graders:says_yes"])
    assert "x" * 49 not in capsys.readouterr().out


def test_the_interval_of_a_share_is_wilsons():
    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert wilson(81, 263) == pytest.approx((0.25531, 0.36623), abs=1e-4)


def test_help_teaches_and_neither_it_nor_grading_loads_torch(folder):
    write(folder / "rows.jsonl", ROWS)
    code = (
        "import sys; from llmrl.commands.cli import main; main(['verify', 'rows.jsonl']); "
        "assert 'torch' not in sys.modules; main(['verify', '--help'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--audit" in shown
    assert "Exit status" in shown
