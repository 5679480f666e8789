"""The limits of a response: the model's context, and the end tokens that a model or its tokenizer names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from llmrl.errors import PolicyError
from llmrl.policies.foreign import ids_of, text_of
from llmrl.text import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = ("max_position_embeddings", "max_target_positions", "max_seq_len")
"""Names of the setting that holds the length of a model's context."""

log = logging.getLogger(__name__)


def context_length(config: Any) -> int | None:
    """The number of tokens that a model can read; None if its settings name no limit.

    >>> from transformers import LlamaConfig
    >>> context_length(LlamaConfig(max_position_embeddings=512))
    512
    """
    text = config.get_text_config()
    named = [getattr(text, name, None) for name in CONTEXT]
    return min((limit for limit in named if limit is not None and limit > 0), default=None)


def room_for_prompt(model: Any, prompt: int, response: int) -> int:
    """The longest prompt that leaves room for a response in the model's context.

    Args:
        model: a Hugging Face causal language model.
        prompt: maximum number of tokens of a prompt.
        response: maximum number of tokens of a response.

    Raises:
        PolicyError: the response alone fills the context.
    """
    limit = context_length(model.config)
    if limit is None:
        return prompt
    if response >= limit:
        raise PolicyError(
            f"max_response_length {response} leaves no room for a prompt: the model's context has "
            f"{limit} tokens. Give at most {limit // 2}."
        )
    return min(prompt, limit - response)


def end_ids(model: Any, tokenizer: PreTrainedTokenizerBase, vocabulary: int, longest_response: int) -> set[int]:
    """All tokens that may end a response; chat models have several, in different settings.

    Args:
        model: the model, whose generation settings are read.
        tokenizer: the tokenizer, whose end token is read.
        vocabulary: number of tokens that the model can write; others that are named cannot end a response.
        longest_response: length of every response if there is no end token, for the warning.
    """
    named = getattr(model.generation_config, "eos_token_id", None)
    found = list(named) if isinstance(named, (list, tuple)) else [named]
    given = [i for i in (*found, tokenizer.eos_token_id) if i is not None]
    for i in given:
        if not isinstance(i, int):
            raise PolicyError(
                f"The model's generation settings name the end token {one_line(str(i), 40)!r}, which is no token id. "
                "Correct eos_token_id in generation_config.json."
            )
    ids = {i for i in given if 0 <= i < vocabulary}
    if not ids:
        log.warning(
            "Nothing can end a response: neither the tokenizer nor the model's generation settings name an end "
            "token that the model can write. Every response has max_response_length (%s) tokens. Set "
            "tokenizer.eos_token.",
            longest_response,
        )
    return ids


def warn_of_turn_end(tokenizer: PreTrainedTokenizerBase, closing: str, ends: set[int]) -> None:
    """Warn if a chat template ends a turn with a special token that does not end a response.

    Args:
        tokenizer: the tokenizer.
        closing: the text that the template writes after a response.
        ends: the end tokens.
    """
    ids = ids_of(tokenizer, [closing], special=False)[0]
    special = [i for i in ids if i in tokenizer.added_tokens_decoder]
    if special and ends and not ends & set(ids):
        log.warning(
            "The chat template ends a turn with %r, which does not end a response (%s does). A model that was trained "
            "with this template writes on behind its answer. Add %s to eos_token_id in the model's "
            "generation_config.json.",
            text_of(tokenizer, [special[0]]),
            ", ".join(repr(text_of(tokenizer, [i])) for i in sorted(ends)),
            special[0],
        )


def pad_id(tokenizer: PreTrainedTokenizerBase, ends: set[int], rows: int) -> int:
    """The padding token. Its value has no effect, because padding is never read.

    Args:
        tokenizer: the tokenizer, whose padding token is used if it has one that the model embeds.
        ends: the end tokens; otherwise one of these is used.
        rows: number of tokens that the model embeds.
    """
    own = tokenizer.pad_token_id
    return int(own if own is not None and own < rows else min(ends, default=0))
