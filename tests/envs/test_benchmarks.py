"""The public sets: found where they should be, whole, and asked as environments."""

from __future__ import annotations

import json
import logging

import gymnasium
import pytest

import llmrl.envs.benchmarks as benchmarks
import llmrl.envs.math as math_module
from llmrl.envs.benchmarks import BENCHMARKS, open_benchmark
from llmrl.envs.generated import GeneratedProblems
from llmrl.envs.hub import HubError
from llmrl.envs.problems import ProblemOptions
from llmrl.envs.tables import DataError

IDS = {
    **{"math500": "MATH500", "gsm8k": "GSM8K", "aime24": "AIME24", "aime25": "AIME25"},
    **{"amc23": "AMC23", "minerva": "Minerva", "olympiadbench": "OlympiadBench"},
    "hmmt25": "HMMT25",
}
ROWS = [{"problem": f"P{i}", "answer": str(i), "level": 1 + i % 5, "type": "Algebra"} for i in range(60)]


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    """No data folder, no hub, no set from an earlier test."""
    monkeypatch.delenv("LLMRL_DATA", raising=False)

    def silent(repo, patterns, hint):
        raise HubError(f"{repo} is out of reach. {hint}")

    monkeypatch.setattr(benchmarks, "hub_files", silent)
    caches = open_benchmark, math_module.math_problems, math_module.math_source
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of one's own."""
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path))
    return tmp_path


def write(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("name", "split"), [(n, s) for n, b in BENCHMARKS.items() for s in b.splits])
def test_the_real_sets_are_whole(name, split, data_dir, monkeypatch, caplog):
    monkeypatch.setenv("LLMRL_DATA", str(data_dir))
    problems = open_benchmark(name, ProblemOptions(split=split, check=False))
    # OlympiadBench of the data folder has one problem more than the set on the hub.
    assert abs(len(problems) - BENCHMARKS[name].splits[split].size) <= (name == "olympiadbench")
    assert len({problems[i].id for i in range(len(problems))}) == len(problems)
    assert all(problems[i].problem and problems[i].answer for i in range(len(problems)))


@pytest.mark.parametrize("name", IDS)
def test_every_set_is_an_environment(name, data_dir, monkeypatch, grader):
    monkeypatch.setenv("LLMRL_DATA", str(data_dir))
    env = gymnasium.make(f"llmrl/{IDS[name]}-v0", verifier=grader)
    problem, info = env.reset(options={"problem_id": 7})
    assert problem == env.unwrapped.problems[7].problem
    _, reward, *_ = env.step(f"\\boxed{{{info['answer']}}}")
    assert reward == 1.0
    size = env.unwrapped.problems.size
    with pytest.raises(IndexError, match=f"problem_id must be 0 to {size - 1}"):
        env.reset(options={"problem_id": size})
    envs = gymnasium.make_vec(f"llmrl/{IDS[name]}-v0", 2, verifier=grader)
    assert envs.num_problems == size


def test_training_problems_come_first_where_there_are_some(data_dir, monkeypatch, grader):
    monkeypatch.setenv("LLMRL_DATA", str(data_dir))
    env = gymnasium.make("llmrl/GSM8K-v0", verifier=grader)
    assert env.unwrapped.problems.size == 7473
    env = gymnasium.make("llmrl/GSM8K-v0", split="test", verifier=grader)
    assert env.unwrapped.problems.size == 1319


def test_a_file_of_a_set_with_one_split_is_that_split(tmp_path):
    path = write(tmp_path / "anything.jsonl")
    assert len(open_benchmark("aime24", ProblemOptions(source=str(path), check=False))) == 60
    problems = open_benchmark("gsm8k", ProblemOptions(source=str(path), split="train", check=False))
    assert 40 < len(problems) < 60
    assert len(open_benchmark("gsm8k", ProblemOptions(source=str(path), split="all", check=False))) == 60


def test_environments_share_one_copy(folder, grader):
    write(folder / "amc23.jsonl")
    envs = gymnasium.make_vec("llmrl/AMC23-v0", 3, verifier=grader)
    first, *others = (env.problems for env in envs.envs)
    assert all(problems is first for problems in others)


def test_a_set_that_is_not_whole_is_said(folder, caplog):
    write(folder / "amc23.jsonl")
    open_benchmark("amc23", ProblemOptions(check=False))
    assert "AMC 2023 test should have 40 problems, but has 60 problems of amc23.jsonl" in caplog.text


def test_what_cannot_be_had_says_what_to_do(folder):
    with pytest.raises(HubError, match=r"put its problems into a file hmmt_feb_2025\.jsonl"):
        open_benchmark("hmmt25", ProblemOptions(check=False))


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("gsm9k", {}, LookupError, "No benchmark is called 'gsm9k'. Did you mean 'gsm8k'"),
        ("aime24", {"split": "train"}, ValueError, "AIME 2024 has test problems alone, got split"),
        (
            "gsm8k",
            {"split": "dev"},
            ValueError,
            "GSM8K has the splits train, test, got split='dev'",
        ),
        ("gsm8k", {"split": "all"}, ValueError, "'all' takes a file or folder as source"),
        ("gsm8k", {"source": "hubb"}, ValueError, "no source 'hubb'. Did you mean 'hub'"),
        ("gsm8k", {"source": "generated"}, ValueError, "GSM8K has no generated problems. Give"),
        ("gsm8k", {"source": "no/x.jsonl"}, DataError, "There is no file or folder 'no/x.jsonl'"),
        ("gsm8k", {"bad_gold": "skip"}, ValueError, "bad_gold must be keep, drop or error, got"),
    ],
)
def test_wrong_choices(name, options, error, text):
    with pytest.raises(error, match=text):
        open_benchmark(name, ProblemOptions(check=False, **options))


def test_a_data_folder_that_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("LLMRL_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"LLMRL_DATA names '.*gone', which is not a folder"):
        open_benchmark("gsm8k", ProblemOptions(check=False))


def test_gold_answers_are_checked_when_the_set_is_read(folder, monkeypatch, caplog):
    write(folder / "amc23.jsonl", [{"problem": "P", "answer": a, "id": a} for a in ("1", "\\frac{")])
    monkeypatch.setattr("llmrl.verifiers.check_gold", lambda g: "open brace" if "{" in g else None, raising=False)
    assert len(open_benchmark("amc23", ProblemOptions())) == 2
    assert r"1 of 2 gold answers cannot be parsed: \frac{: '\\frac{' (open brace)" in caplog.text
    assert len(open_benchmark("amc23", ProblemOptions(bad_gold="drop"))) == 1
    with pytest.raises(DataError, match="choose bad_gold='drop' or 'keep'"):
        open_benchmark("amc23", ProblemOptions(bad_gold="error"))


def test_math_plays_the_real_one_where_it_is(folder, grader):
    write(folder / "math_train.jsonl")
    write(folder / "math_test.jsonl", ROWS[:20])
    env = gymnasium.make("llmrl/MATH-v0", verifier=grader)
    assert env.reset(seed=0)[1]["source"] == "math_train.jsonl"
    env = gymnasium.make("llmrl/MATH-v0", split="test", levels=(2,), verifier=grader)
    assert env.unwrapped.problems.size == 4
    assert env.reset(seed=0)[1]["level"] == 2


def test_math_plays_generated_problems_otherwise_and_says_so_once(caplog, grader):
    caplog.set_level(logging.WARNING)
    for split in ("train", "test"):
        env = gymnasium.make("llmrl/MATH-v0", split=split, verifier=grader)
        assert isinstance(env.unwrapped.problems, GeneratedProblems)
        assert env.reset(seed=0)[1]["source"] == "generated"
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("llmrl/MATH-v0 plays generated problems: EleutherAI/hendrycks_math")


def test_generated_problems_are_not_asked_of_the_hub(caplog, grader):
    gymnasium.make("llmrl/MATH-v0", source="generated", verifier=grader)
    assert caplog.text == ""


def test_math_from_the_hub_or_nothing(folder, grader):
    write(folder / "math_train.jsonl")  # not this one
    with pytest.raises(HubError, match=r"put its problems into a file math_train.jsonl"):
        gymnasium.make("llmrl/MATH-v0", source="hub", verifier=grader)


def test_a_broken_file_of_math_is_an_error_and_not_generated_problems(folder, grader):
    (folder / "math_train.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"math_train.jsonl, line 1, column 2"):
        gymnasium.make("llmrl/MATH-v0", verifier=grader)


def test_a_broken_file_of_the_hub_is_an_error_too(tmp_path, monkeypatch, grader):
    (tmp_path / "a.jsonl").write_text("{")
    monkeypatch.setattr(benchmarks, "hub_files", lambda *_: [tmp_path / "a.jsonl"])
    with pytest.raises(DataError, match=r"a.jsonl, line 1, column 2"):
        gymnasium.make("llmrl/MATH-v0", verifier=grader)


def test_math_from_a_path(data_dir, grader):
    path = str(data_dir / "math_train.jsonl.gz")
    env = gymnasium.make("llmrl/MATH-v0", source=path, verifier=grader)
    assert env.unwrapped.problems.size == 7500
    held_out = gymnasium.make("llmrl/MATH-v0", source=path, split="test", verifier=grader)
    assert held_out.unwrapped.problems.size == 5000  # the file beside it
    hard = gymnasium.make("llmrl/MATH-v0", source=path, subjects=("number_theory",), levels=(5,), verifier=grader)
    _, info = hard.reset(seed=0)
    assert (info["subject"], info["level"]) == ("number_theory", 5)
