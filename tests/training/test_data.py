"""The digest of what a run asks."""

import json

import pytest

from llmrl.rollouts.environments import Environments
from llmrl.training.data import Data


def rows(*pairs):
    return "".join(json.dumps({"question": q, "hint": h, "answer": a}) + "\n" for q, h, a in pairs)


@pytest.mark.parametrize(
    ("change", "options"),
    {
        "nothing": (rows(("1+1", "x", "2"), ("2+2", "x", "4")), {}),
        "a problem": (rows(("1+2", "x", "3"), ("2+2", "x", "4")), {}),
        "an answer": (rows(("1+1", "x", "2"), ("2+2", "x", "5")), {}),
        "one row more": (rows(("1+1", "x", "2"), ("2+2", "x", "4"), ("3+3", "x", "6")), {}),
        "the order": (rows(("2+2", "x", "4"), ("1+1", "x", "2")), {}),
        "another column": (None, {"problem_column": "hint"}),
    }.values(),
)
def test_what_is_asked_has_a_digest(change, options, tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text(before := rows(("1+1", "x", "2"), ("2+2", "x", "4")))

    def digest(**options):
        return Data.of(Environments("llmrl/Data-v0", {"source": str(file), "test_share": 0.0, **options})).digest

    first = digest()
    file.write_text(before if change is None else change)
    assert (digest(**options) == first) is (change == before)


def test_rows_in_memory_have_a_digest_and_generated_problems_have_none():
    one, other = ([{"problem": f"{n}+1", "answer": str(n + 1)} for n in range(k, k + 5)] for k in (0, 1))
    digests = {Data.of(Environments("llmrl/Data-v0", {"source": source})).digest for source in (one, other, one)}
    assert len(digests) == 2
    assert Data.of(Environments("llmrl/MATH-v0", {"source": "generated"})).digest is None


def test_hidden_files_have_no_part_in_the_digest(tmp_path):
    (tmp_path / "data.jsonl").write_text(rows(("1+1", "x", "2")))

    def digest():
        return Data.of(Environments("llmrl/Data-v0", {"source": str(tmp_path)})).digest

    first = digest()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "data-checkpoint.jsonl").write_text(rows(("1+1", "x", "3")))
    assert digest() == first
    (tmp_path / "notes.txt").write_text("new")
    assert digest() != first
