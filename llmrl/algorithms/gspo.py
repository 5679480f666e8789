"""GSPO: group sequence policy optimisation. Zheng et al. 2025, arXiv:2507.18071.

    s = exp(mean_t (log pi - log pi_old))
    J = mean over responses of min(s A, clip(s, 1 - 3e-4, 1 + 4e-4) A)

From GRPO it differs in three ways: all tokens of a response share a ratio, so they are clipped together; the bounds of
the clip are much narrower; and there is no KL term.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import SequenceMean
from llmrl.losses.clip import PPOClip
from llmrl.losses.ratio import SequenceRatio, WholeSequenceRatio


@register_algorithm("gspo")
@takes_kl()
def gspo(
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    token_form: bool = True,
) -> Algorithm:
    """GSPO.

    The widths are small because log s is a mean over the response: independent noise of its tokens
    shrinks with the root of its length. The old log-probabilities must come from the same kernels as the
    new ones.
    The paper makes 4 updates per batch and uses no KL.

    Args:
        clip_low: 1 - clip_low is the smallest sequence ratio that counts.
        clip_high: 1 + clip_high is the largest sequence ratio that counts.
        token_form: use GSPO-token, where each token may have its own advantage; with one advantage per response its
            value and gradient are GSPO's.
    """
    return Algorithm(
        name="gspo",
        ratio=SequenceRatio() if token_form else WholeSequenceRatio(),
        clip=PPOClip(low=clip_low, high=clip_high),
        aggregate=SequenceMean(),
        credit=Credit(advantage=GroupAdvantage()),
        paper="Group Sequence Policy Optimization, arXiv:2507.18071",
    )
