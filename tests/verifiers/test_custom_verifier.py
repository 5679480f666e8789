"""Verifiers from outside the package: by ``module:function``, by an installed package's entry point, in training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from llmrl.registry import UnknownName
from llmrl.training.command_line import parse
from llmrl.verifiers import VERIFIERS, verifier

FOLDER = Path(__file__).resolve().parents[2] / "examples"
PACKAGE = """
from llmrl.verifiers import Verdict

def loud(responses, golds):
    return [Verdict(float(text.isupper()), "correct" if text.isupper() else "wrong") for text in responses]

number = 3
"""


@pytest.fixture
def outside(monkeypatch):
    """The folder of the example on the path, and nothing left behind."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    sys.modules.pop("custom_verifier", None)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package that announces two verifiers, one of which is none."""
    (tmp_path / "loud_package.py").write_text(PACKAGE)
    about = tmp_path / "loud_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[llmrl.verifiers]\nloud = loud_package:loud\nbroken = loud_package:number\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("loud_package", None)


def test_the_example_says_what_its_scores_are(outside):
    grade = verifier("custom_verifier:nearness")
    verdicts = grade([r"\boxed{12}", r"\boxed{-1}", "#### x", "", "9" * 5000], ["12", "1", "1", "1", "1"])
    assert [v.score for v in verdicts] == pytest.approx([1, 1 / 3, 0, 0, 0])
    assert [v.status for v in verdicts] == ["correct", "wrong", "wrong", "no_answer", "wrong"]
    assert grade(["1"], ["one"])[0].status == "unparsable_gold"


def test_the_example_runs_by_itself(tmp_path):
    shown = subprocess.run(
        [sys.executable, str(FOLDER / "custom_verifier.py")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert [line.split()[:2] for line in shown.splitlines()] == [
        ["1.00", "correct"],
        ["0.50", "wrong"],
        ["0.00", "wrong"],
        ["0.00", "no_answer"],
    ]


def test_an_installed_package_adds_a_name(installed):
    assert "loud" in VERIFIERS
    assert [v.score for v in verifier("loud")(["YES", "no"], ["", ""])] == [1.0, 0.0]
    with pytest.raises(UnknownName, match="Did you mean 'loud'"):
        verifier("lout")


def test_an_entry_point_that_is_no_verifier_is_refused(installed):
    with pytest.raises(UnknownName, match=r"'broken' is of type int, no verifier\. Name a function"):
        verifier("broken")


@pytest.mark.parametrize("env_id", ["llmrl/MATH-v0", "llmrl/MathRetry-v0", "llmrl/MathTool-v0"])
def test_environments_take_either(outside, installed, env_id):
    for name, response, verdict in (
        ("custom_verifier:nearness", r"\boxed{\text{none}}", ("wrong", "unparsable_gold")),
        ("loud", "NONE", ("correct",)),
    ):
        env = gymnasium.make(env_id, source="generated", verifier=name)
        env.reset(seed=0)
        assert env.step(response)[-1]["verdict"] in verdict


def test_the_command_line_of_training_takes_either(outside, installed):
    for name in ("custom_verifier:nearness", "loud", "math_verify"):
        config = parse(["--env.source", "generated", "--env.verifier", name])
        assert config.env.verifier == name
        assert config.origins["env.verifier"] == "command line"


def test_a_training_step_is_graded_by_it(outside, tmp_path):
    from llmrl.training.session import train

    train(
        parse(
            [
                "--algo",
                "grpo",
                "--env.source",
                "generated",
                "--env.verifier",
                "custom_verifier:nearness",
                "--env.subjects",
                "prealgebra",
                "--env.levels",
                "1",
                "--train.steps",
                "1",
                "--train.prompts-per-step",
                "2",
                "--train.group-size",
                "2",
                "--train.updates-per-step",
                "1",
                "--eval.problems",
                "0",
                "--policy.max-response-length",
                "8",
                "--output",
                str(tmp_path / "run"),
            ]
        )
    )
    rows = (tmp_path / "run" / "rollouts" / "step_000001.jsonl").read_text()
    assert '"verdict"' in rows


def test_a_verifier_that_is_not_there_ends_training_with_a_hint(capsys, tmp_path):
    from command import train

    arguments = [
        "--env.source",
        "generated",
        "--env.verifier",
        "mathe",
        "--output",
        str(tmp_path / "run"),
    ]
    assert train(arguments) == 2
    assert "Did you mean 'math'?" in " ".join(capsys.readouterr().err.split())
