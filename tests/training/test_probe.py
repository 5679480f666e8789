"""One step ahead, the sampler is probed when it is given the weights: one that breaks stops the run, and no other."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from engine_stand_in import TOKEN, ModelHost, running
from small_run import EASY, small_run, steps, stir
from tiny import SMALLEST, tiny_folder

from llmrl.distributed.world import World
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.copy import CopyEngine
from llmrl.training import mismatch
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.faults import TrainingError
from llmrl.training.trainer import Trainer

STEPS = 4
Breaking = tuple[Trainer, Callable[[], None]]
"""A trainer, and what makes its sampler keep its weights from then on and say that it takes the new ones."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


@pytest.fixture(autouse=True)
def often(monkeypatch) -> None:
    monkeypatch.setattr(mismatch, "PROBE_EVERY", 2)


def make(tiny: Path, ahead: int, *more: str) -> Trainer:
    size = f"--train.learning-rate 1e-2 --train.warmup-steps 0 --train.steps {STEPS} --train.ahead {ahead}"
    trainer, _ = build(parse(small_run(tiny, "--algo", "grpo", *size.split(), "--env.goal", EASY, *more)))
    return trainer


@contextlib.contextmanager
def own_loop(tiny: Path, ahead: int, folder: Path) -> Iterator[Breaking]:
    trainer = make(tiny, ahead)
    policy = trainer.policy
    engine = policy.engine if ahead else policy.sample_from_copy(World())
    assert isinstance(engine, CopyEngine)

    def forget(model: Any, version: int) -> None:
        engine.version = version

    yield trainer, lambda: setattr(engine, "push", forget)


@contextlib.contextmanager
def server(tiny: Path, ahead: int, folder: Path) -> Iterator[Breaking]:
    host = ModelHost()
    with running(host, folder) as there:
        trainer = make(tiny, ahead, "--policy.engine", there.url)
        try:
            yield trainer, lambda: setattr(host, "_take", lambda settings, files: None)
        finally:
            trainer.policy.close()


@pytest.fixture(params=[own_loop, server])
def started(request, tmp_path, monkeypatch) -> Any:
    monkeypatch.setenv(wire.TOKEN_VARIABLE, TOKEN)
    return lambda tiny, ahead: request.param(tiny, ahead, tmp_path)


@pytest.mark.parametrize(("ahead", "noticed"), [(0, 4), (1, 3)])
def test_a_sampler_that_breaks_in_the_middle_of_a_run_stops_it(ahead, noticed, started, tiny) -> None:
    with started(tiny, ahead) as (trainer, break_sampler):
        steps(trainer, 2)
        break_sampler()
        with pytest.raises(TrainingError, match=rf"^Step {noticed}: .*an engine that does not have the newest weights"):
            steps(trainer, 2)


def test_a_probe_changes_nothing_of_a_run(started, tiny, monkeypatch) -> None:
    gaps: list[float] = []
    probe = mismatch.Watch.probe

    def probed(self: mismatch.Watch, records: Any) -> float:
        gaps.append(probe(self, records))
        return gaps[-1]

    def went() -> tuple[Any, list[torch.Tensor], list[Any]]:
        with started(tiny, 1) as (trainer, _):
            stir(5)
            done = steps(trainer, STEPS)
            weights = [parameter.clone() for parameter in trainer.learner.masters]
        return done, weights, [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]

    monkeypatch.setattr(mismatch.Watch, "probe", probed)
    with_probes = went()
    assert len(gaps) == 2
    assert max(gaps) < 1e-4
    monkeypatch.setattr(mismatch.Watch, "probe", lambda self, records: 0.0)
    without = went()
    assert with_probes[0] == without[0]
    assert all(map(torch.equal, with_probes[1], without[1]))
    assert with_probes[2] == without[2]


def test_the_sampler_is_probed_only_where_the_steps_are_not_compared(tiny, monkeypatch) -> None:
    monkeypatch.setattr(mismatch.Watch, "probe", lambda self, records: pytest.fail("probed"))
    steps(make(tiny, 0), 2)
    steps(make(tiny, 1, "--train.max-mismatch", "0"), 2)


def test_all_ranks_stop_where_the_sampler_of_one_is_wrong(tiny) -> None:
    class Two(World):
        def largest(self, tensor: torch.Tensor) -> None:
            tensor.clamp_(min=1.0)  # what the other rank has found

    trainer = make(tiny, 1)
    trainer.watch = mismatch.Watch(trainer.policy, trainer.config.train, Two())
    with pytest.raises(TrainingError, match=r"Step 1: .* by 1 nats a token"):
        trainer.step()


def test_a_gap_that_is_no_number_stops_the_run(tiny) -> None:
    trainer = make(tiny, 1)
    steps(trainer, 1)
    sample = trainer.policy.engine.sample

    def silent(contexts: Any, **how: Any) -> Any:
        return [drawn._replace(log_probs=[float("nan")] * len(drawn.tokens)) for drawn in sample(contexts, **how)]

    trainer.policy.engine.sample = silent
    assert trainer.watch.probe([{"problem": "say 1"}]) == float("inf")
