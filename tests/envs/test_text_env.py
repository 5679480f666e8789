"""One text environment: Gymnasium's contract, its options and infos, its errors, its rendering."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import llmrl
from llmrl.envs.spaces import FreeText
from llmrl.verifiers.verdict import Verdict

ENV = "llmrl/MATH-v0"
KEYS = {
    **{"problem_id": int, "subject": str, "level": int, "source": str, "answer": str},
    **{"extracted": str, "verdict": str, "valid": bool, "detail": str, "reward_parts": dict},
}


@pytest.fixture
def env(grader):
    return gymnasium.make(ENV, source="generated", verifier=grader)


@pytest.mark.parametrize("text", ["", "a b", "π ≤ Σ é 数", "$\\frac{1}{2}$\n", "x" * 9999])
def test_free_text_contains_any_text(text):
    assert text in FreeText()


def test_free_text_refuses_what_is_no_text_or_too_long():
    assert 3 not in FreeText()
    assert "four" not in FreeText(3)
    assert "for" in FreeText(3)


def test_free_text_samples_are_seeded_short_and_its_own():
    space = FreeText(seed=3)
    first = [space.sample() for _ in range(50)]
    space.seed(3)
    assert first == [space.sample() for _ in range(50)]
    assert all(text in space and len(text) <= 64 for text in first)
    assert len(set(first)) > 40
    assert space == FreeText() != FreeText(5)
    assert space.sample(mask=(7, None)) in FreeText(7)


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        (ENV, {"source": "generated"}),
        ("llmrl/MathTool-v0", {"source": "generated"}),
        ("llmrl/MathRetry-v0", {"source": "generated"}),
        ("llmrl/Countdown-v0", {}),
    ],
)
@pytest.mark.parametrize("render_mode", [None, "ansi", "human"])
def test_check_env_passes_without_warnings(env_id, options, render_mode, grader, capsys):
    if "Countdown" not in env_id:
        options = {**options, "verifier": grader}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, render_mode=render_mode, **options).unwrapped)


def test_an_episode(env, grader):
    problem, info = env.reset(options={"problem_id": 5})
    assert problem == env.unwrapped.problems[5].problem
    assert info["problem_id"] == 5
    assert {key: type(value) for key, value in info.items()} == {
        key: kind for key, kind in KEYS.items() if key in list(KEYS)[:5]
    }
    reply, reward, terminated, truncated, after = env.step(f"So \\boxed{{{info['answer']}}}")
    assert (reply, reward, terminated, truncated) == ("", 1.0, True, False)
    assert {key: type(value) for key, value in after.items()} == KEYS
    assert after["verdict"] == "correct"
    assert after["extracted"] == info["answer"]
    assert after["reward_parts"] == {"answer": 1.0}
    assert grader.calls == [1]


@pytest.mark.parametrize(
    ("response", "verdict", "valid"),
    [("\\boxed{no}", "wrong", True), ("...", "no_answer", True), ("hang", "timeout", False)],
)
def test_a_response_that_is_not_right(env, response, verdict, valid):
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(response)
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert (info["verdict"], info["valid"]) == (verdict, valid)
    assert bool(info["detail"]) is not valid


def test_the_seed_chooses_the_problem(env):
    ids = [env.reset(seed=seed)[1]["problem_id"] for seed in range(30)]
    assert ids == [env.reset(seed=seed)[1]["problem_id"] for seed in range(30)]
    assert len(set(ids)) > 25
    env.reset(seed=0)
    assert len({env.reset()[1]["problem_id"] for _ in range(30)}) > 25


def test_infos_are_not_shared(env):
    env.reset(seed=0)
    *_, info = env.step("x")
    info["reward_parts"]["answer"] = 7.0
    info["verdict"] = "correct"
    assert env.unwrapped._info["verdict"] == "no_answer"
    assert env.unwrapped._info["reward_parts"] == {"answer": 0.0}


def test_a_verdict_given_ahead_is_used_once(grader):
    env = gymnasium.make("llmrl/MathRetry-v0", source="generated", verifier=grader).unwrapped
    env.reset(seed=0)
    env.grade_ahead("x", Verdict(0.0, "wrong"))
    assert env.step("x")[-1]["verdict"] == "wrong"
    assert grader.calls == []
    assert env.step("x")[-1]["verdict"] == "no_answer"
    env.grade_ahead("y", Verdict(1.0, "correct"))
    assert env.step("z")[-1]["verdict"] == "no_answer"  # it was about another response
    env.reset(seed=0)
    assert env.step("y")[-1]["verdict"] == "no_answer"  # and about another episode


@pytest.mark.parametrize("given", [3, np.int64(3), np.array(3)])
def test_problem_id_may_be_any_integer(env, given):
    assert env.reset(options={"problem_id": given})[1]["problem_id"] == 3


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"problem": 1}, ValueError, "unknown option 'problem'. Did you mean 'problem_id'?"),
        ({"problem_id": "3"}, TypeError, "problem_id must be an integer, got '3'"),
        ({"problem_id": -1}, IndexError, "There is no problem -1: problem_id must be 0 or more"),
    ],
)
def test_wrong_reset_options(env, options, error, text):
    with pytest.raises(error, match=text.replace("?", r"\?")):
        env.reset(options=options)


def test_stepping_at_the_wrong_time(grader):
    env = gymnasium.make(ENV, source="generated", verifier=grader).unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"Call reset\(\) before step\(\)"):
        env.step("x")
    env.reset()
    env.step("x")
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"The episode is over. Call reset\(\)"):
        env.step("x")


def test_an_action_that_is_no_text(env):
    env.reset()
    with pytest.raises(TypeError, match="An action is the response as a str, got int: 3"):
        env.unwrapped.step(3)


def test_a_wrong_render_mode(grader):
    from llmrl.envs.math import MathEnv

    with pytest.raises(ValueError, match="render_mode must be 'human', 'ansi' or None"):
        MathEnv(source="generated", verifier=grader, render_mode="rgb")


def test_ansi_rendering(grader, capsys):
    env = gymnasium.make(ENV, source="generated", verifier=grader, render_mode="ansi")
    problem, info = env.reset(options={"problem_id": 0})
    shown = env.render()
    assert shown.startswith(f"Problem 0 | {info['subject']} | level {info['level']} | generated\n")
    assert f"  {problem}" in shown
    env.step("I say\n\\boxed{17x}")
    assert "Response 1\n  I say\n  \\boxed{17x}\nwrong: extracted '17x'" in env.render()
    env.reset(options={"problem_id": 1})
    assert "Problem 1" in env.render()
    assert "Problem 0" not in env.render()
    assert capsys.readouterr().out == ""


def test_human_rendering_prints_once(grader, capsys):
    env = gymnasium.make(ENV, source="generated", verifier=grader, render_mode="human")
    problem, _ = env.reset(seed=1)
    assert capsys.readouterr().out.count(problem) == 1
    env.step("\\boxed{17x}")
    out = capsys.readouterr().out
    assert "wrong: extracted '17x'" in out
    assert problem not in out
    assert env.render() is None


def test_gymnasium_wrappers(env):
    wrapped = RecordEpisodeStatistics(TimeLimit(env, 3))
    _, info = wrapped.reset(seed=0)
    *_, info = wrapped.step(f"\\boxed{{{info['answer']}}}")
    assert (info["episode"]["r"], info["episode"]["l"]) == (1.0, 1)


def test_gym_make_imports_the_package_by_itself(grader):
    env = gymnasium.make(f"llmrl:{ENV}", source="generated", verifier=grader)
    assert env.spec.id == ENV


def test_every_id_is_registered_once():
    ids = {name for name in gymnasium.registry if name.startswith("llmrl/")}
    assert ids == {
        f"llmrl/{name}-v0"
        for name in (
            *("MATH", "MATH500", "GSM8K", "AIME24", "AIME25", "AMC23", "Minerva", "OlympiadBench"),
            *("HMMT25", "Data", "Countdown", "MathRetry", "MathTool", "ReasoningGym"),
            *("NanoCarry", "NanoCountdown", "NanoGuess"),
        )
    }
    llmrl.envs._register()  # a second time changes nothing, and does not warn


def test_torchrl_plays_it(grader):
    torchrl_envs = pytest.importorskip("torchrl.envs")
    from tensordict.nn import TensorDictModule

    env = torchrl_envs.GymWrapper(gymnasium.make("llmrl/MathRetry-v0", source="generated", verifier=grader))
    torchrl_envs.check_env_specs(env)
    policy = TensorDictModule(lambda _: "\\boxed{?}", in_keys=["observation"], out_keys=["action"])
    data = env.rollout(10, policy)
    assert data.batch_size == (3,)  # three attempts
    assert data["next", "reward"].flatten().tolist() == [0.0, 0.0, 0.0]
    assert data["next", "terminated"].flatten().tolist() == [False, False, True]
