"""Episodes of several turns: the calculator answers, the retry hears its verdict."""

from __future__ import annotations

import gymnasium
import pytest


@pytest.fixture
def tool(grader):
    return gymnasium.make("llmrl/MathTool-v0", source="generated", verifier=grader, calls=2, call_cost=0.1)


@pytest.fixture
def retry(grader):
    return gymnasium.make("llmrl/MathRetry-v0", source="generated", verifier=grader, attempts=3, decay=0.5)


def right(info):
    return f"\\boxed{{{info['answer']}}}"


def test_the_calculator_answers(tool, grader):
    problem, info = tool.reset(seed=0)
    assert "<calc>expression</calc>" in problem
    reply, reward, terminated, truncated, after = tool.step("First <calc>12*(3+4)</calc>\n")
    assert (reply, reward, terminated, truncated) == ("<result>84</result>", -0.1, False, False)
    assert (after["verdict"], after["valid"]) == ("", True)
    reply, reward, *_ = tool.step("<calc>1/0</calc>")
    assert reply == "<result>error: division by zero</result>"
    assert grader.calls == []
    reply, reward, terminated, _, after = tool.step(right(info))
    assert (reply, reward, terminated) == ("", 1.0, True)
    assert after["reward_parts"] == {"answer": 1.0, "calls": 0.0}


def test_too_many_calls_are_graded_as_an_answer(tool):
    tool.reset(seed=0)
    tool.step("<calc>1</calc>")
    tool.step("<calc>2</calc>")
    _, reward, terminated, _, info = tool.step("<calc>3</calc>")
    assert (reward, terminated, info["verdict"]) == (0.0, True, "no_answer")


def test_a_call_counts_only_at_the_end_of_a_turn(tool):
    _, info = tool.reset(seed=0)
    _, reward, terminated, *_ = tool.step(f"I could <calc>1+1</calc> but {right(info)}")
    assert (reward, terminated) == (1.0, True)


def test_retry_hears_what_was_wrong(retry):
    _, info = retry.reset(seed=0)
    reply, reward, terminated, *_ = retry.step("no idea")
    assert (reward, terminated) == (0.0, False)
    assert reply == "I found no final answer. Put it into \\boxed{}. Try again. 2 attempts left."
    reply, _, terminated, _, after = retry.step("\\boxed{?}")
    assert reply == "That is not right. Try again. 1 attempt left."
    assert (terminated, after["verdict"]) == (False, "wrong")
    reply, reward, terminated, *_ = retry.step(right(info))
    assert (reply, reward, terminated) == ("", 0.25, True)


def test_retry_ends_when_right_or_spent_or_without_verdict(retry):
    _, info = retry.reset(seed=0)
    assert retry.step(right(info))[1:3] == (1.0, True)
    retry.reset(seed=0)
    assert [retry.step("\\boxed{?}")[2] for _ in range(3)] == [False, False, True]
    retry.reset(seed=0)
    _, _, terminated, _, info = retry.step("hang")
    assert (terminated, info["valid"]) == (True, False)


def test_several_turns_are_rendered(grader):
    env = gymnasium.make("llmrl/MathRetry-v0", source="generated", verifier=grader, render_mode="ansi")
    env.reset(seed=0)
    env.step("\\boxed{?}")
    env.step("\\boxed{!}")
    shown = env.render()
    assert shown.index("Response 1") < shown.index("Reply") < shown.index("Response 2")
    assert "'?'" in shown
    assert "'!'" in shown


@pytest.mark.parametrize(
    ("env_id", "options", "text"),
    [
        ("llmrl/MathTool-v0", {"calls": 0}, "calls must be 1 or more, got 0"),
        ("llmrl/MathRetry-v0", {"attempts": 0}, "attempts must be 1 or more, got 0"),
        ("llmrl/MathRetry-v0", {"decay": 2.0}, "decay must be from 0 to 1, got 2"),
    ],
)
def test_wrong_options(env_id, options, text, grader):
    with pytest.raises(ValueError, match=text):
        gymnasium.make(env_id, source="generated", verifier=grader, **options)
