"""The numbers of an algorithm for saved tokens: ratio, clip, gate, weight and gradient of each token.

Any recipe can be computed on the rollouts of any run; no model is needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.keys import require_entry
from llmrl.losses.policy import PolicyLoss

CLIPPED_LOW, CLIPPED_HIGH, GATED, NO_GRADIENT = 1, 2, 4, 8
"""Bits of :attr:`TrustRegion.state`."""


class TrustRegion(NamedTuple):
    """The effect of one recipe on each token; every tensor is [N, T] and 0 outside the mask."""

    state: Tensor
    """uint8, a sum of :data:`CLIPPED_LOW` and its neighbours. ``NO_GRADIENT``: the token has an
    advantage, and the update does not move it."""
    log_ratio: Tensor
    """The ratio as the recipe defines it: of the token, its response or its segment."""
    weight: Tensor
    """The weight of the token; 1 is the average of the batch."""
    gradient: Tensor
    """-d loss / d log pi, in units of the average weight: above 0 the token becomes likelier."""
    width: Tensor | None
    """Half the distance between the clip's bounds, if they differ between tokens."""
    segment: Tensor | None
    """int64, the segment of its response that a token belongs to, 0 the lowest entropy."""


def trust_region(recipe: Algorithm, data: TensorDict) -> TrustRegion:
    """Compute a recipe's policy loss on a batch, without its further terms.

    Args:
        data: the entries of :mod:`llmrl.keys` that the recipe reads, ``log_prob`` among them.

    Raises:
        MissingEntry: the recipe reads an entry that the batch lacks.

    >>> from llmrl.algorithms import algorithm
    >>> data = TensorDict(
    ...     {
    ...         keys.MASK: torch.tensor([[True, True, True]]),
    ...         keys.OLD_LOG_PROB: torch.tensor([[-1.0, -1.0, -1.0]]),
    ...         keys.LOG_PROB: torch.tensor([[-1.0, -0.5, -2.0]]),
    ...         keys.ADVANTAGE: torch.tensor([[1.0, 1.0, 1.0]]),
    ...     },
    ...     batch_size=[1],
    ... )
    >>> region = trust_region(algorithm("dapo"), data)
    >>> region.state
    tensor([[ 0, 10,  0]], dtype=torch.uint8)
    >>> region.gradient
    tensor([[1.0000, 0.0000, 0.3679]])
    """
    log_prob = require_entry(data, keys.LOG_PROB).detach().clone().requires_grad_()
    batch = recipe.weigh(data.copy().set(keys.LOG_PROB, log_prob))
    with torch.random.fork_rng(devices=[]):  # a gate may draw random numbers, and a report must be reproducible
        torch.manual_seed(0)
        loss = PolicyLoss(recipe)
        found = loss.examine(batch)
    (slope,) = torch.autograd.grad((found.weight * found.objective).sum(), log_prob)
    mask, clipped = found.batch.mask, found.clipped
    gated = torch.zeros_like(mask) if found.kept is None else ~found.kept
    idle = (slope == 0) & (found.batch.advantage != 0)
    state = torch.zeros(mask.shape, dtype=torch.uint8)
    bits = (CLIPPED_LOW, CLIPPED_HIGH, GATED, NO_GRADIENT)
    for bit, where in zip(bits, (clipped.low, clipped.high, gated, idle), strict=True):
        state += bit * (where & mask).to(torch.uint8)
    tokens = mask.sum()
    bounds = loss.bounds(found.batch)
    width = None if bounds is None else torch.as_tensor(bounds[1] - bounds[0]) / 2

    def only(x: Tensor) -> Tensor:
        return torch.where(mask, x.detach(), 0.0)

    return TrustRegion(
        state=state,
        log_ratio=only(found.log_ratio),
        weight=only(found.weight * tokens),
        gradient=only(slope * tokens),
        width=None if width is None or not width.ndim else only(width),
        segment=batch.get(keys.SEGMENT, None),
    )
