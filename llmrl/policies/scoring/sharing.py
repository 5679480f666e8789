"""Forward passes over sequences that share a prompt, which is computed once.

This module selects the tokens to compute once, if that saves enough. :mod:`llmrl.policies.scoring.forward` has the
other kinds of forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from llmrl.policies.scoring.forward import PADDED, Sequences

LEAST_SAVED = 1 / 8
"""The share of tokens that sharing must save. Attention after a shared prompt needs a mask, which has slower kernels,
and computes up to twice as many pairs."""


class Shared:
    """Each prompt of a batch is read once, up to the length of the shortest prompt, and then the rest of each sequence.

    Keys and values of the first pass serve every sequence with that prompt: two passes through the model, one graph.
    The shared parts have equal lengths, so there is no padding before the rest, and only the causal mask. If this would
    save little, sequences are read as in :class:`llmrl.policies.scoring.forward.Padded`.
    """

    def hidden(self, decoder: Any, sequences: Sequences) -> Tensor:
        """See :class:`llmrl.policies.scoring.forward.ForwardPass`.

        Raises:
            RuntimeError: gradient checkpointing is on, which cannot use a cache.
        """
        found = _beginnings(sequences)
        if found is None:
            return PADDED.hidden(decoder, sequences)
        begins, which = found
        prefix = begins.shape[1]
        if torch.is_grad_enabled() and getattr(decoder, "is_gradient_checkpointing", False):
            raise RuntimeError(
                "Gradient checkpointing was switched on after the policy was made, which shares prompts. Give "
                "gradient_checkpointing=True to Policy.from_pretrained, or share_prompts=False to the policy."
            )
        cache = DynamicCache(config=decoder.config)
        sequence, step = sequences.before_sampled()
        ids, places = sequences.ids[:, prefix : sequences.width], torch.arange(sequences.width)
        begins, which, ids, places, sequence, step = sequences.there(
            begins, which, ids, places, sequence, step - prefix
        )
        decoder(
            input_ids=begins,
            position_ids=places[:prefix].expand(len(begins), -1),
            past_key_values=cache,
            use_cache=True,
        )
        cache.reorder_cache(which)  # type: ignore[arg-type]
        rest = decoder(
            input_ids=ids,
            position_ids=places[prefix:].expand(len(sequences), -1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return rest[sequence, step]

    def batches(self, sequences: Sequences, budget: int) -> list[list[int]]:
        """Sequences with one prompt together, or of similar length together, whichever needs fewer tokens."""
        ways = [_by_prompt(sequences, budget), PADDED.batches(sequences, budget)]
        return min(ways, key=lambda parts: sum(_tokens(sequences, part) for part in parts))

    def extent(self, sequences: Sequences) -> tuple[int, int]:
        """See :class:`llmrl.policies.scoring.forward.ForwardPass`."""
        count = len(sequences)
        tokens = _tokens(sequences, range(count))
        return count, -(-tokens // max(count, 1))

    def passes(self, sequences: Sequences) -> int:
        """See :class:`llmrl.policies.scoring.forward.ForwardPass`."""
        return 1 if _beginnings(sequences) is None else 2


SHARED = Shared()


def gather_for_cache(layers: Sequence[torch.nn.Module], gather: Callable[[torch.nn.Module], None]) -> None:
    """Gather the weights of a sharded layer when a gradient reaches keys and values that it cached.

    This gradient does not pass through the layer's output, where a sharded layer gathers its weights.

    Args:
        layers: the layers of a decoder, in order.
        gather: gathers the weights of a layer.
    """

    def watch(number: int, layer: torch.nn.Module, given: dict[str, Any]) -> None:
        cache = given.get("past_key_values")
        if isinstance(cache, DynamicCache) and isinstance(kept := cache.layers[number], DynamicLayer):
            for states in (kept.keys, kept.values):
                if states is not None and states.requires_grad:
                    states.register_hook(lambda gradient: gather(layer))

    for number, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda layer, _, given, out, number=number: watch(number, layer, given), with_kwargs=True
        )


def _beginnings(sequences: Sequences) -> tuple[Tensor, Tensor] | None:
    """The different beginnings [B, P] and the number of each sequence's beginning [N]; None if it saves too little."""
    prefix = min(sequences.prompts) - 1
    # Not even with one beginning?
    if not worthwhile(1, prefix, len(sequences), sequences.width):
        return None
    begins, which = torch.unique(sequences.ids[:, :prefix], dim=0, return_inverse=True)
    return (begins, which) if worthwhile(len(begins), prefix, len(sequences), sequences.width) else None


def worthwhile(different: int, prefix: int, count: int, width: int) -> bool:
    """Whether computing the beginnings separately saves enough.

    Args:
        different: how many beginnings there are.
        prefix: their length.
        count: how many sequences.
        width: the length of the longest.

    >>> worthwhile(different=1, prefix=10, count=8, width=40), worthwhile(1, 10, 8, 400)
    (True, False)
    """
    return prefix > 0 and (count - different) * prefix >= LEAST_SAVED * count * width


def _by_prompt(sequences: Sequences, budget: int) -> list[list[int]]:
    """Parts within the budget, the sequences of a prompt side by side, the longest prompts and sequences first."""
    prompts, lengths, same = sequences.prompts, sequences.lengths, sequences.same_prompt
    parts: list[list[int]] = []
    different: set[int] = set()
    width = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-prompts[i], same[i], -lengths[i])):
        different.add(same[i])
        width = max(width, lengths[i])
        # The newest prompt is the shortest.
        count = len(parts[-1]) + 1 if parts else 1
        if parts and _cost(len(different), prompts[i] - 1, count, width) <= budget:
            parts[-1].append(i)
        else:
            parts.append([i])
            different, width = {same[i]}, lengths[i]
    return parts


def _tokens(sequences: Sequences, part: Sequence[int]) -> int:
    """How many tokens are read of some sequences together, at most: prompts that differ may begin alike."""
    return _cost(
        len({sequences.same_prompt[i] for i in part}),
        min((sequences.prompts[i] for i in part), default=0) - 1,
        len(part),
        max((sequences.lengths[i] for i in part), default=0),
    )


def _cost(different: int, prefix: int, count: int, width: int) -> int:
    apart = worthwhile(different, prefix, count, width)
    return different * prefix + count * (width - prefix) if apart else count * width
