"""Token-level generation: from contexts of ids to sampled ids with their log-probabilities.

It is one batched loop over the model's own forward pass. Rows that have ended leave the batch.
:mod:`llmrl.policies.sampling.states` keeps earlier tokens. The policy handles text, templates and TensorDicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmrl.policies.sampling.decoding import Product, decoding
from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH, Sample, row_limits, row_seeds, uniform
from llmrl.policies.sampling.states import Way, states_of
from llmrl.policies.scoring.forward import evaluating
from llmrl.policies.scoring.head import Head

DROP_SHARE = 0.125  # ended rows leave when they are this share of the batch


class Sampler:
    """Draws responses from a causal language model.

    Args:
        model: a Hugging Face causal language model; its weights are read at each call.
        end_ids: tokens that end a response.
        pad_id: the padding token before a short context.
        max_cache_tokens: the largest rows x length; more rows are sampled in several batches.
        way: the way of keeping the states of earlier tokens.
        fast_cpu: on a CPU, use :func:`llmrl.policies.sampling.decoding.decoding`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        end_ids: Iterable[int],
        pad_id: int,
        *,
        max_cache_tokens: int = 1 << 18,
        way: Way = Way.ROOMY,
        fast_cpu: bool = True,
    ) -> None:
        self.model = model
        self.end_ids = sorted(end_ids)
        self.pad_id = pad_id
        self.max_cache_tokens = max_cache_tokens
        self.way = way
        self.fast_cpu = fast_cpu

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
        """One response for each context, in order.

        The random numbers of a row depend only on its seed, not on the other rows, their order or the size of batches.

        Args:
            contexts: token ids, at least one each; equal ones are read once.
            max_new_tokens: limit of every response, or one for each.
            temperature: logits are divided by it, also those of greedy responses.
            greedy: take the likeliest token.
            seeds: one for each row, from 0 to 2**63 - 1; None: drawn from torch's global generator.
        """
        limits = row_limits(contexts, max_new_tokens=max_new_tokens, temperature=temperature)
        keys = None if greedy else torch.tensor(row_seeds(len(contexts), seeds), device=self.model.device)
        # Equal contexts together, long ones first: there is little padding, and no context is read twice.
        order = sorted(range(len(contexts)), key=lambda i: (-len(contexts[i]), list(contexts[i]), i))
        samples: dict[int, Sample] = {}
        with evaluating(self.model):
            while order:
                length = len(contexts[order[0]]) + max(limits[i] for i in order)
                count = max(self.max_cache_tokens // length, 1)
                if self.way is Way.ALIGNED:  # nothing is padded then, on which positions may depend
                    count = min(count, sum(len(contexts[i]) == len(contexts[order[0]]) for i in order))
                rows, order = order[:count], order[count:]
                lengths = [limits[i] for i in rows]
                decoder = self.model.get_decoder()
                with decoding(decoder, rows=len(rows), tokens=max(lengths), fast_cpu=self.fast_cpu) as product:
                    batch = _Batch(self, [contexts[i] for i in rows], lengths, temperature, product)
                    drawn = batch.run(None if keys is None else keys[rows])
                samples |= dict(zip(rows, drawn, strict=True))
        return [samples[i] for i in range(len(contexts))]


class _Batch:
    """The rows that are sampled together: first B, later fewer, as rows end."""

    def __init__(
        self,
        sampler: Sampler,
        contexts: Sequence[Sequence[int]],
        limits: Sequence[int],
        temperature: float,
        product: Callable[[Tensor, Tensor | None], Product],
    ) -> None:
        self.model: Any = sampler.model
        self.head = Head.of(self.model)
        self.project = product(self.head.weight, self.head.bias)
        self.end = torch.tensor(sampler.end_ids, dtype=torch.long, device=self.model.device)
        self.pad_id = sampler.pad_id
        self.contexts = contexts
        self.limits = torch.tensor(limits, device=self.model.device)
        self.max_new_tokens = max(limits)
        self.temperature = temperature
        self.way = sampler.way

    def run(self, seeds: Tensor | None) -> list[Sample]:
        """Sample until every row has ended; ``seeds`` [B], None: greedy."""
        device, size, limit = self.model.device, len(self.contexts), self.max_new_tokens
        states = states_of(self.model, self.contexts, limit, self.pad_id, self.way)
        hidden = states.first()
        tokens = torch.full((size, limit), self.pad_id, device=device)
        exact = torch.promote_types(self.model.dtype, torch.float32)
        log_probs = torch.zeros((size, limit), dtype=exact, device=device)
        lengths = self.limits.clone()
        ended_in_time = torch.zeros(size, dtype=torch.bool, device=device)
        rows = torch.arange(size, device=device)  # the number of the response of each row
        live = torch.ones(size, dtype=torch.bool, device=device)
        numbers = None if seeds is None else uniform(seeds, 0, limit)
        for step in range(limit):
            log_p = (self.head.finish(self.project(hidden)) / self.temperature).log_softmax(-1)
            token = log_p.argmax(1) if numbers is None else _draw(log_p.exp(), numbers[rows, step])
            chosen = log_p.gather(1, token[:, None]).squeeze(1)
            tokens[rows, step] = torch.where(live, token, self.pad_id)
            log_probs[rows, step] = torch.where(live, chosen, 0.0)
            ends = live & torch.isin(token, self.end)
            lengths[rows] = torch.where(ends, step + 1, lengths[rows])
            ended_in_time[rows] = ended_in_time[rows] | ends
            live = live & ~ends & (step + 1 < self.limits[rows])
            if step + 1 == limit:
                break
            here = live.cpu()  # the only wait for the device at each token, beside those of the model's own code
            alive = int(here.sum())
            if alive == 0:
                break
            if len(rows) - alive > DROP_SHARE * len(rows):
                stay = _stay(here, alive)
                states.keep(stay)
                there = stay.to(device, non_blocking=True)
                rows, token, live = rows[there], token[there], live[there]
            hidden = states.next(token, live)
        reasons = torch.where(ended_in_time, FINISH_END, FINISH_LENGTH)
        # One wait for all of it; ids below 2^24 are exact in float32.
        counts = torch.stack([lengths, reasons], 1)
        table = torch.cat([counts.to(exact), tokens.to(exact), log_probs], 1).tolist()
        return [
            Sample([int(i) for i in row[2 : 2 + n]], row[2 + limit : 2 + limit + n], int(row[1]))
            for row in table
            for n in [int(row[0])]
        ]


def _stay(live: Tensor, alive: int) -> Tensor:
    """The live rows with few moves: rows at the end fill the gaps before them.

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
    # Strictly below the total despite rounding, so a token with probability 0 is never drawn.
    mark = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    # Where the sum is not a number, the search ends behind the last token.
    return torch.searchsorted(running, mark[:, None], right=True).squeeze(1).clamp(max=p.shape[1] - 1)
