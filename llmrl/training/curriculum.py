"""Rules for which problems of the stream are asked: easy levels first, and no problem whose groups have no advantage.

A rule decides about one problem at a time, from the pass rates so far. Its state is part of the checkpoint. Without
rules every problem is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from llmrl.envs.problems import AsksProblems
from llmrl.errors import ConfigError
from llmrl.likeness import Each, Table, Within, refuse_unlike
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.records import Record, is_correct
from llmrl.rollouts.stream import PassRates, Rule, problem_seed
from llmrl.training.config import Config, CurriculumConfig, FilterConfig

PROBED = 512
"""The number of problems that are read to find the levels of an unlimited set."""


class Progress(NamedTuple):
    """The facts from which a schedule decides."""

    steps: int
    """Steps since the newest level was admitted, this one included."""
    rates: Sequence[float]
    """Pass rates of the problems of the newest level since then, in order."""


@dataclass(frozen=True)
class AboveAccuracy:
    """Admit the next level when the newest one is learned.

    >>> AboveAccuracy(0.7, window=2)(Progress(9, [0.0, 0.5, 1.0]))
    True
    """

    threshold: float
    """Mean pass rate from which the next level is admitted."""
    window: int
    """Number of the latest problems over which the mean is taken."""

    def __call__(self, progress: Progress) -> bool:
        """Whether the mean of the last ``window`` pass rates has reached the threshold."""
        latest = progress.rates[-self.window :]
        return len(latest) == self.window and sum(latest) / self.window >= self.threshold


@dataclass(frozen=True)
class AfterSteps:
    """Admit the next level after a number of steps.

    >>> AfterSteps(10)(Progress(9, [])), AfterSteps(10)(Progress(10, []))
    (False, True)
    """

    every: int
    """Steps."""

    def __call__(self, progress: Progress) -> bool:
        """Whether enough steps have passed since the newest level was admitted."""
        return progress.steps >= self.every


@dataclass
class LevelCurriculum:
    """Ask problems up to a level that a schedule raises. Problems without a level are always asked.

    Args:
        level_of: problem id -> its level; 0 if it has none.
        levels: all levels, rising.
        schedule: decides whether to admit the next level, such as :class:`AboveAccuracy`.
        admitted: number of levels that are asked at the start.
    """

    name: ClassVar[str] = "levels"

    level_of: Callable[[int], int]
    levels: Sequence[int]
    schedule: Callable[[Progress], bool]
    admitted: int = 1
    since: int = 0
    rates: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return f"levels {list(self.levels)}, up to {self.top} at first; next by {self.schedule}"

    @property
    def top(self) -> int:
        """The highest level that is asked."""
        return self.levels[self.admitted - 1]

    def admits(self, problem_id: int, position: int) -> bool:
        """Whether the problem's level is low enough."""
        return self.level_of(problem_id) <= self.top

    def observe(self, step: int, rates: PassRates) -> None:
        """Note the newest level's pass rates, and let the schedule decide."""
        if self.admitted == len(self.levels):
            return
        self.rates += [rate for problem_id, rate in rates if self.level_of(problem_id) == self.top]
        if self.schedule(Progress(step + 1 - self.since, self.rates)):
            self.admitted, self.since, self.rates = self.admitted + 1, step + 1, []

    def metrics(self) -> dict[str, float]:
        """The highest level."""
        return {"curriculum/level": float(self.top)}

    def state(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"admitted": self.admitted, "since": self.since, "rates": list(self.rates)}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`state` returned."""
        form = {"admitted": Within(1, len(self.levels)), "since": 0, "rates": Each(0.0)}
        refuse_unlike(state, form, self.name)
        self.admitted, self.since = state["admitted"], state["since"]
        self.rates = list(state["rates"])


@dataclass
class PassRateFilter:
    """Skip problems whose pass rate was 0 or 1 in each of their last visits: their groups have no advantage.

    A group of equal rewards has no advantage. Since the policy changes, such a problem is asked again with some
    chance; the draw depends only on the seed and the position in the stream.

    Args:
        visits: number of consecutive visits.
        revisit: chance that such a problem is asked anyway.
        seed: seed of that draw.
    """

    name: ClassVar[str] = "pass_rates"

    visits: int
    revisit: float
    seed: int
    streaks: dict[int, int] = field(default_factory=dict)
    """For each problem, the number of its latest visits in a row with a pass rate of 0 or 1."""
    skipped: int = 0
    """Number of problems skipped since the last call of :meth:`metrics`."""

    def __str__(self) -> str:
        return f"skip after {self.visits} visits in a row with pass rate 0 or 1, except {100 * self.revisit:g} %"

    def admits(self, problem_id: int, position: int) -> bool:
        """Whether the problem may give an advantage, or is asked again by chance."""
        if self.streaks.get(problem_id, 0) < self.visits:
            return True
        drawn = problem_seed(self.seed, "revisit", position) / 2**31 < self.revisit
        self.skipped += not drawn
        return drawn

    def observe(self, step: int, rates: PassRates) -> None:
        """Update the counts of visits in a row."""
        for problem_id, rate in rates:
            if 0 < rate < 1:
                self.streaks.pop(problem_id, None)
            else:
                self.streaks[problem_id] = self.streaks.get(problem_id, 0) + 1

    def metrics(self) -> dict[str, float]:
        """Problems skipped since the last call, and problems that are skipped at present."""
        skipped, self.skipped = self.skipped, 0
        full = sum(streak >= self.visits for streak in self.streaks.values())
        return {"filter/skipped": float(skipped), "filter/problems": float(full)}

    def state(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"streaks": dict(self.streaks)}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a state that :meth:`state` returned."""
        refuse_unlike(state, {"streaks": Table(0, 0)}, self.name)
        self.streaks = dict(state["streaks"])


def rules_of(config: Config, environments: Environments) -> list[Rule]:
    """The rules that the settings ask for, none by default.

    Raises:
        ConfigError: the environment's problems have no levels, or none is asked twice.
    """
    rules: list[Rule] = []
    curriculum: CurriculumConfig = config.curriculum
    if curriculum.threshold is not None or curriculum.every is not None:
        rules.append(_level_curriculum(curriculum, environments))
    filtering: FilterConfig = config.filter
    if filtering.visits:
        if environments.num_problems() is None:
            raise ConfigError(
                f"--filter.visits {filtering.visits}: the problems of {environments.env_id} are unlimited, so "
                "none is asked twice. Leave the filter out, or give a finite set of problems."
            )
        rules.append(PassRateFilter(filtering.visits, filtering.revisit, config.seed))
    return rules


def _level_curriculum(settings: CurriculumConfig, environments: Environments) -> LevelCurriculum:
    env: object = environments.of_size(1).envs[0].unwrapped
    problems = env.problems if isinstance(env, AsksProblems) else None

    def level_of(problem_id: int) -> int:
        return 0 if problems is None else problems[problem_id].level or 0

    size = environments.num_problems()
    levels = sorted({level_of(i) for i in range(PROBED if size is None else size)} - {0})
    if not levels:
        raise ConfigError(
            f"--curriculum: the problems of {environments.env_id} have no levels. Leave out the options of "
            "--curriculum, or give problems with levels."
        )
    start = levels[0] if settings.start is None else settings.start
    if start < levels[0]:
        raise ConfigError(
            f"--curriculum.start {start}: {environments.env_id} has no problems at or below this level; its "
            f"levels are {levels}."
        )
    if start >= levels[-1]:
        raise ConfigError(
            f"--curriculum: problems up to level {start} are asked from the start, and the levels of "
            f"{environments.env_id} are {levels}, so none is left to be admitted. Give a lower --curriculum.start, or "
            "leave out the options of --curriculum."
        )
    if settings.threshold is not None:
        schedule: Callable[[Progress], bool] = AboveAccuracy(settings.threshold, settings.window)
    else:
        assert settings.every is not None
        schedule = AfterSteps(settings.every)
    admitted = sum(level <= start for level in levels)
    return LevelCurriculum(level_of, levels, schedule, admitted)


def pass_rates(records: Sequence[Record]) -> PassRates:
    """For each group its problem and the share of correct responses among those with a verdict.

    >>> said = [(0, 7, "correct"), (0, 7, "wrong"), (1, 9, "wrong"), (1, 9, "timeout")]
    >>> pass_rates([
    ...     {"group": g, "problem_id": i, "verdict": v, "valid": v != "timeout"} for g, i, v in said
    ... ])
    [(7, 0.5), (9, 0.0)]
    """
    groups: dict[int, tuple[int, list[bool]]] = {}
    for record in records:
        if record.get("valid", True):
            _, marks = groups.setdefault(record["group"], (record["problem_id"], []))
            marks.append(is_correct(record))
    return [(problem_id, sum(marks) / len(marks)) for problem_id, marks in groups.values()]
