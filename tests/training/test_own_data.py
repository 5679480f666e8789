"""``--data``, ``--eval.data`` and ``--reward``: what they stand for, and what the run's settings say afterwards."""

from __future__ import annotations

import contextlib
import json

import gymnasium
import pytest
import trivial
from tiny import tiny_policy

from llmrl.envs import math as math_module
from llmrl.envs.data import DataEnv
from llmrl.envs.wrappers import FormatReward
from llmrl.errors import ConfigError
from llmrl.evaluation import evaluate
from llmrl.evaluation.running import shortage
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.rollouts.collect import collect
from llmrl.rollouts.environments import CopiedEnvironments, Environments
from llmrl.rollouts.records import is_correct
from llmrl.training.build import _problems, build, resolve
from llmrl.training.command_line import parse
from llmrl.training.given import Given


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("question,gold\nWhat is 1+1?,2\nWhat is 2+2?,4\n")
    return str(path)


def test_data_is_an_environment_by_its_own_name(data):
    for arguments in (["--data", data], [f"--data={data}"]):
        config = parse(arguments)
        assert (config.env.id, config.env.source) == ("llmrl/Data-v0", data)
        assert not hasattr(config.env, "split")
    train, held_out = _problems(config, Given())
    assert train.title == "mine.csv"
    assert str(train) == "2 problems of mine.csv"
    assert "nothing is held out" in str(held_out)


def test_other_data_to_evaluate_on(data, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"problem": f"Q{i}", "answer": str(i)}) + "\n" for i in range(5)))
    _, held_out = _problems(parse(["--data", data, "--eval.data", str(other)]), Given())
    assert str(held_out) == "5 problems of other.jsonl"
    _, held_out = _problems(parse(["--env.source", "generated", "--eval.data", str(other)]), Given())
    assert held_out.num_problems() == 5
    both = parse(["--data", data, "--eval.data", str(other), "--eval.env", "llmrl/MATH-v0"])
    with pytest.raises(ConfigError, match="Give one"):
        _problems(both, Given())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data"], "--data: give a file"),
        (["--data", "--seed"], "--data: give a file"),
        (["--data", "a.csv", "--env", "llmrl/MATH-v0"], "give --data or --env, not both"),
    ],
)
def test_data_without_sense(arguments, text):
    with pytest.raises(ConfigError, match=text):
        parse(arguments)


def test_what_auto_became_stands_in_the_settings(monkeypatch):
    monkeypatch.setattr(math_module, "math_source", lambda: "generated")
    config = parse([])
    resolve(config)
    assert config.env.source == "generated"
    train, _ = _problems(config, Given())
    assert train.title == "llmrl/MATH-v0 (generated)"
    other = parse(["--policy", "some/model"])
    with pytest.raises(ConfigError, match=r"Give --env.source generated to train some/model"):
        resolve(other)
    asked = parse(["--policy", "some/model", "--env.source", "generated"])
    resolve(asked)
    assert asked.env.source == "generated"


def test_rewards_are_added_to_training_alone(data):
    config = parse(["--data", data, "--reward", "format=0.5", "--reward", "length", "--reward=format=0.25"])
    assert config.reward == ("format=0.5", "length", "format=0.25")
    config = parse(["--data", data, "--reward", "format=0.5", "length=-0.1", "--seed", "3"])
    assert config.reward == ("format=0.5", "length=-0.1")
    train, held_out = _problems(config, Given())
    rewards = []
    for environments in (train, held_out):
        env = environments.of_size(1)
        env.reset(options={"problem_id": 0})
        rewards.append(float(env.step(["\\boxed{2}" + " " * 491])[1][0]))
    assert rewards == pytest.approx([1 + 0.5 - 0.1 * 0.5, 1])


@pytest.mark.parametrize(
    ("reward", "text"),
    [
        ("fromat", "Did you mean 'format'"),
        ("format=high", "expected a number as the weight, got 'high'"),
        ("format=nan", "must be finite"),
        ("no_such_module:f", "cannot be found"),
        ("math:pi", "is not a function"),
        ("format format=0.5", "Two parts of the reward are called 'format'"),
    ],
)
def test_a_reward_that_is_none(data, reward, text):
    with pytest.raises(ConfigError, match=f"--reward: .*{text}"):
        _problems(parse(["--data", data, "--reward", *reward.split()]), Given())


def test_further_rewards_do_not_go_with_imitation_of_correct_answers(data):
    config = parse(["--data", data, "--reward", "format=0.5", "--algo", "gppo", "--algo.positive-nll", "0.1"])
    with pytest.raises(ConfigError, match=r"gppo imitates responses of reward 1 or more .* Leave one out"):
        build(config)


def test_an_evaluation_has_settings_of_its_own(data):
    config = parse(["--eval.temperature", "0.5", "--eval.max-response-length", "16"])
    assert (config.eval.temperature, config.eval.max_response_length) == (0.5, 16)
    environments = Environments("llmrl/Data-v0", {"source": data})
    policy = Policy.from_pretrained("llmrl/nano")
    short = evaluate(policy, environments, 2, samples=2, sampling=SamplingOptions(max_new_tokens=3))
    assert {record["tokens"] for record in short.records} == {3}
    cold = evaluate(policy, environments, 2, samples=4, sampling=SamplingOptions(temperature=1e-3, max_new_tokens=8))
    said = {(record["problem_id"], record["response"]) for record in cold.records}
    assert len(said) == 2  # as good as greedy


ROWS = {"train": [{"problem": "1 + 1", "answer": "2"}], "test": [{"problem": "2 + 3", "answer": "5"}]}


@pytest.mark.parametrize(
    ("given", "asked", "said"),
    [
        (Environments("llmrl/Data-v0", {"source": ROWS}), "2 + 3", ""),
        (Environments("llmrl/Data-v0", {"source": ROWS["train"]}), "1 + 1", "nothing is held out"),
        (CopiedEnvironments(gymnasium.make("llmrl/Data-v0", source=ROWS)), "2 + 3", ""),
        (CopiedEnvironments(gymnasium.make("llmrl/Data-v0", source=ROWS).unwrapped), "2 + 3", ""),
        (CopiedEnvironments(FormatReward(gymnasium.make("llmrl/Data-v0", source=ROWS), weight=0.5)), "2 + 3", ""),
        (CopiedEnvironments(DataEnv(source=ROWS)), "1 + 1", "nothing is held out"),
    ],
)
def test_the_test_part_of_a_given_environment_is_held_out(given, asked, said):
    train, held_out = _problems(parse([]), Given(environments=given))
    first = [of.of_size(1).reset(options={"problem_id": [0]})[0][0] for of in (train, held_out)]
    assert first == ["1 + 1", asked]
    assert said in str(held_out)
    assert "without" not in str(train)


def test_problems_in_both_parts_are_counted(data, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("question,gold\nWhat is 2+2?,4\nWhat is 3+3?,6\nWhat is 4+4?,8\n")
    _, held_out = _problems(parse(["--data", data, "--eval.data", str(other)]), Given())
    assert held_out.title == "other.csv (1 of 3 are training problems too)"
    _, held_out = _problems(parse(["--data", data, "--eval.data", data]), Given())
    assert held_out.title == "mine.csv (nothing is held out: these are training problems)"


def test_an_evaluation_says_how_many_problems_of_a_list_it_asks(data):
    _, held_out = _problems(parse(["--data", data]), Given())
    assert held_out.described(1).startswith("1 of 2 problems of mine.csv (nothing")
    assert held_out.described(5).startswith("2 problems of mine.csv (nothing")
    assert shortage(held_out, 2) is None
    assert shortage(held_out, 5) == f"5 problems were requested; {held_out.title} has only 2."


class Drawn(trivial.SayA):
    """It has no split, and draws its problem by the seed."""

    def __init__(self) -> None:
        super().__init__()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return str(self.np_random.integers(10**9)), {}


gymnasium.register("tests/Drawn-v0", entry_point=Drawn)


def test_problems_that_are_drawn_are_others_in_an_evaluation():
    _, held_out = _problems(parse(["--env", "tests/Drawn-v0", "--eval.env", "tests/Drawn-v0"]), Given())
    assert "without a split" in held_out.title
    train, held_out = _problems(parse(["--env", "tests/Drawn-v0"]), Given())
    assert "without a split" in str(held_out)
    policy = tiny_policy(sharpness=1.0, max_response_length=2)
    drawn = [record["problem"] for record in collect(policy, train, range(4), seed=0).records]
    asked = [record["problem"] for record in evaluate(policy, held_out, 4, samples=1).records]
    assert asked[:4] == asked[4:]
    assert not set(drawn) & set(asked)


def test_an_evaluation_longer_than_the_context_is_refused(tmp_path):
    policy = tiny_policy(max_prompt_length=40, max_response_length=4)
    room = policy.model.config.max_position_embeddings - 40
    for limit, fits in ((room, True), (room + 1, False)):
        config = parse(["--env", "tests/SayA-v0", "--eval.max-response-length", str(limit)])
        with (
            contextlib.nullcontext()
            if fits
            else pytest.raises(ConfigError, match=f"--eval.max-response-length {limit}: ")
        ):
            build(config, given=Given(policy=policy))


class Nearly(trivial.SayA):
    """It gives no verdict, and pays 0.9."""

    def step(self, action):
        return "", 0.9, True, False, {}


def test_a_further_reward_is_no_accuracy_without_a_verdict_either():
    env = FormatReward(Nearly(), "", weight=0.1)
    (record,) = collect(tiny_policy(max_response_length=2), CopiedEnvironments(env), [0], seed=0).records
    assert record["reward"] == pytest.approx(1)
    assert not is_correct(record)
