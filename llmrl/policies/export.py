"""A policy's checkpoint as a folder that transformers loads. Writing it is tested at the start of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.errors import PolicyError
from llmrl.policies import adapters
from llmrl.policies.names import locate
from llmrl.policies.saving import usual_mode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRIED_BYTES = 1 << 27
"""Weights of more bytes are not written in the test."""


def save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write a folder that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

    With adapters, the weights are written with the adapters merged in float32, and ``adapter`` inside the folder holds
    the adapters themselves.

    Args:
        model: a model with or without adapters.
        tokenizer: its tokenizer.
        folder: the folder to write; created if it does not exist.
    """
    if adapters.has_adapters(model):
        adapters.save(model, folder, model.config.name_or_path)
        usual_mode(*(folder / adapters.FOLDER).glob("*.safetensors"))
    else:
        model.save_pretrained(folder)
    _lead_to_class(model, folder)
    usual_mode(*folder.glob("*.safetensors"))
    tokenizer.save_pretrained(folder)
    return folder


def _lead_to_class(model: Any, folder: str | Path) -> None:
    """Change the written settings so that ``AutoModelForCausalLM`` finds the model's class.

    The settings of some models, such as the text half of Emu3, are found only inside the settings of a larger model.
    Then they are written inside the settings of the larger model.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    own = type(model.config)
    if own in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    larger: Any
    for larger in MODEL_FOR_CAUSAL_LM_MAPPING:
        if larger.sub_configs.get("text_config") is own:
            written = own.from_pretrained(folder)
            text = written.to_dict()
            larger(text_config=text, architectures=written.architectures, dtype=written.dtype).save_pretrained(folder)
            return


def try_saving(model: Any, tokenizer: PreTrainedTokenizerBase, name: str, write: Callable[[str], object]) -> None:
    """Save into a temporary folder, so that a model that cannot be saved or loaded is refused early.

    Args:
        model: weights of more than :data:`TRIED_BYTES` are left out.
        tokenizer: its tokenizer.
        name: name of the model in the message.
        write: function that saves everything into a folder.

    Raises:
        PolicyError: the model cannot be saved, or transformers would not find its class.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            if sum(p.nbytes for p in model.parameters()) <= TRIED_BYTES:
                write(folder)
            else:
                tokenizer.save_pretrained(folder)
                model.config.save_pretrained(folder)
                _lead_to_class(model, folder)
                if model.generation_config is not None:
                    model.generation_config.save_pretrained(folder)
            locate(folder)
        except PolicyError as error:
            raise PolicyError(f"{name} can be saved but not loaded again: {error}") from error
        except Exception as error:  # a model or tokenizer can raise any error when it is saved
            raise PolicyError(
                f"{name} cannot be saved, so a run would have no checkpoint: {type(error).__name__}: {error}"
            ) from error
