"""Killed, broken off or moved: a run that goes on is the run that was never stopped, bit by bit."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import noisy
import pytest
from command import trained
from small_run import equal, resumed_from, same_tensors, save, small_run, steps, stir, untimed, untimed_rows
from tiny import SMALLEST, tiny_folder

from llmrl.algorithms import ALGORITHMS
from llmrl.errors import ConfigError, UserError
from llmrl.rollouts.files import find_rollouts
from llmrl.training import checkpoint
from llmrl.training.build import build
from llmrl.training.card import evaluation_of
from llmrl.training.command_line import parse
from llmrl.training.faults import TrainingError
from llmrl.training.metrics_file import read_metrics
from llmrl.training.resuming import carry_over, pinned
from llmrl.training.trainer import Trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


def arguments(tiny: Path, *more: str) -> list[str]:
    size = "--train.learning-rate 1e-2 --train.warmup-steps 3"
    return small_run(tiny, *size.split(), *more, env="noisy:tests/Noisy-v0")


@pytest.mark.parametrize("name", [*ALGORITHMS, "erc+gspo"])
def test_a_fresh_trainer_goes_on_bitwise_with_every_algorithm(name, tiny, tmp_path):
    config = parse(arguments(tiny, "--algo", name))
    whole, _ = build(config)
    steps(whole, 2)
    saved = save(whole, tmp_path)
    expected = steps(whole, 2)
    stir(99)
    resumed = resumed_from(saved, config)
    assert steps(resumed, 2) == expected
    assert same_tensors(whole.learner.parameters, resumed.learner.parameters)
    assert same_tensors(whole.learner.critic_parameters, resumed.learner.critic_parameters)


@pytest.mark.parametrize("option", ["--policy.dtype=bfloat16", "--policy.lora-rank=2"])
def test_weights_that_the_model_files_do_not_hold_exactly_come_back_exactly(option, tiny, tmp_path):
    config = parse(arguments(tiny, "--algo", "grpo", option))
    whole, _ = build(config)
    steps(whole, 2)
    saved = save(whole, tmp_path)
    expected = steps(whole, 2)
    resumed = resumed_from(saved, config)
    assert steps(resumed, 2) == expected
    assert same_tensors(whole.learner.masters, resumed.learner.masters)


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("--train.learning-rate=3e-2", "lr", 2e-2),  # the step after two of three that warm up
        ("--train.adam-betas=0.5 0.6", "betas", (0.5, 0.6)),
        ("--train.weight-decay=0.5", "weight_decay", 0.5),
        ("--train.critic-learning-rate=0.3", "lr", 0.2),
    ],
)
def test_a_resumed_run_trains_with_the_optimiser_settings_that_are_given(option, key, value, tiny, tmp_path):
    more = ["--algo", "ppo"]
    first, _ = build(parse(arguments(tiny, *more)))
    steps(first, 1)
    saved = save(first, tmp_path)
    found = {}
    for name, given in {"same": [], "changed": option.replace("=", " ").split()}.items():
        resumed = resumed_from(saved, parse(arguments(tiny, *more, *given)))
        ((metrics, _),) = steps(resumed, 1)
        found[name] = resumed.learner, metrics
    learner, metrics = found["changed"]
    group = learner.optimizer.param_groups[1 if "critic" in option else 0]
    assert group[key] == pytest.approx(value)
    same = found["same"][0]
    if "critic" in option:
        assert not same_tensors(learner.critic_parameters, same.critic_parameters)
    else:
        assert not same_tensors(learner.masters, same.masters)
    if option.startswith("--train.learning-rate"):
        assert metrics["actor/learning_rate"] == pytest.approx(value)


def program(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(noisy.__file__)), *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(noisy.__file__).parent,
        env={**os.environ, "COLUMNS": "10000"},
    )


KILLED_IN = {
    "a step": ("llmrl.training.learner:total_loss", 8),
    "the writing of a checkpoint": ("llmrl.training.checkpoint:_write_sums", 3),
    "the moment before latest": ("llmrl.training.checkpoint:link", 3),
}


@pytest.mark.parametrize("place", KILLED_IN)
def test_a_run_killed_by_sigkill_goes_on_as_if_it_had_not_been(place, tiny, tmp_path):
    where, call = KILLED_IN[place]
    more = ["--algo", "ppo", "--train.steps", "5", "--checkpoint.every", "1", "--checkpoint.rollouts-every", "1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # Each in a process of its own: what ran before in this one may change the last digits of a matrix product.
    done = program(where, "1000000", "kill", *arguments(tiny, *more, "--output", str(whole)))
    assert done.returncode == 0, done.stderr
    go_on = arguments(tiny, *more, "--output", str(killed))
    done = program(where, str(call), "kill", *go_on)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert "checkpoint-000001" <= (killed / "latest").resolve().name < "checkpoint-000005"
    done = program(where, "1000000", "kill", *go_on, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    assert [*map(untimed, read_metrics(whole / "metrics.jsonl"))] == [
        *map(untimed, read_metrics(killed / "metrics.jsonl"))
    ]
    for path in (whole / "rollouts").iterdir():
        assert path.read_bytes() == (killed / "rollouts" / path.name).read_bytes()
    states = [checkpoint.load_state(folder / "latest") for folder in (whole, killed)]
    for state in states:
        del state["metrics_position"]  # numbers of seconds have more or fewer digits
    assert equal(*states)
    models = [(folder / "latest" / "model.safetensors").read_bytes() for folder in (whole, killed)]
    assert models[0] == models[1]
    assert not list(killed.glob(".writing*"))


def test_a_disk_that_fills_up_ends_the_run_clearly_and_the_last_checkpoint_stands(tiny, tmp_path):
    more = ["--algo", "grpo", "--train.steps", "4", "--checkpoint.every", "1", "--output", str(tmp_path / "run")]
    done = program("llmrl.training.checkpoint:save", "2", "full", *arguments(tiny, *more))
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "checkpoint-000002 could not be written" in message
    assert "File too large" in message
    assert "Earlier checkpoints are intact" in message
    assert "Traceback" not in done.stderr
    (good,) = checkpoint.list_checkpoints(tmp_path / "run")
    assert (good.name, checkpoint.damages(good)) == ("checkpoint-000001", [])
    trained(parse(arguments(tiny, *more, "--resume", "auto")))
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 4


@pytest.fixture
def run(tiny, tmp_path) -> tuple[Path, list[str]]:
    """A run with checkpoints 1 to 4, and the arguments that go on with it."""
    more = arguments(
        tiny,
        "--algo",
        "grpo",
        "--train.steps",
        "4",
        "--checkpoint.every",
        "1",
        "--checkpoint.keep",
        "9",
        "--output",
        str(tmp_path / "run"),
    )
    folder = trained(parse(more))
    assert folder is not None
    return folder, more


def test_auto_passes_over_damaged_checkpoints_and_says_so(run, capsys):
    folder, more = run
    before = read_metrics(folder / "metrics.jsonl")
    model = folder / "checkpoint-000004" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\x00\x01"[model.read_bytes()[-1] == 0 :][:1])
    (folder / "checkpoint-000003" / "state" / "trainer.pt").unlink()
    trained(parse([*more, "--resume", "auto"]))
    said = " ".join(capsys.readouterr().out.split())
    assert "checkpoint-000004 is damaged (model.safetensors differs from what was written)" in said
    assert "checkpoint-000003 is damaged (state/trainer.pt is missing): resuming from the one before it" in said
    assert "Checkpoint 3 is later than the resumed one" in said
    assert [*map(untimed, read_metrics(folder / "metrics.jsonl"))] == [*map(untimed, before)]
    assert checkpoint.damages(folder / "latest") == []


def test_a_damaged_checkpoint_that_is_named_is_refused(run):
    folder, more = run
    (folder / "checkpoint-000002" / "state" / "trainer.pt").write_bytes(b"half")
    damaged = [*more, "--resume", str(folder / "checkpoint-000002")]
    with pytest.raises(UserError, match=r"checkpoint-000002: the checkpoint is damaged \(state/trainer.pt differs"):
        trained(parse(damaged))


def test_going_on_from_an_earlier_checkpoint_takes_the_later_ones_out_of_the_way(run):
    folder, more = run
    before = read_metrics(folder / "metrics.jsonl")
    faults = ("step_000002_environment.jsonl", "step_000003_environment.jsonl", "step_000003.safetensors")
    (folder / "faults").mkdir()
    for name in faults:
        (folder / "faults" / name).touch()
    trained(parse([*more, "--resume", str(folder / "checkpoint-000002")]))
    assert {path.name for path in (folder / "faults").iterdir()} == {faults[0], *(f"aside-{n}" for n in faults[1:])}
    names = {path.name for path in folder.glob("*checkpoint-*")}
    assert {"aside-checkpoint-000003", "aside-checkpoint-000004", "checkpoint-000004"} <= names
    assert [*map(untimed, read_metrics(folder / "metrics.jsonl"))] == [*map(untimed, before)]


def test_evaluations_and_rollouts_of_an_abandoned_continuation_are_not_those_of_the_new_one(run):
    folder, more = run
    from_two = ["--resume", str(folder / "checkpoint-000002"), "--force"]
    trained(parse([*more, *from_two, "--eval.problems", "2", "--eval.samples", "0"]))
    assert evaluation_of(folder, 4) is not None
    trained(parse([*more, *from_two, "--eval.problems", "0", "--train.steps", "3"]))
    assert [evaluation_of(folder, step) for step in (3, 4)] == [None, None]
    assert find_rollouts(folder).name == "step_000003.jsonl"
    assert (folder / "eval" / "aside-after.jsonl").is_file()
    assert (folder / "rollouts" / "aside-step_000004.jsonl").is_file()


def test_a_gain_is_that_of_two_evaluations_with_the_same_settings(run, capsys):
    folder, more = run
    more += ["--resume", "auto", "--force", "--eval.problems", "2", "--eval.samples", "1"]
    trained(parse([*more, "--train.steps", "5"]))
    trained(parse([*more, "--train.steps", "6"]))
    assert "its settings have changed" not in capsys.readouterr().out
    trained(parse([*more, "--train.steps", "7", "--eval.temperature", "0.1"]))
    assert "so it is made again, with the weights of step 6" in " ".join(capsys.readouterr().out.split())
    summaries = {name: json.loads((folder / "eval" / f"{name}.json").read_text()) for name in ("before", "after")}
    assert summaries["before"]["settings"] == summaries["after"]["settings"]
    assert [summaries[name]["step"] for name in ("before", "after")] == [6, 7]
    assert json.loads((folder / "eval" / "aside-before.json").read_text())["settings"]["temperature"] == 1.0


def test_a_checkpoint_goes_on_without_the_files_of_its_run(run, tmp_path):
    folder, more = run
    shutil.copytree(folder / "checkpoint-000003", tmp_path / "elsewhere" / "checkpoint-000003")
    new = tmp_path / "new"
    trained(parse([*more, "--output", str(new), "--resume", str(tmp_path / "elsewhere" / "checkpoint-000003")]))
    assert [row["step"] for row in read_metrics(new / "metrics.jsonl")] == [4]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--algo.clip-high", "0.3"], "algo.clip_high: was 0.2, is 0.3"),
        (["--train.adam-betas", "0.9", "0.95"], r"train.adam_betas: was \[0.9, 0.999\], is \[0.9, 0.95\]"),
        (["--seed", "3"], "seed: was 0, is 3"),
    ],
)
def test_changed_settings_are_refused_one_by_one(run, changed, words):
    _, more = run
    with pytest.raises(ConfigError, match=words):
        trained(parse([*more, "--resume", "auto", *changed]))
    assert trained(parse([*more, "--resume", "auto", "--dry-run", "--log.names", "trl"])) is None


def test_the_best_checkpoint_stays_by_the_accuracy_of_the_steps_responses(tiny, tmp_path, monkeypatch):
    rewards = iter([0.1, 0.9, 0.3, 0.2, 0.4])
    step = Trainer.step

    def judged(self):
        metrics, rollouts = step(self)
        return {**metrics, "reward/accuracy": next(rewards)}, rollouts

    monkeypatch.setattr(Trainer, "step", judged)
    more = [
        "--algo",
        "grpo",
        "--train.steps",
        "5",
        "--checkpoint.every",
        "1",
        "--checkpoint.keep",
        "1",
        "--checkpoint.keep-best",
        "reward/accuracy",
        "--output",
        str(tmp_path / "run"),
    ]
    folder = trained(parse(arguments(tiny, *more)))
    assert (folder / "best").resolve().name == "checkpoint-000002"
    assert [p.name for p in checkpoint.list_checkpoints(folder)] == ["checkpoint-000002", "checkpoint-000005"]
    assert json.loads((folder / "best.json").read_text())["value"] == 0.9


def test_every_evaluation_makes_a_checkpoint_that_can_be_the_best(tiny, tmp_path):
    more = [
        "--algo",
        "grpo",
        "--train.steps",
        "3",
        "--checkpoint.every",
        "100",
        "--checkpoint.keep-best",
        "eval/greedy",
        "--output",
        str(tmp_path / "run"),
    ]
    with pytest.raises(ConfigError, match=r"keep-best eval/greedy needs evaluations.*--eval.every"):
        parse(arguments(tiny, *more))
    evaluated = ["--eval.problems", "2", "--eval.samples", "0", "--eval.every", "1"]
    folder = trained(parse([*arguments(tiny, *more), *evaluated]))
    best = json.loads((folder / "best.json").read_text())
    assert (best["metric"], best["checkpoint"]) == ("eval/greedy", (folder / "best").resolve().name)
    # All are equally good (0 %), so the last one counts.
    assert best["checkpoint"] == "checkpoint-000003"


def test_training_errors_are_one_class_wherever_they_are_raised():
    from llmrl.training import faults

    assert faults.TrainingError is TrainingError


@pytest.mark.parametrize("failing", ["latest", "best"])
def test_the_best_checkpoint_is_noted_by_who_goes_on_if_the_run_ended_before(failing, tiny, tmp_path, monkeypatch):
    more = ["--algo", "grpo", "--train.steps", "2", "--checkpoint.every", "1", "--checkpoint.keep-best"]
    monkeypatch.chdir(tmp_path)
    options = parse(arguments(tiny, *more, "reward/accuracy", "--output", "run"))
    step, link = Trainer.step, checkpoint.link

    def judged(self):
        metrics, rollouts = step(self)
        return {**metrics, "reward/accuracy": 1.0 - self.counters.step / 10}, rollouts

    def refuse(folder, name, target):
        if name == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        link(folder, name, target)

    monkeypatch.setattr(Trainer, "step", judged)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "link", refuse)
        with pytest.raises(OSError, match="checkpoint-000001 could not be written"):
            trained(options)
    options.resume = "auto"
    folder = trained(options)
    assert (folder / "best").resolve().name == "checkpoint-000001"
    assert json.loads((folder / "best.json").read_text())["value"] == 0.9


def links(folder: Path, step: int) -> None:
    """A run's folder whose newest checkpoint is that of a step."""
    (folder / "latest").unlink(missing_ok=True)
    (folder / "latest").symlink_to(f"checkpoint-{step:06d}")


def test_a_policy_of_a_run_is_its_checkpoint_of_the_first_day(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in (1, 2):
        shutil.copytree(tiny, Path("a", f"checkpoint-{step:06d}"))
    links(Path("a"), 1)
    for name in ("a", "a/latest", "./a/"):
        assert pinned(name, None) == "a/checkpoint-000001"
    links(Path("a"), 2)
    for was, now in (("a/checkpoint-000001", 1), ("b/checkpoint-000001", 2), ("a/checkpoint-000001/adapter", 2)):
        state = {"config": json.dumps({"policy": {"path": was}})}
        assert pinned("a", state) == f"a/checkpoint-00000{now}"
    for name in ("a/checkpoint-000002", "llmrl/nano", str(tiny), "owner/name"):
        assert pinned(name, None) == name


def run_of(policy: Path, output: Path, *more: str) -> Path:
    folder = trained(parse(arguments(policy, *more, "--checkpoint.every", "1", "--output", str(output))))
    assert folder is not None
    return folder


def test_a_resumed_run_keeps_the_reference_of_its_start(tiny, tmp_path):
    start = run_of(tiny, tmp_path / "a", "--train.steps", "1")
    long = ("--algo", "grpo", "--algo.kl", "0.5", "--train.steps", "2")
    whole = run_of(start, tmp_path / "b", *long)
    run_of(tiny, start, "--train.steps", "2", "--resume", "auto")
    again = run_of(start, tmp_path / "c", *long, "--resume", str(whole / "checkpoint-000001"))
    assert untimed_rows(whole) == untimed_rows(again)


def test_a_run_that_begins_at_adapters_goes_on(tiny, tmp_path):
    start = run_of(tiny, tmp_path / "a", "--train.steps", "1", "--policy.lora-rank", "2") / "latest" / "adapter"
    run_of(start, tmp_path / "b", "--train.steps", "1")
    again = run_of(start, tmp_path / "b", "--train.steps", "2", "--resume", "auto")
    assert len(untimed_rows(again)) == 2


def test_what_came_before_a_checkpoint_is_copied_as_far_as_it_says(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "checkpoint-000001").mkdir(parents=True)
    new.mkdir()
    (old / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (old / "eval").mkdir()
    (old / "eval" / "before.txt").write_text("no file of an evaluation")
    os.mkfifo(old / "eval" / "before.jsonl")
    for position, rows in ((12, 1), (15, 1), (24, 2), (2**62, 2)):
        carry_over(old / "checkpoint-000001", new, position)
        assert len(read_metrics(new / "metrics.jsonl")) == rows
        assert (new / "metrics.jsonl").stat().st_size == min(position, 24)
    assert not (new / "eval").exists()


@pytest.mark.parametrize(
    "wrong", [{"digest": "0123456789abcdef", "commits": {}}, "an older record", {"other": 1}, None]
)
def test_a_changed_fingerprint_is_refused(wrong, run):
    folder, more = run
    record = json.loads((folder / "environment.json").read_text())
    record["sessions"][-1]["data"] = wrong
    (folder / "environment.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"their digest was 0123456789abcdef|has no digest of the run's data"):
        trained(parse([*more, "--resume", "auto"]))
    trained(parse([*more, "--resume", "auto", "--force"]))
