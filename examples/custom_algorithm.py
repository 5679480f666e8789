"""A new ratio, a new clip, a new gate, and the algorithm made of them, from outside the package.

    llmrl train --algo custom_algorithm:steady --algo.slope 4     (in the folder of this file)

Run as a program it prints the algorithm and takes one gradient from hand-made tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm, Credit
from llmrl.credit import GroupAdvantage
from llmrl.losses import Clipped, SequenceMean, TokenBatch, bounded


@dataclass(frozen=True, kw_only=True)
class PrefixRatio:
    """Everything up to the token: the mean log-ratio of the response's first t tokens."""

    def __call__(self, batch: TokenBatch) -> Tensor:
        """[N, T]; like GSPO's token form, the value of the mean with the gradient of the token."""
        own = batch.log_ratio
        place = batch.mask.cumsum(1).clamp_min(1)
        return bounded(own.detach().cumsum(1) / place + (own - own.detach()))


@dataclass(frozen=True, kw_only=True)
class TanhClip:
    """(1 + tanh(slope (r - 1)) / slope) A: never quite flat, and never far from 1."""

    slope: float = 2.0
    """The objective stays within 1 / slope of the advantage."""

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"TanhClip: slope must be above 0, got {self.slope}.")

    def __call__(self, log_ratio: Tensor, batch: TokenBatch) -> Clipped:
        """[N, T]."""
        bend = torch.tanh(self.slope * torch.expm1(log_ratio))
        never = torch.zeros_like(batch.mask)
        return Clipped(
            (1 + bend / self.slope) * batch.advantage,
            low=never,
            high=never,
            lost=bend.detach().abs() == 1,  # so flat that rounding leaves no gradient
        )


@dataclass(frozen=True, kw_only=True)
class UncertainOnly:
    """Only tokens at which the old policy had a choice keep their gradient."""

    in_keys: ClassVar = (keys.OLD_ENTROPY,)  # what it reads; the trainer then provides it

    nats: float = 0.1
    """The smallest old entropy that teaches."""

    def __call__(self, batch: TokenBatch, clipped: Clipped) -> Tensor:
        """bool [N, T]."""
        return batch.old_entropy >= self.nats


def steady(*, slope: float = 2.0, nats: float = 0.1) -> Algorithm:
    """Prefix ratios, a tanh instead of a clip, uncertain tokens only.

    Args:
        slope: how soon the objective flattens.
        nats: tokens of less old entropy do not teach.
    """
    return Algorithm(
        name="steady",
        ratio=PrefixRatio(),
        clip=TanhClip(slope=slope),
        gates=(UncertainOnly(nats=nats),),
        aggregate=SequenceMean(),
        credit=Credit(advantage=GroupAdvantage()),
    )


def main() -> None:
    """Print the algorithm, and a gradient of it."""
    algorithm = steady()
    print(algorithm)
    log_prob = torch.tensor([[-1.0, -0.5, -2.0], [-0.3, -1.2, 0.0]], requires_grad=True)
    batch = TensorDict(
        {
            keys.MASK: torch.tensor([[True, True, True], [True, True, False]]),
            "log_prob": log_prob,
            "old_log_prob": torch.tensor([[-1.1, -0.5, -1.5], [-0.4, -1.2, 0.0]]),
            "old_entropy": torch.tensor([[0.9, 0.01, 1.5], [0.4, 1.1, 0.0]]),
            "advantage": torch.tensor([[0.7], [-0.7]]),
        }
    )
    out = algorithm.loss()(algorithm.weigh(batch))
    out["loss_objective"].backward()
    print(f"loss {out['loss_objective'].item():.4f}, kept {out['gate_fraction'].item():.2f}")
    print(f"gradient {log_prob.grad}")


if __name__ == "__main__":
    main()
