"""The checkpoint from before a run left its range is kept, and named."""

import json
import math
import random

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from command import train
from safetensors.torch import load_file

import llmrl
from llmrl.reports.runs import read_run
from llmrl.training import checkpoint
from llmrl.training.departures import GOOD, RECOVERY, Range
from llmrl.training.hints import kept

STEPS = 40


def usual(step, **other):
    """Metrics of a step of a run that learns, with the noise of 16 problems."""
    draw = random.Random(step)
    reward = min(0.3 + 0.01 * step, 0.6) + draw.gauss(0, 0.05)
    return {
        "step": step,
        "reward/mean": reward,
        "reward/std": 0.45,
        "actor/kl_approx_k3": 0.001 * draw.random(),
        "actor/grad_norm": 0.2 + 0.2 * draw.random(),
        "actor/skipped_updates": 0.0,
        **other,
    }


def late(change):
    """A run that is as usual up to step 24."""
    return [usual(step) if step < 25 else {**usual(step), **change(step)} for step in range(1, STEPS + 1)]


IN_RANGE = {
    "as usual": late(lambda step: {}),
    "nothing is rewarded": [usual(step, **{"reward/mean": 0.0, "reward/std": 0.0}) for step in range(1, STEPS)],
    "seldom rewarded": [
        usual(step, **{"reward/mean": 0.03 * (step % 4 == 0), "reward/std": 0.1}) for step in range(1, STEPS)
    ],
    "one unlucky step": late(lambda step: {"reward/mean": 0.05} if step == 30 else {}),
    "a third less": late(lambda step: {"reward/mean": 0.38}),
    "rewards below 0": [usual(step, **{"reward/mean": -0.5 - 0.01 * step}) for step in range(1, STEPS)],
    "a harder level": late(lambda step: {"reward/mean": 0.1, "curriculum/level": 2.0}),
    "a long gradient": late(lambda step: {"actor/grad_norm": 8.0}),
    "gradients from 0": [usual(step, **{"actor/grad_norm": 0.0 if step < 20 else 0.5}) for step in range(1, STEPS)],
    "bold updates": late(lambda step: {"actor/kl_approx_k3": 0.4}),
    "equal rewards": late(lambda step: {"actor/grad_norm": 0.0, "groups/zero_std": 1.0}),
    "a critic warms up": [usual(s, **{"actor/grad_norm": 0.0, "actor/learning_rate": 0.0}) for s in range(1, STEPS)],
    "no rewards at all": [{"step": step, "actor/skipped_updates": 0.0} for step in range(1, STEPS)],
    "skipped long ago": [usual(step, **{"actor/skipped_updates": 0.0}) for step in range(1, STEPS)],
}
OUT_OF_RANGE = {
    "KL": (late(lambda step: {"actor/kl_approx_k3": 4.2}), 25, 24, "4.2 nats"),
    "KL infinite": (late(lambda step: {"actor/kl_approx_k3": math.inf}), 25, 24, "inf nats"),
    "KL not a number": (late(lambda step: {"actor/kl_approx_k3": math.nan}), 25, 24, "nan nats"),
    "KL in a file": (late(lambda step: {"actor/kl_approx_k3": None}), 25, 24, "more than can be told"),
    "not finite": (late(lambda step: {"actor/skipped_updates": step - 24.0}), 25, 24, "not finite"),
    "not finite once": (late(lambda step: {"actor/skipped_updates": 1.0}), 25, 24, "not finite"),
    "gradient": (late(lambda step: {"actor/grad_norm": 400.0}), 25, 23, "400 long"),
    "gradient grows": (late(lambda step: {"actor/grad_norm": 4.0 ** (step - 24)}), 27, 25, "long"),
    "no gradient": (late(lambda step: {"actor/grad_norm": 0.0, "groups/zero_std": 0.5}), 25, 23, "0 long"),
    "rewards collapse": (late(lambda step: {"reward/mean": 0.0, "reward/std": 0.0}), 27, 22, "reward/mean"),
    "rewards fade": (late(lambda step: {"reward/mean": 0.55 * 0.8 ** (step - 24)}), 30, 25, "reward/mean"),
}


def checkpoints(folder, upto):
    for step in range(1, upto + 1):
        (folder / f"checkpoint-{step:06d}").mkdir(exist_ok=True)


@pytest.mark.parametrize("name", IN_RANGE)
def test_a_run_in_range_is_told_nothing(name, tmp_path):
    watch = Range(tmp_path, prompts=16)
    assert [watch.watch(row["step"], row) for row in IN_RANGE[name]] == [None] * len(IN_RANGE[name])


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_a_departure_is_told_once_with_the_checkpoint_before_it(name, tmp_path):
    rows, step, before, reason = OUT_OF_RANGE[name]
    watch = Range(tmp_path, prompts=16)
    told = {}
    for row in rows:
        said = watch.watch(row["step"], row)
        if said is not None:
            told[row["step"]] = said
            assert (tmp_path / GOOD).resolve().name == f"checkpoint-{before:06d}"
        checkpoints(tmp_path, row["step"])
    assert list(told) == [step]
    assert reason in told[step]
    assert f"--resume {tmp_path / GOOD}" in told[step]


def test_the_command_that_goes_back_is_quoted(tmp_path):
    folder = tmp_path / "my run"
    folder.mkdir()
    checkpoints(folder, 9)
    said = Range(folder, prompts=16).watch(10, usual(10, **{"actor/kl_approx_k3": 3.0}))
    assert f"--resume '{folder / GOOD}' --force" in said


def test_a_run_that_goes_on_remembers_and_is_not_told_again(tmp_path):
    rows = OUT_OF_RANGE["KL"][0]
    checkpoints(tmp_path, 24)
    (tmp_path / GOOD).symlink_to("checkpoint-000024")
    watch = Range(tmp_path, prompts=16, past=rows[:30])
    assert watch.watch(31, rows[30]) is None
    assert (tmp_path / GOOD).is_symlink()
    gradients = Range(tmp_path, prompts=16, past=rows[:24])
    assert "long" in gradients.watch(25, usual(25, **{"actor/grad_norm": 400.0}))


def test_a_run_that_comes_back_lets_the_checkpoint_go(tmp_path):
    watch = Range(tmp_path, prompts=16)
    checkpoints(tmp_path, 9)
    assert watch.watch(10, usual(10, **{"actor/kl_approx_k3": 3.0})) is not None
    for step in range(11, 11 + RECOVERY):
        assert (tmp_path / GOOD).is_symlink()
        assert watch.watch(step, usual(step)) is None
    assert not (tmp_path / GOOD).is_symlink()
    assert watch.watch(30, usual(30, **{"actor/kl_approx_k3": 3.0})) is not None


def test_where_no_checkpoint_is_older_that_is_said(tmp_path):
    said = Range(tmp_path, prompts=16).watch(1, usual(1, **{"actor/kl_approx_k3": 3.0}))
    assert "No checkpoint from before that is left: begin again with a lower --train.learning-rate" in said
    assert not (tmp_path / GOOD).is_symlink()


class BlowsUp(llmrl.Callback):
    """After three good steps the learning rate is a million."""

    def on_step(self, trainer, metrics, rollouts):
        if trainer.counters.step == 3:
            trainer.learner.optimizer.param_groups[0]["peak"] = 1e6


def test_a_run_that_blows_up_keeps_the_weights_from_before(tiny, tmp_path, capsys):
    folder = tmp_path / "run"
    again = ["--policy", str(tiny), "--algo", "grpo", "--env", "tests/SayA-v0", "--output", str(folder)]
    again += ["--env.goal", "".join(map(chr, range(ord("0"), ord("z")))), "--policy.max-response-length", "4"]
    again += ["--train.prompts-per-step", "2", "--train.group-size", "4", "--train.updates-per-step", "2"]
    again += ["--train.steps", "7", "--train.warmup-steps", "1", "--eval.problems", "0"]
    again += ["--checkpoint.every", "1", "--checkpoint.keep", "2"]
    options = {"every": 1, "keep": 2}
    llmrl.train(
        str(tiny),
        "tests/SayA-v0",
        "grpo",
        env_options={"goal": "".join(map(chr, range(ord("0"), ord("z"))))},
        policy_options={"max_response_length": 4},
        train={"prompts_per_step": 2, "group_size": 4, "updates_per_step": 2, "steps": 7, "warmup_steps": 1},
        eval={"problems": 0},
        checkpoint=options,
        output=folder,
        callbacks=[BlowsUp()],
        quiet=True,
    )
    assert (folder / GOOD).resolve().name == "checkpoint-000003"
    assert [path.name for path in checkpoint.list_checkpoints(folder)] == [
        "checkpoint-000003",
        "checkpoint-000006",
        "checkpoint-000007",
    ]
    assert checkpoint.damages(folder / GOOD) == []
    good, last = (load_file(folder / name / "model.safetensors") for name in (GOOD, "latest"))
    assert max(tensor.abs().max() for tensor in good.values()) < 100 < max(t.abs().max() for t in last.values())
    (told,) = [hint for hint in kept(folder) if "left its range" in hint]
    assert told.startswith("Step 5: ")
    assert told in read_run(folder).notes
    # What it advises works.
    assert train([*again, "--resume", str(folder / GOOD), "--force"]) == 0, capsys.readouterr().err
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert all(row["actor/kl_approx_k3"] < 1 for row in rows)
    assert not (folder / GOOD).is_symlink()
    assert all(torch.isfinite(tensor).all() for tensor in load_file(folder / "latest" / "model.safetensors").values())
