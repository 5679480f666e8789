"""Clip-Cov and KL-Cov: against the collapse of entropy. Cui et al. 2025, arXiv:2505.22617.

Tokens of high covariance of advantage and log-probability, such as likely tokens with a positive advantage, lower the
entropy. Clip-Cov drops the gradient of some of them; KL-Cov keeps those of highest covariance near the old policy. Both
rank the tokens of one micro-batch.
"""

from __future__ import annotations

import torch

from llmrl.algorithms.algorithm import Algorithm, register_algorithm, term
from llmrl.algorithms.options import takes_kl, unused
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.clip import NoClip, PPOClip
from llmrl.losses.gate import CovarianceGate
from llmrl.losses.ratio import TokenRatio
from llmrl.losses.terms import CovarianceKL

_PAPER = "The Entropy Mechanism of Reinforcement Learning, arXiv:2505.22617"


@register_algorithm("clip_cov")
@takes_kl()
def clip_cov(
    *,
    fraction: float = 2e-4,
    cov_low: float = 1.0,
    cov_high: float = 5.0,
    clip_low: float = 1.0,
    clip_high: float = 1.0,
    generator: torch.Generator | None = None,
) -> Algorithm:
    """Clip-Cov: a wide clip, and a gate that drops some tokens of high covariance.

        J = sum_t w_t min(r_t A, clip(r_t, 0, 2) A),   w_t = 1 / (all sampled tokens)
        cov_t = (A_t - mean A) (log pi_t - mean log pi)

    Some tokens with cov_t between 1 and 5 are drawn; they get no gradient.

    From DAPO it differs in this gate and in clip widths of 1, as in the authors' script. Groups of equal rewards are
    kept, and no reward is taken off long responses. The authors train with lr 5e-7 to 1e-6, 256 prompts,
    8 responses, 8 updates. Their code sets the value of dropped tokens to 0; a gate keeps the value. The
    gradient is the same.

    Args:
        fraction: share of the micro-batch's tokens that is dropped; at least one candidate.
        cov_low: candidates have a covariance above this.
        cov_high: candidates have a covariance below this.
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
        generator: random generator of the draw; by default torch's global one.
    """
    gate = CovarianceGate(low=cov_low, high=cov_high, fraction=fraction, generator=generator)
    return Algorithm(
        name="clip_cov",
        ratio=TokenRatio(),
        clip=PPOClip(low=clip_low, high=clip_high),
        gates=(gate,),
        aggregate=TokenMean(),
        credit=Credit(advantage=GroupAdvantage()),
        paper=_PAPER,
    )


@register_algorithm("kl_cov")
@takes_kl()
@unused("fraction", switch="coefficient", off=lambda weight: weight == 0)
def kl_cov(
    *,
    fraction: float = 0.002,
    coefficient: float = 1.0,
) -> Algorithm:
    """KL-Cov: no clip, and |log pi - log pi_old| on the tokens of highest covariance.

        J = sum_t w_t (r_t A - c_t |log pi_t - log pi_old,t|),   w_t = 1 / (all sampled tokens)
        cov_t = (A_t - mean A) (log pi_t - mean log pi)

    The weight c_t is 1 for the 0.2 % of the tokens with the highest covariance, and 0 for the others.

    From Clip-Cov it differs in three ways: there is no clip and no gate, and the tokens of highest covariance have a
    further loss. This loss has no gradient in the first update of a batch, because the policy is still the old one.

    Args:
        fraction: share of the micro-batch's tokens to which the term applies: 0.002 for 7B, 0.0002 for 32B.
        coefficient: weight of the term.
    """
    return Algorithm(
        name="kl_cov",
        ratio=TokenRatio(),
        clip=NoClip(),
        aggregate=TokenMean(),
        credit=Credit(advantage=GroupAdvantage()),
        terms=(term(CovarianceKL, fraction=fraction, coefficient=coefficient),),
        paper=_PAPER,
    )
