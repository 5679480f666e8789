"""A batch: rows of rollouts, cut to what they need, and where each value belongs in the whole.

Owns trimming, micro-batches and putting scores back. What decides these (tokens and masks) is kept on the
CPU too, so that cutting a batch never waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from llmrl import keys
from llmrl.distributed.world import Reading, World
from llmrl.keys import Key
from llmrl.policies.scoring.forward import PADDED, ForwardPass, Sequences

EVEN = 4
"""Several micro-batches are a multiple of this."""

LAYOUT = (keys.TOKENS, keys.ATTENTION, keys.MASK)


@dataclass(frozen=True)
class Batch:
    """Rows of a TensorDict without the columns that are padding in all of them.

    >>> data = TensorDict({keys.TOKENS: torch.tensor([[0, 5, 6], [7, 8, 9]])}, [2])
    >>> data[keys.ATTENTION] = data[keys.TOKENS] > 0
    >>> data[keys.MASK] = torch.tensor([[False, False, True]]).expand(2, 3)
    >>> batch = Batch.of(data)
    >>> for part in batch.micro_batches(budget=2):
    ...     part.put_back({"length": part.data[keys.ATTENTION].int()}, {"length": "length"})
    >>> batch.whole["length"].tolist()
    [[0, 0, 1], [0, 0, 1]]
    """

    data: TensorDict
    """The entries of the rows, [n, t]."""
    rows: Tensor
    """int64 [n] on the CPU: where each row stands in ``whole``."""
    begin: int
    """The column of ``whole`` that is the first one of ``data``."""
    whole: TensorDict
    """The batch that the rows were taken from, [N, T]; :meth:`put_back` writes to it."""
    layout: TensorDict
    """Tokens, attention and mask [n, t] on the CPU."""

    @classmethod
    def of(cls, data: TensorDict, layout: TensorDict | None = None) -> Batch:
        """All rows of ``data``; ``whole`` is its trimmed form.

        Args:
            data: rows with tokens, attention and mask.
            layout: these three on the CPU, where they are there already.
        """
        layout = data.select(*LAYOUT).to("cpu") if layout is None else layout
        columns = _columns(layout)
        data, layout = _cut(data, columns), _cut(layout, columns)
        return cls(data, torch.arange(len(data)), 0, data, layout)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """How many tokens were sampled."""
        return int(self.layout[keys.MASK].sum())

    def take(self, rows: Tensor) -> Batch:
        """Some of the rows, int64 on the CPU, trimmed."""
        layout = self.layout[rows]
        columns = _columns(layout)
        there = rows.to(self.data[keys.TOKENS].device, non_blocking=True)
        return Batch(
            data=_cut(self.data[there], columns),
            rows=self.rows[rows],
            begin=self.begin + columns.start,
            whole=self.whole,
            layout=_cut(layout, columns),
        )

    def having(self, data: TensorDict) -> Batch:
        """The same rows with other entries; those of the layout must not change."""
        return replace(self, data=data)

    def refreshed(self, names: Iterable[Key]) -> Batch:
        """The same rows; those of the entries ``names`` [n, t] that exist are taken from ``whole`` as it is now."""
        data, rows = self.data.copy(), self.rows.to(self.data[keys.MASK].device)
        for name in names:
            if data.get(name, None) is not None:
                data[name] = self.whole[name][rows, self.begin : self.begin + data[name].shape[1]]
        return self.having(data)

    def micro_batches(self, budget: int, forward_pass: ForwardPass = PADDED) -> Iterator[Batch]:
        """Parts of which a forward pass gives a model at most ``budget`` tokens, with their padding.

        They are about equally large, and several are a multiple of :data:`EVEN`, so that ranks get equal shares. How
        many ranks there are must not matter, since some losses depend on which rows meet.

        A single row that is longer than the budget gets a part of its own. Rows without a sampled token are in
        none: they have nothing to score and no gradient.
        """
        live = self.layout[keys.MASK].any(1).nonzero().squeeze(1)
        layout = self.layout[live]
        sequences = Sequences.of(*(layout[key] for key in LAYOUT))
        for part in even(lambda most: forward_pass.batches(sequences, most), budget) if len(live) else []:
            yield self.take(live[torch.tensor(part)])

    def shared(self, world: World, budget: int, forward_pass: ForwardPass = PADDED) -> Iterator[tuple[Batch, bool]]:
        """The micro-batches that this rank does, each with whether it counts; see :meth:`World.share`."""

        def reads(part: Batch) -> Reading:
            sequences = Sequences.of(*(part.layout[key] for key in LAYOUT))
            rows, length = forward_pass.extent(sequences)
            return Reading(forward_pass.passes(sequences), rows * length)

        return world.share(self.micro_batches(budget, forward_pass), reads)

    @contextmanager
    def put_together(self, world: World, names: Iterable[Key]) -> Iterator[None]:
        """Within the block each rank puts values back for some rows; after it every rank has all of them.

        Args:
            world: the ranks.
            names: of the entries of ``whole``, whose rows begin at 0.
        """
        if world.size == 1:
            yield
            return
        rows = self.rows.to(self.data[keys.MASK].device)
        for name in names:
            if self.whole.get(name, None) is not None:
                self.whole[name][rows] = 0
        yield
        made = {name: self.whole[name] for name in names if self.whole.get(name, None) is not None}
        forms = {name: (values.shape[1], values.dtype) for name, values in made.items()}
        for other in world.gather([forms]):  # a rank without a micro-batch has made no entry
            forms = {**other, **forms}
        for name in sorted(forms, key=str):
            width, dtype = forms[name]
            if name not in made:
                self.whole[name] = torch.zeros((len(self.whole), width), dtype=dtype, device=rows.device)
            mine = self.whole[name][rows]
            world.sum(mine)
            self.whole[name][rows] = mine

    def extent(self, forward_pass: ForwardPass) -> tuple[int, int]:
        """Rows, and tokens of each on the average, that a model reads of them together."""
        return forward_pass.extent(Sequences.of(*(self.layout[key] for key in LAYOUT)))

    def put_back(self, values: TensorDictBase | Mapping[Key, Tensor], names: Mapping[Key, Key]) -> None:
        """Write entries [n, t] to where their sampled tokens are in ``whole``, entries [n, 1] to their rows.

        Args:
            values: the entries, which are detached.
            names: of an entry in ``values``, the name in ``whole``; one that is not there is made, of zeros.
        """
        mask = self.data[keys.MASK]
        rows = self.rows.to(mask.device, non_blocking=True)[:, None]
        columns = torch.arange(self.begin, self.begin + mask.shape[1], device=mask.device)
        for name, target in names.items():
            value = values[name].detach()
            full = value.shape[1] == mask.shape[1] and value.shape[1] > 1
            if self.whole.get(target, None) is None:
                width = self.whole[keys.MASK].shape[1] if full else 1
                self.whole[target] = value.new_zeros((len(self.whole), width))
            kept = self.whole[target]
            value = value.to(kept.dtype)
            if full:
                kept[rows, columns] = torch.where(mask, value, kept[rows, columns])
            else:
                kept[rows[:, 0]] = value

    def score(
        self,
        scorer: Callable[[Batch], TensorDictBase],
        names: Mapping[Key, Key],
        budget: int,
        forward_pass: ForwardPass = PADDED,
        world: World = World(),  # noqa: B008 (without state)
    ) -> None:
        """Apply ``scorer`` to micro-batches, each on one rank, and put the entries ``names`` back."""
        with self.put_together(world, names.values()):
            for part, counts in self.shared(world, budget, forward_pass):
                scored = scorer(part)
                if counts:
                    part.put_back(scored, names)


def even(cut: Callable[[int], list[list[int]]], budget: int) -> list[list[int]]:
    """Parts of about equal size, one or a multiple of :data:`EVEN` of them where the sizes of the rows allow that.

    Args:
        cut: into parts of at most so many tokens each.
        budget: the most that a part may have.

    >>> even(lambda most: [list(range(10))[i : i + most] for i in range(0, 10, most)], budget=4)
    [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    """
    parts = cut(budget)
    if len(parts) == 1:
        return parts
    most = -(-len(parts) // EVEN) * EVEN
    # The smallest budget that makes no more parts than that, to a sixteenth.
    low, high = budget // (2 * EVEN), budget
    while high - low > max(high // 16, 1):
        middle = (low + high) // 2
        finer = cut(middle)
        if len(finer) <= most:
            high, parts = middle, finer
        else:
            low = middle
    return parts


def _columns(layout: TensorDict) -> slice:
    """From the first to the last column with a real token in any row; all of them where there is none."""
    used = layout[keys.ATTENTION].any(0).nonzero()
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, layout[keys.ATTENTION].shape[1])


def _cut(data: TensorDict, columns: slice) -> TensorDict:
    width = data[keys.ATTENTION].shape[1]
    if columns == slice(0, width):
        return data
    return data.apply(lambda x: x[:, columns] if x.ndim == 2 and x.shape[1] == width else x, batch_size=data.batch_size)
