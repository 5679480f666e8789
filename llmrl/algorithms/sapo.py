"""SAPO: a sigmoid instead of a clip. Qwen 2025, arXiv:2511.20347.

    J = mean over responses, tokens of (4 / tau) sigmoid(tau (r_t - 1)) A

From GRPO it differs in two ways. A sigmoid replaces the clip: a token's gradient falls towards 0 as r leaves 1, and
faster where the advantage is negative. There is no KL term.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import SequenceMean
from llmrl.losses.other_clips import SigmoidClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("sapo")
@takes_kl()
def sapo(
    *,
    tau_positive: float = 1.0,
    tau_negative: float = 1.05,
) -> Algorithm:
    """SAPO. The paper makes 4 updates per batch.

    Args:
        tau_positive: temperature where the advantage is positive.
        tau_negative: temperature where it is negative; with a larger one the gradient falls faster.
    """
    return Algorithm(
        name="sapo",
        ratio=TokenRatio(),
        clip=SigmoidClip(tau_positive=tau_positive, tau_negative=tau_negative),
        aggregate=SequenceMean(),
        credit=Credit(advantage=GroupAdvantage()),
        paper="Soft Adaptive Policy Optimization, arXiv:2511.20347",
    )
