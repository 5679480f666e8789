"""Measures of a step's rollouts, taken before the update.

All numbers stay on the device until :func:`fetch`, which makes a single transfer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.credit import Groups
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.records import Record, is_correct

Measures = dict[str, Tensor | float]
"""Values by the name of the metric; a tensor has one element."""


def fetch(measures: Mapping[str, Tensor | float]) -> dict[str, float]:
    """All values as Python numbers, with one transfer from the device.

    >>> fetch({"a": 1.0, "b": torch.tensor(2), "c": torch.tensor(0.5)})
    {'a': 1.0, 'b': 2.0, 'c': 0.5}
    """
    tensors = {name: value for name, value in measures.items() if isinstance(value, Tensor)}
    values: list[float] = []
    if tensors:
        values = torch.cat([tensor.detach().reshape(1).double() for tensor in tensors.values()]).tolist()
    return {**measures, **dict(zip(tensors, values, strict=True))}  # type: ignore[dict-item]


def describe(rollouts: Rollouts) -> Measures:
    """Measures of all responses that were sampled in a step, before any filter."""
    records, data = rollouts.records, rollouts.data
    dropped: Measures = {"prompt_length/dropped": float(rollouts.dropped_prompts)}
    if not records:
        return {**dropped, "sampled_tokens": 0.0}
    reward = torch.tensor([record["reward"] for record in records])
    verdicts = [record.get("verdict") for record in records]
    lengths = data[keys.MASK].sum(1)
    before = data[keys.MASK].cumsum(1) == 0  # later turns do not belong to the prompt
    prompts = (data[keys.ATTENTION] & before).sum(1)
    turns = [record["turns"] for record in records]
    groups: dict[int, list[Record]] = {record["group"]: [] for record in records}
    for record in records:
        if record.get("valid", True):
            groups[record["group"]].append(record)
    paid = [{record["reward"] for record in group} for group in groups.values()]
    return {
        "reward/mean": float(reward.mean()),
        "reward/std": float(reward.std(correction=0)),
        "reward/shaped_mean": data[keys.SHAPED_REWARD].mean(),
        "reward/accuracy": share([is_correct(record) for record in records]),
        "verifier/no_answer": share([verdict == "no_answer" for verdict in verdicts]),
        "verifier/invalid": 1 - data[keys.VALID].float().mean(),
        "groups/mixed": share([len(values) > 1 for values in paid]),
        "groups/solved_all": share([bool(group) and all(map(is_correct, group)) for group in groups.values()]),
        "response_length/mean": lengths.float().mean(),
        "response_length/max": lengths.max(),
        "response_length/truncated": data[keys.TRUNCATED].float().mean(),
        "prompt_length/mean": prompts.float().mean(),
        **dropped,
        "turns/mean": sum(turns) / len(turns),
        "turns/max": float(max(turns)),
        "sampled_tokens": lengths.sum(),
    }


def share(flags: list[bool]) -> float:
    """The share of true values; 0 if there are no values."""
    return sum(flags) / max(len(flags), 1)


def mismatch(data: TensorDict, log_prob: Tensor, entropy: Tensor) -> dict[str, Tensor]:
    """Entropy, and the difference between the log-probabilities of sampler and scorer under the same weights.

    Args:
        data: rollouts [N, T].
        log_prob: [N, T] by the scorer, with the weights that sampled.
        entropy: [N, T] by the scorer.
    """
    mask = data[keys.MASK]
    gap = torch.where(mask, data[keys.SAMPLER_LOG_PROB] - log_prob, 0)
    return {
        "actor/entropy": _mean(entropy, mask),
        "rollout/mismatch_kl": _mean(gap, mask),
        "rollout/mismatch_mean": _mean(gap.abs(), mask),
        "rollout/mismatch_max": gap.abs().max(),
    }


def credited(data: TensorDict) -> Measures:
    """Measures of the advantages, and of a critic's values where there are any."""
    mask, advantage = data[keys.MASK], data[keys.ADVANTAGE]
    found: Measures = {
        "advantage/mean": _mean(advantage, mask),
        "advantage/std": _variance(advantage, mask).sqrt(),
        # Raw rewards: with a KL penalty all rewards of a group differ, even if no answer is better than another.
        "groups/zero_std": Groups(data.exclude(keys.TOKEN_REWARD)).uniform().float().mean(),
    }
    if data.get(keys.TOKEN_REWARD, None) is not None:
        found["reward/kl_penalty"] = data[keys.TOKEN_REWARD].sum(1).mean()
        found["reward/kl_coefficient"] = data[keys.KL_COEFFICIENT][0]
    target = data.get(keys.VALUE_TARGET, None)
    if target is not None:
        left = _variance(target - data[keys.VALUE], mask) / _variance(target, mask).clamp_min(1e-12)
        found["critic/explained_variance"] = 1 - left
    return found


def first_advantage(data: TensorDict) -> list[float]:
    """The advantage of each row's first sampled token."""
    first = data[keys.MASK].int().argmax(1)
    return data[keys.ADVANTAGE].gather(1, first[:, None])[:, 0].tolist()


def _mean(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, 0).sum() / mask.sum()


def _variance(x: Tensor, mask: Tensor) -> Tensor:
    return _mean((x - _mean(x, mask)).square(), mask)
