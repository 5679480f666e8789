"""Environments and verifiers that hang do not stop training for ever: groups are lost, then a sentence ends it."""

import hanging  # noqa: F401  registers tests/Hanging-v0
import pytest
from command import train
from trivial import SMALL

from llmrl.training.metrics_file import read_metrics

FEW = ("--eval.problems", "0", "--train.group-size", "2", "--train.prompts-per-step", "2", "--train.steps", "3")


def arguments(tiny, output, name, *more):
    limit = ("--train.env-timeout", "0.2", "--output", str(output))
    return ["--policy", str(tiny), "--env", f"tests/{name}-v0", *SMALL, *FEW, *limit, *more]


def test_a_problem_that_hangs_costs_its_group(tiny, tmp_path):
    assert train(arguments(tiny, tmp_path / "run", "Hanging", "--env.once")) == 0
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) == 3
    faults = "".join(path.read_text() for path in (tmp_path / "run" / "faults").glob("*.jsonl"))
    assert rows[-1]["groups/lost"] == faults.count('"group"') / 2


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [
        ("Hanging", ["--env.where", "step"], "step of tests/Hanging-v0 did not return within 0.2 s"),
        ("Hanging", ["--env.where", "reset"], "reset of tests/Hanging-v0 did not return within 0.2 s"),
        ("Ungraded", [], "did not return within"),
    ],
)
def test_one_that_always_hangs_is_named_before_the_first_step(tiny, tmp_path, capsys, name, where, words):
    assert train(arguments(tiny, tmp_path / "run", name, *where)) == 2
    assert words in capsys.readouterr().err
