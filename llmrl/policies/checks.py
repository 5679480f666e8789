"""Checks of a loaded model and its tokenizer: what llmrl cannot sample or score correctly is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmrl.errors import PolicyError
from llmrl.policies.scoring.head import Head

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_kinds(model: Any, tokenizer: Any) -> None:
    """Raise unless these are a model and a tokenizer; names or the wrong order are common mistakes."""
    from transformers import PreTrainedTokenizerBase

    given = f"got {_kind(model)} and {_kind(tokenizer)}"
    if not isinstance(model, torch.nn.Module) or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise PolicyError(
            f"Policy takes a model and its tokenizer as transformers loads them, {given}. For a name or a folder use "
            "Policy.from_pretrained."
        )


def _kind(thing: Any) -> str:
    return repr(thing) if isinstance(thing, (str, Path)) else type(thing).__name__


@torch.no_grad()
def check_weights(model: Any) -> None:
    """Refuse weights that are quantised, or that are no numbers, also where few tokens read them."""
    name = type(model).__name__
    if getattr(model, "is_quantized", False):
        raise PolicyError(f"{name}: its weights are quantised, so they cannot be trained. Load plain weights.")
    for key, weight in model.named_parameters():
        if weight.is_meta:
            raise PolicyError(f"{name}: its weights are not in memory, first {key}. Load it whole, on one device.")
        if not weight.sum(dtype=torch.float32).isfinite():
            raise PolicyError(
                f"{name}: its weights are not finite, first in {key}. Load intact weights, or give another "
                "--policy.dtype."
            )


@torch.no_grad()
def check_head(model: Any) -> None:
    """Refuse a model whose logits are not those that :class:`Head` computes from its hidden states."""
    name = type(model).__name__
    try:
        rows = len(model.get_input_embeddings().weight)
        ids = (torch.arange(4, device=model.device)[None] + 1) % rows
        inputs = {"input_ids": ids, "position_ids": torch.arange(4, device=model.device)[None]}
        hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state
        logits = model(**inputs, use_cache=False).logits.float()
        ours = Head.of(model).logits(hidden)
    except Exception as error:  # a model of another kind can raise any error for token ids
        raise PolicyError(
            f"{name} is not built like the causal language models that llmrl can train: {type(error).__name__}: "
            f"{error}. Give a model that maps token ids alone to logits."
        ) from error
    if not logits.isfinite().all():
        raise PolicyError(
            f"{name} gives logits that are not finite, and its weights are: it overflows in {model.dtype}, or hides "
            "tokens. Give another --policy.dtype, or a model that scores every token."
        )
    gap = float((ours - logits).abs().max()) if ours.shape == logits.shape else float("inf")
    if gap > 1e-3 + 0.02 * float(logits.abs().max()):
        raise PolicyError(
            f"{name} computes its logits from the hidden states in a way that llmrl does not know: they "
            f"differ by {gap:.3g}. Its log-probabilities would be wrong."
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Refuse a tokenizer with more base tokens than the model's embeddings; added tokens may be unused."""
    if tokenizer.vocab_size > rows:
        raise PolicyError(
            f"The tokenizer has {tokenizer.vocab_size} tokens and the model embeds {rows}: they do not belong "
            "together. Give the tokenizer that the model was trained with."
        )


def check_ids(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], rows: int) -> None:
    """Refuse a prompt without tokens, and one with tokens that the model does not embed."""
    if not ids:
        raise PolicyError(
            "A prompt has no token, so no response can follow it: the problem is empty and nothing is written before "
            "it. Leave out empty problems, or give --policy.prompt-template a text."
        )
    beyond = [i for i in ids if i >= rows]
    if beyond:
        raise PolicyError(
            f"A prompt has the token {tokenizer.convert_ids_to_tokens(beyond[0])!r} with the id {beyond[0]}, and the "
            f"model embeds {rows} tokens: the token was added to the tokenizer alone. Give the tokenizer and the chat "
            "template that the model was trained with."
        )
