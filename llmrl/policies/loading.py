"""Loading of a model and its tokenizer by name: weights, adapters, device and generation settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from llmrl.errors import PolicyError
from llmrl.policies.adapters import LoraOptions, add_adapters, base_of, has_adapters, load_adapters
from llmrl.policies.foreign import failing_as
from llmrl.policies.names import local_folder, locate
from llmrl.registry import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""Settings of what a model returns, which a file may have otherwise."""
log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check_is_there(name: str) -> None:
    """Check that the model of this name, or the base model of its adapters, is there, before weights are loaded.

    Raises:
        PolicyError: there is no such model, or the hub cannot be reached.
    """
    folder = local_folder(name)
    base = None if folder is None else base_of(folder)
    locate(name if base is None else base)


def load(
    name: str, *, dtype: torch.dtype, attn_implementation: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in evaluation mode, and its tokenizer; adapters of a folder are added to their base model."""
    from transformers import AutoModelForCausalLM

    folder = local_folder(name)
    base = None if folder is None else base_of(folder)
    if folder is not None and base is not None:
        if base_of(local_folder(base) or Path()) is not None:
            raise PolicyError(f"The adapters in {name!r} name other adapters as their base model: {base!r}.")
        model, tokenizer = load(base, dtype=dtype, attn_implementation=attn_implementation)
        if (folder / "tokenizer_config.json").is_file():  # often with a chat template that the base model lacks
            tokenizer = _tokenizer(name, str(folder), True)
        return load_adapters(model, folder), tokenizer
    source, local = locate(name)
    tokenizer = _tokenizer(name, source, local)
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": local, "trust_remote_code": False, **OUTPUTS}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    with failing_as(f"The weights of {name!r} cannot be loaded"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    model, info = loaded
    for key, found, expected in sorted(info["mismatched_keys"])[:1]:
        raise PolicyError(
            f"The weights of {name!r} do not fit its config.json: {key} has the shape {list(found)}, and "
            f"{list(expected)} by the settings. Save or download both again."
        )
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise PolicyError(
            f"The weights of {name!r} are not complete: {len(missing)} are missing, such as {missing[0]}, and would be "
            "random. Save or download the model again."
        )
    if info["unexpected_keys"]:
        left = sorted(info["unexpected_keys"])
        log.warning(
            "%r: %s weights of its files are not used, such as %s. They belong to a part that this model does not "
            "have; if they do not, its config.json does not fit its weights.",
            name,
            len(left),
            left[0],
        )
    _save_expanded(model, name, source, local)
    return model, tokenizer


def _tokenizer(name: str, source: str, local: bool) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with failing_as(
        f"The policy {name!r} has no tokenizer that transformers can load",
        "Save it beside the model by tokenizer.save_pretrained.",
    ):
        return AutoTokenizer.from_pretrained(source, local_files_only=local, trust_remote_code=False)


def _save_expanded(model: Any, name: str, source: str, local: bool) -> None:
    """Let a model whose quantised weights were expanded at loading be saved with its expanded weights.

    transformers would quantise them again, and write settings that do not say so.
    """
    from transformers import PreTrainedConfig

    settings, _ = PreTrainedConfig.get_config_dict(source, local_files_only=local)
    if "quantization_config" in settings:
        vars(model).pop("_weight_conversions", None)  # the usual names of its class are left
        log.warning("The weights of %r are quantised. They are expanded to %s, and saved so.", name, model.dtype)


def load_for_training(
    name: str,
    *,
    dtype: str | torch.dtype,
    device: str | torch.device | None,
    lora: LoraOptions | None,
    attn_implementation: str | None,
    gradient_checkpointing: bool,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model on its device, with adapters and gradient checkpointing if requested, and its tokenizer.

    The arguments are those of :meth:`llmrl.policies.policy.Policy.from_pretrained`.

    Raises:
        PolicyError: there is no such model, or it cannot be used with these arguments.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise PolicyError(f"dtype {dtype!r} is not known. {suggest(dtype, DTYPES)}")
        dtype = DTYPES[dtype]
    device = device_of(device)
    model: Any
    model, tokenizer = load(name, dtype=dtype, attn_implementation=attn_implementation)
    if lora is not None:
        if has_adapters(model):
            raise PolicyError(f"The policy {name!r} has adapters already: leave out the options of new ones.")
        model = add_adapters(model, lora)
    if gradient_checkpointing:
        try:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            raise PolicyError(f"{error} Leave out --policy.gradient-checkpointing.") from error
    mend_generation_settings(model)
    return model.to(device), tokenizer


def mend_generation_settings(model: Any) -> None:
    """Change generation settings that transformers refuses to save, so that it saves them.

    llmrl reads only the end tokens of these settings.
    """
    settings = model.generation_config
    if settings is None:
        return
    try:
        settings.validate(strict=True)
        return
    except ValueError as error:
        reason = " ".join(str(error).split())
    settings.do_sample = True  # usually sampling is off although there is a temperature
    try:
        settings.validate(strict=True)
        done = "do_sample is now true"
    except ValueError:
        ends = {"eos_token_id": settings.eos_token_id, "pad_token_id": settings.pad_token_id}
        model.generation_config = type(settings)(**ends)
        done = "all but the end tokens are dropped"
    log.warning("The model's generation settings cannot be saved as they are (%s): %s.", reason[:300], done)


def device_of(name: str | torch.device | None) -> torch.device:
    """The device with this name; without a name a GPU if there is one, else the CPU.

    Raises:
        PolicyError: this machine has no device with this name.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PolicyError(
            f"--policy.device {name}: this machine has no such device ({reason}). Give cpu, or leave it out."
        ) from error
    return device
