"""The hidden states of the sampled tokens of a batch, and values of tokens put back into rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from llmrl import keys
from llmrl.policies.scoring.forward import ForwardPass, hidden_before


@dataclass(frozen=True)
class Sampled:
    """The M sampled tokens of a batch of N rows and T columns, and the hidden states that predict them."""

    row: Tensor
    """[M]"""
    column: Tensor
    """[M]"""
    hidden: Tensor | None
    """[M, H] the hidden states before them; None if nothing was sampled."""

    def spread(self, values: Tensor, into: Tensor) -> Tensor:
        """A copy of ``into`` [N, T, ...] with ``values`` [M, ...] at the positions of the tokens."""
        return into.index_put((self.row, self.column), values)


def sampled_tokens(decoder: Any, forward_pass: ForwardPass, layout: TensorDictBase, device: torch.device) -> Sampled:
    """Run a decoder on the rows with a sampled token.

    Args:
        decoder: as in :func:`llmrl.policies.scoring.forward.hidden_before`.
        forward_pass: the kind of forward pass.
        layout: tokens, attention and mask [N, T]; if they are on the CPU, nothing waits for a GPU.
        device: the decoder's device.

    Raises:
        ValueError: a sampled token is hidden from attention.
    """
    tokens, attention, mask = (layout[key].cpu() for key in (keys.TOKENS, keys.ATTENTION, keys.MASK))
    if (mask & ~attention).any():
        raise ValueError("A sampled token is hidden from attention: mask must imply attention.")
    rows = mask.any(1).nonzero().squeeze(1)
    if not len(rows):
        return Sampled(rows, rows, None)
    (row, column), hidden = hidden_before(decoder, forward_pass, tokens[rows], attention[rows], mask[rows], device)
    return Sampled(rows.to(device, non_blocking=True)[row], column, hidden)
