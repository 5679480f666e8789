"""Corrections for the gap between sampler and trainer: ``policy_weight`` is ``weight`` times their factors.

They weigh the policy loss alone; the KL, value, entropy and imitation terms use ``weight``.

With the same model weights, sampler and trainer may compute different probabilities (other kernels, other
precision). A correction is called with (old_log_prob, sampler_log_prob, mask) and returns factors [N, T]
without gradient, computed from rho = pi_old / pi_sampler; they are 1 where the two agree. Truncation (TIS)
bounds the factor; masking (MIS) sets it to 0 outside bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from llmrl.losses.batch import bounded, compute_dtype, finite_log_prob, select
from llmrl.losses.segments import sequence_mean

Correction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(old_log_prob, sampler_log_prob, mask), all [N, T] -> factors [N, T]."""


def _gap(old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
    """log rho of each token, 0 outside the mask, in float32 or better; no gradient."""
    dtype = compute_dtype(old_log_prob)
    old, sampler = (finite_log_prob(select(mask, x.detach(), dtype=dtype)) for x in (old_log_prob, sampler_log_prob))
    return old - sampler


def _sequence_gap(old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
    gap = _gap(old_log_prob, sampler_log_prob, mask)
    return gap.sum(1, keepdim=True).expand_as(gap)


def _check_cap(owner: object, cap: float) -> None:
    if not cap >= 1:
        raise ValueError(f"{type(owner).__name__}: cap must be 1 or more, got {cap}: it bounds pi_old / pi_sampler.")


def _check_band(owner: object, low: float, high: float) -> None:
    if not 0 <= low <= 1 <= high:
        raise ValueError(
            f"{type(owner).__name__}: 1 must lie between low and high, got low {low} and high "
            f"{high}: they bound pi_old / pi_sampler, which is 1 where the two agree."
        )


@dataclass(frozen=True, kw_only=True)
class TokenTIS:
    """min(rho_t, cap) for each token: truncated importance sampling."""

    cap: float = 2.0
    """The largest factor."""

    def __post_init__(self) -> None:
        _check_cap(self, self.cap)

    def __call__(self, old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
        """[N, T].

        >>> old, sampler = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -3.0]])
        >>> TokenTIS()(old, sampler, torch.ones(1, 2) > 0)
        tensor([[1., 2.]])
        """
        return bounded(_gap(old_log_prob, sampler_log_prob, mask)).exp().clamp(max=self.cap)


@dataclass(frozen=True, kw_only=True)
class SequenceTIS(TokenTIS):
    """min(product of rho over the response, cap), the same for all tokens of the response."""

    def __call__(self, old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
        """[N, T]."""
        gap = _sequence_gap(old_log_prob, sampler_log_prob, mask)
        return bounded(gap).exp().clamp(max=self.cap)


@dataclass(frozen=True, kw_only=True)
class TokenMIS:
    """rho_t where low <= rho_t <= high, else 0: masked importance sampling."""

    low: float = 0.0
    """The smallest rho that counts."""
    high: float = 2.0
    """The largest rho that counts."""
    weigh: bool = True
    """False: factor 1 instead of rho, for use with another correction that already multiplies by rho."""

    def __post_init__(self) -> None:
        _check_band(self, self.low, self.high)

    def _banded(self, log_rho: Tensor) -> Tensor:
        rho = bounded(log_rho).exp()
        factor = rho if self.weigh else torch.ones_like(rho)
        return torch.where((rho >= self.low) & (rho <= self.high), factor, 0)

    def __call__(self, old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
        """[N, T]."""
        return self._banded(_gap(old_log_prob, sampler_log_prob, mask))


@dataclass(frozen=True, kw_only=True)
class SequenceMIS(TokenMIS):
    """:class:`TokenMIS` with the product of rho over the response: a whole response counts or does not."""

    def __call__(self, old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
        """[N, T]."""
        return self._banded(_sequence_gap(old_log_prob, sampler_log_prob, mask))


@dataclass(frozen=True, kw_only=True)
class GeometricRejection(TokenMIS):
    """1 where the geometric mean of rho over the response is within the bounds, else 0.

    Its bounds are narrow: a mean of 1.001 is a product of e over a thousand tokens.
    """

    low: float = 0.99
    """The smallest mean that counts."""
    high: float = 1.01
    """The largest mean that counts."""
    weigh: bool = False
    """True: the factor is the mean instead of 1."""

    def __call__(self, old_log_prob: Tensor, sampler_log_prob: Tensor, mask: Tensor) -> Tensor:
        """[N, T]."""
        gap = _gap(old_log_prob, sampler_log_prob, mask)
        return self._banded(sequence_mean(gap, mask).expand_as(gap))


def weighs(correction: Correction) -> bool:
    """Whether a correction multiplies by rho; False if it only leaves tokens out, or does not say."""
    return isinstance(correction, TokenTIS) or (isinstance(correction, TokenMIS) and correction.weigh)
