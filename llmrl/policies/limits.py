"""The limits of a response: the model's context, and the end tokens that a model or its tokenizer names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from llmrl.errors import PolicyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)


def room_for_prompt(model: Any, prompt: int, response: int) -> int:
    """The longest prompt that leaves room for a response in the model's context.

    Args:
        model: a Hugging Face causal language model.
        prompt: maximum number of tokens of a prompt.
        response: maximum number of tokens of a response.

    Raises:
        PolicyError: the response alone fills the context.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return prompt
    if response >= limit:
        raise PolicyError(
            f"max_response_length {response} leaves no room for a prompt: the model's context has "
            f"{limit} tokens. Give at most {limit // 2}."
        )
    return min(prompt, limit - response)


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase, longest_response: int) -> set[int]:
    """All tokens that may end a response; chat models have several, in different settings.

    Args:
        model: the model, whose generation settings are read.
        tokenizer: the tokenizer, whose end token is read.
        longest_response: length of every response if there is no end token, for the warning.
    """
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    if not ids:
        log.warning(
            "Nothing can end a response: neither the tokenizer nor the model's generation settings name an end "
            "token. Every response has max_response_length (%s) tokens. Set tokenizer.eos_token.",
            longest_response,
        )
    return {int(i) for i in ids}


def pad_id(tokenizer: PreTrainedTokenizerBase, ends: set[int]) -> int:
    """The padding token. Its value has no effect, because padding is never read.

    Args:
        tokenizer: the tokenizer, whose padding token is used if it has one.
        ends: the end tokens; otherwise one of these is used.
    """
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0))
