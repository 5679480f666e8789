"""PPO: proximal policy optimisation. Schulman et al. 2017, arXiv:1707.06347.

    J = sum_t w_t min(r_t A_t, clip(r_t, 0.8, 1.2) A_t),   w_t = 1 / (all sampled tokens)

It is the only algorithm here with a critic: each token has its own advantage, by GAE. From GRPO it also differs in the
weights, a mean over all tokens, and in its further loss: the critic's, and no KL term.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm, term
from llmrl.algorithms.options import takes_kl, unused, with_dual_clip
from llmrl.credit import GAE, Credit, GroupAdvantage
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.clip import PPOClip
from llmrl.losses.ratio import TokenRatio
from llmrl.losses.terms import EntropyBonus, ValueLoss


@register_algorithm("ppo")
@takes_kl()
@unused("gamma", "lam", "whiten", "value_clip", "value_coefficient", switch="critic", off=lambda critic: not critic)
@unused("value_clip", switch="value_coefficient", off=lambda weight: weight == 0)
def ppo(
    *,
    critic: bool = True,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    gamma: float = 1.0,
    lam: float = 0.95,
    whiten: bool = True,
    value_clip: float | None = 0.2,
    value_coefficient: float = 0.5,
    entropy_coefficient: float = 0.0,
) -> Algorithm:
    """PPO with a critic, GAE and a clipped value loss; without a critic, responses are compared within their group.

    This recipe leaves out the paper's alternative to the clip, a penalty on the divergence from the old policy,
    and its learning rates. gamma is 1, as is usual if only the whole answer is rewarded (0.99 in the paper).

    Args:
        critic: False: no critic; the advantage is the reward compared within the group, as in GRPO.
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
        dual_clip: largest ratio that counts where the advantage is negative, such as 3. Without it, one token of
            negative advantage may outweigh all others (actor/token_gradient_share).
        gamma: discount per token.
        lam: lambda of GAE.
        whiten: give the batch's advantages mean 0 and variance 1.
        value_clip: how far a value may move before its gradient stops.
        value_coefficient: weight of the value loss.
        entropy_coefficient: weight of an entropy bonus.
    """
    value = term(ValueLoss, clip=value_clip, coefficient=value_coefficient)
    bonus = term(EntropyBonus, coefficient=entropy_coefficient)
    return Algorithm(
        name="ppo",
        ratio=TokenRatio(),
        clip=with_dual_clip(PPOClip(low=clip_low, high=clip_high), dual_clip),
        aggregate=TokenMean(),
        credit=Credit(advantage=GAE(gamma=gamma, lam=lam, whiten=whiten) if critic else GroupAdvantage()),
        terms=(*((value,) if critic else ()), *((bonus,) if entropy_coefficient else ())),
        paper="Proximal Policy Optimization Algorithms, arXiv:1707.06347",
    )
