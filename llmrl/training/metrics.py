"""The metrics that a run reports, each with name, meaning and unit, and the file of metrics.

Names follow verl's, with slashes. ``docs/metrics.md`` is made from :data:`METRICS`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llmrl.distributed.world import World
from llmrl.likeness import MOST
from llmrl.text import parse_line, read_lines

log = logging.getLogger(__name__)


class Reduce(Enum):
    """How a metric adds up over the micro-batches and the updates of a step."""

    STEP = "one number a step"
    TOKENS = "mean over tokens"
    SEGMENT = "mean over the tokens of a segment"
    UPDATES = "sum over micro-batches, mean over updates"
    SMALLEST = "smallest"
    LARGEST = "largest"


class Metric(NamedTuple):
    """One row of the registry."""

    name: str
    unit: str
    meaning: str
    trl: str | None = None
    """Its name in TRL."""
    reduce: Reduce = Reduce.STEP
    """How it adds up over a step."""


METRICS: tuple[Metric, ...] = (
    Metric("reward/mean", "reward", "mean over the responses of the step, before any filter", "reward"),
    Metric("reward/std", "reward", "standard deviation over the same responses", "reward_std"),
    Metric("reward/accuracy", "share", "responses that the verifier calls correct"),
    Metric("reward/shaped_mean", "reward", "mean after the algorithm's reward shaping"),
    Metric(
        "reward/kl_penalty",
        "reward",
        "mean over responses of the amount that a KL penalty adds to the reward",
    ),
    Metric("reward/kl_coefficient", "reward/nat", "weight of the KL penalty, as adapted after the step"),
    Metric("verifier/no_answer", "share", "responses without a final answer"),
    Metric(
        "verifier/invalid",
        "share",
        "responses without a verdict: timeout, error, gold answer not parsed",
    ),
    Metric(
        "groups/lost",
        "groups",
        "groups left out since the start because their environment raised an error",
    ),
    Metric(
        "groups/mixed",
        "share",
        "groups whose rewards differ, without responses that have no verdict, before any filter",
    ),
    Metric(
        "groups/solved_all",
        "share",
        "groups in which every response with a verdict is correct",
    ),
    Metric(
        "groups/zero_std",
        "share",
        "groups trained on whose rewards are all equal",
        "frac_reward_zero_std",
    ),
    Metric("dynamic_sampling/rounds", "rounds", "times that groups were sampled for this step"),
    Metric("dynamic_sampling/acceptance", "share", "sampled groups that were kept"),
    Metric(
        "response_length/mean",
        "tokens",
        "sampled tokens per episode, over all its turns",
        "completions/mean_length",
    ),
    Metric("response_length/max", "tokens", "longest response", "completions/max_length"),
    Metric(
        "response_length/truncated",
        "share",
        "responses cut off at the limit",
        "completions/clipped_ratio",
    ),
    Metric("prompt_length/dropped", "problems", "problems left out because their prompt is too long"),
    Metric("curriculum/level", "level", "highest level that is asked"),
    Metric("filter/skipped", "problems", "problems skipped in this step because their groups had no advantage"),
    Metric("filter/problems", "problems", "problems with pass rate 0 or 1 in each of their last visits"),
    Metric("prompt_length/mean", "tokens", "tokens of the prompt, before the first response"),
    Metric("turns/mean", "turns", "responses per episode"),
    Metric("turns/max", "turns", "responses of the longest episode"),
    Metric("advantage/mean", "", "over trained tokens"),
    Metric("advantage/std", "", "over trained tokens"),
    Metric(
        "actor/loss",
        "",
        "the loss that was minimised, all terms; about 0 on-policy by construction",
        "loss",
        reduce=Reduce.UPDATES,
    ),
    Metric("actor/entropy", "nats", "exact entropy per sampled token before the update", "entropy"),
    Metric("actor/grad_norm", "", "norm of the gradient before clipping", "grad_norm", reduce=Reduce.UPDATES),
    Metric(
        "actor/token_gradient",
        "",
        "sum over tokens of the absolute derivative of the loss with respect to the token's log-probability",
        reduce=Reduce.UPDATES,
    ),
    Metric(
        "actor/token_gradient_share",
        "share",
        "largest token's share of that sum, in the update where it is largest; near 1: one token sets the direction",
        reduce=Reduce.LARGEST,
    ),
    Metric("actor/token_gradient_max", "", "largest such derivative of one token", reduce=Reduce.LARGEST),
    Metric("actor/learning_rate", "", "learning rate of the last update of the step", "learning_rate"),
    Metric(
        "actor/clip_fraction_low",
        "share",
        "tokens clipped at the lower bound",
        "clip_ratio/low_mean",
        reduce=Reduce.TOKENS,
    ),
    Metric(
        "actor/clip_fraction_high",
        "share",
        "tokens clipped at the upper bound",
        "clip_ratio/high_mean",
        reduce=Reduce.TOKENS,
    ),
    Metric("actor/zero_grad_fraction", "share", "tokens with an advantage that get no gradient", reduce=Reduce.TOKENS),
    Metric("actor/gate_fraction", "share", "tokens that pass every gate", reduce=Reduce.TOKENS),
    Metric("actor/kl_approx_k1", "nats", "mean of old minus new log-probability", reduce=Reduce.TOKENS),
    Metric("actor/kl_approx_k3", "nats", "mean of r - 1 - log r, never negative", reduce=Reduce.TOKENS),
    Metric("actor/ratio_mean", "", "importance ratio as the algorithm defines it", reduce=Reduce.TOKENS),
    Metric("actor/ratio_min", "", "smallest", reduce=Reduce.SMALLEST),
    Metric("actor/ratio_max", "", "largest", reduce=Reduce.LARGEST),
    Metric(
        "actor/segment*_share",
        "share",
        "tokens in segment *, of similar entropy, 0 the lowest entropy",
        reduce=Reduce.TOKENS,
    ),
    Metric(
        "actor/segment*_clip_fraction",
        "share",
        "share of the tokens of that segment that are clipped",
        reduce=Reduce.SEGMENT,
    ),
    Metric("actor/segment*_entropy", "nats", "mean old entropy of that segment's tokens", reduce=Reduce.SEGMENT),
    Metric("actor/segment*_clip_width", "", "mean width of the clip in that segment", reduce=Reduce.SEGMENT),
    Metric("actor/entropy_ratio_p*", "", "percentile * of new over old entropy, over all updates; train.drift"),
    Metric(
        "actor/trained_decile*",
        "share",
        "share of the tokens with an advantage that have a gradient, in decile * of the old entropy (1: the lowest); "
        "train.drift",
    ),
    Metric(
        "actor/trained_update*",
        "share",
        "share of the tokens with an advantage that have a gradient, in update * of the step; train.drift",
    ),
    Metric(
        "actor/kl_step",
        "nats",
        "KL(before, after the step) over the whole vocabulary, the mean over up to 256 sampled tokens; train.drift",
    ),
    Metric("actor/kl_step_sampled", "nats", "the part of actor/kl_step from the sampled tokens; train.drift"),
    Metric("actor/kl_step_unsampled", "nats", "the part of actor/kl_step from all other tokens; train.drift"),
    Metric(
        "actor/skipped_updates",
        "updates",
        "updates left out since the start: loss or gradient not finite",
    ),
    Metric("critic/loss", "", "value loss", reduce=Reduce.UPDATES),
    Metric("critic/grad_norm", "", "norm of the critic's gradient before clipping", reduce=Reduce.UPDATES),
    Metric(
        "critic/clip_fraction",
        "share",
        "tokens with a clipped value error above the unclipped one",
        reduce=Reduce.TOKENS,
    ),
    Metric("actor/kl_to_ref", "nats", "estimated divergence from the reference policy", "kl", reduce=Reduce.TOKENS),
    Metric(
        "critic/explained_variance",
        "share",
        "1 - var(return - value) / var(return), before the update",
    ),
    Metric("rollout/mismatch_kl", "nats", "mean of sampler minus scorer log-probability per token"),
    Metric("rollout/mismatch_mean", "nats", "mean absolute difference per token; --train.max-mismatch bounds it"),
    Metric("rollout/mismatch_max", "nats", "largest absolute difference"),
    Metric("rollout/staleness", "steps", "steps that have changed the weights since they sampled this batch"),
    Metric("eval/greedy", "share", "accuracy of greedy responses on held-out problems"),
    Metric("time/generate", "s", "sampling and grading"),
    Metric("time/wait", "s", "waiting for the next batch after the update, with train.ahead"),
    Metric("time/score", "s", "log-probabilities before the update"),
    Metric("time/update", "s", "forward, backward and optimiser"),
    Metric("time/sync", "s", "sending the weights to the sampler"),
    Metric("time/step", "s", "the whole step", "step_time"),
    Metric("perf/tokens_per_second", "tokens/s", "sampled tokens divided by the time of the step"),
    Metric("perf/micro_batch_tokens", "tokens", "largest micro-batch; it shrinks after memory ran out"),
    Metric("progress/tokens", "tokens", "sampled since the start", "num_tokens"),
    Metric("progress/problems", "problems", "asked since the start, and passed over by curriculum and filter"),
)
KNOWN = {metric.name: metric for metric in METRICS}


def find_metric(name: str) -> Metric | None:
    """The row of the registry that describes ``name``, None if there is none.

    >>> find_metric("actor/segment1_share").unit
    'share'
    """
    return KNOWN.get(name) or KNOWN.get(re.sub(r"(segment|decile|update|ratio_p)\d+", r"\1*", name))


def metric_name(output: str) -> str:
    """The name in the registry of an output of a loss module.

    >>> metric_name("loss_objective"), metric_name("loss_value"), metric_name("ratio_max")
    ('actor/loss', 'critic/loss', 'actor/ratio_max')
    """
    if output == "loss_value":
        return "critic/loss"
    if output.startswith("loss_"):
        return "actor/loss"
    owner, _, rest = output.partition("_")
    return f"critic/{rest}" if owner in ("critic", "value") else f"actor/{output}"


NOTHING = {Reduce.SMALLEST: math.inf, Reduce.LARGEST: -math.inf}
"""The value that leaves a minimum or maximum unchanged."""
_PER_TOKEN = (Reduce.TOKENS, Reduce.SEGMENT)
_PICKS = {Reduce.SMALLEST: torch.minimum, Reduce.LARGEST: torch.maximum}


class Sums:
    """Metrics of one or several updates, each added up by the rule of its row in the registry.

    Values stay on the device until :meth:`fetch`.

    >>> sums = Sums()
    >>> sums.add({"ratio_mean": torch.tensor(1.0), "ratio_max": torch.tensor(2.0)}, tokens=3)
    >>> sums.add({"ratio_mean": torch.tensor(2.0), "ratio_max": torch.tensor(1.5)}, tokens=1)
    >>> sums.result()
    {'actor/ratio_mean': 1.25, 'actor/ratio_max': 2.0}
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.updates = 1
        self.skipped = False
        """Whether the update was skipped because it was not finite."""
        self._waiting: list[tuple[str, Tensor, int]] = []
        self._totals: dict[str, float] = {}

    def add(self, outputs: Mapping[str, Tensor], tokens: int) -> None:
        """Add the outputs of a loss module for one micro-batch of ``tokens`` sampled tokens."""
        for name, value in outputs.items():
            if name != "tokens":
                if _reduce(metric_name(name)) is Reduce.SEGMENT:  # until the result a mean over all tokens
                    value = value * outputs[_share_of(name)]
                self._waiting.append((metric_name(name), value.detach(), tokens))
        self.tokens += tokens

    def note(self, metric: str, value: Tensor) -> None:
        """Add a metric of the whole update."""
        self._waiting.append((metric, value.detach(), 1))

    def reduce(self, world: World, tokens: int, device: torch.device) -> None:
        """Add up the values of all ranks, before the first fetch; a rank may have added nothing.

        Args:
            world: the ranks.
            tokens: number of tokens that all ranks together have added.
            device: where this rank computes.
        """
        if world.size == 1:
            return
        kept: dict[str, Tensor] = {}
        for name, value, weight in self._waiting:
            how = _reduce(name)
            value = value.reshape(()).double() * (weight if how in _PER_TOKEN else 1)
            kept[name] = _PICKS.get(how, torch.add)(kept[name], value) if name in kept else value
        names = dict.fromkeys(name for mine in world.gather([list(kept)]) for name in mine)
        nothing = {name: NOTHING.get(_reduce(name), 0.0) for name in names}
        kept = {name: kept.get(name, torch.tensor(nothing[name], dtype=torch.float64, device=device)) for name in names}
        for pick, together in ((torch.minimum, world.smallest), (torch.maximum, world.largest), (None, world.sum)):
            picked = [name for name in kept if _PICKS.get(_reduce(name)) is pick]
            if picked:
                stacked = torch.stack([kept[name] for name in picked])
                together(stacked)
                kept.update(zip(picked, stacked, strict=True))
        self.tokens = tokens
        self._waiting = [(name, value, 1) for name, value in kept.items()]

    def fetch(self) -> Mapping[str, float]:
        """The totals so far; one transfer from the device if something was added since the last call."""
        if self._waiting:
            values = torch.cat([value.reshape(1).double() for _, value, _ in self._waiting]).tolist()
            for (name, _, tokens), value in zip(self._waiting, values, strict=True):
                self._total(name, value * tokens if _reduce(name) in _PER_TOKEN else value)
            self._waiting = []
        return self._totals

    def join(self, other: Sums) -> None:
        """Add the totals of another update."""
        for name, value in other.fetch().items():
            self._total(name, value)
        self.tokens += other.tokens
        self.updates += other.updates

    def result(self) -> dict[str, float]:
        """The metrics."""
        totals = self.fetch()
        over = {Reduce.TOKENS: max(self.tokens, 1), Reduce.UPDATES: self.updates}

        def divisor(name: str) -> float:
            how = _reduce(name)
            return (totals[_share_of(name)] or 1) if how is Reduce.SEGMENT else over.get(how, 1)

        return {name: total / divisor(name) for name, total in totals.items()}

    def _total(self, name: str, value: float) -> None:
        if name not in self._totals:
            self._totals[name] = value
        elif _reduce(name) in NOTHING:
            pick = min if _reduce(name) is Reduce.SMALLEST else max
            self._totals[name] = pick(self._totals[name], value)
        else:
            self._totals[name] += value


def _share_of(name: str) -> str:
    """The name of the share of tokens that are in the segment of another metric.

    >>> _share_of("actor/segment1_clip_width")
    'actor/segment1_share'
    """
    return re.sub(r"(segment\d+)_\w+", r"\1_share", name)


def _reduce(name: str) -> Reduce:
    found = find_metric(name)
    # A metric that is not in the registry comes from a user's loss module and is a mean over tokens, as theirs are.
    return Reduce.TOKENS if found is None else found.reduce


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the run; an error of the system, such as a full disk, gets a helpful message."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error}). Checkpoints are intact: free some space, then go on "
            "with --resume auto."
        ) from error


class MetricsFile:
    """``metrics.jsonl``: one line per step, flushed at once.

    Args:
        path: the file; lines after ``position`` are cut off, so that a resumed run has no line twice.
        position: length in bytes to keep; None: all. A shorter file, such as after a checkpoint was moved
            without its run, is kept, and lines are appended.
    """

    def __init__(self, path: Path, position: int | None = None) -> None:
        self.path = path
        # Unbuffered, so that closing the file does not repeat a failed write.
        self._file = path.open("ab", buffering=0)
        if position is not None:
            # Beyond the end, truncate would fill the file with zeros.
            self._file.truncate(min(position, path.stat().st_size))
            self._file.seek(0, os.SEEK_END)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line."""
        line: dict[str, Any] = {"step": step}
        line.update({k: v if math.isfinite(v) else None for k, v in metrics.items()})
        left = json.dumps(line).encode() + b"\n"
        if os.fstat(self._file.fileno()).st_size != self.position:  # somebody cut it, perhaps within a line
            left = b"\n" + left
        with writing(self.path):
            if os.fstat(self._file.fileno()).st_nlink == 0 or not self.path.exists():
                raise FileNotFoundError("the folder of the run was removed or moved during the run")
            while left:
                left = left[self._file.write(left) :]

    def flush(self) -> None:
        """Make the kernel write the file to the disk, since a checkpoint relies on its length."""
        os.fsync(self._file.fileno())

    @property
    def position(self) -> int:
        """Number of bytes written, for the checkpoint."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; those that hold no step, as a full disk or a hand leaves them, are left out."""
    read = [parse_line(line) for line in read_lines(path)]
    rows = [row for row in read if row is not None and is_step(row)]
    if len(rows) < len(read):
        log.warning("%s: %d damaged lines are left out.", path, len(read) - len(rows))
    return rows


def is_step(row: dict[str, Any]) -> bool:
    """Whether a line of ``metrics.jsonl`` is that of a step: its number, and numbers or None."""
    numbers = all(value is None or type(value) in (int, float) for value in row.values())
    return numbers and type(row.get("step")) is int and 0 <= row["step"] <= MOST


def markdown_table() -> str:
    """The registry as the table of ``docs/metrics.md``."""
    rows = [f"| `{m.name}` | {m.unit or '-'} | {m.meaning} | {f'`{m.trl}`' if m.trl else ''} |" for m in METRICS]
    return "\n".join(["| name | unit | meaning | in TRL |", "| --- | --- | --- | --- |", *rows])
