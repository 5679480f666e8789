"""ESPO: entropy importance sampling policy optimisation. arXiv:2512.00499.

    log s_k = mean_k (log pi - log pi_old)
    eps_k = alpha mean_k H_old / log |V|
    J = mean_i mean_k mean_t min(s_k A_i, clip(s_k, 1 - eps_k, 1 + eps_k) A_i)

with mean_i over the responses, mean_k over the segments of a response (in the first two lines, over the tokens of
segment k), and mean_t over the tokens of a segment.

From GSPO it differs in three ways: a response is divided into segments by the entropy of the old policy,
the clip's width follows the segment's entropy, and every segment counts the same. With one segment and a
fixed width it is GSPO.
"""

from __future__ import annotations

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl, unused
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import SegmentMean
from llmrl.losses.clip import EntropyAdaptiveClip, PPOClip
from llmrl.losses.partition import EntropySegments, Partition
from llmrl.losses.ratio import SegmentRatio, SegmentRatioOld


@register_algorithm("espo")
@takes_kl()
@unused("alpha", "clip_floor", "clip_ceiling", switch="fixed_clip", off=lambda widths: widths is not None)
def espo(
    *,
    alpha: float = 0.02,
    partition: tuple[float, ...] | Partition | None = (0.8,),
    segment_weights: tuple[float, ...] | None = None,
    clip_floor: float = 0.0,
    clip_ceiling: float = float("inf"),
    fixed_clip: tuple[float, float] | None = None,
    old_token_ratio: bool = False,
) -> Algorithm:
    """ESPO.

    The paper leaves several points open, and no code is published. The defaults are the interpretations that
    the rest of the paper supports best. Other interpretations are options, or other components in
    ``dataclasses.replace(espo(), ...)``.
    The paper trains Qwen3 bases with lr 1e-6, 128 prompts, 8 responses each, at most 16,384 tokens, without KL.

    Args:
        alpha: clip width at the largest possible entropy.
        partition: the quantiles at which each response is cut into segments by entropy; 0.8 separates the fifth of
            highest entropy. Python code may also give a partition, such as EntropyThresholds or BatchEntropySegments;
            None: the batch already holds "segment".
        segment_weights: one weight for each segment; 0 1 trains on the tokens of high entropy alone.
        clip_floor: the smallest clip width; above 0, rounding alone does not clip tokens of low entropy.
        clip_ceiling: the largest clip width.
        fixed_clip: low and high widths that do not follow entropy (the paper's ablation).
        old_token_ratio: use the ratio of eq. 9 as in the paper, the segment's ratio times the token's own.
    """
    segments = partition if partition is None or callable(partition) else EntropySegments(quantiles=partition)
    if segment_weights is not None and segments is not None and len(segment_weights) != segments.segments:
        raise ValueError(
            f"segment_weights has {len(segment_weights)} numbers for {segments.segments} segments, got "
            f"{tuple(segment_weights)} with {segments}. Give one for each segment."
        )
    adaptive = EntropyAdaptiveClip(alpha=alpha, floor=clip_floor, ceiling=clip_ceiling)
    return Algorithm(
        name="espo",
        ratio=SegmentRatioOld() if old_token_ratio else SegmentRatio(),
        clip=adaptive if fixed_clip is None else PPOClip(low=fixed_clip[0], high=fixed_clip[1]),
        aggregate=SegmentMean(segment_weights=segment_weights),
        partition=segments,
        credit=Credit(advantage=GroupAdvantage()),
        paper="ESPO: Entropy Importance Sampling Policy Optimization, arXiv:2512.00499",
    )
