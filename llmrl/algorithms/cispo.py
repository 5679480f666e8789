"""CISPO: the clipped ratio is a constant weight. MiniMax-M1 2025, arXiv:2506.13585.

    J = sum_t w_t sg[min(r_t, 1 + clip_high)] A log pi_t,   w_t = 1 / (all sampled tokens)

From DAPO it differs in two ways: the clip, with which no token loses its gradient, and no reward is taken off long
responses. The loss value has no meaning of its own.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl, unused
from llmrl.credit import Credit, GroupAdvantage, KeepAll, MixedRewards
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.other_clips import DetachedWeight
from llmrl.losses.ratio import TokenRatio


@register_algorithm("cispo")
@takes_kl()
@unused("max_refills", switch="dynamic_sampling", off=lambda replaced: not replaced)
def cispo(
    *,
    clip_low: float = 1.0,
    clip_high: float = 0.28,
    dynamic_sampling: bool = True,
    max_refills: int = 10,
) -> Algorithm:
    """CISPO.

    The paper uses no lower bound and does not state its upper bound; 0.28 is DAPO's. (ScaleRL uses 4,
    a largest weight of 5.) The paper makes 16 updates per batch, without KL. This recipe leaves
    out its length penalty, which is similar to DAPO's.

    Args:
        clip_low: 1 - clip_low is the smallest weight; 1: no lower bound; 0.2: a lower bound as in verl.
        clip_high: 1 + clip_high is the largest weight.
        dynamic_sampling: replace groups whose rewards are all equal.
        max_refills: how often such groups are replaced, per step.
    """
    return Algorithm(
        name="cispo",
        ratio=TokenRatio(),
        clip=DetachedWeight(low=clip_low, high=clip_high),
        aggregate=TokenMean(),
        credit=Credit(
            keep=MixedRewards() if dynamic_sampling else KeepAll(),
            max_refills=max_refills if dynamic_sampling else 0,
            advantage=GroupAdvantage(),
        ),
        paper="MiniMax-M1, arXiv:2506.13585",
    )
