"""Why nothing was learned: one hint for each cause, once in a run."""

import pytest
from command import trained

from llmrl.training.command_line import parse
from llmrl.training.config import TrainConfig
from llmrl.training.hints import FILE, Hints, learned_nothing

FLAT = {
    "reward/mean": 0.0,
    "groups/mixed": 0.0,
    "groups/zero_std": 1.0,
    "actor/grad_norm": 0.0,
    "actor/learning_rate": 1e-6,
}
MIXED = {**FLAT, "groups/mixed": 0.5, "groups/zero_std": 0.5}

CAUSES = {
    "learning rate 0": ({**MIXED, "actor/grad_norm": 1.0, "actor/learning_rate": 0.0}, "--train.learning-rate"),
    "all equal": (FLAT, "--train.group-size"),
    "all equal, with a term that has a gradient": ({**FLAT, "actor/grad_norm": 0.1}, "--train.group-size"),
    "episodes go on": (
        {**FLAT, "response_length/truncated": 1.0, "turns/mean": 3.0},
        "Check that the environment ends",
    ),
    "all cut off": ({**FLAT, "response_length/truncated": 1.0}, "--policy.max-response-length"),
    "cut off, so without an answer": (
        {**FLAT, "response_length/truncated": 0.97, "verifier/no_answer": 1.0},
        "--policy.max-response-length",
    ),
    "no answer found": ({**FLAT, "verifier/no_answer": 0.99}, "--policy.instruction"),
    "verifier silent": ({**FLAT, "verifier/invalid": 1.0}, "llmrl verify"),
    "no group left": ({"groups/mixed": 0.0, "reward/mean": 1.0}, "options of --env"),
    "prompts too long": ({"prompt_length/dropped": 8.0}, "--policy.max-prompt-length"),
    "all clipped": ({**MIXED, "actor/zero_grad_fraction": 1.0}, "--train.updates-per-step"),
    "all gated": ({**MIXED, "actor/gate_fraction": 0.0}, "--algo"),
    "something else": (MIXED, "filters of --algo"),
}


@pytest.mark.parametrize("name", CAUSES)
def test_each_cause_is_named_with_its_option(name, tmp_path):
    metrics, option = CAUSES[name]
    hints = Hints(tmp_path, TrainConfig(learning_rate=0.0 if name == "learning rate 0" else 1e-6))
    said = [hints.watch(step, metrics) for step in range(1, 7)]
    (hint,) = [text for text in said if text]
    assert said.index(hint) == 2
    assert option in hint
    assert hint.startswith("Nothing was learned in steps 1 to 3: ")
    assert (tmp_path / FILE).read_text() == hint + "\n"


def test_a_run_that_goes_on_is_not_told_again(tmp_path):
    for _ in range(2):
        hints = Hints(tmp_path, TrainConfig())
        said = [hints.watch(step, FLAT) for step in range(1, 5)]
    assert said == [None] * 4


def test_steps_that_learn_are_not_counted(tmp_path):
    good = {**MIXED, "actor/grad_norm": 0.3}
    hints = Hints(tmp_path, TrainConfig())
    assert [hints.watch(step, FLAT if step % 3 else good) for step in range(1, 12)] == [None] * 11
    assert not (tmp_path / FILE).exists()


def test_a_critic_that_warms_up_or_learns_is_learning(tmp_path):
    assert not learned_nothing({**FLAT, "actor/grad_norm": 0.1, "critic/loss": 0.2})
    assert not learned_nothing({**FLAT, "actor/grad_norm": 0.1}, learns_from_equal=True)
    assert learned_nothing(FLAT, learns_from_equal=True)
    hints = Hints(tmp_path, TrainConfig(critic_warmup_steps=9))
    assert [hints.watch(step, {**MIXED, "actor/learning_rate": 0.0}) for step in range(1, 10)] == [None] * 9


def test_a_run_says_it_and_keeps_it(tiny, tmp_path, capsys):
    arguments = ["--policy", str(tiny), "--algo", "grpo", "--env", "noisy:tests/Noisy-v0", "--train.steps", "4"]
    arguments += ["--policy.max-response-length", "4", "--train.prompts-per-step", "2", "--train.group-size", "4"]
    arguments += ["--eval.problems", "0", "--train.learning-rate", "0", "--output", str(tmp_path / "run")]
    folder = trained(parse(arguments))
    hint = (folder / FILE).read_text().strip()
    assert "the learning rate is 0" in hint
    assert " ".join(capsys.readouterr().out.split()).count("the learning rate is 0") == 1
