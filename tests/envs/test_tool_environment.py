"""The example of several turns with a tool, as docs/tutorials/tool.md goes through it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

from llmrl.rollouts.environments import Environments
from llmrl.testing import check_environment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield __import__("tool_environment")
    gymnasium.registry.pop("mine/Shop-v0", None)
    sys.modules.pop("tool_environment", None)


def test_the_tool_answers_until_the_model_does(module):
    env = gymnasium.make("mine/Shop-v0", call_cost=0.25)
    check_env(env.unwrapped, skip_render_check=True)
    observation, info = env.reset(options={"problem_id": 0})
    assert "<price>NAME</price>" in observation
    names = re.findall(r"\d+ (\w+)", observation)
    total = 0
    for count, name in re.findall(r"(\d+) (\w+)", observation.partition("?")[0]):
        reply, reward, terminated, _, _ = env.step(f"I need it. <price>{name}</price>")
        assert (reward, terminated) == (-0.25, False)
        total += int(count) * int(re.search(r"costs (\d+)", reply)[1])
    assert names
    assert env.step("<price>gold</price>")[0] == "There is no gold."
    _, reward, terminated, _, info = env.step(f"\\boxed{{{total}}}")
    assert (reward, terminated, info["verdict"]) == (1.0, True, "correct")


def test_one_call_too_many_is_graded(module):
    env = gymnasium.make("mine/Shop-v0", calls=1)
    env.reset(seed=0)
    assert not env.step("<price>eggs</price>")[2]
    _, reward, terminated, _, info = env.step("<price>eggs</price>")
    assert (reward, terminated) == (0.0, True)
    assert info["verdict"] in ("no_answer", "wrong")


def test_the_page_shows_the_code_that_runs():
    page = (EXAMPLES.parent / "docs" / "tutorials" / "tool.md").read_text()
    code = (EXAMPLES / "tool_environment.py").read_text()
    pieces = re.findall(r"```python\n# tool_environment\.py(?:, continued)?\n(.*?)```", page, re.DOTALL)
    assert pieces
    for piece in pieces:
        assert piece.strip() in code


def test_it_passes_its_checks(module):
    check_environment("tool_environment:mine/Shop-v0", except_for=("vector",))


def test_the_start_report_shows_no_address(module):
    environments = Environments("mine/Shop-v0", {})
    assert str(environments) == environments.title == "mine/Shop-v0 (shop)"
