"""Clips: from log-ratios to the objective of each token. The objective is maximised.

A clip is called with log-ratios [N, T] and a :class:`~llmrl.losses.batch.TokenBatch` and returns
:class:`Clipped`. Numbers are fields. :class:`~llmrl.losses.policy.PolicyLoss` turns them into
buffers, so a clip may compute with them, but must not branch in Python on their values.

A clip with bounds (:class:`BoundedClip`) also reports them. For PPO's clip with other bounds, derive from
:class:`RatioClip` and write ``bounds``. :class:`GradientPreserving` gives any clip with bounds the gradient
of GPPO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key, reads
from llmrl.losses.batch import TokenBatch


class Clipped(NamedTuple):
    """The result of a clip; every tensor is [N, T]."""

    objective: Tensor
    """To be maximised; the advantage is already multiplied in."""
    low: Tensor
    """bool: clipped at the lower bound."""
    high: Tensor
    """bool: clipped at the upper bound."""
    lost: Tensor | None = None
    """bool: tokens with an advantage that have no gradient because of the clip; None: those of low and
    high."""
    through_ratio: bool = True
    """Whether the gradient flows through the ratio; False: through log pi, at any ratio."""


Clip = Callable[[Tensor, TokenBatch], Clipped]
Bounds = tuple[Tensor | float, Tensor | float]
"""The smallest and the largest ratio that count: numbers, or a value for each token [N, T]."""


@runtime_checkable
class BoundedClip(Protocol):
    """A clip with a smallest and a largest ratio."""

    def bounds(self, batch: TokenBatch) -> Bounds:
        """The smallest and the largest ratio, without gradient; inf: no upper bound."""

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""


@runtime_checkable
class ChecksAdvantages(Protocol):
    """A clip that cannot use all advantages. ``Algorithm.weigh`` calls the check once per optimiser batch."""

    def check_advantages(self, advantage: Tensor, mask: Tensor) -> None:
        """Raise ValueError if the clip cannot use the advantages [N, T]; only those in the mask [N, T] count."""


def check_widths(owner: object, low: float, high: float) -> None:
    """Raise unless ``1 - low`` and ``1 + high`` bound a ratio."""
    name = type(owner).__name__
    if not 0 <= low <= 1:
        raise ValueError(
            f"{name}: low must be between 0 and 1, got {low}: 1 - low is the smallest ratio that "
            "counts. Use 1 for no lower bound."
        )
    if not high >= 0:
        raise ValueError(
            f"{name}: high must be 0 or more, got {high}: 1 + high is the largest ratio that "
            "counts. Use float('inf') for no upper bound."
        )


def check_positive(owner: object, **numbers: float) -> None:
    """Raise unless every number is above 0."""
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{type(owner).__name__}: {name} must be above 0, got {number}.")


def clip_surrogate(log_ratio: Tensor, advantage: Tensor, low: Tensor | float, high: Tensor | float) -> Clipped:
    """PPO's pessimistic surrogate: min(r A, clip(r, low, high) A).

    The derivative with respect to log r is 0 where r > high and A > 0, and where r < low and A < 0.
    Elsewhere, the bounds included, it is r A.

    Args:
        log_ratio: [N, T].
        advantage: [N, T].
        low: smallest ratio that counts, a number, 0-dim or [N, T].
        high: largest ratio that counts, in the same form.

    >>> r = torch.tensor([[0.5, 1.0, 1.5]]).log()
    >>> clip_surrogate(r, torch.ones(1, 3), torch.tensor(0.8), torch.tensor(1.2)).objective
    tensor([[0.5000, 1.0000, 1.2000]])
    """
    ratio = log_ratio.detach().exp()
    below, above = (ratio < low) & (advantage < 0), (ratio > high) & (advantage > 0)
    held, plain = below | above, ratio * advantage
    inside = torch.minimum(torch.maximum(ratio, as_tensor(low, ratio)), as_tensor(high, ratio))
    value = torch.where(held, inside * advantage, plain)
    return Clipped(with_gradient(value, plain.masked_fill(held, 0), log_ratio), below, above)


def as_tensor(number: Tensor | float, like: Tensor) -> Tensor:
    """A bound as a tensor with the dtype and device of ``like``; it may be a number or a buffer."""
    return torch.as_tensor(number, dtype=like.dtype, device=like.device)


def with_gradient(value: Tensor, slope: Tensor, log_ratio: Tensor) -> Tensor:
    """``value`` exactly, with ``slope`` as its derivative with respect to the log-ratio.

    A clip states a token's value and its gradient separately. That costs one multiplication, and
    backward keeps one tensor.

    Args:
        value: [N, T]; a gradient that it already has is kept.
        slope: [N, T], finite.
        log_ratio: [N, T], finite.

    >>> l = torch.zeros(1, requires_grad=True)
    >>> y = with_gradient(torch.tensor([3.0]), torch.tensor([0.5]), l)
    >>> y.backward()
    >>> y.item(), l.grad.item()
    (3.0, 0.5)
    """
    return torch.addcmul(value, slope, log_ratio - log_ratio.detach())


@dataclass(frozen=True, kw_only=True)
class NoClip:
    """Plain importance sampling: r A."""

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        never = torch.zeros_like(batch.mask)
        return Clipped(log_ratio.exp() * batch.advantage, never, never)


class RatioClip:
    """PPO's clip with bounds that a subclass defines.

    The value is

        min(r A, clip(r, low, high) A)

    A token has no gradient where its ratio is above high and its advantage positive, or below low and negative.
    """

    in_keys: ClassVar[tuple[Key, ...]] = ()
    """Further entries that the bounds are computed from."""

    def bounds(self, batch: TokenBatch) -> Bounds:
        """The smallest and the largest ratio that count."""
        raise NotImplementedError(f"{type(self).__name__} must state bounds(batch) -> (low, high).")

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        return clip_surrogate(log_ratio, batch.advantage, *self.bounds(batch))


@dataclass(frozen=True, kw_only=True)
class PPOClip(RatioClip):
    """min(r A, clip(r, 1 - low, 1 + high) A). arXiv:1707.06347; high > low: arXiv:2503.14476."""

    low: float = 0.2
    """1 - low is the smallest ratio that counts; 1: no lower bound."""
    high: float = 0.2
    """1 + high is the largest ratio that counts."""

    def __post_init__(self) -> None:
        check_widths(self, self.low, self.high)

    def bounds(self, batch: TokenBatch) -> Bounds:
        """1 - low and 1 + high, the same for every token."""
        return 1 - self.low, 1 + self.high


@dataclass(frozen=True, kw_only=True)
class GradientPreserving:
    """PPO's value with the bounds of the base, and a bounded gradient for clipped tokens. GPPO.

    The gradient factor, in place of PPO's 0 beyond the bounds, is

        A > 0:  min(r, high)
        A < 0:  max(r, low)

    Source: arXiv:2508.07629 eq. 11. ``beta_low`` and ``beta_high`` scale the factor of clipped tokens: CE-GPPO,
        arXiv:2509.20712. Any clip with bounds can be the base.

    >>> r = torch.tensor([[0.5, 1.0, 1.5]]).log().requires_grad_()
    >>> batch = TokenBatch.of(
    ...     mask=torch.ones(1, 3) > 0, log_prob=r, old_log_prob=torch.zeros(1, 3), advantage=torch.ones(1, 3)
    ... )
    >>> clipped = GradientPreserving(base=PPOClip(high=0.25))(r, batch)
    >>> clipped.objective.detach()
    tensor([[0.5000, 1.0000, 1.2500]])
    >>> torch.autograd.grad(clipped.objective.sum(), r)[0]
    tensor([[0.5000, 1.0000, 1.2500]])
    """

    base: BoundedClip = PPOClip()
    """The clip whose bounds are used."""
    beta_low: float = 1.0
    """Scale of the gradient of tokens below the range whose advantage is negative."""
    beta_high: float = 1.0
    """Scale of the gradient of tokens above the range whose advantage is positive."""
    scale_value: bool = False
    """Scale the value of clipped tokens by the betas too, as in arXiv:2509.20712 eq. 8; it is then not PPO's."""

    def __post_init__(self) -> None:
        if not isinstance(self.base, BoundedClip):
            raise TypeError(
                f"GradientPreserving: base must be a clip with bounds(batch) -> (low, high), such as PPOClip(), got "
                f"{self.base!r}."
            )
        for name, beta in (("beta_low", self.beta_low), ("beta_high", self.beta_high)):
            if not beta >= 0:
                raise ValueError(f"GradientPreserving: {name} must be 0 or more, got {beta}.")

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """The further entries that the base reads."""
        return reads(self.base)

    def bounds(self, batch: TokenBatch) -> Bounds:
        """The bounds of the base."""
        return self.base.bounds(batch)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        ppo = clip_surrogate(log_ratio, batch.advantage, *self.bounds(batch))
        value = ppo.objective.detach()
        beta = ppo.low.to(value.dtype) * self.beta_low + ppo.high.to(value.dtype) * self.beta_high
        objective = with_gradient(ppo.objective, beta * value, log_ratio)
        if self.scale_value:
            objective = objective + torch.where(ppo.low | ppo.high, beta - 1, 0) * value
        return Clipped(objective, ppo.low, ppo.high, (ppo.low | ppo.high) & (beta == 0))


@dataclass(frozen=True, kw_only=True)
class DualClip:
    """A lower bound of the objective where the advantage is negative: max(objective, bound * A).

    A token with a negative advantage and a ratio above the bound has the value bound * A and no gradient.
    Source: arXiv:1912.09729. ``base`` is a clip whose value is the ratio times the advantage.
    """

    base: Clip = PPOClip()
    """The clip that is wrapped."""
    bound: float = 3.0
    """The largest ratio that counts where the advantage is negative; above 1."""

    def __post_init__(self) -> None:
        if not self.bound > 1:
            raise ValueError(
                f"DualClip: bound must be above 1, got {self.bound}: it is the largest ratio that "
                "counts where the advantage is negative."
            )

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """The further entries that the base reads."""
        return reads(self.base)

    def check_advantages(self, advantage: Tensor, mask: Tensor) -> None:
        """Raise ValueError if the base cannot use the advantages."""
        if isinstance(self.base, ChecksAdvantages):
            self.base.check_advantages(advantage, mask)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        base = self.base(log_ratio, batch)
        over = (log_ratio.detach().exp() > self.bound) & (batch.advantage < 0)
        lost = base.low | base.high if base.lost is None else base.lost
        # where, not maximum: a tie at the bound must keep the whole gradient
        objective = torch.where(over, self.bound * batch.advantage, base.objective)
        return base._replace(objective=objective, high=base.high | over, lost=lost | over)


def bounded_clip(clip: Clip) -> BoundedClip | None:
    """The clip that has the bounds: ``clip`` or the clip that a dual clip wraps; None if it has no bounds."""
    while isinstance(clip, DualClip):
        clip = clip.base
    return clip if isinstance(clip, BoundedClip) else None


def segment_entropy(batch: TokenBatch) -> Tensor:
    """Mean old entropy of the token's segment divided by log |V|, [N, T] in [0, 1]: ESPO's default here."""
    return batch.segment_mean(batch.old_entropy) / _max_entropy(batch)


def token_entropy(batch: TokenBatch) -> Tensor:
    """The token's old entropy divided by log |V|, [N, T]."""
    return batch.old_entropy / _max_entropy(batch)


def token_entropy_per_segment(batch: TokenBatch) -> Tensor:
    """The token's old entropy divided by log |V| and by the number of segments of its response, [N, T]."""
    segments = batch.segment_share.sum(1, keepdim=True).round()
    return token_entropy(batch) / segments.clamp_min(1)


def token_entropy_per_size(batch: TokenBatch) -> Tensor:
    """The token's old entropy divided by log |V| and by the number of tokens of its segment, [N, T]."""
    return token_entropy(batch) * batch.segment_share


def _max_entropy(batch: TokenBatch) -> Tensor:
    return batch.max_entropy.clamp_min(1e-6)  # a vocabulary of one word has log |V| = 0


@dataclass(frozen=True, kw_only=True)
class EntropyAdaptiveClip(RatioClip):
    """PPO's clip with a width of alpha times the old policy's normalised entropy.

    Both sides have the same width, and with the default ``entropy`` all tokens of a segment share it. Tokens
    of low entropy may move little, tokens of high entropy more. Source: arXiv:2512.00499 eq. 8.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.OLD_ENTROPY, keys.MAX_ENTROPY, keys.SEGMENT)

    alpha: float = 0.02
    """The width at the largest possible entropy."""
    floor: float = 0.0
    """The smallest width; above 0, nearly certain tokens are not clipped because of rounding."""
    ceiling: float = float("inf")
    """The largest width."""
    entropy: Callable[[TokenBatch], Tensor] = segment_entropy
    """Gives normalised entropies [N, T]: segment_entropy or a function whose name begins with token_entropy."""

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"EntropyAdaptiveClip: alpha must be 0 or more, got {self.alpha}.")
        if not 0 <= self.floor <= self.ceiling:
            raise ValueError(
                "EntropyAdaptiveClip: floor must be 0 or more and not above ceiling, got floor "
                f"{self.floor} and ceiling {self.ceiling}."
            )

    def bounds(self, batch: TokenBatch) -> Bounds:
        """1 - width and 1 + width, [N, T]."""
        width = self.alpha * self.entropy(batch).clamp_min(0)
        width = width.clamp(min=self.floor).clamp(max=self.ceiling)
        return 1 - width, 1 + width


@dataclass(frozen=True, kw_only=True)
class DynamicClip(RatioClip):
    """PPO's clip with bounds that depend on the token's old probability: rare tokens may move more. DCPO.

    1/2 + 1/2 sqrt(max(1 - 4 low / q, 0)) <= r <= 1/2 + 1/2 sqrt(1 + 4 high / q),  q = pi_old

    Source: arXiv:2509.02333 and its code, which also caps the upper bound.
    """

    low: float = 0.16
    """Width of the lower bound, as a difference of probabilities times the ratio."""
    high: float = 0.2
    """Width of the upper bound, in the same unit."""
    cap: float = 10.0
    """The upper bound is never larger than this."""

    def __post_init__(self) -> None:
        check_positive(self, low=self.low, high=self.high)
        if not self.cap > 1:
            raise ValueError(f"DynamicClip: cap must be above 1, got {self.cap}.")

    def bounds(self, batch: TokenBatch) -> Bounds:
        """The smallest and the largest ratio, [N, T]."""
        odds = 4 * (-batch.old_log_prob).clamp(max=60.0).exp()  # 4 / q; a q below 1e-26 is treated as 1e-26
        low = 0.5 + 0.5 * (1 - self.low * odds).clamp_min(0).sqrt()
        high = 0.5 + 0.5 * (1 + self.high * odds).sqrt()
        return low, high.clamp(max=self.cap)
