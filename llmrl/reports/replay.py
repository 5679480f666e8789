"""Several algorithms on the same saved rollouts: losses, gradients, clip fractions, cosines.

Every algorithm gets the same responses, rewards, old scores and policy. The policy scores the rollouts again with
gradients. :mod:`llmrl.rollouts.files` lists the entries of a file, and :mod:`llmrl.losses.policy` defines the
fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.errors import UserError
from llmrl.keys import Key, describe, reads
from llmrl.losses import LossComponents, PolicyLoss
from llmrl.policies.policy import Policy
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.collect import Rollouts
from llmrl.training.learner import total_loss
from llmrl.training.sums import Sums

FRACTIONS = ("clip_fraction_low", "clip_fraction_high", "zero_grad_fraction", "gate_fraction")
MEANS = (*FRACTIONS, "ratio_mean", "kl_approx_k3")


class ReplayError(UserError, ValueError):
    """The rollouts cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """Mean, minimum and maximum over tokens of the width of a clip on one side."""

    mean: float
    min: float
    max: float

    @classmethod
    def of(cls, widths: Tensor) -> Width:
        """The statistics of the widths of single tokens, a tensor of any shape.

        >>> Width.of(torch.tensor([0.25, 0.75]))
        Width(mean=0.5, min=0.25, max=0.75)
        """
        return cls(mean=float(widths.mean()), min=float(widths.min()), max=float(widths.max()))


@dataclass(frozen=True, kw_only=True)
class Score:
    """The numbers of one algorithm on the rollouts. Fractions are of all its live tokens."""

    loss: float
    """The sum of all terms that have a gradient in the policy."""
    grad_norm: float
    """Norm of its gradient over all parameters, before gradient clipping."""
    tokens: int
    """Number of live tokens: tokens of the mask, without rows that the algorithm leaves out."""
    zero_advantage_fraction: float
    """Tokens without a gradient under any clip."""
    clip_fraction_low: float
    clip_fraction_high: float
    zero_grad_fraction: float
    """Tokens that have an advantage and get no gradient: gradient underutilisation."""
    gate_fraction: float
    """Tokens that keep their gradient under every gate."""
    ratio_mean: float
    ratio_min: float
    ratio_max: float
    kl_approx_k3: float
    clip_width: dict[str, Width]
    """By side (``low``, ``high``), or by segment (``segment0``, ...) if each segment has its own width, equal on both
    sides. Empty if there is no width. A width is for the algorithm's own ratio; gmpo bounds single tokens."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Several algorithms on the same rollouts."""

    scores: dict[str, Score]
    """By the algorithm's name."""
    cosine: dict[str, dict[str, float | None]]
    """Cosine between the gradients of each pair, over all parameters; None if one gradient is zero."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as in the JSON file."""
        return {
            "algorithms": {name: asdict(score) for name, score in self.scores.items()},
            "cosine": self.cosine,
        }


def replay(
    rollouts: Rollouts,
    policy: Policy,
    algorithms: Sequence[Algorithm],
    *,
    micro_batch_tokens: int = 8192,
) -> Replay:
    """Compute each algorithm on the rollouts, with all rows as one optimiser batch.

    Each algorithm computes its own advantages from the saved rewards, with the reward shaping of the run. No row is
    left out or sampled again, whatever groups the algorithm would keep. Losses that compare the tokens of a call
    (Clip-Cov, KL-Cov) depend on micro-batches.

    Args:
        rollouts: a result of :func:`llmrl.rollouts.files.read_rollouts`.
        policy: the policy whose ratio to the saved ``"old_log_prob"`` is clipped; its weights do not change.
        algorithms: recipes with different names.
        micro_batch_tokens: rows times padded length per forward pass.

    Raises:
        ReplayError: an entry is missing, or a token is not in the policy's vocabulary.
    """
    names = [recipe.name for recipe in algorithms]
    if not names:
        raise ReplayError("No algorithm is given. Give names separated by commas: dapo,gspo.")
    for name in names:
        if names.count(name) > 1:
            raise ReplayError(
                f"{name!r} is given {names.count(name)} times. Name each once; a variant has its options in its name, "
                f"such as {name}[...]."
            )
    if not len(rollouts):
        raise ReplayError(
            "No response of this step was trained on: the algorithm of the run kept no group, because all rewards of "
            "each group were equal or had no verdict. Give the file of another step."
        )
    data = rollouts.data.to(policy.device)
    largest = int(data[keys.TOKENS].max())
    if largest >= policy.vocab_size:
        raise ReplayError(
            f"The rollouts hold the token {largest}, and the policy has a vocabulary of "
            f"{policy.vocab_size}: it is not the model that sampled them. Give --policy."
        )
    policy.eval()
    batches = [_batch(recipe, data) for recipe in algorithms]  # all are checked before any is scored
    scores, gradients = {}, {}
    for recipe, batch in zip(algorithms, batches, strict=True):
        scores[recipe.name], gradients[recipe.name] = _score(recipe, batch, policy, micro_batch_tokens)
    return Replay(scores=scores, cosine=_cosines(gradients))


def _batch(recipe: Algorithm, data: TensorDict) -> TensorDict:
    """The entries with the algorithm's own advantages and weights; rows without tokens are left out."""
    data = data.exclude(
        keys.LOG_PROB, keys.ENTROPY, keys.ADVANTAGE, keys.VALUE_TARGET, keys.TOKEN_REWARD, keys.KL_COEFFICIENT
    )
    # Without these entries every verdict counts, no problem has earlier rewards, and a KL penalty has its first weight.
    optional = {keys.VALID, keys.PAST_REWARDS, keys.KL_COEFFICIENT}
    _need(recipe, set(reads(recipe.credit.advantage)) - optional, data)
    try:
        data = recipe.credit.advantage(data)
        _need(recipe, set(recipe.in_keys) - optional - {keys.LOG_PROB, keys.ENTROPY}, data)
        data = recipe.weigh(data)
    except ValueError as error:
        raise ReplayError(f"{recipe.name} cannot score these rollouts: {error}") from error
    data = data[data[keys.MASK].any(1)]
    if not len(data):
        raise ReplayError(f"The rollouts have no token that {recipe.name} could train on.")
    return data


def _need(recipe: Algorithm, wanted: set[Key], data: TensorDict) -> None:
    for key in sorted(wanted, key=str):
        if data.get(key, None) is None:
            without = f"{recipe.name.partition('[')[0]}[kl=0]"
            other = f", or replay {without}, which needs no reference" if key == keys.REF_LOG_PROB else ""
            raise ReplayError(
                f"{recipe.name} reads {key!r}, which the rollouts lack. It is {describe(key)}, in runs "
                f"whose algorithm reads it. Replay rollouts of such a run (llmrl train --algo "
                f"{recipe.name}), or leave {recipe.name} out{other}."
            )


def _score(recipe: Algorithm, batch: TensorDict, policy: Policy, budget: int) -> tuple[Score, list[Tensor]]:
    """The numbers of one algorithm, and its gradient, a float32 tensor per parameter."""
    loss_of = recipe.loss().to(policy.device)
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    gradient = [torch.zeros_like(p, dtype=torch.float32) for p in parameters]
    whole, sums = Batch.of(batch), Sums()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)  # Clip-Cov draws
        for part in whole.micro_batches(budget, policy.forward_pass):
            out = loss_of(policy.score(part.data, entropy=keys.ENTROPY in recipe.in_keys, layout=part.layout))
            # A value loss has no gradient in the policy, and there is no critic.
            own = out.exclude("loss_value")
            loss = total_loss(own)
            for sum_, more in zip(gradient, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if more is not None:
                    sum_ += more
            sums.add(own, part.tokens)
    found = sums.result()
    score = Score(
        loss=found["actor/loss"],
        grad_norm=_dot(gradient, gradient) ** 0.5,
        tokens=whole.tokens,
        zero_advantage_fraction=float((batch[keys.ADVANTAGE][batch[keys.MASK]] == 0).float().mean()),
        ratio_min=found["actor/ratio_min"],
        ratio_max=found["actor/ratio_max"],
        clip_width=clip_width(recipe, batch),
        **{name: found[f"actor/{name}"] for name in MEANS},
    )
    return score, gradient


def clip_width(recipe: Algorithm, batch: TensorDict) -> dict[str, Width]:
    """The widths of the algorithm's clip.

    Args:
        recipe: the algorithm; of a dual clip, the inner clip is used.
        batch: with the weights and segments of ``recipe.weigh``.

    Returns:
        ``segment0``, ... for a clip with a width per token, else ``low`` and ``high``; empty if the clip has no width.
    """
    loss = PolicyLoss(LossComponents(clip=recipe.clip))
    # No bound depends on the current policy, which is not scored yet. float64 keeps a width of 1e-6 in 1 + width.
    tokens = loss.batch(batch.copy().set(keys.LOG_PROB, batch[keys.OLD_LOG_PROB].double()))
    bounds = loss.bounds(tokens)
    if bounds is None:
        return {}
    mask = batch[keys.MASK]
    low, high = (torch.as_tensor(bound, dtype=torch.float64).expand(mask.shape) for bound in bounds)
    if keys.SEGMENT in reads(recipe.clip):
        ids = torch.where(mask, batch[keys.SEGMENT], -1)
        return {f"segment{k}": Width.of((high - low)[ids == k] / 2) for k in ids[ids >= 0].unique().tolist()}
    return {"low": Width.of((1 - low)[mask]), "high": Width.of((high - 1)[mask])}


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(first, second, strict=True))


def _cosines(gradients: Mapping[str, Sequence[Tensor]]) -> dict[str, dict[str, float | None]]:
    norms = {name: _dot(g, g) ** 0.5 for name, g in gradients.items()}
    table: dict[str, dict[str, float | None]] = {name: {} for name in gradients}
    names = list(gradients)
    for i, one in enumerate(names):
        for other in names[i:]:
            scale = norms[one] * norms[other]
            cosine = _dot(gradients[one], gradients[other]) / scale if scale else None
            table[one][other] = table[other][one] = cosine
    return table
