"""Curves of an objective: what the loss modules make of one token, over its importance ratio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.losses import LossComponents, PolicyLoss
from llmrl.losses.policy import Components

MAX_ENTROPY = 10.0
"""Nats; the objectives read an entropy as a share of it, or as a ratio to another, so its size does not matter."""
FINEST = 1e-6
"""Where a curve jumps, the two ratios on either side are closer together than this share of the range."""

Line = tuple[tuple[float, float], ...]
"""Points (ratio, height), to be joined by straight lines."""


@dataclass(frozen=True, kw_only=True)
class Token:
    """What an objective may read of a token beside its ratio and its advantage."""

    old_probability: float = 0.1
    """What the old policy gave it; the ratio is at most 1 / old_probability."""
    old_entropy: float = 0.5
    """Of the old policy, as a share of the largest possible one, log |V|."""
    entropy_ratio: float = 1.0
    """The entropy of the policy over that of the old one."""


def parts(components: Components) -> LossComponents:
    """What decides the curve of a token: objectives that agree in these have the same curves."""
    return LossComponents(ratio=components.ratio, clip=components.clip, gates=components.gates)


def batch_of(ratios: Tensor, advantage: float, token: Token) -> TensorDict:
    """Responses of one token each, with these importance ratios [N]."""
    one = torch.ones(len(ratios), 1, dtype=torch.float64)
    old = torch.log(token.old_probability * one)
    return TensorDict(
        {
            keys.MASK: one > 0,
            keys.LOG_PROB: (old + ratios.log()[:, None]).requires_grad_(),
            keys.OLD_LOG_PROB: old,
            keys.ADVANTAGE: advantage * one,
            keys.WEIGHT: one,
            keys.POLICY_WEIGHT: one,
            keys.OLD_ENTROPY: token.old_entropy * MAX_ENTROPY * one,
            keys.ENTROPY: token.entropy_ratio * token.old_entropy * MAX_ENTROPY * one,
            keys.MAX_ENTROPY: MAX_ENTROPY * one,
            keys.SEGMENT: torch.zeros(len(ratios), 1, dtype=torch.int64),
        }
    )


def term(loss: PolicyLoss, ratios: Tensor, advantage: float, token: Token) -> Tensor:
    """Value of the surrogate term, and its derivative by the token's log-probability: [2, N] for ratios [N]."""
    batch = batch_of(ratios, advantage, token)
    objective = loss.examine(batch).objective
    (gradient,) = torch.autograd.grad(objective.sum(), batch[keys.LOG_PROB])
    return torch.stack([objective.detach(), gradient]).squeeze(-1)


@cache
def lines(
    components: LossComponents, advantage: float, token: Token, lowest: float, highest: float, tolerance: float
) -> tuple[Line, Line]:
    """Value and gradient between two ratios.

    Ratios are added where a curve bends or jumps, and left out again where a straight line serves: at every ratio
    that was computed, the line is within ``tolerance`` of the module's number.
    """
    loss = PolicyLoss(components)
    ratios = torch.linspace(lowest, highest, 101, dtype=torch.float64)
    heights = term(loss, ratios, advantage, token)
    while True:
        widths = ratios.diff()
        slopes = heights.diff() / widths
        bends = (slopes.diff().abs() * torch.minimum(widths[1:], widths[:-1]) > tolerance).any(0)
        near = torch.zeros(len(widths), dtype=torch.bool)  # intervals that end at a bend
        near[:-1] |= bends
        near[1:] |= bends
        split = near & (widths > FINEST * (highest - lowest))
        if not split.any():
            break
        shares = torch.arange(1, 9, dtype=torch.float64) / 9
        added = (ratios[:-1, None] + widths[:, None] * shares)[split].flatten()
        order = torch.cat([ratios, added]).argsort()
        ratios = torch.cat([ratios, added])[order]
        heights = torch.cat([heights, term(loss, added, advantage, token)], dim=1)[:, order]
    return simplified(ratios, heights[0], tolerance), simplified(ratios, heights[1], tolerance)


def simplified(ratios: Tensor, heights: Tensor, tolerance: float) -> Line:
    """The fewest points that this method finds whose lines are within ``tolerance`` of all given ones."""
    kept, open_parts = {0, len(ratios) - 1}, [(0, len(ratios) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        share = (ratios[first : last + 1] - ratios[first]) / (ratios[last] - ratios[first])
        straight = heights[first] + share * (heights[last] - heights[first])
        off = (heights[first : last + 1] - straight).abs()
        worst = int(off.argmax())
        if off[worst] > tolerance:
            kept.add(first + worst)
            open_parts += [(first, first + worst), (first + worst, last)]
    return tuple((ratios[i].item(), heights[i].item()) for i in sorted(kept))
