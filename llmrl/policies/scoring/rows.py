"""From rows of a batch to the hidden states of their sampled tokens, and from values of tokens back to the rows."""

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
    """The M sampled tokens of a batch of N rows and T columns, and what each is predicted from."""

    row: Tensor
    """[M]"""
    column: Tensor
    """[M]"""
    hidden: Tensor | None
    """[M, H] the hidden states in front of them; None where nothing was sampled."""

    def spread(self, values: Tensor, into: Tensor) -> Tensor:
        """A copy of ``into`` [N, T, ...] with ``values`` [M, ...] in the places of the tokens."""
        return into.index_put((self.row, self.column), values)


def sampled_tokens(decoder: Any, forward_pass: ForwardPass, layout: TensorDictBase, device: torch.device) -> Sampled:
    """Run a decoder on the rows that hold a sampled token.

    Args:
        decoder: as in :func:`llmrl.policies.scoring.forward.hidden_before`.
        forward_pass: how rows go through it.
        layout: tokens, attention and mask [N, T]; on the CPU, a GPU need not be waited for.
        device: where the decoder is.

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
