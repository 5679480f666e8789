"""Clips with values other than PPO's: a constant weight, a sigmoid, a mean over the response, the inverse ratio.

The bounds of such a clip are shown in reports and read by :class:`~llmrl.losses.clip.GradientPreserving`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llmrl.losses.batch import TokenBatch
from llmrl.losses.clip import Bounds, Clipped, as_tensor, check_positive, check_widths, with_gradient
from llmrl.losses.segments import sequence_mean


@dataclass(frozen=True, kw_only=True)
class DetachedWeight:
    """sg[clip(r, 1 - low, 1 + high)] A log pi: the ratio is a constant weight. CISPO.

    No token loses its gradient. The value is not comparable with PPO's.
    Source: arXiv:2506.13585 eq. 4-5, where only the upper bound is used (low = 1).
    """

    low: float = 1.0
    """1 - low is the smallest weight; 1: no lower bound."""
    high: float = 0.28
    """1 + high is the largest weight."""

    def __post_init__(self) -> None:
        check_widths(self, self.low, self.high)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        ratio = log_ratio.detach().exp()
        low, high = self.bounds(batch)
        weight = torch.minimum(torch.maximum(ratio, as_tensor(low, ratio)), as_tensor(high, ratio))
        objective = weight * batch.advantage * batch.log_prob
        return Clipped(objective, ratio < low, ratio > high, torch.zeros_like(batch.mask), through_ratio=False)

    def bounds(self, batch: TokenBatch) -> Bounds:
        """1 - low and 1 + high, the same for every token."""
        return 1 - self.low, 1 + self.high


@dataclass(frozen=True, kw_only=True)
class SigmoidClip:
    """A sigmoid instead of a clip: (4 / tau) sigmoid(tau (r - 1)) A. SAPO, arXiv:2511.20347.

    The gradient factor r sech^2(tau (r - 1) / 2) is 1 at r = 1 and falls towards 0 on both sides.
    """

    tau_positive: float = 1.0
    """Temperature where the advantage is positive."""
    tau_negative: float = 1.05
    """Temperature elsewhere. With a larger one the gradient falls faster."""

    def __post_init__(self) -> None:
        check_positive(self, tau_positive=self.tau_positive, tau_negative=self.tau_negative)

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        tau = torch.where(batch.advantage > 0, self.tau_positive, self.tau_negative)
        tau = tau.to(log_ratio.dtype)
        value = torch.sigmoid(tau * torch.expm1(log_ratio)) * (4 / tau)
        never = torch.zeros_like(batch.mask)
        return Clipped(value * batch.advantage, never, never)


@dataclass(frozen=True, kw_only=True)
class GeometricMeanClip:
    """exp(mean over the response of clipped log-ratios) A. GMPO, arXiv:2507.20673.

    Each token's log-ratio is clipped on one side: at ``high`` if the advantage is positive, at ``-low`` if it
    is negative. g is the exponential of their mean over the response. A clipped token gets no gradient, the
    others get A g. It needs the token ratio and one advantage per response.
    """

    low: float = 0.4
    """The log-ratio is at least -low."""
    high: float = 0.4
    """The log-ratio is at most high."""

    def __post_init__(self) -> None:
        for name, width in (("low", self.low), ("high", self.high)):
            if not width >= 0:
                raise ValueError(f"GeometricMeanClip: {name} must be 0 or more, got {width}: it bounds log r.")

    def check_advantages(self, advantage: Tensor, mask: Tensor) -> None:
        """Raise if a response has advantages of both signs."""
        mixed = ((advantage > 0) & mask).any(1) & ((advantage < 0) & mask).any(1)
        if bool(mixed.any()):
            raise ValueError(
                f"GeometricMeanClip needs one sign of advantage per response, but {int(mixed.sum())} responses "
                "have tokens with advantages of both signs. Use one advantage per response, such as GroupAdvantage()."
            )

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        low = (log_ratio.detach() < -self.low) & (batch.advantage < 0)
        high = (log_ratio.detach() > self.high) & (batch.advantage > 0)
        inside = torch.where(low, -self.low, torch.where(high, self.high, log_ratio))
        inside = inside.to(log_ratio.dtype)
        mean = sequence_mean(inside.detach(), batch.mask)
        own = (inside - inside.detach()) + mean
        return Clipped(own.exp() * batch.advantage, low, high)

    def bounds(self, batch: TokenBatch) -> Bounds:
        """exp(-low) and exp(high), the bounds of each token's own ratio."""
        low, high = (torch.as_tensor(number, dtype=torch.float64) for number in (self.low, self.high))
        return (-low).exp(), high.exp()


@dataclass(frozen=True, kw_only=True)
class AsymmetricClip:
    """The inverse ratio where the advantage is positive, so that unlikely tokens gain most. ASPO.

    A > 0: gradient factor min(1 / r, cap), none where r > 1 + high.
    A < 0: gradient factor min(r, cap), none where r < 1 - low.
    A token beyond the cap keeps a gradient; a dual clip would drop it. Values are not comparable with PPO's.
    Source: arXiv:2510.06062 and its code.
    """

    low: float = 0.2
    """1 - low is the smallest ratio that keeps its gradient where the advantage is negative."""
    high: float = 0.2
    """1 + high is the largest ratio that keeps its gradient where the advantage is positive."""
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
        smallest, largest = self.bounds(batch)
        low, high = (ratio < smallest) & (advantage < 0), (ratio > largest) & (advantage > 0)
        factor = torch.where(advantage > 0, (-detached).exp(), ratio).clamp(max=self.cap)
        value = factor * advantage
        slope = value.masked_fill(low | high, 0)
        return Clipped(with_gradient(value, slope, log_ratio), low, high)

    def bounds(self, batch: TokenBatch) -> Bounds:
        """1 - low and 1 + high, the same for every token."""
        return 1 - self.low, 1 + self.high
