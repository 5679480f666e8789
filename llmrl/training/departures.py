"""Whether a run has left its range, and which checkpoint was written before that.

Owns the limits. A checkpoint that is intact may hold weights that have blown up: the last one before is kept, under the
name ``good``, until the run has been in range again for :data:`RECOVERY` steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from llmrl.training import checkpoint

GOOD = "good"
"""The link in a run's folder; absent while the run is in range."""
KL_LIMIT = 1.0
"""Nats a token by which one step's updates may change the policy; usual is 0.0001 to 0.1."""
GRADIENT_FACTOR = 100.0
"""How many times the median of the last steps the gradient may be."""
DEAD_FACTOR = 1e6
"""How many times shorter than that it may be where rewards differ; weights that have blown up have no gradient."""
HISTORY = 20
"""Steps whose gradients are compared with."""
LEAST = 3
"""Of them, before anything is compared."""
WINDOW = 5
"""Steps whose rewards are averaged."""
REWARD_SHARE = 0.5
"""Of the highest average of the rewards: below it they have collapsed, where noise does not explain that."""
RECOVERY = 10
"""Steps in range after which a departure is over."""

Metrics = Mapping[str, Any]


class Departure(NamedTuple):
    """A step that was out of range."""

    reason: str
    """In words."""
    before: int
    """Checkpoints up to this step were written before it."""
    advice: str
    """What to change."""


@dataclass
class Range:
    """Watches the metrics of the steps of one run.

    Args:
        folder: of the run.
        prompts: problems of a step, by which the noise of its mean reward is judged.
        past: the metrics of the steps before, of a run that goes on.
    """

    folder: Path
    prompts: int
    past: Sequence[Metrics] = ()
    gradients: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=HISTORY))
    rewards: deque[tuple[float, float]] = field(init=False, default_factory=lambda: deque(maxlen=WINDOW))
    highest: float = field(init=False, default=0.0)
    """The highest average of the rewards of :data:`WINDOW` steps on one level of the curriculum."""
    level: Any = field(init=False, default=None)
    skipped: float = field(init=False, default=0.0)
    steps_in_range: int = field(init=False, default=RECOVERY)
    """In a row; fewer than :data:`RECOVERY` from a departure on."""

    def __post_init__(self) -> None:
        for metrics in self.past:
            self.departure(int(metrics["step"]), metrics)

    def watch(self, step: int, metrics: Metrics) -> str | None:
        """Look at the metrics of a step (1, 2, ...) before its checkpoint is written.

        Returns:
            A sentence for the user where the run leaves its range; None where it is in range, or has been told.
        """
        departure = self.departure(step, metrics)
        link = self.folder / GOOD
        if self.steps_in_range >= RECOVERY:
            link.unlink(missing_ok=True)
        if departure is None:
            return None
        said = f"Step {step}: the run has left its range: {departure.reason}."
        with checkpoint.ARRANGING:
            paths = checkpoint.list_checkpoints(self.folder)
            earlier = [path for path in paths if checkpoint.step_of(path) <= departure.before]
            if earlier:
                checkpoint.link(self.folder, GOOD, earlier[-1])
        if not earlier:
            return f"{said} No checkpoint from before that is left: begin again {departure.advice}."
        return (
            f"{said} {earlier[-1]} was written before that and stays, as {link}. To go on from it: --resume {link} "
            f"--force, {departure.advice}."
        )

    def departure(self, step: int, metrics: Metrics) -> Departure | None:
        """Why a step is the first one out of range; None where it is in range, or follows such a step soon."""
        found = self.judge(step, metrics)
        if found is None:
            self.steps_in_range += 1
            return None
        first = self.steps_in_range >= RECOVERY
        self.steps_in_range = 0
        return found if first else None

    def judge(self, step: int, metrics: Metrics) -> Departure | None:
        """Whether a step was out of range; its metrics become part of what later ones are compared with."""
        slower = "with a lower --train.learning-rate"
        skipped = float(metrics.get("actor/skipped_updates") or 0.0)
        new, self.skipped = skipped > self.skipped, skipped
        if new:
            return Departure("its loss or gradient was not finite", step - 1, slower)
        kl = metrics.get("actor/kl_approx_k3", 0.0)
        if kl is None or not kl <= KL_LIMIT:  # a file has None for what is not finite
            size = "more than can be told" if kl is None else f"{kl:.3g}"
            return Departure(
                f"its updates changed the policy by {size} nats a token, above {KL_LIMIT:g} (actor/kl_approx_k3)",
                step - 1,
                slower,
            )
        return self._reward(step, metrics) or self._gradient(step, metrics, slower)

    def _gradient(self, step: int, metrics: Metrics, slower: str) -> Departure | None:
        norm = metrics.get("actor/grad_norm")
        learns = metrics.get("groups/zero_std") != 1 and metrics.get("actor/learning_rate") != 0
        if norm is None or not learns:
            return None
        usual = median(self.gradients) if len(self.gradients) >= LEAST else None
        if usual is not None and not usual / DEAD_FACTOR < norm < GRADIENT_FACTOR * usual:
            # The weights that it was taken at may be the cause: what the step before wrote is not trusted either.
            return Departure(
                f"its gradient was {norm:.3g} long, where {usual:.3g} was usual (actor/grad_norm)", step - 2, slower
            )
        if norm:
            self.gradients.append(norm)
        return None

    def _reward(self, step: int, metrics: Metrics) -> Departure | None:
        reward, level = metrics.get("reward/mean"), metrics.get("curriculum/level")
        if level != self.level:  # harder problems earn less
            self.level, self.highest = level, 0.0
            self.rewards.clear()
        if reward is None:
            return None
        self.rewards.append((reward, float(metrics.get("reward/std") or 0.0)))
        if len(self.rewards) < WINDOW:
            return None
        now = mean(reward for reward, _ in self.rewards)
        # Four standard errors, with the responses to one problem taken as equal.
        noise = 4 * max(deviation for _, deviation in self.rewards) / (WINDOW * self.prompts) ** 0.5
        if self.highest > 0 and now < min(REWARD_SHARE * self.highest, self.highest - noise):
            return Departure(
                f"the rewards of the last {WINDOW} steps average {now:.3g}, and were {self.highest:.3g} before "
                "(reward/mean)",
                step - WINDOW,
                "with a lower --train.learning-rate or tighter bounds of --algo",
            )
        self.highest = max(self.highest, now)
        return None


def forget(folder: Path, start: Path) -> None:
    """A run goes on from ``start``: where that is not later than the good checkpoint, the departure is undone."""
    link = folder / GOOD
    if link.is_symlink() and checkpoint.step_of(start) <= checkpoint.step_of(link.resolve()):
        link.unlink()
