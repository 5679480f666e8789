"""Countdown: every problem has its solution, and nothing else passes for one."""

from __future__ import annotations

import re

import gymnasium
import pytest

from llmrl.envs.arithmetic import evaluate
from llmrl.envs.countdown import CountdownProblems, check_countdown
from llmrl.errors import ConfigError


def verdict(response, gold="7*(8-5)"):
    return check_countdown([response], [gold])[0]


@pytest.mark.parametrize("numbers", [2, 3, 4, 6])
def test_problems_are_solved_by_their_answer(numbers):
    problems = CountdownProblems(numbers=numbers)
    for i in range(100):
        problem = problems[i]
        given, target = re.search(r"numbers ([\d, ]+), each .* make (\d+)\.", problem.problem).groups()
        result = evaluate(problem.answer)
        assert result.value == int(target) <= 999
        assert sorted(result.numbers) == sorted(map(int, given.split(",")))
        assert verdict(problem.solution, problem.answer).status == "correct"
        assert int(target) not in [int(n) for n in given.split(",")]
        assert problem == problems[i]


def test_train_and_test_share_nothing_not_even_in_another_order():
    some, others = CountdownProblems("train", numbers=2), CountdownProblems("test", numbers=2)

    def numbers_and_target(problem):
        *numbers, target = map(int, re.findall(r"\d+", problem.problem))
        return tuple(sorted(numbers)), target

    train = {numbers_and_target(some[i]) for i in range(800)}
    test = {numbers_and_target(others[i]) for i in range(300)}
    assert not train & test


@pytest.mark.parametrize(
    "response",
    [
        "\\boxed{(8-5)*7}",
        "\\boxed{7 \\times (8 - 5) = 21}",
        "\\boxed{1} no, \\boxed{\\left(8-5\\right)\\cdot 7}",
        "<answer>7*(8-5)</answer>",
    ],
)
def test_right_answers(response):
    assert (verdict(response).status, verdict(response).score) == ("correct", 1.0)


@pytest.mark.parametrize("power", ["3^2*1", "3**2*1", "3^{2}*1"])
def test_operators_that_the_problem_does_not_name_are_wrong(power):
    assert verdict(f"\\boxed{{{power}}}", "3*(2+1)").status == "wrong"
    assert verdict(r"\boxed{\frac{6}{2}+1}", "6-2*1").status == "correct"


@pytest.mark.parametrize(
    ("response", "status"),
    [
        ("7*(8-5)", "no_answer"),
        ("\\boxed{}", "no_answer"),
        ("\\boxed{21}", "wrong"),  # the target alone
        ("\\boxed{7*8-5*7}", "wrong"),  # a number twice
        ("\\boxed{7+8-5+11}", "wrong"),  # a number that was not given
        ("\\boxed{8+7+5}", "wrong"),  # another value
        ("\\boxed{(8-5)*7=22}", "wrong"),  # a false chain
        ("\\boxed{78-5*7}", "wrong"),  # digits joined
        ("\\boxed{__import__('os')}", "wrong"),
        ("\\boxed{7*(8-5)} or rather \\boxed{7}", "wrong"),  # the last box counts
    ],
)
def test_other_answers(response, status):
    assert (verdict(response).status, verdict(response).score) == (status, 0.0)


def test_a_gold_answer_that_is_no_expression():
    assert verdict("\\boxed{1}", "x+1").status == "unparsable_gold"
    assert not verdict("\\boxed{1}", "x+1").valid


def test_an_episode():
    env = gymnasium.make("llmrl/Countdown-v0", numbers=3)
    _, info = env.reset(seed=0)
    assert (info["subject"], info["level"], info["source"]) == ("countdown", 1, "generated")
    assert env.step(f"\\boxed{{{info['answer']}}}")[1] == 1.0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"split": "dev"}, "There is no split 'dev'"),
        ({"numbers": 1}, "numbers must be from 2 to 8, got 1"),
        ({"largest": 3}, "largest and target must be 10 or more, got 3"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(ValueError, match=text):
        CountdownProblems(**options)


def test_settings_that_give_no_problems_are_refused():
    with pytest.raises(ConfigError, match=r"Too few expressions of 8 numbers up to 99 have a value of at most 10"):
        CountdownProblems("test", numbers=8, target=10)
