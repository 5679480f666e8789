"""A pool of environments; a batch of episodes uses one for each of its rows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from llmrl.envs.text import TextEnv
from llmrl.envs.vector import TextVectorEnv

NO_SPLIT = " (without a split: they may be training problems)"


class Environments:
    """Environments of one kind. They are made when they are first needed, and reused afterwards.

    Args:
        env_id: a Gymnasium id; an environment without a vector form of its own is run in a :class:`TextVectorEnv`.
        options: arguments that ``gymnasium.make`` passes to the environment.
        wrappers: applied to each environment, the first one innermost.
    """

    def __init__(
        self,
        env_id: str,
        options: dict[str, Any],
        wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Env]] = (),
    ) -> None:
        self.env_id = env_id
        self.options = options
        self.wrappers = wrappers
        self.time_limit: float | None = None
        """Seconds that one call of an environment or its verifier may take."""
        self.remark = ""
        """What reports add to the description of the problems."""
        self._envs: list[gymnasium.Env[str, str]] = []
        self._lent: TextVectorEnv | None = None

    def of_size(self, rows: int) -> TextVectorEnv:
        """The first ``rows`` environments as one vector environment; it may be used until the next call."""
        if self._lent is None or self._lent.num_envs != rows:
            if len(self._envs) < rows:
                self._envs += self._made(rows - len(self._envs))
            self._lent = TextVectorEnv(self._envs[:rows])
            self._lent.tolerant = True  # if one environment raises, the others must go on
        self._lent.time_limit = self.time_limit
        return self._lent

    @property
    def title(self) -> str:
        """The name of the problems in reports: the id and their source, or the name of the data."""
        env = self.of_size(1).envs[0].unwrapped
        return env.title(self.env_id) if isinstance(env, TextEnv) else self.env_id

    def __str__(self) -> str:
        """The title, and the description of a list of problems."""
        env = self.of_size(1).envs[0].unwrapped
        if not isinstance(env, TextEnv) or type(env.problems).__str__ is object.__str__:
            return self.title + self.remark  # Python's default text for an object is an address
        count = str(env.problems)
        return (count if self.title in count else f"{self.title}, {count}") + self.remark

    def held_out(self) -> Environments:
        """Environments of the same kind for an evaluation.

        They ask the test problems. Without an option ``split`` they ask the same problems, and a remark says so.
        """
        made = self._test_part()
        if made is None:
            made = copy.copy(self)
            made._envs, made._lent = [], None
            made.remark = NO_SPLIT
        return made

    def _test_part(self) -> Environments | None:
        if not _takes_split(self.of_size(1).envs[0].spec):
            return None
        return Environments(self.env_id, {**self.options, "split": "test"}, self.wrappers)

    def _made(self, count: int) -> Sequence[gymnasium.Env[str, str]]:
        return TextVectorEnv.make(self.env_id, count, wrappers=self.wrappers, **self.options).envs

    def num_problems(self) -> int | None:
        """The number of problems; None if it is unlimited."""
        return self.of_size(1).num_problems

    @property
    def made(self) -> int:
        """The number of environments made so far."""
        return len(self._envs)

    def seed(self, seeds: Sequence[int]) -> None:
        """Give each environment in use a new generator, from one seed each.

        The draws of an environment then depend on its row alone, not on its earlier draws.
        """
        for env, seed in zip(self._envs, seeds, strict=False):
            env.unwrapped.np_random = np.random.default_rng(seed)

    def close(self) -> None:
        """Close all environments."""
        for env in self._envs:
            env.close()
        self._envs, self._lent = [], None


class CopiedEnvironments(Environments):
    """Environments that are copies of a given one.

    Args:
        env: a text environment; it is copied with :func:`copy.deepcopy`, and never used itself.
    """

    def __init__(self, env: gymnasium.Env[str, str]) -> None:
        spec = env.spec
        name = type(env.unwrapped).__name__ if spec is None else spec.id
        super().__init__(name, {} if spec is None else dict(spec.kwargs))
        self._env = env

    def _test_part(self) -> Environments | None:
        spec = copy.copy(self._env.unwrapped.spec)
        if spec is None or not _takes_split(spec):
            return None
        options, spec.kwargs = {**spec.kwargs, "split": "test"}, {}  # make() would copy what the spec holds
        env, inner = copy.deepcopy(self._env), gymnasium.make(spec, **options).unwrapped
        if not isinstance(env, gymnasium.Wrapper):
            return CopiedEnvironments(inner)
        last = env
        while isinstance(last.env, gymnasium.Wrapper):
            last = last.env
        last.env = inner  # the wrappers are not in the spec, or without their arguments
        return CopiedEnvironments(env)

    def _made(self, count: int) -> Sequence[gymnasium.Env[str, str]]:
        return [copy.deepcopy(self._env) for _ in range(count)]


def _takes_split(spec: EnvSpec | None) -> bool:
    entry = None if spec is None else spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return creator is not None and "split" in inspect.signature(creator).parameters
