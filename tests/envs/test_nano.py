"""The nano tasks' environments: what they ask, how they answer, and that their own answers are right."""

from __future__ import annotations

import gymnasium
import pytest

from llmrl.envs.arithmetic import evaluate
from llmrl.envs.nano import Hidden, NanoProblems, Sums, Targets, check_expression, hint, reachable
from llmrl.testing import check_environment

IDS = ("llmrl/NanoCarry-v0", "llmrl/NanoCountdown-v0", "llmrl/NanoGuess-v0")
RULES = (Sums(1), Sums(5), Targets(2), Targets(3), Targets(4), Hidden())


@pytest.mark.parametrize("env_id", IDS)
def test_it_keeps_the_protocol(env_id):
    check_environment(env_id)


@pytest.mark.parametrize("env_id", IDS)
def test_the_answer_is_rewarded_and_another_is_not(env_id):
    env = gymnasium.make(env_id)
    for seed in range(20):
        _, info = env.reset(seed=seed)
        assert env.step(info["answer"])[1:3] == (1.0, True)
        env.reset(seed=seed)
        reward, terminated = env.step("100")[1:3]
        assert reward == 0.0
        assert terminated == (env_id != "llmrl/NanoGuess-v0")


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: f"{rules.name} {vars(rules)}")
def test_splits_never_overlap_and_problems_repeat(rules):
    splits = {split: NanoProblems(rules, split) for split in ("train", "test")}
    texts = {split: {problems[i].problem for i in range(150)} for split, problems in splits.items()}
    assert not texts["train"] & texts["test"]
    assert splits["train"][3] == NanoProblems(rules, "train")[3]
    assert splits["train"][3].problem != NanoProblems(rules, "train", seed=1)[3].problem or len(texts["train"]) < 50


def test_a_sum_is_the_sum():
    for index in range(50):
        problem = NanoProblems(Sums(5), "train")[index]
        left, right = (int(n[::-1]) for n in problem.problem.removesuffix("=").split("+"))
        assert int(problem.answer[::-1]) == left + right


@pytest.mark.parametrize("numbers", [2, 3, 4])
def test_every_target_is_reached_by_its_expression(numbers):
    for index in range(50):
        problem = NanoProblems(Targets(numbers), "test")[index]
        given, target = problem.problem.split("=")
        found = evaluate(problem.answer)
        assert found.value == int(target)
        assert sorted(map(int, found.numbers)) == sorted(map(int, given))


def test_a_target_is_no_given_digit_and_not_above_the_largest():
    assert Targets(3, target=12).ways([5, 3, 2]) == {
        value: text for value, text in reachable((5, 3, 2)).items() if value in (1, 4, 6, 7, 9, 10, 11)
    }


def test_expressions_have_the_brackets_that_they_need_and_no_others():
    ways = reachable((5, 3, 2))
    assert ways[16] == "(5+3)*2"
    assert ways[30] == "3*2*5"
    assert all(evaluate(text).value == value for value, text in ways.items())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("(5-3)*2", "correct"),
        ("2*(5-3)=4", "correct"),
        ("2*(5-3)=5", "wrong"),
        ("5-3+2", "correct"),
        ("5-3/2", "wrong"),
        ("2**(5-3)", "wrong"),
        ("2^(5-3)", "wrong"),
        ("5-1", "wrong"),
        ("2*(5-3", "wrong"),
        ("\x00", "wrong"),
        (" ", "no_answer"),
        ("5-3+2=4 2*(5-3)=4 ", "correct"),
        ("2*(5-3)=4 5-3+2=5", "wrong"),
        ("5*3+2=17 (5-3)*2", "correct"),
        ("2*(5-3) = 4", "wrong"),
    ],
)
def test_expressions_are_graded_by_numbers_and_value(said, status):
    assert check_expression([said], ["(5-3)*2"])[0].status == status


@pytest.mark.parametrize(
    ("guess", "reply"),
    [("9", "<"), ("99", "<"), ("0", ">"), ("", "?"), ("²", "?"), ("-5", "?"), ("9" * 5000, "?")],
)
def test_a_wrong_guess_is_answered_and_the_second_ends_it(guess, reply):
    env = gymnasium.make("llmrl/NanoGuess-v0")
    for seed in range(9):
        _, info = env.reset(seed=seed)
        if info["answer"] in ("0", "9"):
            continue
        assert env.step(guess)[:4] == (reply, 0.0, False, False)
        assert env.step(info["answer"])[:4] == ("", 1.0, True, False)


def test_whoever_guesses_the_middle_one_first_always_finds_it():
    env = gymnasium.make("llmrl/NanoGuess-v0")
    for seed in range(30):
        text, _ = env.reset(seed=seed)
        low, middle, high = sorted(text.split(), key=int)
        said, reward, terminated, *_ = env.step(middle)
        if not terminated:
            _, reward, terminated, *_ = env.step(low if said == "<" else high)
        assert (reward, terminated) == (1.0, True)


def test_the_number_itself_in_other_characters_is_no_guess():
    assert hint("05", "5") == "?"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Sums(0), "digits must be from 1 to 12, got 0"),
        (lambda: Targets(5), "numbers must be from 2 to 4, got 5"),
        (lambda: Targets(3, largest=10), "largest must be from 4 to 9"),
        (lambda: NanoProblems(Sums(2), "tain"), "Did you mean 'train'"),
    ],
)
def test_wrong_numbers_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made()
