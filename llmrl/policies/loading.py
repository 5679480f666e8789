"""Loading of a model and its tokenizer by name, with an early and clear error if that cannot work.

:mod:`llmrl.policies.policy` uses the model.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import torch

from llmrl.envs.hub import NAME
from llmrl.errors import PolicyError
from llmrl.policies.adapters import LoraOptions, add_adapters, base_of, has_adapters, load_adapters
from llmrl.policies.foreign import failing_as
from llmrl.policies.scoring.head import Head
from llmrl.registry import suggest
from llmrl.text import DamagedFile, one_line, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NANO = "llmrl/nano"
EMBEDDED: Mapping[str, Path] = {
    NANO: Path(__file__).parent / "nano" / "checkpoint",
    **{
        f"llmrl/{name}": Path(__file__).parent / "nano" / "tasks" / name
        for name in ("nano-carry", "nano-countdown", "nano-guess")
    },
}
"""The policies that come with llmrl, by name."""
MOST_PARTS = 10_000
"""Maximum number of layers or experts of a model."""
OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""Settings of what a model returns, which a file may have otherwise."""
log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def local_folder(name: str) -> Path | None:
    """The folder of a policy's name; None for an id of the Hugging Face hub.

    For the folder of a run it is the newest checkpoint.

    >>> local_folder("llmrl/nano").name
    'checkpoint'
    >>> local_folder("Qwen/Qwen2.5-0.5B-Instruct") is None
    True
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    path = Path(name).expanduser()
    if not path.is_dir():
        return None
    newest = path / "latest"
    return newest if (newest / "config.json").is_file() and not (path / "config.json").exists() else path


def on_hub(name: str) -> bool:
    """Whether a policy's name is an id of the Hugging Face hub.

    >>> on_hub("Qwen/Qwen2.5-0.5B-Instruct"), on_hub("llmrl/nano"), on_hub("/models/base")
    (True, False, False)
    """
    return NAME.fullmatch(name) is not None and local_folder(name) is None


def locate(name: str) -> tuple[str, bool]:
    """Check that this name has a causal language model, before weights are loaded.

    Args:
        name: a folder, an embedded policy such as ``llmrl/nano``, or an id of the hub.

    Returns:
        The argument of ``from_pretrained``, and whether to use only local files.

    Raises:
        PolicyError: there is no such model, or the hub cannot be reached.
    """
    if not name:
        raise PolicyError(f"The policy's name is empty. Give a folder, a hub id or {NANO}.")
    folder = local_folder(name)
    if folder is not None:
        _check_folder(name, folder)
        return str(folder), True
    if name.startswith("llmrl/"):
        raise PolicyError(f"No embedded policy is called {name!r}. {suggest(name, EMBEDDED)}")
    _refuse_missing_path(name)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        local = True
    except (OSError, ValueError):
        _check_hub(name)
        local = False
        try:
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # the hub's library can raise any error for an answer that it does not expect
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PolicyError(
                f"The hub gives no model {name!r}: {reason} Check the id; a model that is gated needs a login first."
            ) from error
    _check_type(name, config.model_type, getattr(config, "auto_map", None))
    return name, local


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


def _refuse_missing_path(name: str) -> None:
    """Whether a name is an id of the hub, ``name`` or ``owner/name``; other names are missing paths."""
    path = Path(name).expanduser()
    beside_others = path.parent != Path() and path.parent.is_dir()
    explicit = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not (explicit or path.exists() or beside_others):
        return
    if path.is_file():
        raise PolicyError(f"The policy {name!r} is a file. Give the folder that holds config.json and the weights.")
    parent = path.parent
    if parent.is_dir():
        there = [entry.name for entry in parent.iterdir() if entry.is_dir()]
        hint = f"Folders in {str(parent)!r}: {suggest(path.name, there)}"
    else:
        hint = f"Its parent {parent} does not exist either."
    raise PolicyError(f"The policy folder {name!r} does not exist. {hint}")


def _check_folder(name: str, folder: Path) -> None:
    file = folder / "config.json"
    if not file.is_file():
        if name in EMBEDDED:
            raise PolicyError(
                f"The embedded policy {name} is not in this installation (no {file}). Install llmrl "
                "from its wheel, or give another --policy."
            )
        raise PolicyError(
            f"The folder {name!r} holds no config.json, so it is not a Hugging Face checkpoint. It holds: "
            f"{', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}."
        )
    for path in folder.iterdir():
        if path.exists() and not path.is_file() and not path.is_dir():  # to open it would wait
            raise PolicyError(
                f"{path} is a pipe, a socket or a device, where a file of a model is expected. Remove it."
            )
    try:
        config = read_json(file)
    except DamagedFile as error:
        raise PolicyError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise PolicyError(f"{file} holds no settings of a model. Give the folder of a Hugging Face checkpoint.")
    _check_type(name, config.get("model_type"), config.get("auto_map"))
    _check_size(file, config)


def _check_size(file: Path, config: dict[str, Any]) -> None:
    """Refuse an impossible number of layers or experts; shapes are compared with the weights later."""
    for settings in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key, value in settings.items():
            if isinstance(value, int) and value > MOST_PARTS and ("layer" in key or "expert" in key):
                given = one_line(str(value), 40)
                raise PolicyError(f"{file}: {key} is {given}; no model has more than {MOST_PARTS}.")


def _check_type(name: str, model_type: Any, auto_map: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if isinstance(model_type, str) and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    extra = (
        " It brings code of its own, which llmrl does not run; save it in a form that transformers knows."
        if auto_map
        else ""
    )
    raise PolicyError(
        f"The policy {name!r} is a {model_type or 'model of unnamed type'}, not a causal language model "
        f"that transformers can load.{extra} Give one such as Qwen/Qwen2.5-0.5B-Instruct."
    )


def _check_hub(name: str) -> None:
    """Raise at once if the hub cannot be reached; its client would try for minutes."""
    way_out = f"Download it elsewhere and give its folder, or use --policy {NANO}."
    if any(
        os.environ.get(flag, "").lower() not in ("", "0", "false", "no", "off")
        for flag in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    ):
        raise PolicyError(
            f"The policy {name!r} is not a folder and not in the local cache, and HF_HUB_OFFLINE forbids "
            f"asking the hub. {way_out}"
        )
    target = next(
        (value for flag in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT") if (value := os.environ.get(flag))),
        "https://huggingface.co",
    )
    parts = urlparse(target)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise PolicyError(
            f"The policy {name!r} is not a folder and not in the local cache, and the hub cannot be "
            f"reached ({parts.hostname}: {error}). {way_out}"
        ) from error
