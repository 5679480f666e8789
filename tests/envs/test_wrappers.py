"""Reward wrappers: the reward is the sum of its parts, and each part is what it says."""

from __future__ import annotations

import copy

import gymnasium
import pytest

from llmrl.envs.wrappers import (
    FormatReward,
    FunctionReward,
    LengthReward,
    OverlongReward,
    PartNameTaken,
    RewardPart,
    VerifierReward,
)
from llmrl.verifiers.function import FunctionVerifier
from llmrl.verifiers.verdict import Verdict


@pytest.fixture
def env(grader):
    return gymnasium.make("llmrl/MATH-v0", source="generated", verifier=grader)


def play(env, response):
    """Reward and parts; ANSWER in the response stands for the right answer in its box."""
    _, info = env.reset(seed=0)
    response = response.replace("ANSWER", f"\\boxed{{{info['answer']}}}")
    _, reward, *_, info = env.step(response)
    assert reward == pytest.approx(sum(info["reward_parts"].values()))
    return reward, info["reward_parts"]


@pytest.mark.parametrize(
    ("response", "format_part"),
    [("ANSWER", 0.2), ("\\boxed{?}", 0.2), ("\\boxed{}", 0.0), ("nothing", 0.0)],
)
def test_format(env, response, format_part):
    assert play(FormatReward(env, weight=0.2), response)[1]["format"] == format_part


def test_an_empty_box_has_no_format(env):
    assert [play(FormatReward(env), text)[1]["format"] for text in (r"\boxed{ }", r"\boxed{ x}")] == [0.0, 0.1]


def test_format_patterns_run_over_lines(env):
    wrapped = FormatReward(env, r"<think>.*</think>.*\\boxed\{")
    assert play(wrapped, "<think>\na\n</think>\nANSWER")[1] == {"answer": 1.0, "format": 0.1}
    assert play(wrapped, "a</think>\nANSWER")[1] == {"answer": 1.0, "format": 0.0}
    with pytest.raises(ValueError, match=r"pattern '\(' is not a regular expression"):
        FormatReward(env, "(")


@pytest.mark.parametrize(("length", "penalty"), [(0, 0), (80, 0), (81, -0.05), (90, -0.5), (100, -1), (500, -1)])
def test_soft_overlong(env, length, penalty):
    part = play(OverlongReward(env, limit=100, window=20), "x" * length)[1]["overlong"]
    assert part == pytest.approx(penalty)


def test_soft_overlong_counts_as_it_is_told(env):
    wrapped = OverlongReward(env, 4, 2, length=lambda text: len(text.split()), weight=0.5)
    assert play(wrapped, "one two three")[1]["overlong"] == -0.25
    with pytest.raises(ValueError, match="window must be from 1 to limit = 4, got 5"):
        OverlongReward(env, 4, 5)


def test_length(env):
    assert play(LengthReward(env, 10), "x" * 5)[1]["length"] == pytest.approx(-0.05)
    assert play(LengthReward(env, 10), "x" * 50)[1]["length"] == pytest.approx(-0.1)
    only = LengthReward(env, 10, only_correct=True, name="brevity")
    assert play(only, "x" * 50)[1]["brevity"] == 0
    assert play(only, "so ANSWER")[1]["brevity"] < 0
    with pytest.raises(ValueError, match="scale must be 1 or more, got 0"):
        LengthReward(env, 0)


def test_another_verifier(env):
    def polite(responses, golds):
        return [Verdict(1.0, "timeout") if r == "hang" else Verdict(float("please" in r), "correct") for r in responses]

    wrapped = VerifierReward(env, polite, weight=0.3, name="polite")
    assert play(wrapped, "please ANSWER") == (1.3, {"answer": 1.0, "polite": 0.3})
    assert play(wrapped, "hang")[1]["polite"] == 0.0  # no verdict, no opinion


def test_parts_add_up(env):
    wrapped = LengthReward(OverlongReward(FormatReward(env), 10, 5), 100)
    assert play(wrapped, "x" * 50)[1] == {
        **{"answer": 0.0, "format": 0.0, "overlong": -1.0},
        "length": pytest.approx(-0.05),
    }


def test_two_parts_of_one_name(env):
    with pytest.raises(PartNameTaken, match="Two parts of the reward are called 'format'"):
        FormatReward(LengthReward(FormatReward(env), 10))
    with pytest.raises(PartNameTaken, match="'answer' is the environment's own part"):
        FormatReward(env, name="answer")


def test_a_part_that_the_environment_names_itself():
    class Scored(gymnasium.Env):
        def step(self, action):
            return "", 1.0, True, False, {"reward_parts": {"format": 1.0}}

    with pytest.raises(PartNameTaken, match="The environment's reward has a part 'format' already"):
        FormatReward(Scored()).step("x")


def test_a_function_is_given_the_prompt(env):
    class Asks(gymnasium.Env):
        question = "What is 1 + 1?"

        def reset(self, *, seed=None, options=None):
            return self.question, {}

        def step(self, action):
            return "And then?", 0.0, False, False, {"answer": "2"}

    given = []
    asking = FunctionReward(Asks(), lambda *texts: given.append(texts) or 0.5)
    asking.reset()
    assert [asking.step(text)[1] for text in ("a", "b")] == [0.5, 0.5]
    assert given == [("What is 1 + 1?", "a", "2"), ("What is 1 + 1?", "b", "2")]
    copied = copy.deepcopy(asking)  # as a run does with an environment that is given as an object
    copied.unwrapped.question = "What is 2 + 2?"
    copied.reset()
    copied.step("c")
    assert given[-1] == ("What is 2 + 2?", "c", "2")
    graded = VerifierReward(Asks(), FunctionVerifier(lambda *texts: given.append(texts) or 1.0))
    graded.reset()
    assert graded.step("d")[1] == 1.0
    assert given[-1] == ("What is 1 + 1?", "d", "2")
    tool = FunctionReward(
        gymnasium.make("llmrl/MathTool-v0", source="generated"), lambda *texts: given.append(texts) or 0
    )
    observation, _ = tool.reset(seed=0)
    tool.step("none")
    assert given[-1][0] == tool.unwrapped.problem.problem != observation  # without the instruction of the tool


def test_a_part_of_ones_own_around_an_environment_from_elsewhere():
    class Echo(gymnasium.Env):
        def reset(self, *, seed=None, options=None):
            return "say", {}

        def step(self, action):
            return "", 0.5, True, False, {}

    env = RewardPart(Echo(), "vowels", lambda text, _: sum(c in "aeiou" for c in text), weight=2)
    env.reset()
    assert env.step("banana")[1:] == (
        *(6.5, True, False),
        {"reward_parts": {"answer": 0.5, "vowels": 6.0}},
    )
    with pytest.raises(KeyError, match="Echo gives no 'answer' in info"):
        VerifierReward(Echo(), lambda r, g: []).step("x")
