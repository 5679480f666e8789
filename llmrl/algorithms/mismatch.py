"""TIS and MIS, on any base: weights against the gap between sampler and trainer.

    w_t <- w_t * f(rho_t),   rho_t = pi_old(trainer) / pi_old(sampler), a constant

Where an inference engine samples and another library trains, the same weights give a token
different probabilities.  Truncating (TIS) bounds the factor, masking (MIS) drops what is out of
bounds.
"""

from __future__ import annotations

from dataclasses import replace

from llmrl.algorithms.algorithm import Algorithm, Recipe, register_algorithm
from llmrl.algorithms.dapo import dapo
from llmrl.losses.correction import Correction, SequenceMIS, SequenceTIS, TokenMIS, TokenTIS


def _corrected(prefix: str, base: Recipe, correction: Correction) -> Algorithm:
    made = base()
    if made.correction is not None:
        raise ValueError(
            f"{made.name!r} already corrects the sampler's mismatch, by {made.correction}. Use one of tis and mis."
        )
    return replace(made, name=prefix if base is dapo else f"{prefix}+{made.name}", correction=correction)


@register_algorithm("tis")
def tis(*, base: Recipe = dapo, cap: float = 2.0, sequence: bool = False) -> Algorithm:
    """Truncated importance sampling on DAPO, or by name on another: ``tis+gspo``.

    Args:
        base: the recipe that is changed.
        cap: the largest factor.
        sequence: one factor per response, the product over its tokens.
    """
    return _corrected("tis", base, SequenceTIS(cap=cap) if sequence else TokenTIS(cap=cap))


@register_algorithm("mis")
def mis(
    *,
    base: Recipe = dapo,
    correction_low: float = 0.0,
    correction_high: float = 3.0,
    sequence: bool = True,
) -> Algorithm:
    """Masked importance sampling on DAPO, or by name on another: ``mis+gspo``.

    Args:
        base: the recipe that is changed.
        correction_low: the smallest factor that counts; below it the weight is 0.
        correction_high: the largest factor that counts; above it the weight is 0.
        sequence: one factor per response, the product over its tokens.
    """
    kind = SequenceMIS if sequence else TokenMIS
    return _corrected("mis", base, kind(low=correction_low, high=correction_high))
