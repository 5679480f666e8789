"""Environments and verifiers from a file outside the package: the example does what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def outside(monkeypatch):
    """The folder of the example on the path, and nothing left behind."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    sys.modules.pop("custom_environment", None)
    gymnasium.registry.pop("mine/Sorting-v0", None)


def test_module_and_id_reach_it(outside):
    env = gymnasium.make("custom_environment:mine/Sorting-v0", length=3)
    problem, info = env.reset(seed=0)
    assert problem.startswith("Sort in ascending order: ")
    assert env.step(f"Hm.\n{info['answer']}")[1] == 1.0
    env.reset(seed=0)
    assert env.step("3 2 1")[-1]["verdict"] == "wrong"
    envs = gymnasium.make_vec("mine/Sorting-v0", 3)
    _, info = envs.reset(seed=0)
    assert envs.step(list(info["answer"]))[1].tolist() == [1.0, 1.0, 1.0]


def test_its_verifier_grades_other_environments(outside):
    env = gymnasium.make(
        "llmrl/MATH-v0",
        source="generated",
        verifier="custom_environment:same_numbers_in_order",
    )
    env.reset(seed=0)
    assert env.step("none")[-1]["verdict"] == "no_answer"


def test_the_file_runs_by_itself(tmp_path):
    shown = subprocess.run(
        [sys.executable, str(FOLDER / "custom_environment.py")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert shown.count("Problem ") == 3
    assert shown.count("correct: ") == 2
