"""Every number that a run reports: its name, meaning and unit; and the file that they go to.

Names follow verl's, with slashes.  ``docs/metrics.md`` is made from :data:`METRICS`.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """One row of the registry."""

    name: str
    unit: str
    meaning: str
    trl: str | None = None
    """What TRL calls it."""


METRICS: tuple[Metric, ...] = (
    Metric("reward/mean", "reward", "mean over the responses of the step, before any filter", "reward"),
    Metric("reward/std", "reward", "standard deviation over the same responses", "reward_std"),
    Metric("reward/accuracy", "share", "responses that the verifier calls correct"),
    Metric("reward/shaped_mean", "reward", "mean after the algorithm's reward shaping"),
    Metric("verifier/no_answer", "share", "responses without a final answer"),
    Metric(
        "verifier/invalid",
        "share",
        "responses without a verdict: timeout, error, gold answer not parsed",
    ),
    Metric(
        "groups/lost",
        "groups",
        "left out since the start because their environment raised an error",
    ),
    Metric("groups/mixed", "share", "groups whose rewards differ, before any filter"),
    Metric(
        "groups/solved_all",
        "share",
        "groups in which every response has the highest reward seen in the step",
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
        "sampled tokens per response, all turns of an episode together",
        "completions/mean_length",
    ),
    Metric("response_length/max", "tokens", "longest response", "completions/max_length"),
    Metric(
        "response_length/truncated",
        "share",
        "responses cut off at the limit",
        "completions/clipped_ratio",
    ),
    Metric("prompt_length/dropped", "problems", "left out because their prompt is too long"),
    Metric("curriculum/level", "level", "highest level that is asked"),
    Metric("filter/skipped", "problems", "passed over in this step: they had nothing to teach"),
    Metric("filter/problems", "problems", "with pass rate 0 or 1 in each of their last visits"),
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
    ),
    Metric("actor/entropy", "nats", "exact entropy per sampled token before the update", "entropy"),
    Metric("actor/grad_norm", "", "length of the gradient before clipping", "grad_norm"),
    Metric("actor/learning_rate", "", "of the last update of the step", "learning_rate"),
    Metric(
        "actor/clip_fraction_low",
        "share",
        "tokens clipped at the lower bound",
        "clip_ratio/low_mean",
    ),
    Metric(
        "actor/clip_fraction_high",
        "share",
        "tokens clipped at the upper bound",
        "clip_ratio/high_mean",
    ),
    Metric("actor/zero_grad_fraction", "share", "tokens with an advantage that get no gradient"),
    Metric("actor/gate_fraction", "share", "tokens that every gate lets teach"),
    Metric("actor/kl_approx_k1", "nats", "mean of old minus new log-probability"),
    Metric("actor/kl_approx_k3", "nats", "mean of r - 1 - log r, never negative"),
    Metric("actor/ratio_mean", "", "importance ratio as the algorithm defines it"),
    Metric("actor/ratio_min", "", "smallest"),
    Metric("actor/ratio_max", "", "largest"),
    Metric(
        "actor/segment*_share",
        "share",
        "tokens in segment *, of like entropy, 0 the lowest entropy",
    ),
    Metric("actor/segment*_clip_fraction", "share", "of the tokens of that segment, clipped"),
    Metric("actor/segment*_entropy", "nats", "mean old entropy of that segment's tokens"),
    Metric("actor/segment*_clip_width", "", "mean width of the clip in that segment"),
    Metric(
        "actor/skipped_updates",
        "updates",
        "updates left out since the start: loss or gradient not finite",
    ),
    Metric("critic/loss", "", "value loss"),
    Metric("critic/grad_norm", "", "length of the critic's gradient before clipping"),
    Metric("critic/clip_fraction", "share", "tokens whose clipped value error is the larger one"),
    Metric("actor/kl_to_ref", "nats", "estimated divergence from the reference policy", "kl"),
    Metric(
        "critic/explained_variance",
        "share",
        "1 - var(return - value) / var(return), before the update",
    ),
    Metric("rollout/mismatch_kl", "nats", "mean of sampler minus scorer log-probability per token"),
    Metric("rollout/mismatch_max", "nats", "largest absolute difference"),
    Metric("eval/greedy", "share", "accuracy of greedy responses on held-out problems"),
    Metric("time/generate", "s", "sampling and grading"),
    Metric("time/score", "s", "log-probabilities before the update"),
    Metric("time/update", "s", "forward, backward and optimiser"),
    Metric("time/sync", "s", "handing the weights to the sampler"),
    Metric("time/step", "s", "the whole step", "step_time"),
    Metric("perf/tokens_per_second", "tokens/s", "sampled tokens over the time of the step"),
    Metric("perf/micro_batch_tokens", "tokens", "largest micro-batch, less after memory ran out"),
    Metric("progress/tokens", "tokens", "sampled since the start", "num_tokens"),
    Metric("progress/problems", "problems", "drawn since the start"),
)
KNOWN = {metric.name: metric for metric in METRICS}


def find_metric(name: str) -> Metric | None:
    """The row of the registry that describes ``name``, None if there is none.

    >>> find_metric("actor/segment1_share").unit
    'share'
    """
    return KNOWN.get(re.sub(r"segment\d+_", "segment*_", name))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of the run; what the system says of a full disk becomes a sentence that helps."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} could not be written ({error}). Checkpoints are intact: free some space, then go on "
            "with --resume auto."
        ) from error


class MetricsFile:
    """``metrics.jsonl``: one line a step, flushed at once.

    Args:
        path: the file; lines after ``position`` are cut off, so that a resumed run repeats nothing.
        position: length in bytes that counts, None for all of it.  A file that is shorter, such as that
            of a checkpoint which was moved without its run, is only written on.
    """

    def __init__(self, path: Path, position: int | None = None) -> None:
        self.path = path
        # Unbuffered: nothing that could not be written is tried again when the file is closed.
        self._file = path.open("ab", buffering=0)
        if position is not None:
            # Beyond its end, truncate would fill the file up with zeros.
            self._file.truncate(min(position, path.stat().st_size))
            self._file.seek(0, os.SEEK_END)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line; a name that the registry lacks is a mistake."""
        unknown = [name for name in metrics if find_metric(name) is None]
        if unknown:
            raise KeyError(f"Not in the registry of metrics: {', '.join(unknown)}.")
        line: dict[str, Any] = {"step": step}
        line.update({k: v if math.isfinite(v) else None for k, v in metrics.items()})
        left = json.dumps(line).encode() + b"\n"
        with writing(self.path):
            while left:
                left = left[self._file.write(left) :]

    def flush(self) -> None:
        """Make the kernel write the file to the disk: a checkpoint will rely on its length."""
        os.fsync(self._file.fileno())

    @property
    def position(self) -> int:
        """Bytes written, for the checkpoint."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def markdown_table() -> str:
    """The registry as the table of ``docs/metrics.md``."""
    rows = [f"| `{m.name}` | {m.unit or '-'} | {m.meaning} | {f'`{m.trl}`' if m.trl else ''} |" for m in METRICS]
    return "\n".join(["| name | unit | meaning | in TRL |", "| --- | --- | --- | --- |", *rows])
