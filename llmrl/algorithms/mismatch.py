"""TIS and MIS, on any base: corrections for the gap between sampler and trainer.

If an inference engine samples and another library trains, the same weights give a token different
probabilities. Truncation (TIS) bounds the factor; masking (MIS) sets it to 0 outside bounds. Both can be combined:
``tis+mis+grpo`` leaves out responses with a product of rho out of bounds, and weighs the tokens of the others
by min(rho_t, cap). The factors weigh the policy loss alone.
"""

from __future__ import annotations

from dataclasses import replace

from llmrl.algorithms.algorithm import Algorithm, Recipe, register_algorithm
from llmrl.algorithms.dapo import dapo
from llmrl.algorithms.options import unused
from llmrl.losses.correction import (
    Correction,
    GeometricRejection,
    SequenceMIS,
    SequenceTIS,
    TokenMIS,
    TokenTIS,
    weighs,
)


def _corrected(prefix: str, made: Algorithm, plain: bool, correction: Correction) -> Algorithm:
    """``made`` with one more correction. If another correction multiplies by rho, a mask only leaves tokens out."""
    others = made.corrections
    if isinstance(correction, TokenMIS) and any(map(weighs, others)):
        correction = replace(correction, weigh=False)
    elif weighs(correction):
        others = tuple(replace(other, weigh=False) if isinstance(other, TokenMIS) else other for other in others)
    return replace(made, name=prefix if plain else f"{prefix}+{made.name}", corrections=(correction, *others))


@register_algorithm("tis")
def tis(*, base: Recipe = dapo, cap: float = 2.0, sequence: bool = False) -> Algorithm:
    """Truncated importance sampling on DAPO, or by name on another: ``tis+gspo``.

        w_t <- w_t min(rho_t, 2),   rho_t = pi_old(trainer) / pi_old(sampler), a constant

    It changes nothing else of its base.

    Args:
        base: the recipe that is changed.
        cap: the largest factor.
        sequence: one factor per response, the product over its tokens.
    """
    return _corrected("tis", base(), base is dapo, SequenceTIS(cap=cap) if sequence else TokenTIS(cap=cap))


@register_algorithm("mis")
@unused("sequence", switch="geometric", off=lambda geometric: geometric)
def mis(
    *,
    base: Recipe = dapo,
    correction_low: float | None = None,
    correction_high: float | None = None,
    sequence: bool = True,
    geometric: bool = False,
) -> Algorithm:
    """Masked importance sampling on DAPO, or by name on another: ``mis+gspo``.

        w_t <- w_t rho   where rho <= 3, else 0
        rho = product of pi_old(trainer) / pi_old(sampler) over the response, a constant

    It changes nothing else of its base.

    Args:
        base: the recipe that is changed.
        correction_low: the smallest factor that counts; below it the weight is 0. By default 0, and 0.99 where
            geometric.
        correction_high: the largest factor that counts; above it the weight is 0. By default 3, and 1.01 where
            geometric.
        sequence: one factor per response, the product over its tokens.
        geometric: use the geometric mean of a response's factors: leave it out if that is out of bounds, else weigh it
            by 1.
    """
    low, high = (0.99, 1.01) if geometric else (0.0, 3.0)
    kind = GeometricRejection if geometric else SequenceMIS if sequence else TokenMIS
    correction = kind(
        low=low if correction_low is None else correction_low,
        high=high if correction_high is None else correction_high,
    )
    return _corrected("mis", base(), base is dapo, correction)
