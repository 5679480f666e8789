"""Environments: one set of them, of which a batch of episodes borrows as many as it has rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from llmrl.envs.vector import TextVectorEnv


class Environments:
    """Environments of one kind, made when they are first needed and then used again.

    Environment i is the same whatever the number of rows that borrow it, and draws from a generator of its
    own that depends on ``seed`` and i alone.

    Args:
        env_id: a Gymnasium id; an environment without a vector form of its own is batched for us.
        options: what ``gymnasium.make`` passes to it.
        seed: of the generators of environments that ignore the seed of ``reset``.
    """

    def __init__(self, env_id: str, options: dict[str, Any], seed: int = 0) -> None:
        self.env_id = env_id
        self.options = options
        self.seed = seed
        self.time_limit: float | None = None
        """Seconds that one call of an environment or its verifier may take."""
        self._envs: list[gymnasium.Env[str, str]] = []
        self._lent: TextVectorEnv | None = None

    def of_size(self, rows: int) -> TextVectorEnv:
        """The first ``rows`` environments as one vector environment; the next call takes them back."""
        if self._lent is None or self._lent.num_envs != rows:
            if len(self._envs) < rows:
                begin = len(self._envs)
                for number, env in enumerate(self._made(rows - begin), begin):
                    # Those that heed the seed of reset are seeded there.
                    env.unwrapped.np_random = np.random.default_rng([self.seed, number])
                    self._envs.append(env)
            self._lent = TextVectorEnv(self._envs[:rows])
            self._lent.tolerant = True  # one environment that raises must not cost the others their work
        self._lent.time_limit = self.time_limit
        return self._lent

    def _made(self, count: int) -> Sequence[gymnasium.Env[str, str]]:
        return TextVectorEnv.make(self.env_id, count, **self.options).envs

    def num_problems(self) -> int | None:
        """How many problems there are; None where they never end."""
        return self.of_size(1).num_problems

    def state(self) -> list[dict[str, Any]]:
        """The state of each environment's generator, of numbers and texts alone."""
        return [_plain(env.unwrapped.np_random.bit_generator.state) for env in self._envs]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Take up what :meth:`state` gave; environments that do not exist yet are made."""
        if states:
            self.of_size(len(states))
        for env, state in zip(self._envs, states, strict=False):
            env.unwrapped.np_random.bit_generator.state = state

    def close(self) -> None:
        """Close all of them."""
        for env in self._envs:
            env.close()
        self._envs, self._lent = [], None


class CopiedEnvironments(Environments):
    """Environments that are copies of one that exists already.

    Args:
        env: a text environment; it is copied with :func:`copy.deepcopy` and not used itself.
        seed: of the generators of environments that ignore the seed of ``reset``.
    """

    def __init__(self, env: gymnasium.Env[str, str], seed: int = 0) -> None:
        super().__init__(str(env.spec.id if env.spec is not None else type(env.unwrapped).__name__), {}, seed)
        self._env = env

    def _made(self, count: int) -> Sequence[gymnasium.Env[str, str]]:
        return [copy.deepcopy(self._env) for _ in range(count)]


def _plain(value: Any) -> Any:
    """A bit generator's state without arrays, which a checkpoint does not hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
