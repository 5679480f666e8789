"""A nano task: an environment, a start policy, and the settings of a run of llmrl's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmrl.algorithms import Algorithm
from llmrl.errors import ConfigError
from llmrl.studies.exact.task import Settings, register_task

if TYPE_CHECKING:
    from llmrl.studies.exact.run import RunResult

PROBLEMS = 256
"""Test problems of an evaluation, always the same; each is answered once, by sampling."""
POINTS = 10
"""Maximum number of evaluations of a run, without the one before its first rollout."""


@dataclass(frozen=True, kw_only=True)
class NanoTask:
    """One task: an environment, a start policy that is sometimes right, and settings."""

    name: str
    """Its name."""
    asks: str
    """The goal, in one line."""
    version: int = 1
    """Version of the task; increase it with any change, because runs of two versions are not compared."""
    policy: str
    """The start policy: an embedded one, or a folder."""
    env_id: str
    """The environment."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Its options."""
    response_tokens: int
    """Maximum number of tokens of a response; with several turns, of all responses and replies together."""
    settings: Settings
    """Default settings of a run."""

    def sections(self, settings: Settings) -> dict[str, dict[str, Any]]:
        """The sections of a run's settings, as ``--config`` reads them."""
        return {
            "env": {"id": self.env_id, **self.env_options},
            "policy": {"max_prompt_length": 32, "max_response_length": self.response_tokens},
            "train": {
                "steps": settings.rollouts,
                "prompts_per_step": settings.prompts,
                "group_size": settings.group_size,
                "updates_per_step": settings.updates,
                "learning_rate": settings.learning_rate,
                "critic_learning_rate": settings.learning_rate,
                "warmup_steps": 0,
                "max_grad_norm": settings.grad_norm,
            },
        }

    def check(self, algorithm: Algorithm, spec: str, settings: Settings) -> None:
        """Raise ConfigError for settings that the trainer does not know. It writes all that an algorithm reads."""
        if settings.lag:
            raise ConfigError(
                f"{self.name} samples with the current policy, got lag {settings.lag}. Study older rollouts "
                "on exact tasks."
            )

    def run(self, algorithm: Algorithm, seed: int, settings: Settings) -> RunResult:
        """Train from the start policy; see :func:`llmrl.studies.nano.run.run`."""
        from llmrl.studies.nano.run import run  # transformers is loaded only for nano tasks

        return run(self, algorithm, seed, settings)

    def estimate(self, algorithm: Algorithm, settings: Settings) -> float:
        """Estimated seconds of a run, from two of its rollouts."""
        from llmrl.studies.nano.run import estimate

        return estimate(self, algorithm, settings)


def places(rollouts: int) -> list[int]:
    """The numbers of rollouts after which a run is evaluated: evenly spaced, including 0 and the last.

    >>> places(4), places(55)[:4], places(55)[-1]
    ([0, 1, 2, 3, 4], [0, 6, 11, 16], 55)
    """
    count = min(rollouts, POINTS)
    return [round(rollouts * i / count) for i in range(count + 1)]


NANO: Mapping[str, NanoTask] = {
    task.name: register_task(task)
    for task in (
        NanoTask(
            name="nano-carry",
            asks="Add longer numbers than those of the supervised training.",
            policy="llmrl/nano-carry",
            env_id="llmrl/NanoCarry-v0",
            env_options={"digits": 5},
            response_tokens=10,
            settings=Settings(learning_rate=1e-4, updates=4, rollouts=60),
        ),
        NanoTask(
            name="nano-countdown",
            version=3,
            asks="Try expressions until one reaches the target, then stop.",
            policy="llmrl/nano-countdown",
            env_id="llmrl/NanoCountdown-v0",
            env_options={"numbers": 3},
            response_tokens=120,
            settings=Settings(learning_rate=1e-4, updates=4, rollouts=240),
        ),
        NanoTask(
            name="nano-guess",
            version=2,
            asks="Ask the most informative question, then use the reply: two turns, one reward.",
            policy="llmrl/nano-guess",
            env_id="llmrl/NanoGuess-v0",
            response_tokens=12,
            settings=Settings(learning_rate=3e-4, updates=4, rollouts=120),
        ),
    )
}
"""The nano tasks, by name."""
