"""A sampler that goes wrong while training stops the run; one that is merely behind the weights does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from small_run import EASY, small_run, steps
from tiny import tiny_folder

from llmrl import keys
from llmrl.distributed.world import World
from llmrl.errors import ConfigError
from llmrl.policies.sampling.copy import CopyEngine
from llmrl.training import checkpoint
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.faults import TrainingError
from llmrl.training.mismatch import limit_of
from llmrl.training.preflight import introduce
from llmrl.training.session import Callback, train
from llmrl.training.trainer import Trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, num_hidden_layers=1)


def arguments(tiny: Path, *more: str) -> list[str]:
    fast = "--algo grpo --algo.kl 0 --train.learning-rate 1e-2 --train.warmup-steps 0"
    return small_run(tiny, *fast.split(), "--env.goal", EASY, *more)


class Forgetful(CopyEngine):
    """Says that it has the newest weights, and keeps those of its beginning."""

    def push(self, model: Any, version: int) -> None:
        self.version = version


def plant(trainer: Trainer, kind: type[CopyEngine]) -> None:
    policy = trainer.policy
    policy.engine = kind(policy.model, policy._sampler, policy.version, World())


class PlantAfter(Callback):
    def __init__(self, step: int, kind: type[CopyEngine]) -> None:
        self.step, self.kind = step, kind

    def on_step(self, trainer: Trainer, metrics: dict[str, float], rollouts: Any) -> None:
        if trainer.counters.step == self.step:
            plant(trainer, self.kind)


def test_a_sampler_that_keeps_old_weights_stops_the_run_and_the_last_checkpoint_is_whole(tiny, tmp_path) -> None:
    options = ["--train.steps", "6", "--checkpoint.every", "1", "--output", str(tmp_path / "run")]
    # Planted after step 2 with its weights: step 3 is sampled with them, and step 4 with old ones.
    with pytest.raises(TrainingError, match=r"^Step 4: .*nats a token.*an engine that does not have the newest"):
        train(parse(arguments(tiny, *options)), callbacks=[PlantAfter(2, Forgetful)], signals=False)
    latest = (tmp_path / "run" / "latest").resolve()
    assert latest.name == "checkpoint-000003"
    assert checkpoint.damages(latest) == []


def test_an_engine_that_takes_its_weights_goes_on(tiny) -> None:
    trainer, _ = build(parse(arguments(tiny)))
    plant(trainer, CopyEngine)
    rows = [metrics for metrics, _ in steps(trainer, 4)]
    assert all(0 < row["rollout/mismatch_mean"] <= row["rollout/mismatch_max"] < 1e-4 for row in rows)


@pytest.mark.parametrize("more", [["--train.no-rescore"], ["--train.epochs", "3"], ["--train.updates-per-step", "8"]])
def test_staleness_is_no_mismatch(more, tiny) -> None:
    trainer, _ = build(parse(arguments(tiny, *more)))
    rows = [metrics for metrics, _ in steps(trainer, 3)]
    assert max(row["actor/ratio_max"] for row in rows) > 1.05  # the weights have moved since they sampled
    assert max(row["rollout/mismatch_mean"] for row in rows) < 1e-4


@pytest.mark.parametrize("rescore", [[], ["--train.no-rescore"]])
def test_a_wrong_temperature_is_noticed_and_the_limit_can_be_moved_or_switched_off(rescore, tiny) -> None:
    class Warm(CopyEngine):
        def sample(self, contexts: Any, *, temperature: float, **how: Any) -> Any:
            return super().sample(contexts, temperature=1.2 * temperature, **how)

    for option, stops in (([], True), (["0.001"], True), (["5"], False), (["0"], False)):
        limit = ["--train.max-mismatch", *option] if option else []
        trainer, _ = build(parse(arguments(tiny, *rescore, *limit)))
        plant(trainer, Warm)
        if stops:
            with pytest.raises(TrainingError, match="Step 1: the sampler's log-probabilities differ"):
                trainer.step()
        else:
            assert trainer.step()[0]["rollout/mismatch_mean"] > 1e-3


def test_the_mean_is_over_sampled_tokens(tiny) -> None:
    # espo scores every row before its update.
    options = small_run(tiny, "--algo", "espo", "--env.goal", EASY, "--train.max-mismatch", "0")
    trainer, _ = build(parse(options))
    rollouts, metrics = trainer.gather()
    mask = rollouts.data[keys.MASK]
    rollouts.data[keys.SAMPLER_LOG_PROB] += torch.where(mask, 0.5, 77.0)
    trainer.before_update(rollouts, metrics)
    assert metrics["rollout/mismatch_mean"] == pytest.approx(0.5, abs=1e-3)


def test_the_limit_is_the_measured_rounding_unless_it_is_given(tiny) -> None:
    trainer, _ = build(parse(arguments(tiny)))
    policy, options = trainer.policy, trainer.config.train
    assert limit_of(policy, options) == policy.rounding.tolerance
    options.max_mismatch = 0.0
    assert limit_of(policy, options) == math.inf
    options.max_mismatch = 0.25
    assert limit_of(policy, options) == 0.25
    trainer.watch.check({}, [], 1)  # a step in which nothing was scored
    trainer.watch.check({"rollout/mismatch_mean": 1.0, "rollout/staleness": 1.0}, [], 1)
    for gap in (1.0, math.nan):
        with pytest.raises(TrainingError):
            trainer.watch.check({"rollout/mismatch_mean": gap, "rollout/staleness": 0.0}, [], 1)
    with pytest.raises(ConfigError, match=r"--train\.max-mismatch must be 0 or more nats, got -1"):
        parse(arguments(tiny, "--train.max-mismatch", "-1"))


class Notes:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def panel(self, title: str, text: str) -> None:
        pass

    def settings(self, config: Any) -> None:
        pass


@pytest.mark.parametrize("ahead", ["0", "1"])
def test_the_start_report_says_where_later_steps_are_probed(ahead, tiny) -> None:
    trainer, _ = build(parse(arguments(tiny, "--train.ahead", ahead)))
    notes = Notes()
    introduce(trainer, notes)  # type: ignore[arg-type]
    trainer.policy.close()
    said = [note for note in notes.notes if "--train.ahead 1" in note]
    assert len(said) == int(ahead)
    assert any("sampler and scorer differ by at most" in note for note in notes.notes)
