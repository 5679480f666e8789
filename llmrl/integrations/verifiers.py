"""Gymnasium environments of texts in Prime Intellect's ``verifiers``, with one turn or several.

``verifiers`` finds a taskset and its environment by the name of a module, so a short module must export them;
docs/integrations/verifiers.md shows it. :mod:`llmrl.integrations.verifiers_env` uses a taskset as an environment.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import gymnasium
import verifiers.v1 as vf
from pydantic import Field

import llmrl  # noqa: F401  registers the environments
from llmrl.errors import ConfigError
from llmrl.training.build import held_out_environments

REWARD = "llmrl"
"""The name of the reward on a trace."""


class GymnasiumData(vf.TaskData):
    """One problem of an environment; the first turn shows it."""

    env: str
    options: dict[str, Any]
    problem_id: int


class GymnasiumConfig(vf.TasksetConfig):
    """The choice of problems: ``--env.taskset.env llmrl/MathTool-v0 --env.taskset.problems 100``."""

    env: str = "llmrl/MATH-v0"
    """A Gymnasium id, also ``module:id``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of ``gymnasium.make``."""
    problems: int | None = Field(None, ge=1)
    """Number of problems, from the first; None: all."""


class GymnasiumTask(vf.Task[GymnasiumData]):
    """A problem; its environment gives the reward."""


class GymnasiumTaskset(vf.Taskset[GymnasiumTask, GymnasiumConfig]):
    """The problems of an environment, by their numbers."""

    def load(self) -> Iterator[GymnasiumTask]:
        """Each problem as a task.

        Raises:
            ConfigError: the environment has no known number of problems, and none is given.
        """
        config = self.config
        size = config.problems
        if size is None:
            environments = held_out_environments(config.env, {"split": "train", **config.options})
            size = environments.num_problems()
        if size is None:
            raise ConfigError(f"{config.env} has problems without end. Say how many: --env.taskset.problems 256.")
        for number in range(size):
            data = GymnasiumData(
                name=f"{config.env}#{number}", env=config.env, options=config.options, problem_id=number
            )
            yield GymnasiumTask(data, config.task)


class GymnasiumEnvConfig(vf.EnvConfig):
    """The configuration with one agent, which answers."""

    player: vf.AgentConfig = vf.AgentConfig()


class GymnasiumEnv(vf.Env[GymnasiumEnvConfig]):
    """Run a Gymnasium environment: its observations are the user's turns, and the agent's replies the actions.

    The rewards of all steps are summed. A response without a verdict (timeout, error) makes the episode fail, and
    ``verifiers`` may repeat it. It never counts as wrong.
    """

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """One episode."""
        data = task.data
        env = gymnasium.make(data.env, **data.options)
        try:
            observation, _ = await asyncio.to_thread(
                env.reset, seed=data.problem_id, options={"problem_id": data.problem_id}
            )
            total = 0.0
            async with agents.player.interaction(task) as interaction:
                for _ in itertools.count():
                    segment = await interaction.turn(observation)
                    if segment.terminated:
                        break
                    observation, reward, terminated, truncated, info = await asyncio.to_thread(
                        env.step, segment.last_reply
                    )
                    if not info.get("valid", True):
                        raise vf.TaskError(f"{data.env} gave no verdict: {info.get('detail')}")
                    total += float(reward)
                    if terminated or truncated:
                        break
        finally:
            env.close()
        interaction.trace.record_reward(REWARD, total)


__all__ = ["GymnasiumEnv", "GymnasiumTaskset"]
