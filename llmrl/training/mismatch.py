"""How far the sampler's log-probabilities may be from the scorer's, at the start and while training goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llmrl.errors import ConfigError
from llmrl.policies.policy import Policy
from llmrl.training.config import TrainConfig
from llmrl.training.faults import TrainingError


def limit_of(policy: Policy, options: TrainConfig) -> float:
    """Nats; what the option says, or what the measured rounding of the model explains."""
    given = options.max_mismatch
    if given is None:
        return policy.rounding.tolerance
    return math.inf if given == 0 else given


def check_start(gap: float, limit: float) -> None:
    """Refuse to start where one token of the first responses is further off than the limit.

    Args:
        gap: nats, the largest difference of a token.
        limit: nats, from :func:`limit_of`.

    Raises:
        ConfigError: it is.
    """
    if not gap <= limit:
        raise ConfigError(
            f"The sampler's log-probabilities differ from the scorer's by {gap:.3g} nats, and {limit:.2g} is allowed, "
            "which is what rounding explains unless --train.max-mismatch says otherwise. "
            "Importance ratios would be wrong from the start. Likely causes: a generation setting that truncates or "
            "reshapes the distribution (top_p, top_k, repetition_penalty), dropout, or attention that reads padding."
        )


def check_step(metrics: Mapping[str, float], limit: float, step: int) -> None:
    """Stop where the tokens of a step are off by more than the limit on the average.

    The average, since of many tokens some are far off by rounding alone. Where the weights have changed since they
    sampled (rollout/staleness, from the second step of ``train.ahead``), the gap is theirs as well, which the
    importance ratio corrects. How much of it is theirs, only a further pass with the older weights would tell, so
    nothing is said.

    Args:
        metrics: of the step.
        limit: nats, from :func:`limit_of`.
        step: of the run, counted from 1.

    Raises:
        TrainingError: they are.
    """
    stale = metrics.get("rollout/staleness", 0.0) > 0
    gap = metrics.get("rollout/mismatch_mean", 0.0)
    if not stale and not gap <= limit:
        raise TrainingError(
            f"Step {step}: the sampler's log-probabilities differ from the scorer's by {gap:.3g} nats a token, and "
            f"{limit:.2g} is allowed; they agreed at the start. The last checkpoint is intact. Likely causes: an "
            "engine that does not have the newest weights, or samples with top_p, top_k, a penalty or another "
            "temperature; a model whose positions or experts change with the batch; weights that have grown so large "
            "that their type rounds coarsely (--policy.dtype float32). --train.max-mismatch sets the limit, and 0 "
            "switches it off."
        )
