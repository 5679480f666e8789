"""The batch that the components of a policy loss read, checked and made safe once, before any arithmetic.

Masked positions may hold anything, NaN included. Every tensor is selected with ``torch.where``
first, so no garbage reaches a value or a gradient; ``x * mask`` would let it through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key, check_entry, check_mask, missing
from llmrl.losses.segments import Segments

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are bounded to plus and minus this; exp(20) is 4.9e8."""
LOG_PROB_LIMIT = 1e4
"""Log-probabilities are bounded to plus and minus this, so that -inf becomes finite."""


def bounded(log_ratio: Tensor) -> Tensor:
    """Log-ratios bounded to +-20, so that exp() and its gradient are finite.

    Beyond the bound the gradient is zero; on it, and inside, it is 1.

    >>> bounded(torch.tensor([-float("inf"), 0.5, 100.0]))
    tensor([-20.0000,   0.5000,  20.0000])
    """
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def finite_log_prob(log_prob: Tensor) -> Tensor:
    """Log-probabilities without infinities; a token beyond the limit gets no gradient."""
    return log_prob.clamp(-LOG_PROB_LIMIT, LOG_PROB_LIMIT)


def select(mask: Tensor, x: Tensor, safe: float = 0.0, dtype: torch.dtype | None = None) -> Tensor:
    """``x`` where ``mask`` is true, else ``safe``, in ``dtype``; masked positions get no gradient.

    >>> select(torch.tensor([True, False]), torch.tensor([1.0, float("nan")]))
    tensor([1., 0.])
    """
    x = x if dtype is None else x.to(dtype)
    return torch.where(mask, x, torch.as_tensor(safe, dtype=x.dtype, device=x.device))


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if one of the tensors has it, else float32; nothing is computed in half precision."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """One batch as ratio, clip and gates read it: everything [N, T], finite where the mask is true.

    Made by :meth:`of`. Optional entries are read as attributes; reading one that was not given
    raises :class:`MissingEntry`. Nothing but ``log_prob`` and ``log_ratio`` has a gradient.
    """

    mask: Tensor
    """bool [N, T]: the tokens the policy sampled."""
    log_ratio: Tensor
    """[N, T] log_prob - old_log_prob, bounded, 0 outside the mask; with gradient."""
    advantage: Tensor
    """[N, T], 0 outside the mask."""
    given: Mapping[Key, Tensor]
    """The entries as they came. Only this class reads them; it selects by the mask before it returns one."""
    cache: dict[Key, Any] = field(default_factory=dict, repr=False, compare=False)
    """Entries that were selected or pooled before; ratio, clip and metrics share them."""

    @classmethod
    def of(
        cls,
        *,
        mask: Tensor,
        log_prob: Tensor,
        old_log_prob: Tensor,
        advantage: Tensor,
        extra: Mapping[Key, Tensor] | None = None,
    ) -> TokenBatch:
        """Check and select. float64 stays float64; everything else becomes float32.

        Args:
            mask: bool [N, T].
            log_prob: [N, T].
            old_log_prob: [N, T].
            advantage: [N, T], or [N, 1] for one number per response.
            extra: further entries by key, such as ``{"old_entropy": ...}``.

        >>> TokenBatch.of(
        ...     mask=torch.tensor([[True, False]]),
        ...     log_prob=torch.tensor([[-1.0, float("nan")]]),
        ...     old_log_prob=torch.tensor([[-1.5, 0.0]]),
        ...     advantage=torch.tensor([[2.0]]),
        ... ).log_ratio
        tensor([[0.5000, 0.0000]])
        """
        check_mask(mask)
        given = {
            keys.LOG_PROB: log_prob,
            keys.OLD_LOG_PROB: old_log_prob,
            keys.ADVANTAGE: advantage,
            **(extra or {}),
        }
        for key, x in given.items():
            check_entry(x, mask, key)
        dtype = compute_dtype(log_prob)
        # The difference may be taken before the selection: its backward multiplies nothing. Without
        # the limit, a token of probability 0 under both policies would give inf - inf.
        old = old_log_prob.detach().to(dtype).clamp(-LOG_PROB_LIMIT, LOG_PROB_LIMIT)
        return cls(
            mask=mask,
            log_ratio=bounded(select(mask, log_prob.to(dtype) - old)),
            advantage=select(mask, advantage.detach(), dtype=dtype),
            given=given,
        )

    @property
    def beyond(self) -> Tensor:
        """bool [N, T]: tokens whose log-ratio is beyond the bound, where it has no gradient."""
        return (self[keys.LOG_PROB] - self.old_log_prob).abs() > LOG_RATIO_LIMIT

    @property
    def log_prob(self) -> Tensor:
        """[N, T], with gradient; 0 outside the mask."""
        dtype = self.advantage.dtype
        return finite_log_prob(select(self.mask, self.given[keys.LOG_PROB], dtype=dtype))

    @property
    def old_log_prob(self) -> Tensor:
        """[N, T]; 0 outside the mask."""
        return finite_log_prob(self[keys.OLD_LOG_PROB])

    @property
    def entropy(self) -> Tensor:
        """[N, T] nats, of the policy being trained; 0 outside the mask."""
        return self[keys.ENTROPY]

    @property
    def old_entropy(self) -> Tensor:
        """[N, T] nats, before the update; 0 outside the mask."""
        return self[keys.OLD_ENTROPY]

    @property
    def max_entropy(self) -> Tensor:
        """[N, 1] nats, log of the vocabulary size."""
        row = self.mask.any(1, keepdim=True)
        return select(row, self._given(keys.MAX_ENTROPY), 1.0, self.advantage.dtype)

    @property
    def segment(self) -> Tensor:
        """int64 [N, T]: the segment of each token; -1 outside the mask."""
        segments = self._segments()[0]
        return torch.where(segments.inside, segments.bucket, -1)

    def in_segment(self, segment: int) -> Tensor:
        """[N, T]: 1 for the tokens of this segment, else 0."""
        return (self._segments()[0].bucket == segment).to(self.advantage.dtype)

    def segment_mean(self, x: Tensor) -> Tensor:
        """[N, T]: for each token the mean of ``x`` [N, T] over its segment; 0 for a token without a segment."""
        segments, share = self._segments()
        return segments.sum(x) * share

    @property
    def segment_share(self) -> Tensor:
        """[N, T]: 1 / number of tokens of the token's segment; 0 for a token without a segment."""
        return self._segments()[1]

    def __getitem__(self, key: Key) -> Tensor:
        """An entry [N, T] by its key, without gradient. A component reads entries of its own this way."""
        if key not in self.cache:
            x = self._given(key)
            self.cache[key] = select(self.mask, x, dtype=self.advantage.dtype)
        return self.cache[key]

    def _segments(self) -> tuple[Segments, Tensor]:
        if keys.SEGMENT not in self.cache:
            segments = Segments(self._given(keys.SEGMENT), self.mask)
            self.cache[keys.SEGMENT] = segments, segments.share(self.advantage.dtype)
        return self.cache[keys.SEGMENT]

    def _given(self, key: Key) -> Tensor:
        if key not in self.given:
            raise missing(key, self.given)
        return self.given[key].detach()
