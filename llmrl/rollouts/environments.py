"""A pool of environments; a batch of episodes uses one for each of its rows."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from llmrl.envs.files import ListedProblems
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import TextVectorEnv


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
        """What reports add to the name of the problems; of an evaluation see :func:`not_held_out`."""
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
        """The name of the problems in reports: the id and their source, or the name of the data; and the remark."""
        return self._name + self.remark

    def __str__(self) -> str:
        """The title, and the description of a list of problems."""
        env = self.of_size(1).envs[0].unwrapped
        if not isinstance(env, TextEnv) or type(env.problems).__str__ is object.__str__:
            return self.title  # Python's default text for an object is an address
        count = str(env.problems)
        return (count if self._name in count else f"{self._name}, {count}") + self.remark

    def described(self, asked: int) -> str:
        """The text of the environments for an evaluation: of a list, how many of its problems are asked.

        >>> rows = [{"problem": f"{n} + 1", "answer": f"{n + 1}"} for n in range(5)]
        >>> Environments("llmrl/Data-v0", {"source": rows}).described(2)
        '2 of 5 problems of the given data'
        """
        size, whole = self.num_problems(), str(self)
        if size is None or asked >= size:
            return whole
        return whole.replace(f"{size} problems of ", f"{asked} of {size} problems of ", 1)

    @property
    def _name(self) -> str:
        env = self.of_size(1).envs[0].unwrapped
        return env.title(self.env_id) if isinstance(env, TextEnv) else self.env_id

    def held_out(self) -> Environments:
        """Environments of the same kind for an evaluation.

        They ask the test problems; without an option ``split`` the same problems.
        """
        made = self._test_part()
        if made is None:
            made = copy.copy(self)
            made._envs, made._lent = [], None
        return made

    def wrapped(self, wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Env]]) -> Environments:
        """These environments within further wrappers; new ones are made."""
        self.close()
        made = copy.copy(self)
        made.wrappers = [*self.wrappers, *wrappers]
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
        copies = (copy.deepcopy(self._env) for _ in range(count))
        return [functools.reduce(lambda env, wrap: wrap(env), self.wrappers, one) for one in copies]


def not_held_out(training: Environments, evaluation: Environments) -> str:
    """The remark for an evaluation that asks training problems, or may ask them; empty if its problems are held out.

    Problems in lists are compared by their texts.
    """
    asked, trained = _texts(evaluation), _texts(training)
    if asked is not None and trained is not None:
        known = set(trained)
        shared = sum(text in known for text in asked)
        if shared == len(asked):
            return " (nothing is held out: these are training problems)"
        return f" ({shared} of {len(asked)} are training problems too)" if shared else ""
    if evaluation.env_id == training.env_id and "split" not in evaluation.options:
        return " (without a split: they may be training problems)"
    return ""


def _texts(environments: Environments) -> list[str] | None:
    """The problems of environments that ask a list; None if they ask another kind."""
    env = environments.of_size(1).envs[0].unwrapped
    if not isinstance(env, TextEnv) or not isinstance(env.problems, ListedProblems):
        return None
    return [env.problems[index].problem for index in range(len(env.problems))]


def _takes_split(spec: EnvSpec | None) -> bool:
    entry = None if spec is None else spec.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return creator is not None and "split" in inspect.signature(creator).parameters
