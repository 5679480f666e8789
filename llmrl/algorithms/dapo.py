"""DAPO: decoupled clip and dynamic sampling. Yu et al. 2025, arXiv:2503.14476.

    J = sum_t w_t min(r_t A, clip(r_t, 1 - 0.2, 1 + 0.28) A),   w_t = 1 / (all sampled tokens)

From GRPO it takes the group advantage. It differs in four ways: the upper bound of the clip, the
mean over all tokens, the replacement of groups with equal rewards, and the penalty for long responses.
There is no KL term.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl, unused, with_dual_clip
from llmrl.credit import (
    Credit,
    GroupAdvantage,
    KeepAll,
    MixedRewards,
    OverlongFilter,
    SoftOverlong,
)
from llmrl.losses.aggregate import TokenMean
from llmrl.losses.clip import PPOClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("dapo")
@takes_kl()
@unused("max_length", "overlong_penalty", switch="soft_length", off=lambda window: window == 0)
@unused("max_length", "soft_length", switch="overlong_penalty", off=lambda penalty: penalty == 0)
@unused("max_refills", switch="dynamic_sampling", off=lambda replaced: not replaced)
def dapo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = None,
    max_length: int | None = None,
    soft_length: int | None = None,
    overlong_penalty: float = 0.5,
    overlong_filter: bool = False,
    dynamic_sampling: bool = True,
    max_refills: int = 10,
) -> Algorithm:
    """DAPO.

    The paper trains with rewards of +1 and -1, lr 1e-6 after 20 steps of warm-up, 512 prompts, 16
    responses, 16 updates. It replaces groups without a limit, this recipe
    at most ``max_refills`` times.

    Args:
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
        dual_clip: largest ratio that counts where the advantage is negative, such as 3. Without it, one token of
            negative advantage may outweigh all others (actor/token_gradient_share).
        max_length: responses of this many tokens lose ``overlong_penalty`` of their reward; by default the response
            limit of the run (20,480 in the paper).
        soft_length: the penalty rises over this many tokens before ``max_length``; 0: no penalty; by default a fifth
            of ``max_length`` (4,096 in the paper).
        overlong_penalty: half the range of the rewards gives the paper's advantages: 0.5 for rewards of 1 and 0, as
            in the environments here; 1 for the paper's +1 and -1.
        overlong_filter: do not train on responses that were cut off.
        dynamic_sampling: replace groups whose rewards are all equal.
        max_refills: how often such groups are replaced, per step.
    """
    group = GroupAdvantage(divide_by_std=True)
    overlong = (
        SoftOverlong(limit=max_length, window=soft_length, penalty=overlong_penalty) if soft_length != 0 else None
    )
    return Algorithm(
        name="dapo",
        ratio=TokenRatio(),
        clip=with_dual_clip(PPOClip(low=clip_low, high=clip_high), dual_clip),  # 1 clip higher
        aggregate=TokenMean(),  # 2 token mean
        credit=Credit(
            shape=(overlong,) if overlong else (),  # 3 soft overlong punishment
            keep=MixedRewards() if dynamic_sampling else KeepAll(),  # 4 dynamic sampling
            max_refills=max_refills if dynamic_sampling else 0,
            advantage=OverlongFilter(base=group) if overlong_filter else group,
        ),
        paper="DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv:2503.14476",
    )
