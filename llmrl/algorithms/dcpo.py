"""DCPO: the clip's bounds follow the token's old probability. Yang et al. 2025, arXiv:2509.02333.

    1/2 + 1/2 sqrt(max(1 - 0.64 / q, 0))
    <= r <= min(1/2 + 1/2 sqrt(1 + 0.8 / q), 10),   q = pi_old

From GRPO it differs in three ways: rare tokens may move further; the advantages are smoothed with the rewards of the
same problem in earlier epochs; and there is no KL term.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl
from llmrl.credit import Credit
from llmrl.credit.history import SmoothGroupAdvantage
from llmrl.losses.aggregate import SequenceMean
from llmrl.losses.clip import DynamicClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("dcpo")
@takes_kl()
def dcpo(
    *,
    clip_low: float = 0.16,
    clip_high: float = 0.2,
    cap: float = 10.0,
) -> Algorithm:
    """DCPO.

    The paper's loss is the sum over responses of their token means. Here it is the mean over responses; the
    gradient has the same direction.

    Args:
        clip_low: width of the lower bound, as a difference of probabilities times the ratio.
        clip_high: width of the upper bound, in the same unit.
        cap: the upper bound is never larger.
    """
    return Algorithm(
        name="dcpo",
        ratio=TokenRatio(),
        clip=DynamicClip(low=clip_low, high=clip_high, cap=cap),
        aggregate=SequenceMean(),
        credit=Credit(advantage=SmoothGroupAdvantage()),
        paper="DCPO: Dynamic Clipping Policy Optimization, arXiv:2509.02333",
    )
