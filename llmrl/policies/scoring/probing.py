"""Tests which forward passes a model supports.

A model reads a few made-up sequences together and each alone. Hidden states and gradients must agree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from llmrl.errors import PolicyError
from llmrl.policies.limits import context_length
from llmrl.policies.scoring.forward import PACKED, PADDED, ForwardPass, hidden_before
from llmrl.policies.scoring.sharing import SHARED

PROBE_LENGTH = 48
"""Tokens of the longest made-up sequence."""

PROBE_VOCABULARY = 256
"""The made-up sequences use this many first tokens of the vocabulary."""

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Maximum relative difference of hidden states and gradients from those of sequences read alone."""

logger = logging.getLogger(__name__)


def forward_pass_for(decoder: Any, name: str, *, packing: bool, share_prompts: bool) -> ForwardPass:
    """The requested forward pass.

    The model reads a few made-up sequences in this way and each alone; hidden states and gradients must agree.

    Args:
        decoder: as in :func:`hidden_before`, in evaluation mode.
        name: name of the model in messages.
        packing: return :class:`Packed`, or raise.
        share_prompts: return :class:`Shared` if the model supports it, else :class:`Padded`.

    Raises:
        PolicyError: packing is requested, and the model does not support it.
    """
    if packing:
        try:
            gap, tolerance = _gap(decoder, PACKED, (1, 1 / 2, 1 / 3), prompt=0)  # two fit into one row
        except Exception as error:  # a model without support for such positions can raise any error
            raise PolicyError(
                f"{name} cannot be scored with packing (--train.packing): {type(error).__name__}: {error} Train it "
                "with --train.no-packing."
            ) from error
        if not gap <= tolerance:
            raise PolicyError(
                f"{name} cannot be scored with packing (--train.packing): two responses in one row change each "
                f"other, its hidden states or gradients are off by {gap:.2g} of their length (tolerance "
                f"{tolerance}). Its attention or recurrence goes across responses, or its positions do not begin "
                "at 0 again. Train it with --train.no-packing, or load it with another attn_implementation."
            )
        return PACKED
    if not share_prompts or getattr(decoder, "is_gradient_checkpointing", False):
        return PADDED
    try:
        gap, tolerance = _gap(decoder, SHARED, (1, 5 / 6, 3 / 4), prompt=1 / 2)
    except Exception as error:  # a model without support for such a cache can raise any error
        why = f"it does not take a cache of keys and values ({type(error).__name__}: {error})"
    else:
        if gap <= tolerance:
            return SHARED
        why = f"its hidden states or gradients would be off by {gap:.2g} of their length"
    logger.warning(
        "%s: a prompt is read once for each response to it, since %s. --train.no-share-prompts leaves out the try.",
        name,
        why,
    )
    return PADDED


def checkpointed_gap(decoder: Any, set_mode: Callable[[bool], object]) -> float:
    """The relative difference of hidden states and gradients with and without gradient checkpointing.

    Args:
        decoder: as in :func:`hidden_before`.
        set_mode: sets the checkpointed layers to training mode, and back.
    """
    embedding = decoder.get_input_embeddings()
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(min(PROBE_VOCABULARY, len(embedding.weight)), (2, 12), generator=draw)
    tokens = tokens.to(embedding.weight.device)
    attention = torch.ones_like(tokens, dtype=torch.bool)
    mask = torch.arange(12, device=tokens.device).expand(2, -1) >= 4
    found = []
    try:
        for mode in (False, True):
            set_mode(mode)
            found.append(_probe(decoder, embedding, PADDED, tokens, attention, mask))
    finally:
        set_mode(False)
    return max(float((b - a).norm() / a.norm()) for a, b in zip(*found, strict=True))


def _gap(decoder: Any, forward_pass: ForwardPass, shares: Sequence[float], prompt: float) -> tuple[float, float]:
    """The relative difference of hidden states and gradients of sequences read together, and its tolerance.

    Args:
        shares: the lengths of the sequences, as shares of the longest.
        prompt: the common part, as a share of the longest.
    """
    embedding = decoder.get_input_embeddings()
    device = embedding.weight.device
    longest = min(PROBE_LENGTH, context_length(decoder.config) or PROBE_LENGTH)
    common = max(int(prompt * longest), 1)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(
        min(PROBE_VOCABULARY, len(embedding.weight)),
        (len(shares), longest + 1),
        generator=generator,
    )
    tokens[:, :common] = tokens[0, :common]
    place = torch.arange(longest + 1)
    attention = place <= (torch.tensor(shares) * longest).long()[:, None]
    mask = attention & (place >= common)
    tokens, attention, mask = tokens.to(device), attention.to(device), mask.to(device)
    together, together_back = _probe(decoder, embedding, forward_pass, tokens, attention, mask)
    parts = [
        _probe(decoder, embedding, PADDED, tokens[i], attention[i], mask[i])
        for i in torch.arange(len(shares), device=device)[:, None]
    ]
    alone, alone_back = torch.cat([h for h, _ in parts]), torch.stack([g for _, g in parts]).sum(0)
    off = ((together - alone).norm(dim=1) / alone.norm(dim=1)).max()
    off_back = (together_back - alone_back).norm() / alone_back.norm()
    return float(torch.maximum(off, off_back)), TOLERANCE.get(decoder.dtype, 0.1)


def _probe(
    decoder: Any, embedding: Any, forward_pass: ForwardPass, tokens: Tensor, attention: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Hidden states [M, H] before the sampled tokens; and the gradient of a sum of them in the embeddings, added
    up for each token of the vocabulary [PROBE_VOCABULARY, H]."""
    read: list[tuple[Tensor, Tensor]] = []

    def keep(module: Any, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        read.append((given[0].flatten(), out.detach().requires_grad_()))
        return read[-1][1]

    hook = embedding.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            _, hidden = hidden_before(decoder, forward_pass, tokens, attention, mask)
            signs = torch.linspace(-1, 1, hidden.shape[1], device=hidden.device)
            leaves = torch.autograd.grad((hidden * signs).sum(), [leaf for _, leaf in read])
    finally:
        hook.remove()
    back = hidden.new_zeros((PROBE_VOCABULARY, leaves[0].shape[-1]), dtype=torch.float32)
    for (ids, _), leaf in zip(read, leaves, strict=True):
        back.index_add_(0, ids, leaf.flatten(0, 1).float())
    return hidden.detach().float(), back
