"""Limits on the difference between sampler's and scorer's log-probabilities, at the start and during training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from llmrl import keys
from llmrl.distributed.world import World
from llmrl.errors import ConfigError
from llmrl.policies.episode import pack
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.rollouts.records import Record
from llmrl.training.config import TrainConfig
from llmrl.training.faults import TrainingError

PROBE_EVERY = 8
"""Steps from one probe of the sampler to the next."""

PROBES, PROBE_TOKENS = 4, 16
"""Responses of a probe, and tokens of each."""


def limit_of(policy: Policy, options: TrainConfig) -> float:
    """The limit in nats: the option, or the largest difference that the measured rounding of the model explains."""
    given = options.max_mismatch
    if given is None:
        return policy.rounding.tolerance
    return math.inf if given == 0 else given


def check_start(gap: float, limit: float) -> None:
    """Raise if a token of the first responses differs by more than the limit.

    Args:
        gap: largest difference of a token, nats.
        limit: nats, from :func:`limit_of`.

    Raises:
        ConfigError: the gap is above the limit.
    """
    if not gap <= limit:
        raise ConfigError(
            f"The sampler's log-probabilities differ from the scorer's by {gap:.3g} nats, and {limit:.2g} is allowed, "
            "which is what rounding explains unless --train.max-mismatch says otherwise. "
            "Importance ratios would be wrong from the start. Likely causes: a generation setting that truncates or "
            "reshapes the distribution (top_p, top_k, repetition_penalty), dropout, or attention that reads padding."
        )


def check_step(gap: float, limit: float, step: int) -> None:
    """Raise if the tokens of a step differ by more than the limit on average.

    The average counts, since among many tokens some differ much by rounding alone.

    Args:
        gap: mean difference of a token, nats.
        limit: nats, from :func:`limit_of`.
        step: step of the run, counted from 1.

    Raises:
        TrainingError: the average difference is above the limit.
    """
    if not gap <= limit:
        raise TrainingError(
            f"Step {step}: the sampler's log-probabilities differ from the scorer's by {gap:.3g} nats a token, and "
            f"{limit:.2g} is allowed; they agreed at the start. The last checkpoint is intact. Likely causes: an "
            "engine that does not have the newest weights, or samples with top_p, top_k, a penalty or another "
            "temperature; a model whose positions or experts change with the batch; weights that have grown so large "
            "that their type rounds coarsely (--policy.dtype float32). --train.max-mismatch sets the limit, and 0 "
            "switches it off."
        )


@dataclass(frozen=True)
class Watch:
    """Stops a run whose sampler and scorer disagree."""

    policy: Policy
    options: TrainConfig
    world: World
    """The ranks that train together; each has a sampler of its own."""

    def check(self, metrics: Mapping[str, float], records: Sequence[Record], step: int) -> None:
        """Compare them after a step, when the sampler has just been given the weights.

        The responses of the step are compared where the weights that score them have sampled them. From the second
        step of ``train.ahead`` on older weights have: then the difference is theirs too, and importance ratios correct
        it. There the sampler is probed instead, every :data:`PROBE_EVERY` steps.

        Args:
            metrics: of the step.
            records: of the step's rows; a probe asks their problems again.
            step: of the run, counted from 1.

        Raises:
            TrainingError: they differ by more than :func:`limit_of` allows.
        """
        limit = limit_of(self.policy, self.options)
        if limit == math.inf:
            return
        if not metrics.get("rollout/staleness", 0.0):
            check_step(metrics.get("rollout/mismatch_mean", 0.0), limit, step)
        if self.options.ahead and records and step % PROBE_EVERY == 1:
            check_step(self.probe(records), limit, step)

    @torch.no_grad()
    def probe(self, records: Sequence[Record]) -> float:
        """Sample a few short responses and score them; the mean difference of a token, in nats.

        Each rank probes its own sampler, and all ranks return the largest of their differences. No random number of
        the run is drawn: the responses have seeds of their own.
        """
        problems = list(dict.fromkeys(record["problem"] for record in records))[:PROBES]
        episodes = self.policy.begin(problems)
        short = SamplingOptions(max_new_tokens=min(PROBE_TOKENS, self.policy.max_response_length))
        with self.world.together():
            self.policy.respond(episodes, short, seeds=range(len(episodes)))
        data = pack(episodes, self.policy.pad_id).to(self.policy.device)
        gap = (data[keys.SAMPLER_LOG_PROB] - self.policy.score(data)[keys.LOG_PROB])[data[keys.MASK]].abs()
        mean = gap.double().mean().nan_to_num(math.inf)
        self.world.largest(mean)
        return float(mean)
