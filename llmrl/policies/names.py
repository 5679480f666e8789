"""Names of policies: the folder or the id of the hub that a name means, checked before any weight is loaded."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from llmrl.envs.hub import NAME
from llmrl.errors import PolicyError
from llmrl.registry import suggest
from llmrl.text import DamagedFile, one_line, read_json

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
