"""GPPO and CE-GPPO: clipped tokens keep a bounded gradient.

Both recipes use PPO's bounds. ``replace(espo(), clip=GradientPreserving(base=espo().clip))`` has this gradient with the
bounds of another algorithm.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import nll_term, takes_kl, with_dual_clip
from llmrl.credit import Credit, GroupAdvantage, MixedRewards
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.clip import GradientPreserving, PPOClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("gppo")
@takes_kl()
def gppo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
    positive_nll: float = 0.0,
    max_refills: int = 0,
) -> Algorithm:
    """GPPO, of Klear-Reasoner. Su et al. 2025, arXiv:2508.07629.

        value:     J = sum_t w_t min(r_t A, clip(r_t, 0.8, 1.28) A),   w_t = 1 / (all sampled tokens)
        gradient:  sum_t w_t f_t A grad log pi_t
        inside:    f = r
        clipped:   f = 1.28   where r > 1.28 and A > 0
                   f = 0.8    where r < 0.8 and A < 0

    From DAPO it differs in the gradient of clipped tokens; the value of a token is the same. Groups of
    equal rewards are left out and not replaced, rewards are divided by the population's standard deviation,
    and no reward is taken off long responses. The paper trains with lr 1e-6, 128 prompts, 8 responses, 8 updates, and
    imitation of correct answers with weight 0.1 (``positive_nll``, off here so that comparisons vary one
    thing). This recipe leaves out its reward for code, the share of tests that pass.

    Args:
        clip_low: 1 - clip_low is the smallest ratio that counts in the value.
        clip_high: 1 + clip_high is the largest ratio that counts in the value.
        dual_clip: largest ratio that counts where the advantage is negative. The paper has none, its
            code has 10. Tokens beyond it have no gradient; without it, one token may outweigh all others
            (actor/token_gradient_share).
        positive_nll: weight of the imitation of correct answers: those of reward 1 or more. Not with --reward, which
            changes the reward.
        max_refills: how often groups of equal rewards are replaced, per step.
    """
    clip = GradientPreserving(base=PPOClip(low=clip_low, high=clip_high))
    return Algorithm(
        name="gppo",
        ratio=TokenRatio(),
        clip=with_dual_clip(clip, dual_clip),
        aggregate=TokenMean(),
        credit=Credit(keep=MixedRewards(), max_refills=max_refills, advantage=GroupAdvantage(ddof=0)),
        terms=nll_term(positive_nll),
        paper="Klear-Reasoner: Gradient-Preserving Clipping, arXiv:2508.07629",
    )


@register_algorithm("ce_gppo")
@takes_kl()
def ce_gppo(
    *,
    beta_low: float = 0.75,
    beta_high: float = 1.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    literal: bool = False,
    max_refills: int = 0,
) -> Algorithm:
    """CE-GPPO: GPPO with a scale for each kind of clipped token, to control the entropy. arXiv:2509.20712.

        value:     J = sum_t w_t min(r_t A, clip(r_t, 0.8, 1.2) A),   w_t = 1 / (all sampled tokens)
        gradient:  sum_t w_t f_t A grad log pi_t
        inside:    f = r
        clipped:   f = beta_high 1.2   where r > 1.2 and A > 0
                   f = beta_low 0.8    where r < 0.8 and A < 0

    From GPPO it differs in the upper bound of the clip, 1.2 instead of 1.28, and in the two betas. beta_low scales
    clipped tokens with negative advantage (a smaller one raises the entropy), beta_high clipped tokens with positive
    advantage. The sources disagree on beta_low: 0.75 for 7B, 0.5 for 1.5B. The authors' scripts use dual_clip 10.

    Args:
        beta_low: gradient scale of tokens below the range with negative advantage.
        beta_high: gradient scale of tokens above the range with positive advantage.
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
        dual_clip: largest ratio that counts where the advantage is negative; without it, one token of
            negative advantage may outweigh all others (actor/token_gradient_share).
        literal: scale the value of clipped tokens too, as in eq. 8 of the paper; the gradient is the same.
        max_refills: how often groups of equal rewards are replaced, per step.
    """
    base = PPOClip(low=clip_low, high=clip_high)
    clip = GradientPreserving(base=base, beta_low=beta_low, beta_high=beta_high, scale_value=literal)
    return Algorithm(
        name="ce_gppo",
        ratio=TokenRatio(),
        clip=with_dual_clip(clip, dual_clip),
        aggregate=TokenMean(),
        credit=Credit(keep=MixedRewards(), max_refills=max_refills, advantage=GroupAdvantage(ddof=0)),
        paper="CE-GPPO: Coordinating Entropy via Gradient-Preserving PPO, arXiv:2509.20712",
    )
