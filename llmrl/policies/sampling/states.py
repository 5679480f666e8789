"""The states of earlier tokens that a sampler keeps: keys, values and recurrent states, or none.

There are four ways, from fast to safe. :mod:`llmrl.policies.sampling.trial` tests which of them is exact for a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from llmrl.policies.sampling.decoding import ONE_QUERY

GROWTH = 16  # tokens by which the cache grows


class Way(Enum):
    """The way of keeping the states of earlier tokens."""

    ROOMY = "a cache that grows by several tokens at a time"
    PLAIN = "transformers' own cache"
    ALIGNED = "transformers' own cache, contexts of one length at a time"
    WHOLE = "no cache: each token is computed from the whole sequence"


class States(Protocol):
    """The states of the rows of a batch."""

    def first(self) -> Tensor:
        """The hidden states [B, H] after the contexts."""

    def next(self, token: Tensor, live: Tensor) -> Tensor:
        """Append a token [B] to each row; returns the hidden states [B, H] after them.

        Args:
            token: the sampled tokens.
            live: [B] bool; the results of other rows are not used.
        """

    def keep(self, rows: Tensor) -> None:
        """Replace row i by row ``rows[i]``; ``rows`` is on the CPU, so nothing waits for a GPU."""


def states_of(model: Any, contexts: Sequence[Sequence[int]], room: int, pad_id: int, way: Way) -> States:
    """The states of contexts, with room for ``room`` more tokens each."""
    if way is Way.WHOLE:
        return _Whole(model, contexts, room, pad_id)
    return _Cached(model, contexts, room, pad_id, roomy=way is Way.ROOMY)


class _Cached:
    """Left-padded contexts and a cache; equal contexts are computed once."""

    def __init__(self, model: Any, contexts: Sequence[Sequence[int]], room: int, pad_id: int, *, roomy: bool) -> None:
        places: dict[tuple[int, ...], int] = {}
        index = [places.setdefault(tuple(context), len(places)) for context in contexts]
        self.decoder = model.get_decoder()
        self.width = max(len(context) for context in places)
        ids = [[pad_id] * (self.width - len(c)) + list(c) for c in places]
        real = [[0] * (self.width - len(c)) + [1] * len(c) for c in places]
        self.ids, self.attention = torch.tensor(ids, device=model.device), torch.tensor(real, device=model.device)
        self.index = torch.tensor(index, device=model.device)
        self.cache = DynamicCache(config=model.config)
        if roomy and model.config._attn_implementation in ("sdpa", "eager", ONE_QUERY):  # these take a full mask
            self.cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in self.cache.layers]
        self.room = room

    def first(self) -> Tensor:
        """See :class:`States`."""
        real = self.attention
        hidden = self.decoder(
            input_ids=self.ids,
            attention_mask=real,
            position_ids=(real.cumsum(1) - 1).clamp_min(0),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        if len(real) < len(self.index):
            self.cache.reorder_cache(self.index)  # type: ignore[arg-type]
            hidden, real = hidden[self.index], real[self.index]
        self.position = real.sum(1)
        self.attention = torch.nn.functional.pad(real, (0, self.room))
        return hidden

    def next(self, token: Tensor, live: Tensor) -> Tensor:
        """See :class:`States`."""
        self.width += 1
        self.attention[:, self.width - 1] = 1
        hidden = self.decoder(
            input_ids=token[:, None],
            attention_mask=self.attention[:, : self.width],
            position_ids=self.position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        self.position = self.position + live  # keeps an ended row within the model's context
        return hidden

    def keep(self, rows: Tensor) -> None:
        """See :class:`States`."""
        self.cache.reorder_cache(rows)  # type: ignore[arg-type]
        there = rows.to(self.position.device, non_blocking=True)
        self.position, self.attention = self.position[there], self.attention[there]


class _Whole:
    """The sequences themselves, right-padded, as the scorer reads them."""

    def __init__(self, model: Any, contexts: Sequence[Sequence[int]], room: int, pad_id: int) -> None:
        self.decoder = model.get_decoder()
        width = max(len(context) for context in contexts)
        ids = [list(context) + [pad_id] * (width + room - len(context)) for context in contexts]
        self.ids = torch.tensor(ids, device=model.device)
        self.length = torch.tensor([len(context) for context in contexts], device=model.device)

    def first(self) -> Tensor:
        """See :class:`States`."""
        width = int(self.length.max())
        positions = torch.arange(width, device=self.ids.device).expand(len(self.ids), -1)
        hidden = self.decoder(input_ids=self.ids[:, :width], position_ids=positions, use_cache=False).last_hidden_state
        return hidden[torch.arange(len(self.ids), device=self.ids.device), self.length - 1]

    def next(self, token: Tensor, live: Tensor) -> Tensor:
        """See :class:`States`."""
        self.ids.scatter_(1, self.length[:, None], token[:, None])
        self.length = self.length + live
        return self.first()

    def keep(self, rows: Tensor) -> None:
        """See :class:`States`."""
        there = rows.to(self.ids.device, non_blocking=True)
        self.ids, self.length = self.ids[there], self.length[there]


class RoomyLayer(DynamicLayer):
    """A cache layer that grows by several tokens at a time, so that most tokens are written in place.

    Attention also reads the free positions, and the mask hides them. Reading whole rows is about twice as fast as
    reading only the used part of each row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self._stores: list[Tensor] = []  # keys and values: [B, heads, room, width]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the states of new tokens [B, heads, n, width]; returns those of all positions."""
        states = (key_states, value_states)
        begin, self.length = self.length, self.length + key_states.shape[2]
        if not self._stores:
            self._stores = [state.contiguous() for state in states]
            self.is_initialized = True
        else:
            room = self._room(self.length)
            if room > self._stores[0].shape[2]:
                self._stores = [_grown(store, begin, room) for store in self._stores]
            for store, new in zip(self._stores, states, strict=True):
                store[:, :, begin : self.length] = new
        self.keys, self.values = self._stores
        return self.keys, self.values

    def _room(self, length: int) -> int:
        room = self._stores[0].shape[2]
        return room if length <= room else max(length, room + GROWTH)

    def get_seq_length(self) -> int:
        """Number of written tokens."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Number of positions that :meth:`update` will return, and the first of them."""
        length = self.length + query_length
        return (self._room(length) if self._stores else length), 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Replace row i by row ``beam_idx[i]``."""
        count = len(beam_idx)
        if count > len(self._stores[0]):
            self._stores = [store[beam_idx] for store in self._stores]
        else:
            # The sampler moves few rows, so only those are copied.
            moved = (beam_idx != torch.arange(count, device=beam_idx.device)).nonzero().squeeze(1)
            device = self._stores[0].device
            to, source = moved.to(device, non_blocking=True), beam_idx[moved].to(device, non_blocking=True)
            for store in self._stores:
                store[to] = store[source]
            self._stores = [store[:count] for store in self._stores]
        self.keys, self.values = self._stores


def _grown(store: Tensor, used: int, room: int) -> Tensor:
    """A copy with more room. Free positions are 0, because attention adds them with weight 0 and NaN would remain."""
    bigger = store.new_empty((*store.shape[:2], room, store.shape[3]))
    bigger[:, :, :used] = store[:, :, :used]
    bigger[:, :, used:] = 0
    return bigger
