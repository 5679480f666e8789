"""An exact task: its rules, its start point, the settings of a run, and its score."""

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
    """An object with a name."""

    @property
    def name(self) -> str:
        """The name."""


T = TypeVar("T", bound=Named)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a run."""

    learning_rate: float = 3e-3
    """Learning rate of Adam; constant."""
    updates: int = 16
    """Optimiser updates per rollout."""
    lag: int = 0
    """Age of the sampling policy in rollouts; the ratio is relative to that policy."""
    rollouts: int = 25
    """Number of rollouts of a run."""
    prompts: int = 16
    """Prompts per rollout."""
    group_size: int = 8
    """Responses per prompt."""
    grad_norm: float = 1.0
    """A larger gradient norm is scaled down to this."""


def mean_success(machine: Machine, ends: Tensor) -> float:
    """The probability of success, with equally likely prompts."""
    worth = torch.tensor([outcome.success for outcome in machine.outcomes], dtype=ends.dtype)
    return float((ends * worth).sum())


def pass_at_8_of_each(machine: Machine, ends: Tensor) -> float:
    """Expected number of a prompt's right answers among 8 responses, divided by the largest possible number."""
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
    """The goal, in one line."""
    version: int = 1
    """Version of the task; increase it with any change, because runs of two versions are not compared."""
    rules: Callable[[], Rules]
    """Function that makes the rules."""
    hidden: int = 48
    """Number of units of the policy's hidden layer; 0: one logit per feature and token."""
    start: float = 0.12
    """The start point is fitted until success has this probability."""
    settings: Settings = field(default_factory=Settings)
    """Default settings of a run."""
    flip: float = 0.0
    """Probability that the verifier gives the opposite verdict."""
    rounded: bool = False
    """Whether the sampling policy computes its probabilities from logits in bfloat16."""
    score: Callable[[Machine, Tensor], float] = mean_success
    """The score in [0, 1], from the probability of each end."""

    @functools.cached_property
    def machine(self) -> Machine:
        """Its states."""
        return build(self.rules())

    # How a study uses a task; run.py reads this module, so it is imported late.

    def check(self, algorithm: Algorithm, spec: str, settings: Settings) -> None:
        """Raise ConfigError if the algorithm, which ``spec`` names, reads an entry that does not exist here."""
        from llmrl.studies.exact.run import check

        check(algorithm, spec)

    def run(self, algorithm: Algorithm, seed: int, settings: Settings) -> RunResult:
        """Train from the start point."""
        from llmrl.studies.exact.run import run

        return run(self, algorithm, seed, settings)

    def estimate(self, algorithm: Algorithm, settings: Settings) -> float:
        """Estimated seconds of a run, from a short one."""
        from llmrl.studies.exact.run import estimate

        return estimate(self, algorithm, settings)


TASKS: Registry[Any] = Registry("task", entry_point_group="llmrl.tasks")


def register_task(task: T) -> T:
    """Give a task its name in ``llmrl study --tasks``; ``module:name`` needs no registration."""
    TASKS.add(task.name, task)
    return task
