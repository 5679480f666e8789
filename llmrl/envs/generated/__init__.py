"""Generated problems: seven subjects, five levels, exact answers, worked solutions, unlimited in number.

The split of a problem depends on its template, numbers and answer, not on its words: with any seeds, no test problem is
a training problem in other words. Every module of this package adds its templates on import.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.envs.generated.template import LEVELS, SUBJECTS, TEMPLATES, Draft, Template
from llmrl.envs.problems import SPLITS, Problem, digest, split_of
from llmrl.errors import ConfigError
from llmrl.registry import suggest

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

MAX_RANK = 10_000
"""Number of problems of a template among which none repeats; later problems may repeat."""
MAX_DRAWS = 400
"""After this many draws a template counts as exhausted, and problems may repeat."""


def draw_problem(template: Template, level: int, split: str, rng: np.random.Generator) -> Draft:
    """Draw a problem of one template that belongs to ``split``; draws of the other split are discarded."""
    for _ in range(MAX_DRAWS):
        draft = template.draw(rng, level)
        if split_of(template.key(draft)) == split:
            return draft
    raise LookupError(
        f"In {MAX_DRAWS} draws the template {template.name!r} gave no {split} problem of level "
        f"{level}: it knows too few problems."
    )


def solution(draft: Draft) -> str:
    """The worked solution as one text that ends in the boxed answer."""
    return " ".join((*draft.steps, f"The answer is $\\boxed{{{draft.answer}}}$."))


@dataclass
class _Stream:
    """The problems of one template in order: the draw of each problem, and the problems seen so far."""

    template: Template
    levels: tuple[int, ...]
    offset: int
    draws: list[int] = field(default_factory=list)
    seen: dict[int, set[int]] = field(default_factory=dict)
    """The problems so far, by level; cleared when the level has no others, so that all may repeat."""

    def level(self, rank: int) -> int:
        return self.levels[(rank + self.offset) % len(self.levels)]


class GeneratedProblems:
    """An unlimited number of problems, balanced over subjects, then templates, then levels.

    Problem i depends on ``seed`` and on the choice of subjects and levels, not on earlier requests. Within
    the first 10,000 problems of a template, a problem repeats only if there is no other.

    Args:
        split: ``train`` or ``test``.
        subjects: which of :data:`~llmrl.envs.generated.template.SUBJECTS`; all by default.
        levels: which difficulties, 1 to 5; all by default.
        seed: another seed gives other problems.

    >>> problems = GeneratedProblems("train", subjects=["algebra"], levels=[1])
    >>> problems[3] == problems[3], problems[3].subject, problems[3].level
    (True, 'algebra', 1)
    """

    size = None
    name = "generated"

    def __init__(
        self,
        split: str = "train",
        subjects: Sequence[str] | None = None,
        levels: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"There is no split {split!r}. {suggest(split, SPLITS)}")
        for subject in subjects or ():
            if subject not in SUBJECTS:
                raise ConfigError(f"There is no subject {subject!r}. {suggest(subject, SUBJECTS)}")
        for level in levels or ():
            if level not in LEVELS:
                raise ConfigError(f"levels must be among 1 to 5, got {level!r}.")
        self.split = split
        self.seed = seed
        self._choice = (split, subjects, levels, seed)
        wanted = set(levels or LEVELS)
        self._streams: list[list[_Stream]] = []
        for subject in SUBJECTS:
            if subjects and subject not in subjects:
                continue
            fitting = [
                (template, tuple(level for level in template.levels if level in wanted))
                for _, template in sorted(TEMPLATES.items())
                if template.subject == subject and wanted.intersection(template.levels)
            ]
            if fitting:
                self._streams.append([_Stream(template, own, place) for place, (template, own) in enumerate(fitting)])
        if not self._streams:
            raise ConfigError(f"No template makes {subjects} of levels {sorted(wanted)}.")

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy generates its problems again; they are the same."""
        return GeneratedProblems, self._choice

    def __str__(self) -> str:
        return f"generated {self.split} problems, seed {self.seed}"

    def __getitem__(self, index: int) -> Problem:
        stream, rank = self._place(index)
        draft = self.draft(index)
        return Problem(
            id=f"generated/{self.split}/{self.seed}/{index}",
            problem=draft.problem,
            answer=draft.answer,
            solution=solution(draft),
            subject=stream.template.subject,
            level=stream.level(rank),
            source="generated",
        )

    def draft(self, index: int) -> Draft:
        """Problem ``index`` as its template drew it, with the solution as a list of steps."""
        stream, rank = self._place(index)
        if rank >= MAX_RANK:
            return self._draw(stream, rank, self._first_attempt(stream, rank))
        while len(stream.draws) <= rank:
            self._extend(stream)
        return self._draw(stream, rank, stream.draws[rank])

    def _place(self, index: int) -> tuple[_Stream, int]:
        if index < 0:
            raise IndexError(f"A problem id must be 0 or more, got {index}.")
        rank, subject = divmod(index, len(self._streams))
        rank, place = divmod(rank, len(self._streams[subject]))
        return self._streams[subject][place], rank

    def _draw(self, stream: _Stream, rank: int, attempt: int) -> Draft:
        rng = np.random.default_rng([self.seed, _name_key(stream.template.name), rank, attempt])
        return stream.template.draw(rng, stream.level(rank))

    def _first_attempt(self, stream: _Stream, rank: int) -> int:
        """The first draw that belongs to the split."""
        for attempt in range(MAX_DRAWS):
            if split_of(stream.template.key(self._draw(stream, rank, attempt))) == self.split:
                return attempt
        raise self._exhausted(stream, rank)

    def _exhausted(self, stream: _Stream, rank: int) -> LookupError:
        return LookupError(
            f"In {MAX_DRAWS} draws the template {stream.template.name!r} gave no {self.split} "
            f"problem of level {stream.level(rank)}: it knows too few problems."
        )

    def _extend(self, stream: _Stream) -> None:
        rank = len(stream.draws)
        seen = stream.seen.setdefault(stream.level(rank), set())
        again: tuple[int, int] | None = None
        for attempt in range(MAX_DRAWS):
            draft = self._draw(stream, rank, attempt)
            if split_of(stream.template.key(draft)) != self.split:
                continue
            key = digest(draft.problem)
            if not any(key in other for other in stream.seen.values()):
                seen.add(key)
                stream.draws.append(attempt)
                return
            again = again or (attempt, key)
        if again is None:
            raise self._exhausted(stream, rank)
        stream.draws.append(again[0])
        seen.clear()
        seen.add(again[1])


@functools.cache
def _name_key(name: str) -> int:
    return digest(name)
