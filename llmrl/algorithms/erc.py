"""ERC: entropy ratio clipping, on any base. Kuaishou 2025, arXiv:2512.05591.

    rho_t = (H_t + 1e-8) / (H_old,t + 1e-8)

A token with rho_t outside (0.95, 1.05) gets no gradient. The base's clip bounds the probability of sampled
tokens; the entropy ratio bounds the whole distribution."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from llmrl.algorithms.algorithm import Algorithm, Recipe, register_algorithm
from llmrl.algorithms.dapo import dapo
from llmrl.algorithms.options import nll_term
from llmrl.losses.gate import EntropyRatioGate


@register_algorithm("erc")
def erc(
    *,
    base: Recipe = dapo,
    low: float = 0.95,
    high: float = 1.05,
    min_entropy: float = 0.0,
    sides: Literal["both", "outward"] = "both",
    positive_nll: float = 0.0,
) -> Algorithm:
    """ERC on DAPO; ``erc(base=gppo)``, or ``erc+gppo`` by name, is ERC on another base.

    A token outside the band keeps its value and its place in the mean. ERC needs both entropies over the full
    vocabulary, from the same kernels. If the entropy is nearly 0, rounding alone moves the ratio: see
    ``min_entropy``. The published scripts train with lr 1e-6, 128 prompts, 8 responses, 8 updates, imitation of
    correct answers with weight 0.1 (``positive_nll``, off here), ``dual_clip`` 10 in the base, and no soft overlong
    penalty. Their ERC on GPPO has clip widths of 0.2 on both sides; ``erc+gppo`` keeps those of ``gppo``, 0.2 and 0.28.

    ``sides="outward"`` is new here and in no paper. The paper's gate also drops the gradient that would pull a
    token back into the band; on small exact tasks KL per rollout then grows (docs/claims.md). The outward gate
    keeps that gradient. There is little evidence for it: only small tasks, and no model of more than two million
    parameters. It has no name of its own: use ``--algo erc --algo.sides outward``.

    Args:
        base: the recipe that is changed.
        low: the entropy ratio must be above this.
        high: the entropy ratio must be below this.
        min_entropy: keep tokens whose two entropies are both below this many nats.
        sides: both, as in the paper; outward: drop only tokens that their own update moves further out.
        positive_nll: weight of the imitation of correct answers: those of reward 1 or more. Not with --reward, which
            changes the reward.
    """
    made = base()
    gate = EntropyRatioGate(low=low, high=high, min_entropy=min_entropy, sides=sides)
    return replace(
        made,
        name="erc" if base is dapo else f"erc+{made.name}",
        gates=(*made.gates, gate),
        terms=(*made.terms, *nll_term(positive_nll)),
        paper=f"Entropy Ratio Clipping, arXiv:2512.05591, on {made.paper or made.name}",
    )
