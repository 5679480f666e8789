"""GRPO, Dr. GRPO and RLOO: a response is compared with the others to the same prompt; there is no critic."""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl, with_dual_clip
from llmrl.credit import Credit, GroupAdvantage, LeaveOneOut
from llmrl.losses.aggregate import FixedLength, SequenceMean
from llmrl.losses.clip import PPOClip
from llmrl.losses.ratio import TokenRatio


@register_algorithm("grpo")
@takes_kl(default=0.04)
def grpo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    divide_by_std: bool = True,
) -> Algorithm:
    """GRPO: group relative policy optimisation. Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300.

        J = sum_t w_t min(r_t A, clip(r_t, 0.8, 1.2) A) - beta KL,   w_t = 1 / (responses * |y|)
        A = (R - mean R) / std R

    From PPO it differs in three ways: the advantage is the reward compared within the group, so there is no critic; the
    mean of each response counts the same; and the divergence from the reference is in the loss.
    The paper does not state its clip; 0.2 is PPO's. It trains with lr 1e-6, 64 responses per prompt, 1024
    responses per batch, one update per batch.

    Args:
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
        dual_clip: largest ratio that counts where the advantage is negative, such as 3. Without it, one token of
            negative advantage may outweigh all others (actor/token_gradient_share).
        divide_by_std: divide the advantage by the group's standard deviation.
    """
    return Algorithm(
        name="grpo",
        ratio=TokenRatio(),
        clip=with_dual_clip(PPOClip(low=clip_low, high=clip_high), dual_clip),
        aggregate=SequenceMean(),
        credit=Credit(advantage=GroupAdvantage(divide_by_std=divide_by_std)),
        paper="DeepSeekMath, arXiv:2402.03300",
    )


@register_algorithm("dr_grpo")
@takes_kl()
def dr_grpo(
    *,
    max_length: int | None = None,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Algorithm:
    """Dr. GRPO: GRPO without its two biases. Liu et al. 2025, arXiv:2503.20783.

        J = sum_t w_t min(r_t A, clip(r_t, 0.8, 1.2) A),   w_t = 1 / (responses * max_length)
        A = R - mean R

    From GRPO it differs in three ways: the advantage is not divided by the standard deviation, a token's
    weight does not depend on the length of its response, and there is no KL term.

    Args:
        max_length: the generation budget, tokens; every response's sum is divided by it. By default the response
            limit of the run (3,000 in the paper).
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
    """
    return Algorithm(
        name="dr_grpo",
        ratio=TokenRatio(),
        clip=PPOClip(low=clip_low, high=clip_high),
        aggregate=FixedLength(length=max_length),
        credit=Credit(advantage=GroupAdvantage(divide_by_std=False)),
        paper="Understanding R1-Zero-Like Training, arXiv:2503.20783",
    )


@register_algorithm("rloo")
@takes_kl()
def rloo(
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Algorithm:
    """RLOO: the baseline is the mean reward of the other responses. Ahmadian et al. 2024, arXiv:2402.14740.

        J = sum_t w_t min(r_t A, clip(r_t, 0.8, 1.2) A),   w_t = 1 / responses
        A = R - mean R(other responses)

    From Dr. GRPO it differs in two ways. The advantage is G / (G - 1) times as large, with G responses to a prompt. A
    response's loss is the sum over its tokens, as in the paper: a mean would divide each token's gradient by the
    response's length. The paper updates once per batch and needs no clip; the clip here is for further updates. The
    option kl_in_reward gives the paper's KL penalty in the reward.

    Args:
        clip_low: 1 - clip_low is the smallest ratio that counts.
        clip_high: 1 + clip_high is the largest ratio that counts.
    """
    return Algorithm(
        name="rloo",
        ratio=TokenRatio(),
        clip=PPOClip(low=clip_low, high=clip_high),
        aggregate=FixedLength(length=1),
        credit=Credit(advantage=LeaveOneOut()),
        paper="Back to Basics, arXiv:2402.14740",
    )
