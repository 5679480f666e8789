"""A state of a trainer with the right names and wrong values is refused with one sentence, before it is used."""

import copy
import math

import leveled  # noqa: F401  registers tests/Levels-v0
import pytest
import torch
from small_run import save, small_run, steps
from tiny import SMALLEST, tiny_folder

from llmrl.errors import ConfigError
from llmrl.training import checkpoint, resuming, run_state
from llmrl.training.build import build
from llmrl.training.command_line import parse


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of a run with a batch that was sampled ahead and a rule, and a trainer that may go on from it."""
    place = tmp_path_factory.mktemp("saved")
    tiny = tiny_folder(place / "tiny", sharpness=1.0, **SMALLEST)
    options = ["--train.ahead", "1", "--curriculum.every", "2", "--filter.visits", "2", "--filter.revisit", "0.5"]
    trainer, _ = build(parse(small_run(tiny, *options, env="tests/Levels-v0")))
    steps(trainer, 1)
    path = save(trainer, place)
    return path, checkpoint.load_state(path), build(trainer.config, path)[0]


def put(*path_and_value):
    """A change of the entry at a path."""
    *path, last, value = path_and_value

    def change(state):
        for key in path:
            state = state[key]
        state[last] = value

    return change


def each_moment(name, value):
    def change(state):
        for moments in state["learner"]["optimizer"]["state"].values():
            moments[name] = value(moments[name])

    return change


def other_parameters(state):
    optimizer = state["learner"]["optimizer"]
    optimizer["state"] = {number + 1000: moments for number, moments in optimizer["state"].items()}


CHANGES = {
    "a text as a counter": (put("counters", "step", "x"), r"counters\.step is a str"),
    "a counter below 0": (put("counters", "tokens", -5), r"counters\.tokens is -5"),
    "an unknown counter": (put("counters", "__class__", 3), "__class__"),
    "a tensor as a counter": (put("counters", "step", torch.ones(2)), r"counters\.step is a tensor"),
    "a position of thirty digits": (put("problems", "position", 10**30), r"problems\.position"),
    "rules as a list": (put("problems", "rules", [1]), r"problems\.rules"),
    "a level that there is not": (put("problems", "rules", "levels", "admitted", 10**6), r"levels\.admitted"),
    "rates that are texts": (put("problems", "rules", "levels", "rates", ["x"]), r"levels\.rates\.0"),
    "visits of a text": (put("problems", "rules", "pass_rates", "streaks", {"x": 1}), r"pass_rates\.streaks"),
    "past rewards as a list": (put("past_rewards", [1]), "past_rewards"),
    "past rewards of two numbers": (put("past_rewards", {1: (0.0, 0.0)}), r"past_rewards\.1"),
    "moments of another shape": (each_moment("exp_avg", lambda x: torch.zeros(3)), "exp_avg is a tensor"),
    "moments that are numbers": (each_moment("exp_avg", lambda x: 7), "exp_avg is a int"),
    "moments that are not finite": (each_moment("exp_avg_sq", lambda x: x * math.nan), "exp_avg_sq has numbers"),
    "a count of updates that is a text": (each_moment("step", lambda x: "many"), "step is a str"),
    "moments of other parameters": (other_parameters, "has the entry 1000"),
    "weights that are numbers": (put("learner", "masters", [1, 2]), "masters"),
    "a learner that is a list": (put("learner", []), "learner is a list"),
    "no learner, and no shards": (put("learner", None), "learner is a NoneType"),
    "no random generators": (put("random", []), "random is a list of 0"),
    "Python's generator cut": (put("random", 0, "python", (3, (1, 2), None)), "python"),
    "NumPy's generator beyond its end": (put("random", 0, "numpy", 2, 625), r"numpy\.2"),
    "a generator of another kind": (put("random", 0, "numpy", 0, "PCG64"), "MT19937"),
    "torch's generator as floats": (put("random", 0, "torch", torch.zeros(5056)), "torch is a tensor"),
    "a billion environments": (put("random", 0, "environments", 10**9), "environments is 1000000000"),
    "the order of rows cut": (put("shuffling", torch.zeros(3, dtype=torch.uint8)), "shuffling"),
    "a batch ahead that is empty": (put("pending", {}), "pending has no rollouts"),
    "a batch ahead without tensors": (put("pending", "rollouts", "data", {}), "has no entry 'tokens.full'"),
    "a batch ahead of texts": (put("pending", "rollouts", "data", "tokens.full", "x"), "has no entry 'tokens.full'"),
    "records ahead that are none": (put("pending", "rollouts", "records", "[1]"), "records.0 is a int"),
    "records ahead that are no JSON": (put("pending", "broken", "{"), "Expecting"),
    "a coefficient that is a text": (put("kl_coefficient", "high"), "kl_coefficient"),
    "a budget below 1": (put("micro_batch_tokens", -3), "micro_batch_tokens is -3"),
    "a version that is a text": (put("policy_version", "x"), "policy_version"),
    "a length of metrics below 0": (put("metrics_position", -4), "metrics_position is -4"),
    "settings that are no text": (put("config", 3), "config is a int"),
    "nothing": (lambda state: state.clear(), "has no counters"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_state_with_wrong_values_is_one_sentence(name, saved):
    path, state, trainer = saved
    change, words = CHANGES[name]
    wrong = copy.deepcopy(state)
    wrong["random"][0]["numpy"] = list(wrong["random"][0]["numpy"])
    change(wrong)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=words) as error:
        run_state.restore(trainer, wrong, path)
    assert "\n" not in str(error.value)
    assert "trainer.pt is no state of this run" in str(error.value)


def test_a_state_as_it_was_written_is_taken(saved):
    path, state, trainer = saved
    run_state.restore(trainer, copy.deepcopy(state), path)
    assert trainer.counters.step == 1
    assert trainer.pending is not None


@pytest.mark.parametrize("text", ["[]", "{", 7])
def test_settings_of_another_form_are_no_settings(text, saved):
    with pytest.raises(ConfigError, match="does not say with which settings"):
        resuming.refuse_changes(saved[2].config, {"config": text})
