"""A two-layer language model and a byte tokenizer, made offline: what every test that needs one uses."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmrl.policies.policy import Policy

PAD, END, STOP, USER, MODEL = SPECIAL = ("<|pad|>", "<|end|>", "<|stop|>", "<|user|>", "<|model|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}" + USER + "{% else %}" + MODEL + "{% endif %}"
    "{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}" + MODEL + "{% endif %}"
)


SMALLEST = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
"""A model of one layer, for tests that make many steps."""


def tiny_tokenizer(*, pad: str | None = PAD, chat: bool = True) -> PreTrainedTokenizerFast:
    """A token for each byte after the five special ones; ``pad=END`` makes pad and end the same."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *alphabet))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        eos_token=END,
        additional_special_tokens=[STOP, USER, MODEL],
        clean_up_tokenization_spaces=False,
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_model(*, seed: int = 0, sharpness: float = 10.0, **config: object) -> LlamaForCausalLM:
    """Random weights.

    Args:
        sharpness: their standard deviation in units of transformers' own. By default they are so large
            that attention, positions and layers show in every logit; 1.0 samples almost uniformly.
    """
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 261,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "initializer_range": 0.02 * sharpness,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **config})).eval()


def tiny_folder(folder: Path, *, pad: str | None = PAD, chat: bool = True, **config: object) -> Path:
    """A checkpoint that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load."""
    tiny_model(**config).save_pretrained(folder)  # type: ignore[arg-type]
    tiny_tokenizer(pad=pad, chat=chat).save_pretrained(folder)
    return folder


def tiny_policy(
    *,
    pad: str | None = PAD,
    chat: bool = True,
    temperature: float = 1.0,
    max_prompt_length: int = 128,
    max_response_length: int = 16,
    packing: bool = False,
    **config: object,
) -> Policy:
    """A policy without files."""
    return Policy(
        tiny_model(**config),  # type: ignore[arg-type]
        tiny_tokenizer(pad=pad, chat=chat),
        temperature=temperature,
        max_prompt_length=max_prompt_length,
        max_response_length=max_response_length,
        packing=packing,
    )


def seeds_of(rows: Sized, seed: int = 0) -> list[int]:
    """A seed for each row."""
    return [1000 * seed + row for row in range(len(rows))]
