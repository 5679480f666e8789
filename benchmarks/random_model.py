"""Write a random model of SmolLM2-135M's sizes, with the embedded policy's tokenizer: for measurements of time.

python benchmarks/random_model.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llmrl.policies.policy import Policy

SIZES = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
"""Of SmolLM2-135M, from its public configuration: 134.5 M parameters."""


def random_model(folder: Path) -> Path:
    """Write the model with the embedded policy's tokenizer, which has fewer words than the model."""
    torch.manual_seed(0)
    nano = Policy.from_pretrained("llmrl/nano")
    ids = {name: getattr(nano.model.config, name) for name in ("pad_token_id", "eos_token_id", "bos_token_id")}
    LlamaForCausalLM(LlamaConfig(**SIZES, **ids)).save_pretrained(folder)
    nano.tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(random_model(Path(sys.argv[1])))
