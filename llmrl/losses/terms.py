"""Further losses that a recipe adds to the policy loss: value, KL, entropy, imitation of correct answers.

Each is a loss module that writes one ``loss_*`` entry, its coefficient included. It is averaged with the same
``weight`` as the policy loss (PositiveNLL: over the correct responses). The trainer adds up all entries
whose name begins with ``loss_``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key, check_entry
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.batch import bounded, compute_dtype, finite_log_prob
from llmrl.losses.module import BatchLoss, number
from llmrl.losses.segments import highest, token_covariance

Estimator = Callable[[Tensor, Tensor], Tensor]
"""(d = log pi_ref - log pi, log pi - log pi_old), both [N, T] and with gradient -> KL [N, T]."""
ROUNDING = 1e-5
"""Two float32 log-probabilities that differ by fewer nats than this may differ by rounding alone."""


def k1(d: Tensor, log_ratio: Tensor) -> Tensor:
    """-d: unbiased, may be negative; as a loss its gradient is 0 in expectation."""
    return -d


def k2(d: Tensor, log_ratio: Tensor) -> Tensor:
    """d^2 / 2: biased as a value; on-policy its gradient is that of KL(pi || pi_ref)."""
    return d.square() / 2


def k3(d: Tensor, log_ratio: Tensor) -> Tensor:
    """e^d - d - 1: unbiased, never negative; as a loss its gradient is that of KL(pi_ref || pi).

    >>> k3(torch.tensor([0.0, 1.0]), torch.zeros(2))
    tensor([0.0000, 0.7183])
    """
    return torch.expm1(d) - d


def absolute(d: Tensor, log_ratio: Tensor) -> Tensor:
    """|d|: never negative and not below k1; its expectation is not the KL. Its derivative with respect to d is +-1.

    >>> absolute(torch.tensor([-0.5, 0.25]), torch.zeros(2))
    tensor([0.5000, 0.2500])
    """
    return d.abs()


def k3_straight_through(d: Tensor, log_ratio: Tensor) -> Tensor:
    """The value of k3 with the gradient of k2: an unbiased value, and the gradient of KL(pi || pi_ref)."""
    gradient = k2(d, log_ratio)
    return gradient + (k3(d, log_ratio) - gradient).detach()


@dataclass(frozen=True)
class OffPolicy:
    """(pi / pi_old) * base, with the gradient of the ratio: unbiased on samples of the old policy.

    With k3 the expected gradient is that of KL(pi || pi_ref). DeepSeek-V3.2, arXiv:2512.02556.
    """

    base: Estimator = k3
    """The estimator that is corrected."""

    def __call__(self, d: Tensor, log_ratio: Tensor) -> Tensor:
        """[N, T]."""
        return log_ratio.exp() * self.base(d, log_ratio)


def _check_coefficient(owner: object, coefficient: float) -> Tensor:
    if not coefficient >= 0:
        raise ValueError(
            f"{type(owner).__name__}: coefficient must be 0 or more, got {coefficient}: it "
            "multiplies a loss that is minimised."
        )
    return number(coefficient)


class ValueLoss(BatchLoss):
    """Half the squared error of the critic, clipped pessimistically as PPO clips the ratio.

    coefficient * sum w max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2) / 2

    Args:
        clip: how far V may move from ``old_value`` before its gradient stops; None: no clip.
        coefficient: weight of this term.

    Source: OpenAI's PPO baselines. The loss of the paper is not clipped (arXiv:1707.06347).
    """

    def __init__(self, *, clip: float | None = 0.2, coefficient: float = 1.0) -> None:
        super().__init__()
        if clip is not None and not clip > 0:
            raise ValueError(f"ValueLoss: clip must be above 0, got {clip}. Use None for no clip.")
        self.clipped = clip is not None
        self.reads = (keys.MASK, keys.VALUE, keys.VALUE_TARGET, keys.WEIGHT)
        if clip is not None:
            self.register_buffer("clip", number(clip))
            self.reads += (keys.OLD_VALUE,)
        self.register_buffer("coefficient", _check_coefficient(self, coefficient))

    @property
    def out_keys(self) -> list[Key]:
        """The entries that are written."""
        return ["loss_value", "value_clip_fraction"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """``loss_value``, and the share of tokens with a clipped error above the unclipped one."""
        mask = self.read_mask(tensordict)
        dtype = compute_dtype(self.read(tensordict, keys.VALUE))
        weight = self.read_weight(tensordict, mask, dtype)
        value = self.read_safe(tensordict, keys.VALUE, mask, dtype)
        target = self.read_safe(tensordict, keys.VALUE_TARGET, mask, dtype).detach()
        error = (value - target).square()
        if self.clipped:
            old = self.read_safe(tensordict, keys.OLD_VALUE, mask, dtype).detach()
            moved = (value - old).clamp(min=-self.clip).clamp(max=self.clip)
            held = (old + moved - target).square()
            beyond = (held > error).detach()
            error = torch.maximum(error, held)
        else:
            beyond = torch.zeros_like(mask)
        loss = (self.coefficient * weight * error).sum() / 2
        fraction = beyond.sum() / mask.sum().clamp_min(1)
        return TensorDict({"loss_value": loss, "value_clip_fraction": fraction}, batch_size=[])


class KLToReference(BatchLoss):
    """coefficient * sum w KL(pi, pi_ref) by an estimator on the sampled tokens.

    Args:
        estimator: k1, k2, k3, absolute, k3_straight_through or OffPolicy(...); their docstrings give the gradients.
        coefficient: weight of this term, beta in GRPO.
    """

    def __init__(self, *, estimator: Estimator = k3, coefficient: float = 0.04) -> None:
        super().__init__()
        self.estimator = estimator
        self.reads = (keys.MASK, keys.LOG_PROB, keys.OLD_LOG_PROB, keys.REF_LOG_PROB, keys.WEIGHT)
        self.register_buffer("coefficient", _check_coefficient(self, coefficient))

    @property
    def out_keys(self) -> list[Key]:
        """The entries that are written."""
        return ["loss_kl", "kl_to_ref"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """``loss_kl``, and the estimate's mean over the call's tokens."""
        mask, weight, log_prob = _read_log_prob(self, tensordict)
        dtype = log_prob.dtype
        old, ref = (
            finite_log_prob(self.read_safe(tensordict, name, mask, dtype).detach())
            for name in (keys.OLD_LOG_PROB, keys.REF_LOG_PROB)
        )
        kl = self.estimator(bounded(ref - log_prob), bounded(log_prob - old))
        loss = (self.coefficient * weight * kl).sum()
        mean = kl.detach().sum() / mask.sum().clamp_min(1)
        return TensorDict({"loss_kl": loss, "kl_to_ref": mean}, batch_size=[])


class EntropyBonus(BatchLoss):
    """-coefficient * sum w H: rewards high entropy. It needs ``entropy`` with its gradient.

    Args:
        coefficient: weight of this term.
    """

    def __init__(self, *, coefficient: float = 0.001) -> None:
        super().__init__()
        self.reads = (keys.MASK, keys.ENTROPY, keys.WEIGHT)
        self.register_buffer("coefficient", _check_coefficient(self, coefficient))

    @property
    def out_keys(self) -> list[Key]:
        """The entries that are written."""
        return ["loss_entropy"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """``loss_entropy``."""
        mask = self.read_mask(tensordict)
        dtype = compute_dtype(self.read(tensordict, keys.ENTROPY))
        weight = self.read_weight(tensordict, mask, dtype)
        entropy = self.read_safe(tensordict, keys.ENTROPY, mask, dtype)
        loss = -(self.coefficient * weight * entropy).sum()
        return TensorDict({"loss_entropy": loss}, batch_size=[])


class PositiveNLL(BatchLoss):
    """-coefficient * mean of log pi over the tokens of the correct responses: imitation of correct answers.

    loss = -coefficient * sum_t w+_t log pi_t

    w+ is 1 / number of tokens of the correct responses of the optimiser batch. The size of the loss does not depend on
    the share of correct responses, and micro-batches add up exactly. Without a correct response the loss is 0. GPPO,
    arXiv:2508.07629 eq. 13, and ERC's code use the coefficient 0.1; the denominator is that of ERC's code.
    :meth:`prepare` computes w+ from the rewards that the environment paid, so further parts of the reward would change
    what counts as correct.

    Args:
        coefficient: weight of this term.
        min_reward: responses with at least this reward count as correct.
    """

    def __init__(self, *, coefficient: float = 0.1, min_reward: float = 1.0) -> None:
        super().__init__()
        self.reads = (keys.MASK, keys.LOG_PROB, keys.POSITIVE_WEIGHT)
        self.prepared = (keys.POSITIVE_WEIGHT,)
        self.prepared_from = (keys.MASK, keys.REWARD)
        self.register_buffer("coefficient", _check_coefficient(self, coefficient))
        self.register_buffer("min_reward", number(min_reward))

    @property
    def out_keys(self) -> list[Key]:
        """The entries that are written."""
        return ["loss_nll"]

    def prepare(self, tensordict: TensorDictBase) -> dict[Key, Tensor]:
        """``"positive_weight"`` [N, T]; it sums to 1 if a response is correct, else to 0.

        >>> td = TensorDict({keys.MASK: torch.tensor([[True, True], [True, False]])}, [2])
        >>> td[keys.REWARD] = torch.tensor([[1.0], [0.0]])
        >>> PositiveNLL().prepare(td)["positive_weight"]
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]], dtype=torch.float64)
        """
        mask, reward = self.read_mask(tensordict), self.read(tensordict, keys.REWARD)
        check_entry(reward, mask, self.key(keys.REWARD), keys.REWARD)
        # the reward [N, 1] is that of the whole response
        positive = mask & (reward.detach() >= self.min_reward.to(reward.device))
        return {self.key(keys.POSITIVE_WEIGHT): TokenMean()(positive)}

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """``loss_nll``."""
        _, weight, log_prob = _read_log_prob(self, tensordict, keys.POSITIVE_WEIGHT)
        loss = -(self.coefficient * weight * log_prob).sum()
        return TensorDict({"loss_nll": loss}, batch_size=[])


class CovarianceKL(BatchLoss):
    """coefficient * sum w |log pi - log pi_old| over the tokens of highest covariance. KL-Cov.

    It holds the few tokens of highest covariance of advantage and log-probability near the old policy,
    because they make the entropy collapse. The ranking is over the tokens of one call, so it depends on
    how the batch is cut into micro-batches. A distance below :data:`ROUNDING` counts as 0. Source: arXiv:2505.22617.

    Args:
        fraction: share of the call's tokens to which the term applies; at least one token.
        coefficient: weight of this term.
    """

    def __init__(self, *, fraction: float = 0.002, coefficient: float = 1.0) -> None:
        super().__init__()
        if not 0 < fraction <= 1:
            raise ValueError(
                f"CovarianceKL: fraction must be above 0 and at most 1, got {fraction}: it is a share of the tokens."
            )
        self.reads = (keys.MASK, keys.LOG_PROB, keys.OLD_LOG_PROB, keys.ADVANTAGE, keys.WEIGHT)
        self.register_buffer("fraction", number(fraction))
        self.register_buffer("coefficient", _check_coefficient(self, coefficient))

    @property
    def out_keys(self) -> list[Key]:
        """The entries that are written."""
        return ["loss_kl_cov"]

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """``loss_kl_cov``."""
        mask, weight, log_prob = _read_log_prob(self, tensordict)
        dtype = log_prob.dtype
        old = self.read_safe(tensordict, keys.OLD_LOG_PROB, mask, dtype).detach()
        old = finite_log_prob(old)
        advantage = self.read_safe(tensordict, keys.ADVANTAGE, mask, dtype).detach()
        covariance = token_covariance(advantage, log_prob, mask)
        held = highest(covariance, mask, (self.fraction * mask.sum()).floor().clamp_min(1))
        distance = bounded(log_prob - old).abs()
        # |x| has its whole gradient at any distance from 0, so rounding would decide its sign before the first update.
        distance = torch.where(distance < ROUNDING, 0, distance)
        loss = (self.coefficient * torch.where(held, weight, 0) * distance).sum()
        return TensorDict({"loss_kl_cov": loss}, batch_size=[])


def _read_log_prob(
    loss: BatchLoss, tensordict: TensorDictBase, name: Key = keys.WEIGHT
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask, weight and finite log-probabilities."""
    mask = loss.read_mask(tensordict)
    dtype = compute_dtype(loss.read(tensordict, keys.LOG_PROB))
    weight = loss.read_weight(tensordict, mask, dtype, name)
    log_prob = loss.read_safe(tensordict, keys.LOG_PROB, mask, dtype)
    return mask, weight, finite_log_prob(log_prob)
