"""ESPO: entropy importance sampling policy optimisation.  arXiv:2512.00499.

    log s_k = mean_k (log pi - log pi_old)
    eps_k = alpha mean_k H_old / log |V|
    J = mean_i mean_k mean_t min(s_k A_i, clip(s_k, 1 - eps_k, 1 + eps_k) A_i)

with mean_i over the responses, mean_k over the segments of a response (in the first two lines, over the tokens of
segment k), and mean_t over the tokens of a segment.

From GSPO it differs in three ways: a response falls into segments by the entropy of the old policy,
the clip's width follows the segment's entropy, and every segment counts the same.  With one segment and a
fixed width it is GSPO.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from llmrl.algorithms.algorithm import Algorithm, register_algorithm
from llmrl.algorithms.options import takes_kl
from llmrl.credit import Credit, GroupAdvantage
from llmrl.losses.aggregate import SegmentMean, SequenceMean
from llmrl.losses.batch import TokenBatch
from llmrl.losses.clip import EntropyAdaptiveClip, PPOClip, segment_entropy
from llmrl.losses.partition import (
    BatchEntropySegments,
    EntropySegments,
    EntropyThresholds,
    Partition,
)
from llmrl.losses.ratio import SegmentRatio, SegmentRatioOld


@register_algorithm("espo")
@takes_kl()
def espo(
    *,
    alpha: float = 0.02,
    quantiles: tuple[float, ...] = (0.8,),
    whole_batch: bool = False,
    thresholds: tuple[float, ...] | None = None,
    given_partition: bool = False,
    segment_weights: tuple[float, ...] | None = None,
    weigh_by_size: bool = False,
    width: Callable[[TokenBatch], Tensor] = segment_entropy,
    clip_floor: float = 0.0,
    clip_ceiling: float = float("inf"),
    fixed_clip: tuple[float, float] | None = None,
    old_token_ratio: bool = False,
) -> Algorithm:
    """ESPO.

    The paper leaves several points open and no code is published; each has its option here, and the
    default is the reading that the rest of the paper supports best.  The paper trains Qwen3 bases
    with lr 1e-6, 128 prompts, 8 responses each, at most 16,384 tokens, without KL.

    Args:
        alpha: clip width at the largest possible entropy.
        quantiles: where the tokens of a response are cut by entropy; 0.8 sets its top fifth apart.
        whole_batch: cut at quantiles of the whole optimiser batch instead of each response.
        thresholds: cut at these entropies (nats) instead of quantiles.
        given_partition: the batch brings "segment" itself; -1 is not trained.
        segment_weights: how much each group counts; 0 1 trains on the uncertain tokens alone.
        weigh_by_size: every token of a response counts the same, so groups count by their size.
        width: what alpha multiplies: segment_entropy, token_entropy, token_entropy_per_segment or
            token_entropy_per_size of llmrl.losses.
        clip_floor: the smallest clip width; above 0 it keeps rounding from being clipped.
        clip_ceiling: the largest clip width.
        fixed_clip: low and high widths that do not follow entropy (the paper's ablation).
        old_token_ratio: the token form as printed, the group's ratio times the token's own.
    """
    if given_partition:
        partition: Partition | None = None
    elif thresholds is not None:
        partition = EntropyThresholds(thresholds=thresholds)
    else:
        kind = BatchEntropySegments if whole_batch else EntropySegments
        partition = kind(quantiles=quantiles)
    adaptive = EntropyAdaptiveClip(alpha=alpha, floor=clip_floor, ceiling=clip_ceiling, entropy=width)
    return Algorithm(
        name="espo",
        ratio=SegmentRatioOld() if old_token_ratio else SegmentRatio(),
        clip=adaptive if fixed_clip is None else PPOClip(low=fixed_clip[0], high=fixed_clip[1]),
        aggregate=SequenceMean() if weigh_by_size else SegmentMean(segment_weights=segment_weights),
        partition=partition,
        credit=Credit(advantage=GroupAdvantage()),
        paper="ESPO: Entropy Importance Sampling Policy Optimization, arXiv:2512.00499",
    )
