"""A policy's checkpoint for others: a folder that transformers loads, written at the end and tried at the beginning."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.errors import PolicyError
from llmrl.policies import adapters
from llmrl.policies.saving import usual_mode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRIED_BYTES = 1 << 27
"""Weights of more bytes than these are not written on trial."""


def save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    With adapters, the weights are those with adapters merged in float32, and ``adapter`` inside the folder holds the
    adapters as they are.

    Args:
        model: with or without adapters.
        tokenizer: its tokenizer.
        folder: made if it is missing.
    """
    if adapters.has_adapters(model):
        adapters.save(model, folder, model.config.name_or_path)
        usual_mode(*(folder / adapters.FOLDER).glob("*.safetensors"))
    else:
        model.save_pretrained(folder)
    usual_mode(*folder.glob("*.safetensors"))
    tokenizer.save_pretrained(folder)
    return folder


def try_saving(model: Any, tokenizer: PreTrainedTokenizerBase, name: str, write: Callable[[str], object]) -> None:
    """Save into a folder that is removed again: what cannot be saved is known before the first step.

    Args:
        model: weights of more than :data:`TRIED_BYTES` are left out.
        tokenizer: its tokenizer.
        name: what the message calls the model.
        write: saves everything into a folder.

    Raises:
        PolicyError: it cannot be saved.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            if sum(p.nbytes for p in model.parameters()) <= TRIED_BYTES:
                write(folder)
            else:
                tokenizer.save_pretrained(folder)
                model.config.save_pretrained(folder)
                if model.generation_config is not None:
                    model.generation_config.save_pretrained(folder)
        except Exception as error:  # whatever a model or tokenizer makes of being saved
            raise PolicyError(
                f"{name} cannot be saved, so a run would have no checkpoint: {type(error).__name__}: {error}"
            ) from error
