"""Problems from files: the columns of real sets, splits, and errors that name the place."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from llmrl.envs import tables
from llmrl.envs.columns import last_box, slug
from llmrl.envs.files import FileProblems
from llmrl.envs.tables import DataError, MissingPackage


def write(path, *rows):
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


ROW = {"problem": "What is $1+1$?", "answer": "2"}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"question": "Q", "answer": "She has 2 * 3 = <<2*3=6>>6.\n#### 6"}, "6"),
        ({"Problem": "Q", "Answer": 204}, "204"),
        ({"prompt": "Q", "final_answer": ["$2$", "$3$"]}, "$2$, $3$"),
        (
            {"problem": "Q", "solution": "so $\\boxed{\\frac{1}{2}}$"},
            r"\frac{1}{2}",
        ),
        ({"problem": "Q", "answer": 27.0}, "27"),
        ({"problem": "Q", "answer": 0.25}, "0.25"),
        ({"prompt": [{"role": "user", "content": "Q"}], "expected_answer": "x"}, "x"),
    ],
)
def test_columns_of_real_sets(tmp_path, row, answer):
    problem = FileProblems(write(tmp_path / "a.jsonl", row))[0]
    assert (problem.problem, problem.answer) == ("Q", answer)
    assert problem.source == "a.jsonl"
    if "####" in str(row.get("answer")):
        assert problem.solution == "She has 2 * 3 = 6."


def test_subject_level_and_id(tmp_path):
    row = {**ROW, "type": "Counting & Probability", "level": "Level 3", "unique_id": "u/7"}
    problem = FileProblems(write(tmp_path / "a.jsonl", row))[0]
    assert (problem.subject, problem.level, problem.id) == ("counting_and_probability", 3, "u/7")
    problem = FileProblems(write(tmp_path / "b.jsonl", {**ROW, "level": "Level ?"}))[0]
    assert (problem.subject, problem.level) == (None, None)
    assert problem.id.endswith("b.jsonl, line 1")


def test_formats_hold_the_same(tmp_path):
    rows = [{**ROW, "level": n} for n in (1, 2, 3)]
    paths = [write(tmp_path / "a.jsonl", *rows), write(tmp_path / "b.jsonl.gz", *rows)]
    paths.append(write(tmp_path / "c.json", json.dumps(rows)))
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    paths.append(tmp_path / "d.parquet")
    for path in paths:
        problems = FileProblems(path)
        assert [problems[i].level for i in range(len(problems))] == [1, 2, 3]
        assert problems.size == 3


def test_a_bad_row_of_parquet_is_named(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = [ROW, ROW, {**ROW, "answer": ""}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet, row 3, column 'answer': the answer is empty"):
        FileProblems(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(MissingPackage, match=r"pip install 'llmrl\[parquet\]'"):
        FileProblems(tmp_path / "a.parquet")


def test_blank_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode() + b"\n\n" + json.dumps(ROW).encode())
    assert len(FileProblems(path)) == 2


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"problem": "Q" "answer": "1"}', "a.jsonl, line 2, column 17: Expecting ',' delimiter"),
        ("[1]", 'line 2: expected an object such as {"problem": "...", "answer": "..."}, got list'),
        ('{"problem": "", "answer": "1"}', "line 2, column 'problem': the problem is empty"),
        ('{"problem": "Q", "answer": null}', "line 2, column 'answer': the answer is empty"),
        ('{"problem": "Q", "answer": {"a": 1}}', "column 'answer': expected text, got dict"),
        (
            '{"problme": "Q", "answer": "1"}',
            "instruction or input. Name it with problem_col",
        ),
        ('{"problme": "Q", "answer": "1"}', "Did you mean 'problme'? Known: answer, problme."),
        ('{"problem": "Q", "anser": "1"}', "and no solution has a \\boxed{} answer. Name it with"),
        ('{"problem": "Q", "anser": "1"}', "Did you mean 'anser'?"),
    ],
)
def test_a_bad_row_is_named(tmp_path, line, text):
    path = write(tmp_path / "a.jsonl", ROW, line)
    with pytest.raises(DataError) as caught:
        FileProblems(path)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_bad_files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(json.dumps(ROW).encode() + b'\n{"problem": "\xff"}\n')
    with pytest.raises(DataError, match=r"line 2, byte 14: not valid UTF-8"):
        FileProblems(tmp_path / "a.jsonl")
    whole = write(tmp_path / "b.jsonl.gz", *[{**ROW, "id": str(i)} for i in range(999)])
    whole.write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"b.jsonl.gz, after line \d+: broken gzip file"):
        FileProblems(whole)
    (tmp_path / "c.jsonl.gz").write_text("text")
    with pytest.raises(DataError, match=r"after line 0: broken gzip file"):
        FileProblems(tmp_path / "c.jsonl.gz")
    (tmp_path / "d.json").write_text("[{]")
    with pytest.raises(DataError, match=r"d.json, line 1, column 3"):
        FileProblems(tmp_path / "d.json")
    with pytest.raises(DataError, match=r"holds no problem"):
        FileProblems(write(tmp_path / "e.jsonl"))
    with pytest.raises(DataError, match=r"must end in one of .jsonl, .ndjson, .json, .csv, .tsv, .parquet, each also"):
        FileProblems(write(tmp_path / "f.xlsx", ROW))
    with pytest.raises(DataError, match=r"There is no file or folder .*Did you mean 'a.jsonl'"):
        FileProblems(tmp_path / "aa.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no file that ends in"):
        FileProblems(tmp_path / "empty")
    pytest.importorskip("pyarrow")
    (tmp_path / "g.parquet").write_text("text")
    with pytest.raises(DataError, match=r"g.parquet is not a Parquet file"):
        FileProblems(tmp_path / "g.parquet")


def test_named_columns(tmp_path):
    path = write(tmp_path / "a.jsonl", {"problem": "old", "text": "Q", "gold": "7"})
    problem = FileProblems(path, problem_column="text", answer_column="gold")[0]
    assert (problem.problem, problem.answer) == ("Q", "7")
    with pytest.raises(DataError, match=r"line 1: there is no column 'txt'. Did you mean 'text'"):
        FileProblems(path, problem_column="txt", answer_column="gold")


def numbered(count, **more):
    return [{"problem": f"What is ${i}+1$?", "answer": str(i + 1), **more} for i in range(count)]


def texts(problems):
    return {problems[i].problem for i in range(len(problems))}


def test_one_file_is_divided_by_the_problems_text(tmp_path):
    path = write(tmp_path / "sums.jsonl", *numbered(500))
    train, test, every = (texts(FileProblems(path, split)) for split in ("train", "test", "all"))
    assert not train & test
    assert train | test == every
    assert 25 < len(test) < 80
    shuffled = write(tmp_path / "mixed.jsonl", *numbered(500)[::-1])
    assert texts(FileProblems(shuffled, "test")) == test


def test_the_names_of_files_say_their_split(tmp_path):
    train = write(tmp_path / "set_train.jsonl", *numbered(50))
    assert 0 < len(FileProblems(train, "test")) < 20  # alone: divided
    test = write(tmp_path / "set_test.jsonl", *numbered(30, level=2))
    for path in (train, test, tmp_path):
        assert len(FileProblems(path, "train")) == 50
        assert len(FileProblems(path, "test")) == 30
    assert len(FileProblems(test, "all")) == 30
    assert len(FileProblems(tmp_path, "all")) == 80
    train.unlink()
    assert len(FileProblems(test, "test")) == 30
    with pytest.raises(DataError, match=r"named as test data, so it gives no training problems"):
        FileProblems(test, "train")
    with pytest.raises(ValueError, match=r"There is no split 'tst'. Did you mean 'test'"):
        FileProblems(test, "tst")


def test_words_inside_words_are_no_splits(tmp_path):
    path = write(tmp_path / "latest_contest.jsonl", *numbered(200))
    assert len(FileProblems(path, "train")) > 150


def test_subjects_and_levels(tmp_path):
    rows = [
        *numbered(9, subject="Number Theory", level=1),
        *numbered(4, subject="Algebra", level=5),
    ]
    path = write(tmp_path / "a.jsonl", *rows)
    assert len(FileProblems(path, subjects=["number_theory"])) == 9
    assert len(FileProblems(path, subjects=["Number Theory"])) == 9
    assert len(FileProblems(path, subjects=["Number Theory", "algebra"], levels=[5])) == 4
    with pytest.raises(ValueError, match=r"has no subject 'algbra'. Did you mean 'algebra'"):
        FileProblems(path, subjects=["algbra"])
    with pytest.raises(ValueError, match=r"no problem of levels \[3\], only \[1, 5\]"):
        FileProblems(path, levels=[3])


def test_gold_answers_are_checked(tmp_path):
    rows = [{**ROW, "id": f"p{i}", "answer": a} for i, a in enumerate(["1", "{", "3", "}"])]
    path = write(tmp_path / "a.jsonl", *rows)

    def check(gold):
        return None if gold.isdigit() else "a lonely brace"

    problems = FileProblems(path, check_gold=check)
    assert problems.bad_golds == [("p1", "{", "a lonely brace"), ("p3", "}", "a lonely brace")]
    said = problems.resolve_bad_golds("keep")
    assert said.startswith("2 of 4 gold answers cannot be parsed: p1: '{' (a lonely brace); p3: '}'")
    assert len(problems) == 4
    with pytest.raises(DataError, match=r"2 of 4 gold answers .* choose bad_gold='drop' or 'keep'"):
        problems.resolve_bad_golds("error")
    assert "left out" in problems.resolve_bad_golds("drop")
    assert [problems[i].id for i in range(len(problems))] == ["p0", "p2"]
    assert FileProblems(path).resolve_bad_golds("error") is None


def test_an_id_beyond_the_end(tmp_path):
    problems = FileProblems(write(tmp_path / "a.jsonl", ROW))
    with pytest.raises(IndexError, match=r"There is no problem 1: there are 1 problems, numbered from 0"):
        problems[1]
    assert str(problems) == "1 problem of a.jsonl"


def test_helpers():
    assert last_box(r"\boxed{1} then \boxed{\text{a {b} c}} end") == r"\text{a {b} c}"
    assert last_box(r"\boxed{1") is None
    assert last_box(r"so \boxed 7.") == "7"
    assert slug("Intermediate Algebra") == "intermediate_algebra"


@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.json.gz", "x.csv.gz"])
def test_a_file_that_expands_to_much_more_than_its_space_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ALWAYS_READ", 1 << 20)
    file = tmp_path / name
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(bytes(1 << 25)))
    else:
        with file.open("wb") as stream:
            stream.truncate(1 << 25)
    with pytest.raises(DataError, match=rf"{name} expands to more than 100 times its space on the disk"):
        list(tables.rows(file))


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz"])
def test_a_line_without_end_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST_LINE", 1 << 20)
    good = b'{"problem": "1", "answer": "1"}\n'
    for size, fails in ((0, False), (1 << 21, True)):
        content = good + b" " * size + good
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        if fails:
            with pytest.raises(DataError, match=rf"{name}, line 2: it is longer than 1 MiB"):
                list(tables.rows(tmp_path / name))
        else:
            assert len(list(tables.rows(tmp_path / name))) == 2
