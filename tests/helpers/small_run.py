"""A small run: its options, its steps without the clock, and whether two of them went the same way."""

from __future__ import annotations

import contextlib
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trivial  # noqa: F401  registers tests/SayA-v0

from llmrl.rollouts.records import Record
from llmrl.training import checkpoint, run_state
from llmrl.training.build import build
from llmrl.training.config import Config
from llmrl.training.metrics import find_metric
from llmrl.training.metrics_file import MetricsFile, read_metrics
from llmrl.training.trainer import Trainer

EASY = "".join(map(chr, range(ord("0"), ord("z"))))
"""A goal of tests/SayA-v0 for which half of what a random model says is rewarded: each step has something to learn."""


def small_run(policy: Path, *more: str, env: str = "tests/SayA-v0") -> list[str]:
    """Options of a run with 2 problems x 4 responses of 4 tokens and two updates a step; those of ``more`` win."""
    size = (
        "--policy.max-response-length 4 --train.prompts-per-step 2 --train.group-size 4 --train.updates-per-step 2 "
        "--eval.problems 0 --threads 1"
    )
    return ["--policy", str(policy), "--env", env, *size.split(), *more]


def untimed(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the clock."""
    return {name: value for name, value in metrics.items() if not name.startswith(("time/", "perf/tokens_per_second"))}


def untimed_rows(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run's folder without what depends on the clock."""
    return [untimed(row) for row in read_metrics(folder / "metrics.jsonl")]


def steps(trainer: Trainer, count: int) -> list[tuple[dict[str, Any], list[Record]]]:
    """Make steps; their metrics without the clock, and their records."""
    done = []
    for _ in range(count):
        metrics, rollouts = trainer.step()
        assert [name for name in metrics if find_metric(name) is None] == []
        done.append((untimed(metrics), rollouts.records))
    return done


def save(trainer: Trainer, folder: Path) -> Path:
    """Write a checkpoint into a run's folder."""
    with contextlib.closing(MetricsFile(folder / "metrics.jsonl")) as metrics:
        return run_state.save(trainer, folder, metrics)


def same_tensors(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> bool:
    """Bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def equal(first: Any, second: Any) -> bool:
    """Bit by bit, of tensors within dictionaries and lists too."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def resumed_from(saved: Path, config: Config) -> Trainer:
    """A new trainer that goes on from a checkpoint."""
    trainer, _ = build(config, saved)
    run_state.restore(trainer, checkpoint.load_state(saved), saved)
    return trainer


def stir(seed: int) -> None:
    """Set every random generator of the process."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def press_control_c_after(monkeypatch: Any, count: int) -> None:
    """Have the process of a test get SIGINT at the end of the step with this number."""
    step = Trainer.step

    def interrupted(self: Trainer) -> Any:
        result = step(self)
        if self.counters.step == count:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(Trainer, "step", interrupted)
