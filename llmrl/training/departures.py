"""Whether a run has left its normal range, and which checkpoint was written before that.

The limits are defined here. A checkpoint without damage may still hold weights that have diverged. So the last
checkpoint from before is kept, under the name ``good``, until the run has been in range again for :data:`RECOVERY`
steps.
"""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

from llmrl.text import real_path
from llmrl.training import checkpoint

GOOD = "good"
"""The name of the link in a run's folder; it is absent while the run is in range."""
KL_LIMIT = 1.0
"""The updates of one step may change the policy by this many nats per token; 0.0001 to 0.1 are usual."""
GRADIENT_FACTOR = 100.0
"""The gradient norm may be at most this many times the median of the last steps."""
DEAD_FACTOR = 1e6
"""If rewards differ, the norm must be at least the median divided by this; diverged weights have no gradient."""
HISTORY = 20
"""Number of last steps whose gradient norms give the median."""
LEAST = 3
"""Number of steps that are needed before gradient norms are compared."""
WINDOW = 5
"""Number of steps over which rewards are averaged."""
REWARD_SHARE = 0.5
"""Rewards have collapsed below this share of their highest average, unless noise explains the drop."""
RECOVERY = 10
"""Number of steps in range after which a departure is over."""

Metrics = Mapping[str, Any]


class Departure(NamedTuple):
    """A step that was out of range."""

    reason: str
    """In words."""
    before: int
    """Checkpoints up to this step were written before the departure."""
    advice: str
    """The change that the user should make."""


@dataclass
class Range:
    """Watches the metrics of the steps of one run.

    Args:
        folder: folder of the run.
        prompts: number of problems per step; it sets the expected noise of the mean reward.
        past: metrics of the earlier steps, if the run is resumed.
    """

    folder: Path
    prompts: int
    past: Sequence[Metrics] = ()
    gradients: deque[float] = field(init=False, default_factory=lambda: deque(maxlen=HISTORY))
    rewards: deque[tuple[float, float]] = field(init=False, default_factory=lambda: deque(maxlen=WINDOW))
    highest: float = field(init=False, default=0.0)
    """The highest average reward of :data:`WINDOW` steps at one level of the curriculum."""
    level: Any = field(init=False, default=None)
    skipped: float = field(init=False, default=0.0)
    steps_in_range: int = field(init=False, default=RECOVERY)
    """Number of steps in range in a row; below :data:`RECOVERY` after a departure."""

    def __post_init__(self) -> None:
        for metrics in self.past:
            self.departure(int(metrics["step"]), metrics)

    def watch(self, step: int, metrics: Metrics) -> str | None:
        """Look at the metrics of a step (1, 2, ...) before its checkpoint is written.

        Returns:
            A sentence for the user if the run leaves its range; None if it is in range, or if that was said already.
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
            f"{said} {earlier[-1]} was written before that and stays, as {link}. To resume from it: "
            f"--resume {shlex.quote(str(link))} --force, {departure.advice}."
        )

    def departure(self, step: int, metrics: Metrics) -> Departure | None:
        """The departure if a step is the first one out of range; None if it is in range, or soon after such a step."""
        found = self.judge(step, metrics)
        if found is None:
            self.steps_in_range += 1
            return None
        first = self.steps_in_range >= RECOVERY
        self.steps_in_range = 0
        return found if first else None

    def judge(self, step: int, metrics: Metrics) -> Departure | None:
        """The departure if a step was out of range. Later steps are compared with its metrics too."""
        slower = "with a lower --train.learning-rate"
        skipped = float(metrics.get("actor/skipped_updates") or 0.0)
        new, self.skipped = skipped > self.skipped, skipped
        if new:
            return Departure("its loss or gradient was not finite", step - 1, slower)
        kl = metrics.get("actor/kl_approx_k3", 0.0)
        if kl is None or not kl <= KL_LIMIT:  # a metrics file has None for numbers that are not finite
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
            # The weights before this step may be the cause, so the checkpoint of the step before is not trusted either.
            return Departure(
                f"its gradient was {norm:.3g} long, where {usual:.3g} was usual (actor/grad_norm)", step - 2, slower
            )
        if norm:
            self.gradients.append(norm)
        return None

    def _reward(self, step: int, metrics: Metrics) -> Departure | None:
        reward, level = metrics.get("reward/mean"), metrics.get("curriculum/level")
        if level != self.level:  # harder problems give lower rewards
            self.level, self.highest = level, 0.0
            self.rewards.clear()
        if reward is None:
            return None
        self.rewards.append((reward, float(metrics.get("reward/std") or 0.0)))
        if len(self.rewards) < WINDOW:
            return None
        now = mean(reward for reward, _ in self.rewards)
        # Four standard errors, as if all responses to a problem had the same reward.
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
    """Forget the departure if the run continues from a step that is not later than the good checkpoint."""
    link = folder / GOOD
    if not link.is_symlink():
        return
    good = real_path(link)
    if not checkpoint.is_name(good.name) or checkpoint.step_of(start) <= checkpoint.step_of(good):
        link.unlink()
