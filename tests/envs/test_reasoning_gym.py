"""reasoning-gym as a source: its generators, our grading, train and test apart."""

from __future__ import annotations

import inspect
import re
import sys

import gymnasium
import pytest

from llmrl.envs import _ENTRIES as ENVIRONMENTS
from llmrl.errors import ConfigError
from llmrl.registry import load_object
from llmrl.verifiers import verifier

MISSING = "the package reasoning-gym is not installed"


def test_without_the_package_the_error_says_what_to_install(monkeypatch, grader):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ImportError, match=r"pip install 'llmrl\[reasoning-gym\]'"):
        gymnasium.make("llmrl/ReasoningGym-v0", verifier=grader)


def test_episodes(grader):
    pytest.importorskip("reasoning_gym", reason=MISSING)
    env = gymnasium.make("llmrl/ReasoningGym-v0", task="leg_counting", verifier=grader)
    problem, info = env.reset(options={"problem_id": 3})
    assert (info["subject"], info["source"]) == ("leg_counting", "reasoning-gym")
    assert problem == env.reset(options={"problem_id": 3})[0]
    assert env.step(f"\\boxed{{{info['answer']}}}")[1] == 1.0
    assert grader.calls == [1]


def test_train_and_test_share_nothing(grader):
    pytest.importorskip("reasoning_gym", reason=MISSING)
    from llmrl.envs.reasoning_gym import ReasoningGymProblems

    train, test = (ReasoningGymProblems("basic_arithmetic", split) for split in ("train", "test"))
    first = {train[i].problem for i in range(100)}
    assert len(first) > 95
    assert not first & {test[i].problem for i in range(30)}
    assert train[7] == ReasoningGymProblems("basic_arithmetic", "train")[7]


def test_problem_i_is_the_same_in_any_order_and_seeds_differ():
    pytest.importorskip("reasoning_gym", reason=MISSING)
    from llmrl.envs.reasoning_gym import ReasoningGymProblems

    first, again, other = (ReasoningGymProblems("basic_arithmetic", seed=s) for s in (0, 0, 1))
    problems = [first[i] for i in range(90)]
    assert problems == [again[i] for i in reversed(range(90))][::-1]
    assert not {p.problem for p in problems} & {other[i].problem for i in range(90)}


def test_the_tasks_own_settings(grader):
    pytest.importorskip("reasoning_gym", reason=MISSING)
    config = '{"min_animals": 1, "max_animals": 1}'
    env = gymnasium.make("llmrl/ReasoningGym-v0", config=config, verifier=grader)
    problem, _ = env.reset(seed=0)
    assert "," not in problem.partition("you have")[2].partition("?")[0]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"task": "leg_countin"},
            LookupError,
            "'leg_countin'. Did you mean 'leg_counting'",
        ),
        ({"task": "graph_color"}, ValueError, "'graph_color' have no single right answer"),
        ({"split": "tests"}, ValueError, "There is no split 'tests'. Did you mean 'test'"),
        ({"config": '{"a": 3'}, ValueError, "config must be JSON such as .*, got '{\"a\": 3'"),
        ({"config": "[1]"}, ValueError, r"config must hold settings by name, .*, got '\[1\]'"),
        ({"config": '{"min_animal": 3}'}, ValueError, "no setting 'min_animal'. Did you mean 'min_animals'"),
        ({"config": '{"min_animals": "x"}'}, ValueError, "'leg_counting' refuses the settings {'min_animals': 'x'} in"),
    ],
)
def test_wrong_options(options, error, text, grader):
    pytest.importorskip("reasoning_gym", reason=MISSING)
    with pytest.raises(error, match=text):
        gymnasium.make("llmrl/ReasoningGym-v0", verifier=grader, **options)


def test_the_verifiers_that_an_environment_explains_exist():
    """Names between backquotes in the explanation of the option, which ``--help`` shows."""
    for env_id in ENVIRONMENTS:
        made_by = load_object(gymnasium.spec(env_id).entry_point)
        texts = [inspect.getdoc(made_by) or "", inspect.getdoc(made_by.__init__) or ""]
        for explained in re.findall(r"^ +verifier: (.*(?:\n {8,}.*)*)", "\n".join(texts), re.MULTILINE):
            for name in set(re.findall(r"``(\S+?)``", explained)) - {"module:function"}:
                verifier(name)


def test_a_task_without_problems_of_a_split_is_refused_at_once(monkeypatch):
    pytest.importorskip("reasoning_gym", reason=MISSING)
    from llmrl.envs import reasoning_gym

    monkeypatch.setattr(reasoning_gym, "split_of", lambda text: "test")
    with pytest.raises(
        ConfigError, match="'leg_counting' has too few problems: none of them belongs to the split train"
    ):
        reasoning_gym.ReasoningGymProblems("leg_counting", "train")
