"""How far a token may count: from log-ratios to the objective, which is maximised.

A clip is called with log-ratios [N, T] and a :class:`~llmrl.losses.batch.TokenBatch` and returns
:class:`Clipped`.  Numbers are fields; :class:`~llmrl.losses.policy.PolicyLoss` turns them into
buffers, so a clip computes with them but takes no decision in Python by their value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.batch import TokenBatch
from llmrl.losses.segments import sequence_mean


class Clipped(NamedTuple):
    """What a clip returns, everything [N, T]."""

    objective: Tensor
    """To be maximised; already times the advantage."""
    low: Tensor
    """bool: held back at the lower bound."""
    high: Tensor
    """bool: held back at the upper bound."""
    lost: Tensor | None = None
    """bool: without gradient because of the clip, where the advantage is not 0; by default low and
    high together."""
    width: Tensor | None = None
    """How far the ratio could go, where that differs between tokens."""


Clip = Callable[[Tensor, TokenBatch], Clipped]


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

    The gradient is r A, and zero exactly where r > high and A > 0, or r < low and A < 0; on a bound
    it is r A.

    Args:
        log_ratio: [N, T].
        advantage: [N, T].
        low: smallest ratio, 0-dim or [N, T].
        high: largest ratio, likewise.

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
    """A bound in the type of what it bounds; components hold numbers, bound components hold buffers."""
    return torch.as_tensor(number, dtype=like.dtype, device=like.device)


def with_gradient(value: Tensor, slope: Tensor, log_ratio: Tensor) -> Tensor:
    """``value`` exactly, with ``slope`` as its derivative by the log-ratio.

    A clip decides what a token contributes and what it teaches; stated apart, each costs one
    multiplication, and backward keeps one tensor.

    Args:
        value: [N, T]; a gradient it has of its own stays.
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


@dataclass(frozen=True, kw_only=True)
class PPOClip:
    """min(r A, clip(r, 1 - low, 1 + high) A).  arXiv:1707.06347; high > low: arXiv:2503.14476."""

    low: float = 0.2
    """1 - low is the smallest ratio that counts; 1: no lower bound."""
    high: float = 0.2
    """1 + high is the largest ratio that counts."""

    def __post_init__(self) -> None:
        check_widths(self, self.low, self.high)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        low, high = 1 - self.low, 1 + self.high
        return clip_surrogate(log_ratio, batch.advantage, low, high)


@dataclass(frozen=True, kw_only=True)
class GradientPreservingClip(PPOClip):
    """PPO's clip that keeps a bounded gradient on the tokens it clips.

    The value is PPO's.  A clipped token contributes bound * A * grad log pi instead of nothing, so
    the gradient factor is min(r, 1 + high) for A > 0 and max(r, 1 - low) for A < 0.  Source:
    arXiv:2508.07629 eq. 11.  beta_low, beta_high other than 1 give CE-GPPO, arXiv:2509.20712.
    """

    beta_low: float = 1.0
    """Scale of the gradient of tokens below the range whose advantage is negative."""
    beta_high: float = 1.0
    """Scale of the gradient of tokens above the range whose advantage is positive."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, beta in (("beta_low", self.beta_low), ("beta_high", self.beta_high)):
            if not beta >= 0:
                raise ValueError(f"{type(self).__name__}: {name} must be 0 or more, got {beta}.")

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        ppo = super().__call__(log_ratio, batch)
        given_back = self._beta(ppo)
        slope = given_back * ppo.objective.detach()
        objective = with_gradient(ppo.objective, slope, log_ratio)
        return Clipped(objective, ppo.low, ppo.high, (ppo.low | ppo.high) & (given_back == 0))

    def _beta(self, ppo: Clipped) -> Tensor:
        """The scale of the gradient that each clipped token gets back; 0 for the others."""
        dtype = ppo.objective.dtype
        return ppo.low.to(dtype) * self.beta_low + ppo.high.to(dtype) * self.beta_high


@dataclass(frozen=True, kw_only=True)
class LiteralGradientPreservingClip(GradientPreservingClip):
    """The same gradient with the value as printed: beta scales the clipped token's value too.

    Source: arXiv:2509.20712 eq. 8.  With beta other than 1 the value is not PPO's.
    """

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        kept = super().__call__(log_ratio, batch)
        scale = torch.where(kept.low | kept.high, self._beta(kept), 1)
        value = kept.objective.detach()
        return kept._replace(objective=kept.objective + (scale - 1) * value)


@dataclass(frozen=True, kw_only=True)
class DualClip:
    """A floor under the objective where the advantage is negative: max(objective, bound * A).

    Such a token with a ratio above the bound has the value bound * A and no gradient.
    Source: arXiv:1912.09729.  ``base`` is a clip whose value is the ratio times the advantage.
    """

    base: Clip = PPOClip()
    """The clip that is wrapped."""
    bound: float = 3.0
    """The largest ratio that counts against a token; above 1."""

    def __post_init__(self) -> None:
        if not self.bound > 1:
            raise ValueError(
                f"DualClip: bound must be above 1, got {self.bound}: it is the largest ratio that "
                "counts where the advantage is negative."
            )

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """What the base reads."""
        return tuple(getattr(self.base, "in_keys", ()))

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        objective, low, high, lost, width = self.base(log_ratio, batch)
        over = (log_ratio.detach().exp() > self.bound) & (batch.advantage < 0)
        lost = low | high if lost is None else lost
        # where, not maximum: a tie at the bound must keep the whole gradient
        objective = torch.where(over, self.bound * batch.advantage, objective)
        return Clipped(objective, low, high | over, lost | over, width)


def segment_entropy(batch: TokenBatch) -> Tensor:
    """Mean old entropy of the token's segment over log |V|, in [0, 1]: the default reading of ESPO."""
    return batch.segment_mean(batch.old_entropy) / _max_entropy(batch)


def token_entropy(batch: TokenBatch) -> Tensor:
    """The token's own old entropy over log |V|."""
    return batch.old_entropy / _max_entropy(batch)


def token_entropy_per_segment(batch: TokenBatch) -> Tensor:
    """The token's own old entropy over log |V| and over how many segments its response has."""
    segments = batch.segment_share.sum(1, keepdim=True).round()
    return token_entropy(batch) / segments.clamp_min(1)


def token_entropy_per_size(batch: TokenBatch) -> Tensor:
    """The token's own old entropy over log |V| and over how many tokens its segment has."""
    return token_entropy(batch) * batch.segment_share


def _max_entropy(batch: TokenBatch) -> Tensor:
    return batch.max_entropy.clamp_min(1e-6)  # a vocabulary of one word has log |V| = 0


@dataclass(frozen=True, kw_only=True)
class EntropyAdaptiveClip:
    """PPO's clip whose width follows the old policy's entropy: alpha * normalised entropy.

    Both sides have the same width, one for all tokens of a segment: sure tokens are held tightly,
    unsure ones may move.  Source: arXiv:2512.00499 eq. 8.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.OLD_ENTROPY, keys.MAX_ENTROPY, keys.SEGMENT)

    alpha: float = 0.02
    """The width at the largest possible entropy."""
    floor: float = 0.0
    """The smallest width; above 0 it keeps rounding of nearly certain tokens from being clipped."""
    ceiling: float = float("inf")
    """The largest width."""
    entropy: Callable[[TokenBatch], Tensor] = segment_entropy
    """Normalised entropy [N, T]: segment_entropy or one of the token_entropy readings."""

    def __post_init__(self) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"EntropyAdaptiveClip: alpha must be 0 or more, got {self.alpha}.")
        if not 0 <= self.floor <= self.ceiling:
            raise ValueError(
                "EntropyAdaptiveClip: floor must be 0 or more and not above ceiling, got floor "
                f"{self.floor} and ceiling {self.ceiling}."
            )

    def width(self, batch: TokenBatch) -> Tensor:
        """How far the ratio may be from 1, [N, T]."""
        width = self.alpha * self.entropy(batch).clamp_min(0)
        return width.clamp(min=self.floor).clamp(max=self.ceiling)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        width = self.width(batch)
        clipped = clip_surrogate(log_ratio, batch.advantage, 1 - width, 1 + width)
        return clipped._replace(width=width)


@dataclass(frozen=True, kw_only=True)
class DetachedWeight:
    """sg[clip(r, 1 - low, 1 + high)] A log pi: the ratio is a constant weight.  CISPO.

    No token loses its gradient.  The value is not comparable with PPO's.
    Source: arXiv:2506.13585 eq. 4-5, where only the upper bound is used (low = 1).
    """

    through_ratio: ClassVar[bool] = False  # the gradient is that of log pi, whatever the ratio

    low: float = 1.0
    """1 - low is the smallest weight; 1: no lower bound."""
    high: float = 0.28
    """1 + high is the largest weight."""

    def __post_init__(self) -> None:
        check_widths(self, self.low, self.high)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        ratio = log_ratio.detach().exp()
        low, high = 1 - self.low, 1 + self.high
        weight = ratio.clamp(low, high)
        objective = weight * batch.advantage * batch.log_prob
        return Clipped(objective, ratio < low, ratio > high, torch.zeros_like(batch.mask))


@dataclass(frozen=True, kw_only=True)
class SigmoidClip:
    """A sigmoid instead of a clip: (4 / tau) sigmoid(tau (r - 1)) A.  SAPO, arXiv:2511.20347.

    The gradient factor r sech^2(tau (r - 1) / 2) is r at r = 1 and fades on both sides.
    """

    tau_positive: float = 1.0
    """Temperature where the advantage is positive."""
    tau_negative: float = 1.05
    """Temperature elsewhere; a larger one fades sooner."""

    def __post_init__(self) -> None:
        check_positive(self, tau_positive=self.tau_positive, tau_negative=self.tau_negative)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        tau = torch.where(batch.advantage > 0, self.tau_positive, self.tau_negative)
        tau = tau.to(log_ratio.dtype)
        value = torch.sigmoid(tau * torch.expm1(log_ratio)) * (4 / tau)
        never = torch.zeros_like(batch.mask)
        return Clipped(value * batch.advantage, never, never)


def _check_one_sign(batch: TokenBatch) -> None:
    """Raise if a response has advantages of both signs; not while compiling, where values are unknown."""
    if torch.compiler.is_compiling():
        return
    mixed = (batch.advantage > 0).any(1) & (batch.advantage < 0).any(1)
    if bool(mixed.any()):
        raise ValueError(
            f"GeometricMeanClip clips a response on the side of its advantage, and {int(mixed.sum())} responses have "
            "tokens with advantages of both signs. Use one advantage per response, such as GroupAdvantage()."
        )


@dataclass(frozen=True, kw_only=True)
class GeometricMeanClip:
    """exp(mean over the response of clipped log-ratios) A.  GMPO, arXiv:2507.20673.

    Each token's log-ratio is clipped on one side, at ``high`` if the advantage is positive and at
    ``-low`` if it is negative; then a response counts as one.  A clipped token gets no gradient,
    the others get A g.  Takes the token ratio and one advantage per response.
    """

    low: float = 0.4
    """Bound below, of the log-ratio."""
    high: float = 0.4
    """Bound above, of the log-ratio."""

    def __post_init__(self) -> None:
        for name, width in (("low", self.low), ("high", self.high)):
            if not width >= 0:
                raise ValueError(f"GeometricMeanClip: {name} must be 0 or more, got {width}: it bounds log r.")

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        _check_one_sign(batch)
        low = (log_ratio.detach() < -self.low) & (batch.advantage < 0)
        high = (log_ratio.detach() > self.high) & (batch.advantage > 0)
        inside = torch.where(low, -self.low, torch.where(high, self.high, log_ratio))
        inside = inside.to(log_ratio.dtype)
        mean = sequence_mean(inside.detach(), batch.mask)
        own = (inside - inside.detach()) + mean
        return Clipped(own.exp() * batch.advantage, low, high)


@dataclass(frozen=True, kw_only=True)
class AsymmetricClip:
    """The inverse ratio where the advantage is positive: lagging tokens are pushed most.  ASPO.

    A > 0: gradient factor min(1 / r, cap), none where r > 1 + high.
    A < 0: gradient factor min(r, cap), none where r < 1 - low.
    The cap keeps a gradient (a dual clip would drop it).  Values are not comparable with PPO's.
    Source: arXiv:2510.06062 and its code.
    """

    low: float = 0.2
    """1 - low is the smallest ratio that teaches where the advantage is negative."""
    high: float = 0.2
    """1 + high is the largest ratio that teaches where the advantage is positive."""
    cap: float = 3.0
    """The largest gradient factor."""

    def __post_init__(self) -> None:
        check_widths(self, self.low, self.high)
        if not self.cap >= 1:
            raise ValueError(f"AsymmetricClip: cap must be 1 or more, got {self.cap}.")

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        advantage, detached = batch.advantage, log_ratio.detach()
        ratio = detached.exp()
        low = (ratio < 1 - self.low) & (advantage < 0)
        high = (ratio > 1 + self.high) & (advantage > 0)
        factor = torch.where(advantage > 0, (-detached).exp(), ratio).clamp(max=self.cap)
        value = factor * advantage
        slope = value.masked_fill(low | high, 0)
        return Clipped(with_gradient(value, slope, log_ratio), low, high)


@dataclass(frozen=True, kw_only=True)
class DynamicClip:
    """PPO's clip whose bounds depend on how likely the token was: rare tokens may move more.  DCPO.

    1/2 + 1/2 sqrt(max(1 - 4 low / q, 0)) <= r <= 1/2 + 1/2 sqrt(1 + 4 high / q),  q = pi_old

    Source: arXiv:2509.02333 and its code, which also caps the upper bound.
    """

    low: float = 0.16
    """Width below, in terms of probability times ratio."""
    high: float = 0.2
    """Width above, likewise."""
    cap: float = 10.0
    """The upper bound is never larger than this."""

    def __post_init__(self) -> None:
        check_positive(self, low=self.low, high=self.high)
        if not self.cap > 1:
            raise ValueError(f"DynamicClip: cap must be above 1, got {self.cap}.")

    def bounds(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        """Smallest and largest ratio, [N, T]."""
        odds = 4 * (-batch.old_log_prob).clamp(max=60.0).exp()  # 4 / q; q below 1e-26 is all the same
        low = 0.5 + 0.5 * (1 - self.low * odds).clamp_min(0).sqrt()
        high = 0.5 + 0.5 * (1 + self.high * odds).sqrt()
        return low, high.clamp(max=self.cap)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        return clip_surrogate(log_ratio, batch.advantage, *self.bounds(batch))
