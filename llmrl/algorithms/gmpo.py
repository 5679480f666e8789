"""GMPO: the geometric mean of clipped token ratios.  Zhao et al. 2025, arXiv:2507.20673.

    g = exp(mean_t clip(log r_t)),   J = mean over responses of g A

From GSPO it differs in where it clips: each token's log-ratio, before the mean and on one side, so
a response is never lost as a whole.  Without clipping the two are one.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import KLEstimator, kl_term
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import SequenceMean
from llmrl.losses.other_clips import GeometricMeanClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("gmpo")
def gmpo(
    *,
    clip_low: float = 0.4,
    clip_high: float = 0.4,
    kl: float = 0.0,
    kl_estimator: KLEstimator = "k3",
) -> Algorithm:
    """GMPO.  Takes one advantage per response.

    Args:
        clip_low: log-ratios below -clip_low are clipped where the advantage is negative.
        clip_high: log-ratios above clip_high are clipped where the advantage is positive.
        kl: weight of the divergence from the reference policy; 0: no reference is loaded.
        kl_estimator: how the divergence is estimated: k3, its gradient that of KL(reference, policy); k2 and
            k3_straight_through, that of KL(policy, reference); off_policy_k3, exact on samples of the old policy; k1,
            without a gradient in expectation.
    """
    return Algorithm(
        name="gmpo",
        ratio=TokenRatio(),
        clip=GeometricMeanClip(low=clip_low, high=clip_high),
        aggregate=SequenceMean(),
        credit=Credit(advantage=GroupAdvantage()),
        terms=kl_term(kl, kl_estimator),
        paper="Geometric-Mean Policy Optimization, arXiv:2507.20673",
    )
