"""An exact task: its rules, its start point, how a run of it trains, and how it is scored."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from llmrl.algorithms import Algorithm
from llmrl.registry import Registry
from llmrl.studies.exact.machine import Machine, Rules, build

if TYPE_CHECKING:
    from llmrl.studies.exact.run import RunResult


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """The name."""


T = TypeVar("T", bound=Named)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run trains."""

    learning_rate: float = 3e-3
    """Of Adam; constant."""
    updates: int = 16
    """Optimiser updates per rollout."""
    lag: int = 0
    """How many rollouts old the policy is that samples; the ratio is taken to that policy."""
    rollouts: int = 25
    """Rollouts of a run."""
    prompts: int = 16
    """Prompts per rollout."""
    group_size: int = 8
    """Responses per prompt."""
    grad_norm: float = 1.0
    """The gradient is scaled down to this norm."""


def mean_success(machine: Machine, ends: Tensor) -> float:
    """The probability of success, prompts being equally likely."""
    worth = torch.tensor([outcome.success for outcome in machine.outcomes], dtype=ends.dtype)
    return float((ends * worth).sum())


def pass_at_8_of_each(machine: Machine, ends: Tensor) -> float:
    """How many of a prompt's right answers are among 8 responses, as a share of the best possible number."""
    total = 0.0
    for kinds in machine.kind_probability(ends).values():
        right = [p for kind, p in kinds.items() if kind != "wrong"]
        best = len(right) * (1 - (1 - 1 / len(right)) ** 8)
        total += sum(1 - (1 - p) ** 8 for p in right) / best
    return total / len(machine.starts)


@dataclass(frozen=True, kw_only=True)
class ExactTask:
    """One task: rules, start point, settings and score."""

    name: str
    """Its name."""
    asks: str
    """What it asks of an objective, in one line."""
    version: int = 1
    """Raise it with any change of the task: runs of two versions are not compared."""
    rules: Callable[[], Rules]
    """Makes the rules."""
    hidden: int = 48
    """Units of the policy's one hidden layer; 0: one logit per feature and token."""
    start: float = 0.12
    """The start point is fitted until success has this probability."""
    settings: Settings = field(default_factory=Settings)
    """How a run trains unless it is told otherwise."""
    flip: float = 0.0
    """The verifier reports the opposite with this probability."""
    rounded: bool = False
    """The policy that samples computes its probabilities from logits in bfloat16."""
    score: Callable[[Machine, Tensor], float] = mean_success
    """The score in [0, 1] from how often each end is reached."""

    @functools.cached_property
    def machine(self) -> Machine:
        """Its states."""
        return build(self.rules())

    # How a study uses a task; run.py reads this module, so it is imported late.

    def check(self, algorithm: Algorithm, spec: str, settings: Settings) -> None:
        """Raise ConfigError if the algorithm, which ``spec`` names, reads what there is not."""
        from llmrl.studies.exact.run import check

        check(algorithm, spec)

    def run(self, algorithm: Algorithm, seed: int, settings: Settings) -> RunResult:
        """Train from the start point."""
        from llmrl.studies.exact.run import run

        return run(self, algorithm, seed, settings)

    def estimate(self, algorithm: Algorithm, settings: Settings) -> float:
        """Seconds of a run, from a short one."""
        from llmrl.studies.exact.run import estimate

        return estimate(self, algorithm, settings)


TASKS: Registry[Any] = Registry("task", entry_point_group="llmrl.tasks")


def register_task(task: T) -> T:
    """Give a task its name in ``llmrl study --tasks``; ``module:name`` needs no registration."""
    TASKS.add(task.name, task)
    return task
