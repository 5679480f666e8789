"""Token-level generation: contexts of ids in, sampled ids with their log-probabilities out.

One batched loop over the model's own forward pass with a key-value cache.  Equal contexts are read
once; rows that have ended leave the batch.  Text, templates and TensorDicts are the policy's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from llmrl.policies.sampling.decoding import Product, decoding
from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH, Sample, row_limits, row_seeds, uniform
from llmrl.policies.scoring.head import Head

GROWTH = 16  # tokens by which the cache grows
DROP_SHARE = 0.125  # ended rows leave when they are this share of the batch


class Sampler:
    """Draws responses from a causal language model.

    Args:
        model: a Hugging Face causal language model; its weights are read at each call.
        end_ids: tokens that end a response.
        pad_id: what fills the space left of a short context.
        max_cache_tokens: rows are sampled in several batches, if need be, so that rows x length
            stays within this.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        end_ids: Iterable[int],
        pad_id: int,
        *,
        max_cache_tokens: int = 1 << 18,
    ) -> None:
        self.model = model
        self.end_ids = sorted(end_ids)
        self.pad_id = pad_id
        self.max_cache_tokens = max_cache_tokens

    @torch.inference_mode()
    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        temperature: float = 1.0,
        greedy: bool = False,
        seeds: Sequence[int] | None = None,
    ) -> list[Sample]:
        """One response for each context, in their order.

        A row's random numbers depend on its seed alone: neither the other rows nor their order nor the size of
        the batches matter to what it draws.

        Args:
            contexts: token ids, at least one each; equal ones are read once.
            max_new_tokens: limit of every response, or one for each.
            temperature: what logits are divided by, also where ``greedy`` records log-probabilities.
            greedy: take the likeliest token.
            seeds: one for each row, from 0 to 2**63 - 1; None: drawn from torch's global generator.
        """
        limits = row_limits(contexts, max_new_tokens=max_new_tokens, temperature=temperature)
        keys = None if greedy else torch.tensor(row_seeds(len(contexts), seeds), device=self.model.device)
        # Equal contexts side by side, long ones first: little padding, and nothing is read twice.
        order = sorted(range(len(contexts)), key=lambda i: (-len(contexts[i]), list(contexts[i]), i))
        was_training = self.model.training
        self.model.eval()
        samples: dict[int, Sample] = {}
        try:
            while order:
                length = len(contexts[order[0]]) + max(limits[i] for i in order)
                count = max(self.max_cache_tokens // length, 1)
                rows, order = order[:count], order[count:]
                lengths = [limits[i] for i in rows]
                decoder = self.model.get_decoder()
                with decoding(decoder, rows=len(rows), tokens=max(lengths)) as product:
                    batch = _Batch(self, [contexts[i] for i in rows], lengths, temperature, product)
                    drawn = batch.run(None if keys is None else keys[rows])
                samples |= dict(zip(rows, drawn, strict=True))
        finally:
            self.model.train(was_training)
        return [samples[i] for i in range(len(contexts))]


class _Batch:
    """The rows that are sampled together, B at first, fewer and fewer later on."""

    def __init__(
        self,
        sampler: Sampler,
        contexts: Sequence[Sequence[int]],
        limits: Sequence[int],
        temperature: float,
        product: Callable[[Tensor, Tensor | None], Product],
    ) -> None:
        self.model: Any = sampler.model
        self.decoder = self.model.get_decoder()
        self.head = Head.of(self.model)
        self.project = product(self.head.weight, self.head.bias)
        self.end = torch.tensor(sampler.end_ids, dtype=torch.long, device=self.model.device)
        self.pad_id = sampler.pad_id
        self.contexts = contexts
        self.limits = torch.tensor(limits, device=self.model.device)
        self.max_new_tokens = max(limits)
        self.temperature = temperature

    def run(self, seeds: Tensor | None) -> list[Sample]:
        """Sample until every row has ended; ``seeds`` [B], None: greedy."""
        device, size, limit = self.model.device, len(self.contexts), self.max_new_tokens
        hidden, attention, cache = self._prefill()
        tokens = torch.full((size, limit), self.pad_id, device=device)
        log_probs = torch.zeros((size, limit), device=device)
        lengths = self.limits.clone()
        ended_in_time = torch.zeros(size, dtype=torch.bool, device=device)
        rows = torch.arange(size, device=device)  # which response each row of the batch writes
        position = attention.sum(1)
        live = torch.ones(size, dtype=torch.bool, device=device)
        width = attention.shape[1] - limit
        numbers = None if seeds is None else uniform(seeds, 0, limit)
        for step in range(limit):
            log_p = (self.head.finish(self.project(hidden)) / self.temperature).log_softmax(-1)
            token = log_p.argmax(1) if numbers is None else _draw(log_p.exp(), numbers[rows, step])
            chosen = log_p.gather(1, token[:, None]).squeeze(1)
            tokens[rows, step] = torch.where(live, token, self.pad_id)
            log_probs[rows, step] = torch.where(live, chosen, 0.0)
            ends = live & torch.isin(token, self.end)
            lengths[rows[ends]] = step + 1
            ended_in_time[rows[ends]] = True
            live = live & ~ends & (step + 1 < self.limits[rows])
            if step + 1 == limit:
                break
            alive = int(live.sum())
            if alive == 0:
                break
            if len(rows) - alive > DROP_SHARE * len(rows):
                stay = _stay(live, alive)
                cache.batch_select_indices(stay)
                rows, token, position = rows[stay], token[stay], position[stay]
                attention, live = attention[stay], live[stay]
            width += 1
            attention[:, width - 1] = 1
            hidden = self.decoder(
                input_ids=token[:, None],
                attention_mask=attention[:, :width],
                position_ids=position[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            position = position + live  # a row that waits to leave stays within the model's context
        reasons = torch.where(ended_in_time, FINISH_END, FINISH_LENGTH).tolist()
        return [
            Sample(ids[:n], values[:n], reason)
            for ids, values, n, reason in zip(
                tokens.tolist(), log_probs.tolist(), lengths.tolist(), reasons, strict=True
            )
        ]

    def _prefill(self) -> tuple[Tensor, Tensor, DynamicCache]:
        """Read each different context once.

        Returns:
            The last hidden states [B, H]; an attention mask [B, T + max_new_tokens], left-padded,
            zeros where tokens will come; the cache.
        """
        places: dict[tuple[int, ...], int] = {}
        index = [places.setdefault(tuple(context), len(places)) for context in self.contexts]
        width = max(len(context) for context in places)
        ids = torch.tensor([[self.pad_id] * (width - len(c)) + list(c) for c in places])
        real = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in places])
        ids, real = ids.to(self.model.device), real.to(self.model.device)
        cache = DynamicCache(config=self.model.config)
        if self.model.config._attn_implementation in ("sdpa", "eager"):  # these read a full mask
            cache.layers = [_RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
        hidden = self.decoder(
            input_ids=ids,
            attention_mask=real,
            position_ids=(real.cumsum(1) - 1).clamp_min(0),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        where = torch.tensor(index, device=self.model.device)
        if len(places) < len(index):
            cache.batch_select_indices(where)
            hidden, real = hidden[where], real[where]
        return hidden, torch.nn.functional.pad(real, (0, self.max_new_tokens)), cache


class _RoomyLayer(DynamicLayer):
    """A cache layer that grows by several tokens at a time, so that most tokens are written, not appended.

    Attention reads the free places too, and the mask hides them: rows without gaps between them are
    read from memory about twice as fast as the used part of roomy rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        self._stores: list[Tensor] = []  # keys and values: [B, heads, room, width]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the states of new tokens [B, heads, n, width]; returns those of all places."""
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
        """Tokens that were written."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Places that :meth:`update` will return, and where they begin."""
        length = self.length + query_length
        return (self._room(length) if self._stores else length), 0

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes what row ``indices[i]`` was."""
        count = len(indices)
        if count > len(self._stores[0]):
            self._stores = [store[indices] for store in self._stores]
        else:
            # `_stay` leaves most rows where they are: only the others are copied.
            moved = (indices != torch.arange(count, device=indices.device)).nonzero().squeeze(1)
            for store in self._stores:
                store[moved] = store[indices[moved]]
            self._stores = [store[:count] for store in self._stores]
        self.keys, self.values = self._stores


def _grown(store: Tensor, used: int, room: int) -> Tensor:
    """A copy with room for more; zeros, as a hidden place still takes part in sums, with weight 0."""
    bigger = store.new_empty((*store.shape[:2], room, store.shape[3]))
    bigger[:, :, :used] = store[:, :, :used]
    bigger[:, :, used:] = 0
    return bigger


def _stay(live: Tensor, alive: int) -> Tensor:
    """The rows that are live, moved as little as possible: those at the end fill the gaps in front.

    >>> _stay(torch.tensor([True, False, True, False, True]), 3)
    tensor([0, 4, 2])
    """
    stay = torch.arange(alive, device=live.device)
    gaps = (~live[:alive]).nonzero().squeeze(1)
    stay[gaps] = alive + live[alive:].nonzero().squeeze(1)
    return stay


def _draw(p: Tensor, uniform: Tensor) -> Tensor:
    """The token at which the running sum of the probabilities passes a uniform number.

    Args:
        p: [B, V], need not sum to exactly 1.
        uniform: [B] in [0, 1).

    >>> _draw(torch.tensor([[0.0, 0.5, 0.0, 0.5]]).repeat(3, 1), torch.tensor([0.0, 0.5, 0.999]))
    tensor([1, 3, 3])
    """
    running = p.cumsum(-1)
    total = running[:, -1]
    # Strictly below the total, whatever rounding does: a token without probability is never taken.
    mark = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(running, mark[:, None], right=True).squeeze(1)
