"""GMPO: the geometric mean of clipped token ratios. Zhao et al. 2025, arXiv:2507.20673.

    g = exp(mean_t clip(log r_t)),   J = mean over responses of g A

From GSPO it differs in the order of ratio and clip: each token's own log-ratio is clipped, on one side, and the mean
over the response is taken afterwards. So a response does not lose its whole gradient at once. The bounds are wider.
Without clipping both are the same.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import SequenceMean
from llmrl.losses.other_clips import GeometricMeanClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("gmpo")
@takes_kl()
def gmpo(
    *,
    clip_low: float = 0.4,
    clip_high: float = 0.4,
) -> Algorithm:
    """GMPO. It needs one advantage per response.

    Args:
        clip_low: log-ratios below -clip_low are clipped where the advantage is negative.
        clip_high: log-ratios above clip_high are clipped where the advantage is positive.
    """
    return Algorithm(
        name="gmpo",
        ratio=TokenRatio(),
        clip=GeometricMeanClip(low=clip_low, high=clip_high),
        aggregate=SequenceMean(),
        credit=Credit(advantage=GroupAdvantage()),
        paper="Geometric-Mean Policy Optimization, arXiv:2507.20673",
    )
