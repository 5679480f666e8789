"""Data of one's own: the columns, formats and faults that real files have, and what is held out of them."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
from decimal import Decimal

import gymnasium
import pytest

from llmrl.envs.data import open_data
from llmrl.envs.files import FileProblems
from llmrl.envs.problems import ProblemOptions
from llmrl.envs.tables import DataError
from llmrl.errors import ConfigError

pa = pytest.importorskip("pyarrow")
parquet_module = pytest.importorskip("pyarrow.parquet")


def J(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def U(text):
    return [{"role": "user", "content": text}]


def parquet(rows):
    buffer = io.BytesIO()
    parquet_module.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def zst(content):
    return pa.compress(content if isinstance(content, bytes) else content.encode(), codec="zstd", asbytes=True)


Q = [("Q1", "1"), ("Q2", "2")]
two = [{"problem": "Q1", "answer": "1"}, {"problem": "Q2", "answer": "2"}]
deep = '{"problem": "Q", "answer": ' + "[" * 100_000 + "]" * 100_000 + "}"

CASES = [
    (
        "verl",
        "v.jsonl",
        J(
            *[
                {
                    "data_source": "gsm8k",
                    "prompt": U(q),
                    "ability": "math",
                    "reward_model": {"style": "rule", "ground_truth": a},
                    "extra_info": {"index": i, "split": "train"},
                }
                for i, (q, a) in enumerate(Q)
            ]
        ),
        Q,
    ),
    (
        "dapo",
        "d.parquet",
        parquet(
            [
                {
                    "data_source": "math_dapo",
                    "prompt": U(q),
                    "ability": "MATH",
                    "reward_model": {"ground_truth": a, "style": "r"},
                    "extra_info": {"index": f"u{a}"},
                }
                for q, a in Q
            ]
        ),
        Q,
    ),
    (
        "messages",
        "m.jsonl",
        J(*[{"messages": [*U(q), {"role": "assistant", "content": f"so \\boxed{{{a}}}"}]} for q, a in Q]),
        Q,
    ),
    (
        "sharegpt",
        "s.json",
        json.dumps(
            [{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": "#### " + a}]} for q, a in Q]
        ),
        Q,
    ),
    (
        "trl prompt/completion",
        "t.jsonl",
        J(*[{"prompt": U(q), "completion": [{"role": "assistant", "content": a}]} for q, a in Q]),
        Q,
    ),
    (
        "system message",
        "sy.jsonl",
        J({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q1"}], "answer": "1"}),
        [("Be brief.\n\nQ1", "1")],
    ),
    (
        "content parts",
        "cp.jsonl",
        J({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q1"}]}], "answer": "1"}),
        [("Q1", "1")],
    ),
    ("csv", "c.csv", "question,ground_truth\nQ1,1\nQ2,2\n", Q),
    ("csv excel", "ce.csv", "\ufeffquestion;gold\r\nQ1;1\r\nQ2;2\r\n", Q),
    ("csv quoted newline", "cq.csv", 'problem,answer\n"Q\n1",1\n', [("Q\n1", "1")]),
    ("tsv", "t.tsv", "prompt\ttarget\nQ1\t1\nQ2\t2\n", Q),
    ("csv.gz", "c.csv.gz", gzip.compress(b"question,answer\nQ1,1\nQ2,2\n"), Q),
    ("jsonl.zst", "z.jsonl.zst", zst(J(*two)), Q),
    ("tsv.zst", "z.tsv.zst", zst("problem\tanswer\nQ1\t1\nQ2\t2\n"), Q),
    ("json.gz", "j.json.gz", gzip.compress(json.dumps(two).encode()), Q),
    ("parquet.gz", "p.parquet.gz", gzip.compress(parquet(two)), Q),
    ("json of data", "jd.json", json.dumps({"version": "1", "data": two}), Q),
    ("json columns", "jc.json", json.dumps({"problem": ["Q1", "Q2"], "answer": [1, 2]}), Q),
    ("json lines as json", "jl.json", J(*two), Q),
    ("alpaca", "a.json", json.dumps([{"instruction": "Add", "input": "1+1", "output": "2"}]), [("Add\n\n1+1", "2")]),
    ("output boxed", "ob.jsonl", J({"query": "Q1", "output": "we get \\boxed{1}."}), [("Q1", "1")]),
    ("csv json cell", "cj.csv", 'prompt,reward_model\nQ1,"{""ground_truth"": ""1""}"\n', [("Q1", "1")]),
    ("upper names", "un.csv", "Question,Final_Answer\nQ1,1\n", [("Q1", "1")]),
    ("decimal", "de.parquet", parquet([{"problem": "Q1", "answer": Decimal("1.50")}]), [("Q1", "1.5")]),
    ("small float", "sf.jsonl", J({"problem": "Q1", "answer": 1e-7}), [("Q1", "0.0000001")]),
    ("int400", "i4.jsonl", '{"problem":"Q1","answer":' + "7" * 400 + "}\n", [("Q1", "7" * 400)]),
    ("int5000", "i5.jsonl", '{"problem":"Q1","answer":' + "7" * 5000 + "}\n", [("Q1", "7" * 5000)]),
    ("source no id", "so.jsonl", J(*[{"problem": q, "answer": a, "source": "web"} for q, a in Q]), Q),
    ("bool answer", "b.jsonl", J({"problem": "Q1", "answer": True}), [("Q1", "True")]),
    # errors
    ("nan", "n.jsonl", J(*two) + '{"problem":"Q3","answer":NaN}\n', r"n\.jsonl, line 3.*NaN"),
    ("1e999", "e9.jsonl", J(*two) + '{"problem":"Q3","answer":1e999}\n', r"e9\.jsonl, line 3.*1e999"),
    (
        "nan parquet",
        "np.parquet",
        parquet([{"problem": "Q1", "answer": float("nan")}, {"problem": "Q2", "answer": 2.0}]),
        r"np\.parquet, row 1, column 'answer'",
    ),
    ("csv nan", "cn.csv", "problem,answer\nQ1,nan\nQ2,2\n", r"cn\.csv, line 2, column 'answer'"),
    ("deep", "dp.jsonl", J(*two) + deep + "\n", r"dp\.jsonl, line 3.*nested"),
    ("deep json", "dj.json", "[" + deep + "]", r"dj\.json.*nested"),
    (
        "surrogate",
        "su.jsonl",
        J(*two) + '{"problem":"Q \\ud800","answer":"1"}\n',
        r"su\.jsonl, line 3, column 'problem'.*surrogate",
    ),
    (
        "empty answer",
        "em.jsonl",
        J(*two, {"problem": "Q3", "answer": " "}),
        r"em\.jsonl, line 3, column 'answer': the answer is empty",
    ),
    (
        "null gt",
        "ng.jsonl",
        J(*[{"prompt": "Q", "reward_model": {"ground_truth": a}} for a in (None, "1")]),
        r"ng\.jsonl, line 1",
    ),
    ("ragged csv", "rc.csv", "problem,answer\nQ1,1,9\n", r"rc\.csv, line 2.*3 cells"),
    ("csv open quote", "oq.csv", 'problem,answer\n"Q1,1\n', r"oq\.csv, line 2"),
    ("csv latin1", "la.csv", "problem,answer\nQé,1\n".encode("latin1"), r"la\.csv, line 2.*UTF-8"),
    ("bad zst", "bz.jsonl.zst", b"\x28\xb5\x2f\xfdgarbage", r"bz\.jsonl\.zst.*broken"),
    (
        "cut zst",
        "cz.jsonl.zst",
        zst(J(*[{"problem": f"Q{i}", "answer": str(i * i)} for i in range(9999)]))[:-300],
        r"cz\.jsonl\.zst.*broken|cz\.jsonl\.zst, line",
    ),
    (
        "image",
        "im.jsonl",
        J({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "answer": "1"}),
        r"im\.jsonl, line 1.*image_url",
    ),
    ("two questions", "tq.jsonl", J({"messages": U("a") + U("b"), "answer": "1"}), r"tq\.jsonl, line 1.*one question"),
    ("dict answer", "da.jsonl", J({"problem": "Q", "answer": {"x": 1}}), r"da\.jsonl, line 1, column 'answer'"),
    ("twice a column", "tc.csv", "problem,problem,answer\na,b,1\n", r"tc\.csv, line 1.*'problem'"),
    (
        "too long",
        "tl.jsonl",
        J({"problem": "Q" * 1_000_001, "answer": "1"}),
        r"tl\.jsonl, line 1, column 'problem'.*1,000,001",
    ),
    ("empty csv", "ec.csv", "", r"ec\.csv"),
    ("header only", "ho.csv", "problem,answer\n", r"ho\.csv"),
]


def save(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(source, split="train", **options):
    own = {name: options.pop(name) for name in ("test_share", "subset", "name") if name in options}
    problems = open_data(source, ProblemOptions(split=split, **options), **own)
    return [(problems[i].problem, problems[i].answer) for i in range(len(problems))], problems


@pytest.mark.parametrize(("file", "content", "want"), [pytest.param(*case[1:], id=case[0]) for case in CASES])
def test_a_file_is_read_or_refused_with_file_row_and_column(tmp_path, file, content, want):
    source = save(tmp_path / file, content)
    if isinstance(want, str):
        with pytest.raises(DataError) as caught:
            read(source)
        assert re.search(want, str(caught.value), re.DOTALL), caught.value
    else:
        found, problems = read(source)
        assert found == want
        assert len({problems[i].id for i in range(len(problems))}) == len(found)
        assert problems.name == file


def test_an_id_counts_only_if_every_row_has_another(tmp_path):
    for ids, kept in ((["a", "b"], True), (["a", "a"], False), (["a", None], False)):
        source = save(tmp_path / "a.jsonl", J(*({**row, "id": i} for row, i in zip(two, ids, strict=True))))
        _, problems = read(source)
        assert ([problems[i].id for i in range(2)] == ids) == kept
    # What drops one bad gold answer drops one row.
    rows = [{"problem": f"Q{i}", "answer": str(i), "source": "web"} for i in range(21)]
    source = save(tmp_path / "b.jsonl", J(*rows, {"problem": "bad", "answer": "\\frac{1}{0}", "source": "web"}))
    assert len(read(source, bad_gold="drop")[0]) == 21


def test_bad_rows_are_named_or_dropped_and_counted(tmp_path, caplog):
    source = save(tmp_path / "a.jsonl", J(*two, {"problem": "Q3", "answer": ""}) + deep + "\n{broken\n" + J(*two))
    with pytest.raises(DataError) as caught:
        read(source)
    for part in ("line 3, column 'answer'", "line 4: lists", "line 5, column 2", "3 of 7 rows", "bad_rows=drop"):
        assert part in str(caught.value)
    with caplog.at_level(logging.WARNING):
        assert len(read(source, bad_rows="drop")[0]) == 4
    assert "3 of 7 rows are left out" in caplog.text
    with pytest.raises(DataError, match="answer is empty"):
        read(save(tmp_path / "b.jsonl", J({"problem": "Q", "answer": ""})), bad_rows="drop")
    with pytest.raises(ValueError, match="bad_rows must be error or drop, got 'skip'"):
        read(source, bad_rows="skip")


def test_nothing_is_held_out_unasked(tmp_path):
    rows = [{"problem": f"What is ${i} + 1$?", "answer": str(i + 1)} for i in range(200)]
    source = save(tmp_path / "sums.jsonl", J(*rows))
    everything, problems = read(source)
    assert len(everything) == 200
    assert str(problems) == "200 problems of sums.jsonl"
    assert read(source, "test")[0] == everything
    train, problems = read(source, test_share=0.25)
    test, _ = read(source, "test", test_share=0.25)
    assert sorted(train + test) == sorted(everything)
    assert 30 < len(test) < 70
    assert "0.25 is held out by a hash of the problem" in str(problems)
    for share in (1, -0.1, "x"):
        with pytest.raises(DataError, match="test_share must be at least 0 and below 1"):
            read(source, test_share=share)
    env = gymnasium.make("llmrl/Data-v0", source=save(tmp_path / "one.csv", "problem,answer\nQ,1\n"))
    assert env.reset()[0] == "Q"


def test_a_folder_has_the_splits_that_its_files_name(tmp_path):
    for name, row in (("train-0.jsonl", two[0]), ("test.csv", None), ("validation.jsonl", two[1])):
        save(tmp_path / name, "problem,answer\nQ3,3\n" if row is None else J(row))
    (tmp_path / "dataset_info.json").write_text("{}")
    assert read(str(tmp_path))[0] == Q[:1]
    assert read(str(tmp_path), "test")[0] == [("Q3", "3")]
    (tmp_path / "test.csv").unlink()
    assert read(str(tmp_path), "test")[0] == Q[1:]
    for subset in ("easy", "hard"):
        (tmp_path / "more" / subset).mkdir(parents=True)
        save(tmp_path / "more" / subset / "a.jsonl", J(two[0] if subset == "easy" else two[1]))
    with pytest.raises(DataError, match="has the subsets easy, hard"):
        read(str(tmp_path / "more"))
    assert read(str(tmp_path / "more"), subset="hard")[0] == Q[1:]
    with pytest.raises(DataError, match=r"no subset 'hrad'. Did you mean 'hard'"):
        read(str(tmp_path / "more"), subset="hrad")


def test_the_name_of_a_file_decides_its_split_before_its_folder(tmp_path):
    folder = tmp_path / "train_test_split"
    folder.mkdir()
    save(folder / "train.jsonl", J(two[0]))
    save(folder / "test.jsonl", J(two[1]))
    assert (read(str(tmp_path))[0], read(str(tmp_path), "test")[0]) == (Q[:1], Q[1:])


def test_hidden_files_are_no_data(tmp_path):
    save(tmp_path / "train.jsonl", J(two[0]))
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / hidden).mkdir()
    save(tmp_path / ".ipynb_checkpoints" / "train-checkpoint.jsonl", J({"problem": "Q1", "answer": "999"}))
    save(tmp_path / "__MACOSX" / "._train.jsonl", "\0")
    assert read(str(tmp_path))[0] == Q[:1]
    assert [p.answer for p in FileProblems(tmp_path)._problems] == ["1"]
    (tmp_path / ".own").mkdir()
    save(tmp_path / ".own" / "train.jsonl", J(two[1]))
    assert read(str(tmp_path / ".own"))[0] == Q[1:]  # a hidden folder that is named itself


@pytest.mark.parametrize("subject", ["数学", "Алгебра", "Géométrie", "हिन्दी", "Algebra"])
def test_a_subject_may_be_in_any_script(subject):
    rows = [{**two[0], "subject": subject}, {**two[1], "subject": "other"}]
    chosen = open_data(rows, ProblemOptions(subjects=(subject,)))
    assert [(p.problem, p.subject) for p in chosen._problems] == [("Q1", subject.lower())]


def test_levels_in_words_cannot_be_chosen():
    rows = [{**row, "difficulty": "hard"} for row in two]
    with pytest.raises(ConfigError, match=r"no column level or difficulty holds a number. Leave out levels, got \[1\]"):
        open_data(rows, ProblemOptions(levels=(1,)))


def test_a_cell_of_a_csv_file_is_as_long_as_a_problem(tmp_path):
    long = "x" * 200_000
    assert read(save(tmp_path / "long.csv", f"problem,answer\n{long},1\n"))[0] == [(long, "1")]


def test_columns_in_memory_are_rows_as_in_a_file(tmp_path):
    columns = {"problem": ["Q1", "Q2"], "answer": ["1", "2"]}
    assert read(columns)[0] == Q
    assert read(save(tmp_path / "columns.json", json.dumps(columns)))[0] == Q
    parts = save(tmp_path / "parts.json", json.dumps({"train": two[:1], "test": two[1:]}))
    with pytest.raises(DataError, match=r"parts.json holds the tables test, train. Save each as a file in one folder"):
        read(parts)


def test_what_can_be_read_only_once_is_refused():
    with pytest.raises(DataError, match=r"a generator can be read only once, .* Give a list"):
        read(row for row in two)


def test_rows_in_memory():
    assert read(two)[0] == Q
    assert read(two)[1] is read(two)[1]  # read once
    parts = {"train": two[:1], "test": two[1:]}
    assert read(parts)[0] == Q[:1]
    assert read(parts, "test")[0] == Q[1:]
    assert read(two, name="mine")[1].name == "mine"
    bad = [{"problem": "Q", "answer": 10**5000}]
    for given, text in (
        ([1], "row 1: expected a dict"),
        ([], "holds no rows"),
        (7, "expected rows"),
        (bad, "too many"),
    ):
        with pytest.raises(DataError, match=text):
            read(given)
    env = gymnasium.make("llmrl/Data-v0", source=two)
    env.reset(options={"problem_id": 1})
    assert env.step("\\boxed{2}")[1] == 1
    assert env.unwrapped.title("llmrl/Data-v0") == "the given data"


def test_a_dataset_object_stand_in():
    class Dataset:
        """What of datasets.Dataset counts: it yields dicts."""

        def __len__(self):
            return 2

        def __iter__(self):
            return iter(two)

    assert read(Dataset())[0] == Q


def test_named_columns_also_within_a_column(tmp_path):
    row = {"extra_info": {"question": "Q1", "answer": "7"}, "reward_model": {"ground_truth": "1"}, "prompt": "long"}
    source = save(tmp_path / "a.jsonl", J(row))
    found, _ = read(source, problem_column="extra_info.question", answer_column="extra_info.answer")
    assert found == [("Q1", "7")]
    with pytest.raises(DataError, match=r"there is no column 'extra_info.quest'"):
        read(source, problem_column="extra_info.quest")


def test_a_corrected_file_is_read_again(tmp_path):
    assert len(read(save(tmp_path / "a.csv", "problem,answer\nQ1,1\n"))[0]) == 1
    assert len(read(save(tmp_path / "a.csv", "problem,answer\nQ1,1\nQ2,2\n"))[0]) == 2


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", "Say which data"),
        ("no/such/file.jsonl", "There is no file or folder"),
        ("sums", "OWNER/NAME, such as openai/gsm8k"),
    ],
)
def test_no_such_data(source, text):
    with pytest.raises(DataError, match=text):
        read(source)


@pytest.mark.parametrize(
    ("given", "levels"), [(3, (3,)), ("1,2", (1, 2)), ([1, "2"], (1, 2)), (range(1, 3), (1, 2)), ((), None)]
)
def test_levels_as_people_write_them(given, levels):
    assert ProblemOptions(levels=given).levels == levels


def test_options_that_are_none():
    assert ProblemOptions(subjects="algebra, geometry").subjects == ("algebra", "geometry")
    for options in ({"levels": "hard"}, {"levels": 1.5}, {"levels": [True]}, {"subjects": 7}, {"subjects": [7]}):
        with pytest.raises(ValueError, match=r"must be (whole numbers|names) such as"):
            ProblemOptions(**options)
