"""Any task of the reasoning-gym package: ``llmrl/ReasoningGym-v0``.

Only its generators are used. A verifier of llmrl grades the responses, because some graders of the package execute
text of the model.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from llmrl.envs.problems import SPLITS, Problem, digest, split_of
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.errors import ConfigError
from llmrl.registry import UnknownName, suggest

TRIES = 256
"""The largest number of items that are drawn to find a problem of the right split."""
CHUNK = 40
"""Number of problems from one data set of the package; it makes an item when the item is read."""


def _settings(config: str | Mapping[str, Any] | None, known: set[str]) -> dict[str, Any]:
    """A task's own settings, read from JSON if they are a text, with names among ``known``."""
    settings: Any = config or {}
    if isinstance(config, str):
        try:
            settings = json.loads(config)
        except ValueError as error:
            raise ConfigError(
                f'config must be JSON such as {{"min_animals": 2}}, got {config!r:.80}: {error}.'
            ) from None
    if not isinstance(settings, Mapping):
        raise ConfigError(f'config must hold settings by name, such as {{"min_animals": 2}}, got {config!r:.80}.')
    for name in settings:
        if name not in known:
            raise ConfigError(f"config: the task has no setting {name!r}. {suggest(name, sorted(known))}")
    return dict(settings)


class ReasoningGymProblems:
    """An unlimited number of problems of one task. A hash of the problem's text divides train and test.

    A task with few different problems repeats them.

    Args:
        task: such as ``leg_counting``.
        split: ``train`` or ``test``.
        seed: another seed gives other problems.
        config: the task's own settings, also as JSON text.
    """

    size = None

    def __init__(
        self,
        task: str,
        split: str = "train",
        seed: int = 0,
        config: str | Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import reasoning_gym
            from reasoning_gym.factory import DATASETS
        except ImportError as error:
            raise ImportError(
                "llmrl/ReasoningGym-v0 needs the package reasoning-gym: pip install 'llmrl[reasoning-gym]'."
            ) from error
        if task not in DATASETS:
            raise UnknownName(f"reasoning-gym has no task {task!r}. {suggest(task, DATASETS)}")
        if split not in SPLITS:
            raise ConfigError(f"There is no split {split!r}. {suggest(split, SPLITS)}")
        self.task = task
        self.split = split
        self._choice = (task, split, seed, config)
        settings = _settings(config, {field.name for field in dataclasses.fields(DATASETS[task][1])} - {"seed", "size"})
        base = digest(str(seed)) % 2**31

        @functools.lru_cache(maxsize=4)
        def chunk(number: int) -> Any:
            # The package draws item i with seed + i, so different chunks hold different items.
            size = CHUNK * TRIES
            return reasoning_gym.create_dataset(task, seed=base + number * size, size=size, **settings)

        self._chunk = chunk
        try:
            first = chunk(0)[0]
        except (AssertionError, TypeError, ValueError) as error:
            raise ConfigError(f"The task {task!r} refuses the settings {settings} in config: {error}") from error
        if first["answer"] is None:
            raise ConfigError(
                f"The problems of {task!r} have no single right answer to compare with. Choose another task."
            )
        self[0]  # raises where the task has no problem of the split

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy generates its problems again; they are the same."""
        return ReasoningGymProblems, self._choice

    def __str__(self) -> str:
        return f"reasoning-gym {self.task}, {self.split}"

    def __getitem__(self, index: int) -> Problem:
        if index < 0:
            raise IndexError(f"A problem id must be 0 or more, got {index}.")
        number, place = divmod(index, CHUNK)
        items = self._chunk(number)
        for attempt in range(TRIES):
            item = items[place * TRIES + attempt]
            if split_of(item["question"]) == self.split:
                return Problem(
                    id=f"{self.task}/{self.split}/{index}",
                    problem=item["question"],
                    answer=str(item["answer"]),
                    subject=self.task,
                    source="reasoning-gym",
                )
        raise ConfigError(
            f"The task {self.task!r} has too few problems: none of them belongs to the split {self.split}. Choose "
            "settings in config, or another task, with more different problems."
        )


class ReasoningGymEnv(TextEnv):
    """A task of reasoning-gym, one problem an episode.

    Args:
        task: which task, such as ``leg_counting`` or ``basic_arithmetic``.
        split: ``train`` or ``test``; the two never overlap.
        seed: another seed gives other problems.
        config: the task's own settings as JSON, such as ``{"min_animals": 2}``.
        verifier: ``math`` compares numbers and formulas by value, and other answers as texts.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        task: str = "leg_counting",
        split: str = "train",
        seed: int = 0,
        config: str | None = None,
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        problems = ReasoningGymProblems(task, split, seed, config)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = task


ReasoningGymEnv_vector = vector_of(ReasoningGymEnv)
