"""ASPO: asymmetric importance sampling. Wang et al. 2025 (Archer 2.0), arXiv:2510.06062.

    A > 0: gradient factor min(1 / r, 3), and 0 where r > 1.2
    A < 0: gradient factor min(r, 3), and 0 where r < 0.8

From GRPO it differs in three ways. Where the advantage is positive, the ratio is inverted, so tokens that have become
unlikely get the largest gradient. The weights are a mean over all tokens. The weight of the KL term is 0.001.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.other_clips import AsymmetricClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("aspo")
@takes_kl(default=0.001)
def aspo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    cap: float = 3.0,
) -> Algorithm:
    """ASPO.

    The paper trains with lr 1e-6, 64 prompts, 16 responses, 4 updates. Its predecessor uses another clip
    and another KL weight for tokens above the 0.8-quantile of entropy; this recipe leaves that out.

    Args:
        clip_low: 1 - clip_low is the smallest ratio with a gradient where the advantage is negative.
        clip_high: 1 + clip_high is the largest ratio with a gradient where the advantage is positive.
        cap: the largest gradient factor; tokens beyond it keep a gradient.
    """
    return Algorithm(
        name="aspo",
        ratio=TokenRatio(),
        clip=AsymmetricClip(low=clip_low, high=clip_high, cap=cap),
        aggregate=TokenMean(),
        credit=Credit(advantage=GroupAdvantage()),
        paper="ASPO: Asymmetric Importance Sampling Policy Optimization, arXiv:2510.06062",
    )
