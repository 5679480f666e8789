"""The importance ratio: of a token, of a whole sequence, or of a segment (tokens of similar entropy).

A ratio is called with a :class:`~llmrl.losses.batch.TokenBatch` and returns log-ratios [N, T], within +-20.
A log-ratio of several tokens is returned for each of them as ``sg[log s] + l - sg[l]``: all have the same
value, and each has its own gradient, so clips and gates still act on single tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.batch import TokenBatch, bounded
from llmrl.losses.segments import sequence_mean


@dataclass(frozen=True)
class TokenRatio:
    """Each token by itself: log pi - log pi_old. PPO, arXiv:1707.06347."""

    def __call__(self, batch: TokenBatch) -> Tensor:
        """[N, T]."""
        return batch.log_ratio


@dataclass(frozen=True)
class SequenceRatio:
    """The geometric mean over the response, for each token: GSPO-token, arXiv:2507.18071 eq. 14.

    log s_t = sg[mean_t (l - l_old)] + l_t - sg[l_t]

    The value is that of :class:`WholeSequenceRatio`; the gradient with respect to each token's
    log-probability is 1. Both give the same loss gradient if the advantage and the weight are
    the same for all tokens of a response.
    """

    def __call__(self, batch: TokenBatch) -> Tensor:
        """[N, T]."""
        own = batch.log_ratio
        return sequence_mean(own.detach(), batch.mask) + (own - own.detach())


@dataclass(frozen=True)
class WholeSequenceRatio:
    """The geometric mean over the response, as in the paper: GSPO, arXiv:2507.18071 eq. 7.

    log s = mean_t (l_t - l_old,t)

    It is the same for all tokens, with gradient 1/|y| to each of them.
    """

    def __call__(self, batch: TokenBatch) -> Tensor:
        """[N, T]."""
        return sequence_mean(batch.log_ratio, batch.mask).expand_as(batch.log_ratio)


@dataclass(frozen=True)
class SegmentRatio:
    """The geometric mean over the token's segment: ESPO, arXiv:2512.00499 eq. 9-10.

    log s_t = sg[mean_k (l - l_old)] + l_t - sg[l_t]

    mean_k is over the tokens of the segment.
    The denominator is the current policy, as in GSPO-token; the paper says that it follows GSPO-token.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.SEGMENT,)

    def __call__(self, batch: TokenBatch) -> Tensor:
        """[N, T]."""
        own = batch.log_ratio
        return batch.segment_mean(own.detach()) + (own - own.detach())


@dataclass(frozen=True)
class SegmentRatioOld:
    """:class:`SegmentRatio` with the old policy in the denominator, as in eq. 9 of arXiv:2512.00499.

    log s_t = sg[mean_k (l - l_old)] + l_t - l_old,t

    The segment's ratio times the token's own ratio; mean_k is over the tokens of the segment.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.SEGMENT,)

    def __call__(self, batch: TokenBatch) -> Tensor:
        """[N, T]."""
        own = batch.log_ratio
        return bounded(batch.segment_mean(own.detach()) + own)
