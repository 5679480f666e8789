"""Forward passes over many token sequences: each in its own row, or several in a row without padding.

This module makes the input of a model. :mod:`llmrl.policies.scoring.sharing` has a third kind of forward pass, and
:mod:`llmrl.policies.scoring.probing` tests which kinds a model supports. The policy and the critic use the hidden
states.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sequences:
    """N token sequences, moved so that each begins in column 0. A model need not read the last sampled token, nor
    anything after it.

    Padding follows the tokens, so causal attention hides it. No row of attention is empty (its softmax would be
    undefined), and a row of one sequence needs no mask. All tensors are on the CPU, so nothing here waits for a GPU.
    """

    ids: Tensor
    """[N, T] int64"""
    sampled: Tensor
    """[N, T] bool"""
    columns: Tensor
    """[N, T] the column from which each token was moved"""
    lengths: list[int]
    """Number of tokens of each sequence that a model reads; 0 if nothing was sampled."""
    prompts: list[int]
    """Number of tokens before the first sampled token; 0 if nothing was sampled."""
    device: torch.device
    """The device of the model that reads them."""

    @classmethod
    def of(cls, tokens: Tensor, attention: Tensor, mask: Tensor, device: torch.device | None = None) -> Sequences:
        """Sequences from rows with padding anywhere. The CPU waits for tensors on another device.

        Args:
            tokens: [N, T] int64.
            attention: [N, T] bool, false for padding.
            mask: [N, T] bool, the sampled tokens.
            device: the model's device; by default the tokens' device.

        Raises:
            ValueError: a row begins with a sampled token.

        >>> tokens = torch.tensor([[0, 5, 6, 7, 8]])
        >>> mask = torch.tensor([[False, False, False, True, False]])
        >>> found = Sequences.of(tokens, tokens > 0, mask)
        >>> found.ids[0, :4].tolist(), found.lengths, found.prompts
        ([5, 6, 7, 8], [2], [2])
        """
        device = tokens.device if device is None else device
        tokens, attention, mask = tokens.cpu(), attention.cpu(), mask.cpu()
        columns = torch.argsort(~attention, dim=1, stable=True)
        ids, sampled = tokens.gather(1, columns), mask.gather(1, columns)
        if sampled[:, :1].any():
            raise ValueError(
                "The first token of a row counts as sampled, but nothing comes before it. A prompt "
                "needs at least one token."
            )
        place = torch.arange(tokens.shape[1])
        lengths = (place * sampled).amax(1).tolist() if tokens.shape[1] else [0] * len(tokens)
        prompts = sampled.int().argmax(1).tolist() if tokens.shape[1] else [0] * len(tokens)
        return cls(ids, sampled, columns, lengths, prompts, device)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """The largest of ``lengths``."""
        return max(self.lengths, default=0)

    @cached_property
    def same_prompt(self) -> list[int]:
        """A number for each sequence, equal for equal prompts."""
        numbers: dict[tuple[int, ...], int] = {}
        ids = self.ids[:, : max(self.prompts, default=0)].tolist()
        return [
            numbers.setdefault(tuple(row[:length]), len(numbers)) for row, length in zip(ids, self.prompts, strict=True)
        ]

    def before_sampled(self) -> tuple[Tensor, Tensor]:
        """For each sampled token the number of its sequence [M], and the position [M] that predicts it."""
        sequence, step = self.sampled[:, 1:].nonzero(as_tuple=True)
        return sequence, step

    def there(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Copies of CPU tensors on the model's device, without waiting for it."""
        return tuple(x.to(self.device, non_blocking=True) for x in tensors)


class ForwardPass(Protocol):
    """A way in which a model reads sequences."""

    def hidden(self, decoder: Any, sequences: Sequences) -> Tensor:
        """The hidden states [M, H] that predict the sampled tokens, differentiable.

        Args:
            decoder: maps ids and positions to ``last_hidden_state``, without a head.
            sequences: sequences with at least one sampled token in total; M in the order of
                :meth:`Sequences.before_sampled`.
        """

    def batches(self, sequences: Sequences, budget: int) -> list[list[int]]:
        """Parts of the sequences, as numbers. In each part a model reads at most ``budget`` tokens, padding included.

        A sequence longer than the budget is a separate part.
        """

    def extent(self, sequences: Sequences) -> tuple[int, int]:
        """The number of rows that a model reads for all sequences together, and the average length of a row."""

    def passes(self, sequences: Sequences) -> int:
        """Number of passes of :meth:`hidden` through the model."""


def hidden_before(
    decoder: Any,
    forward_pass: ForwardPass,
    tokens: Tensor,
    attention: Tensor,
    mask: Tensor,
    device: torch.device | None = None,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The hidden states that predict the sampled tokens, differentiable.

    Args:
        decoder: maps ids and positions to ``last_hidden_state``, without a head.
        forward_pass: the kind of forward pass.
        tokens: [N, T] int64.
        attention: [N, T] bool, false for padding.
        mask: [N, T] bool, the sampled tokens; at least one in each row.
        device: the model's device; by default the tokens' device. With tokens, attention and mask on the CPU nothing
            here waits for it.

    Returns:
        Rows and columns [M] of the sampled tokens, and the hidden states [M, H], on the device.

    Raises:
        ValueError: a row begins with a sampled token.
    """
    sequences = Sequences.of(tokens, attention, mask, device)
    sequence, step = sequences.before_sampled()
    row, column = sequences.there(sequence, sequences.columns[sequence, step + 1])
    return (row, column), forward_pass.hidden(decoder, sequences)


class Padded:
    """Each sequence in its own row, padded to the longest."""

    def hidden(self, decoder: Any, sequences: Sequences) -> Tensor:
        """See :class:`ForwardPass`."""
        layout = Layout.one_each(sequences.lengths)
        return _read(decoder, sequences, layout)

    def batches(self, sequences: Sequences, budget: int) -> list[list[int]]:
        """Sequences of similar length together, so that there is little padding."""
        left = sorted(range(len(sequences)), key=lambda i: -sequences.lengths[i])
        batches: list[list[int]] = []
        while left:
            count = max(budget // max(sequences.lengths[left[0]], 1), 1)
            batches.append(left[:count])
            left = left[count:]
        return batches

    def extent(self, sequences: Sequences) -> tuple[int, int]:
        """See :class:`ForwardPass`."""
        return len(sequences), sequences.width

    def passes(self, sequences: Sequences) -> int:
        """See :class:`ForwardPass`."""
        return 1


class Packed:
    """Several sequences in a row, with padding only at the end of the rows.

    Positions start at 0 with each sequence. transformers uses them to mask attention between sequences, if the model
    passes the positions on.
    """

    def hidden(self, decoder: Any, sequences: Sequences) -> Tensor:
        """See :class:`ForwardPass`."""
        return _read(decoder, sequences, Layout.packed(sequences.lengths))

    def batches(self, sequences: Sequences, budget: int) -> list[list[int]]:
        """Long and short sequences together.

        A sequence longer than the budget starts a new row; shorter ones may fill the rest of it.
        """
        left = sorted(range(len(sequences)), key=lambda i: -sequences.lengths[i])
        batches: list[list[int]] = []
        while left:
            widths = [sequences.lengths[i] for i in left]
            layout = Layout.packed(widths, most_rows=max(budget // max(widths[0], 1), 1))
            out = set(layout.left_out)
            batches.append([i for at, i in enumerate(left) if at not in out])
            left = [left[at] for at in layout.left_out]
        return batches

    def extent(self, sequences: Sequences) -> tuple[int, int]:
        """See :class:`ForwardPass`."""
        layout = Layout.packed(sequences.lengths)
        return layout.rows, layout.width

    def passes(self, sequences: Sequences) -> int:
        """See :class:`ForwardPass`."""
        return 1


@dataclass(frozen=True)
class Layout:
    """The place of each of N sequences in the rows that a model reads.

    Args:
        row: the row of each sequence.
        begin: the column of its first token.
        rows: number of rows.
        width: number of columns; no sequence is longer.
        left_out: numbers of sequences without a row; the others have a place.
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
        """Best fit, longest sequence first: each goes into the fullest row that has room for it.

        A row is as wide as the longest sequence. Wider rows would waste fewer columns, but the cost of attention grows
        with the square of the width, even between masked sequences.

        Args:
            lengths: lengths of the sequences.
            most_rows: sequences that need a further row are left out.

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


def _read(decoder: Any, sequences: Sequences, layout: Layout) -> Tensor:
    """The hidden states [M, H] before sampled tokens, for sequences arranged in rows."""
    row, begin, lengths = torch.tensor([layout.row, layout.begin, sequences.lengths])
    inside = torch.arange(sequences.ids.shape[1]) < lengths[:, None]
    sequence, step = inside.nonzero(as_tuple=True)
    read = sequences.ids.new_zeros((layout.rows, layout.width))
    read[row[sequence], begin[sequence] + step] = sequences.ids[sequence, step]
    first = torch.zeros_like(read)
    first[row, begin] = begin
    # Padding continues the positions of the last sequence in its row. A row of one sequence then looks like a
    # plain batch, for which there are faster kernels.
    positions = torch.arange(layout.width) - first.cummax(1).values
    sequence, step = sequences.before_sampled()
    read, positions, row, column = sequences.there(read, positions, row[sequence], begin[sequence] + step)
    hidden = decoder(input_ids=read, position_ids=positions, use_cache=False).last_hidden_state
    return hidden[row, column]


PADDED, PACKED = Padded(), Packed()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode within the block, and restore each mode after it."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
