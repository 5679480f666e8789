"""Reading many token sequences at once: one to a row, or several in a row without padding.

Owns where each sequence stands in what a model reads, and the check that a model keeps the sequences of
a row apart.  What is made of the hidden states is the policy's and the critic's business.

Several sequences in a row are told apart by their positions, which begin at 0 with each: transformers
then masks attention between them, if the model hands it the positions.  Not every model does, so
:func:`check_packing` tries it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llmrl.policies.loading import PolicyError

PROBE_LENGTH = 48
"""Tokens of the longest sequence that :func:`check_packing` reads."""

PACKING_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1}
"""How far, relative to its length, a hidden state may be from that of the sequence read alone."""


@dataclass(frozen=True)
class Layout:
    """Where each of N sequences stands in the rows that a model reads.

    Args:
        row: the row of each sequence.
        begin: the column of its first token.
        rows: how many rows there are.
        width: how many columns; no sequence is longer.
        left_out: numbers of sequences for which there was no row; the others have a place.
    """

    row: list[int]
    begin: list[int]
    rows: int
    width: int
    left_out: list[int]

    @classmethod
    def one_each(cls, lengths: Sequence[int]) -> Layout:
        """Each sequence in its own row, padded to the longest."""
        count = len(lengths)
        return cls(list(range(count)), [0] * count, count, max(lengths, default=0), [])

    @classmethod
    def packed(cls, lengths: Sequence[int], most_rows: int | None = None) -> Layout:
        """Best fit, the longest first: each into the fullest row that has room for it.

        A row is as wide as the longest sequence.  Wider ones would waste fewer columns, but attention
        costs the square of the width, also where sequences are masked from each other.

        Args:
            lengths: of the sequences.
            most_rows: leave out what would need more rows than these.

        >>> layout = Layout.packed([3, 9, 4, 2])
        >>> layout.row, layout.begin, layout.rows, layout.width
        ([1, 0, 1, 1], [4, 0, 0, 7], 2, 9)
        """
        width, rows = max(lengths, default=0), 0
        row, begin, left_out = [0] * len(lengths), [0] * len(lengths), []
        room: list[tuple[int, int]] = []  # free columns and number of each row, the fullest first
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            at = bisect_left(room, (lengths[i], -1))
            if at < len(room):
                free, row[i] = room.pop(at)
            elif most_rows is None or rows < most_rows:
                free, row[i], rows = width, rows, rows + 1
            else:
                left_out.append(i)
                continue
            begin[i] = width - free
            insort(room, (free - lengths[i], row[i]))
        return cls(row, begin, rows, width, left_out)


def read_lengths(attention: Tensor, mask: Tensor) -> Tensor:
    """How many tokens of each row [N, T] a model reads to predict its last sampled one: [N] int64.

    >>> real = torch.tensor([[False, True, True, True, True]])
    >>> read_lengths(real, torch.tensor([[False, False, False, True, False]]))
    tensor([2])
    """
    return (attention.cumsum(1) * mask).amax(1).sub(1).clamp_min(0)


def packed_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Numbers of sequences, such that the rows that hold each part have at most ``budget`` columns in all.

    A sequence that is longer than the budget gets a row of its own, with what else has room in it.

    >>> packed_batches([3, 9, 4, 2, 9], budget=18)
    [[1, 4], [2, 0, 3]]
    """
    left = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    while left:
        widths = [lengths[i] for i in left]
        layout = Layout.packed(widths, most_rows=max(budget // max(widths[0], 1), 1))
        out = set(layout.left_out)
        batches.append([i for at, i in enumerate(left) if at not in out])
        left = [left[at] for at in layout.left_out]
    return batches


def hidden_before(
    decoder: Any, tokens: Tensor, attention: Tensor, mask: Tensor, *, packing: bool
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The hidden states that the sampled tokens are predicted from, differentiable.

    Each sequence is moved together and read from position 0.  Then causality alone hides what pads a
    row, which is behind all that counts: no row of attention is empty (its softmax would be undefined),
    and without packing attention needs no mask.

    Args:
        decoder: maps ids and positions to ``last_hidden_state``, without a head.
        tokens: [N, T] int64.
        attention: [N, T] bool, the tokens that are no padding.
        mask: [N, T] bool, the sampled tokens; at least one in each row.
        packing: whether several sequences share a row.

    Returns:
        Rows and columns [M] of the sampled tokens, and the hidden states [M, H].

    Raises:
        ValueError: a row begins with a sampled token.
    """
    columns = torch.argsort(~attention, dim=1, stable=True)
    ids, sampled = tokens.gather(1, columns), mask.gather(1, columns)
    if sampled[:, 0].any():
        raise ValueError(
            "The first token of a row counts as sampled, but nothing comes before it. A prompt "
            "needs at least one token."
        )
    lengths = read_lengths(attention, mask)
    layout = (Layout.packed if packing else Layout.one_each)(lengths.tolist())
    row, begin = torch.tensor([layout.row, layout.begin], device=tokens.device)
    inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    sequence, step = inside.nonzero(as_tuple=True)
    read = tokens.new_zeros((layout.rows, layout.width))
    read[row[sequence], begin[sequence] + step] = ids[sequence, step]
    first = torch.zeros_like(read)
    first[row, begin] = begin
    # What pads a row's end counts on from the last sequence in it, so that rows of one sequence each
    # look like any batch, for which there are faster kernels.
    positions = torch.arange(layout.width, device=tokens.device) - first.cummax(1).values
    hidden = decoder(input_ids=read, position_ids=positions, use_cache=False).last_hidden_state
    sequence, step = sampled[:, 1:].nonzero(as_tuple=True)
    where = sequence, columns[sequence, step + 1]
    return where, hidden[row[sequence], begin[sequence] + step]


@torch.no_grad()
def check_packing(decoder: Any, name: str) -> None:
    """Read made-up sequences, two of them in one row, and each alone: the hidden states must agree.

    Args:
        decoder: as in :func:`hidden_before`, in evaluation mode.
        name: what the error calls the model.

    Raises:
        PolicyError: sequences in one row change each other.
    """
    embedding = decoder.get_input_embeddings().weight
    context = getattr(decoder.config.get_text_config(), "max_position_embeddings", None)
    longest = min(PROBE_LENGTH, context) if context and context > 0 else PROBE_LENGTH
    lengths = torch.tensor([longest, longest // 2, longest // 3])  # the last two fit into one row
    attention = torch.arange(longest + 1) <= lengths[:, None]
    mask = attention.clone()
    mask[:, 0] = False
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(len(embedding), attention.shape, generator=generator)
    tokens, attention, mask = (x.to(embedding.device) for x in (tokens, attention, mask))
    together = hidden_before(decoder, tokens, attention, mask, packing=True)[1]
    alone = torch.cat(
        [
            hidden_before(decoder, tokens[i], attention[i], mask[i], packing=False)[1]
            for i in torch.arange(3)[:, None]
        ]
    )
    gap = ((together - alone).float().norm(dim=1) / alone.float().norm(dim=1)).max()
    tolerance = PACKING_TOLERANCE.get(alone.dtype, 0.1)
    if not gap <= tolerance:
        raise PolicyError(
            f"{name} cannot be read with packing (--train.packing): two responses in one row change each "
            f"other, its hidden states are off by {float(gap):.2g} of their length (tolerance {tolerance}). "
            "Its attention or recurrence reads across responses, or its positions do not begin anew. Train "
            "it with --train.no-packing, or load it with another attn_implementation."
        )
