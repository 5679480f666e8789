"""Any task of the reasoning-gym package: ``llmrl/ReasoningGym-v0``.

Only its generators are used.  Responses are graded by a verifier of ours, since some of its own
graders execute what the model wrote.
"""

from __future__ import annotations

import itertools
from typing import Any

from llmrl.envs.problems import SPLITS, Problem, split_of
from llmrl.envs.text import TextEnv, vector_of
from llmrl.registry import suggest

MAX_DRAWS = 1000
"""After so many problems of the other split, or seen before, a task counts as exhausted."""


class ReasoningGymProblems:
    """The problems of one task, without end.  Train and test are divided by the problem's text.

    Args:
        task: such as ``leg_counting``.
        split: ``train`` or ``test``.
        seed: another seed gives other problems.
        config: the task's own settings.
    """

    size = None

    def __init__(
        self, task: str, split: str = "train", seed: int = 0, config: dict[str, Any] | None = None
    ) -> None:
        try:
            import reasoning_gym
            from reasoning_gym.factory import DATASETS
        except ImportError as error:
            raise ImportError(
                "llmrl/ReasoningGym-v0 takes the package reasoning-gym: "
                "pip install 'llmrl[reasoning-gym]'."
            ) from error
        if task not in DATASETS:
            raise LookupError(f"reasoning-gym has no task {task!r}. {suggest(task, DATASETS)}")
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}. {suggest(split, SPLITS)}")
        self.task = task
        self.split = split
        self._data = reasoning_gym.create_dataset(task, seed=seed, size=2**31, **(config or {}))
        self._places: list[int] = []
        self._seen: set[str] = set()

    def __str__(self) -> str:
        return f"reasoning-gym {self.task}, {self.split}"

    def __getitem__(self, index: int) -> Problem:
        if index < 0:
            raise IndexError(f"A problem id must be 0 or more, got {index}.")
        while len(self._places) <= index:
            self._extend()
        item = self._data[self._places[index]]
        return Problem(
            id=f"{self.task}/{self._places[index]}",
            problem=item["question"],
            answer=str(item["answer"]),
            subject=self.task,
            source="reasoning-gym",
        )

    def _extend(self) -> None:
        begin = self._places[-1] + 1 if self._places else 0
        again: int | None = None
        for place in itertools.islice(itertools.count(begin), MAX_DRAWS):
            question = self._data[place]["question"]
            if split_of(question) != self.split:
                continue
            if question not in self._seen:
                self._seen.add(question)
                self._places.append(place)
                return
            again = place if again is None else again
        if again is None:
            raise LookupError(
                f"The task {self.task!r} has too few problems to make {self.split} ones of them."
            )
        self._places.append(again)


class ReasoningGymEnv(TextEnv):
    """A task of reasoning-gym, one problem an episode.

    Args:
        task: which task, such as ``leg_counting`` or ``basic_arithmetic``.
        split: ``train`` or ``test``; they never overlap.
        seed: another seed gives other problems.
        config: the task's own settings.
        verifier: ``math`` for tasks whose answers are numbers or formulas, ``exact`` for texts.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        task: str = "leg_counting",
        split: str = "train",
        seed: int = 0,
        config: dict[str, Any] | None = None,
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        problems = ReasoningGymProblems(task, split, seed, config)
        super().__init__(problems, verifier, render_mode=render_mode)


ReasoningGymEnv_vector = vector_of(ReasoningGymEnv)
