"""The metrics that a run reports, each with its name, meaning and unit, and how it adds up over a step.

Names follow verl's, with slashes. ``docs/metrics.md`` is made from :data:`METRICS`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


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
    Metric("progress/problems", "problems", "sampled or skipped by curriculum and filter since the start"),
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


def markdown_table() -> str:
    """The registry as the table of ``docs/metrics.md``."""
    rows = [f"| `{m.name}` | {m.unit or '-'} | {m.meaning} | {f'`{m.trl}`' if m.trl else ''} |" for m in METRICS]
    return "\n".join(["| name | unit | meaning | in TRL |", "| --- | --- | --- | --- |", *rows])
