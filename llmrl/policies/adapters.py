"""Low-rank adapters: adding, loading, saving, and merging into the weights."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from llmrl.errors import PolicyError
from llmrl.policies.foreign import failing_as
from llmrl.text import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOLDER = "adapter"
"""Folder of the adapters inside a checkpoint, next to the merged weights."""

SETTINGS = "adapter_config.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Low-rank adapters: train small matrices in addition to the frozen weights (extra: llmrl[lora])."""

    rank: int = 16
    """Width of the adapters."""
    alpha: float = 32.0
    """The adapters' output is multiplied by alpha / rank."""
    targets: str | tuple[str, ...] = "all-linear"
    """Names of the modules that get adapters; all-linear: every linear layer for token ids, except the head."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise PolicyError(f"The rank of low-rank adapters must be at least 1, got {self.rank}.")
        if not self.alpha > 0:
            raise PolicyError(f"alpha of low-rank adapters must be greater than 0, got {self.alpha}.")


@dataclass(frozen=True)
class Adapted:
    """The parameters that adapters cover."""

    trained: int
    """Parameters of the adapters."""
    covered: int
    """Number of weights that an adapter changes."""
    frozen: int
    """Number of weights that stay frozen."""
    largest_frozen: str
    """Name of the largest frozen part, without numbers; empty if there is none."""

    def __str__(self) -> str:
        share = self.frozen / max(self.frozen + self.covered, 1)
        text = f"{self.trained / 1e6:.2f}M adapter parameters on {self.covered / 1e6:.2f}M weights"
        if self.frozen:
            text += f"; {self.frozen / 1e6:.2f}M ({share:.0%}) stay frozen, most of them in {self.largest_frozen}"
        return text


def add_adapters(model: PreTrainedModel, options: LoraOptions) -> Any:
    """The model with trainable adapters; everything else is frozen.

    Raises:
        PolicyError: peft is missing, or no module has a name of the targets.
    """
    peft = _peft()
    targets: Any = options.targets
    if not isinstance(targets, str):
        targets = targets[0] if len(targets) == 1 and targets[0] == "all-linear" else list(targets)
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=0.0,
        target_modules=targets,
        exclude_modules=_unused(model) or None,
        task_type="CAUSAL_LM",
    )
    try:
        return peft.get_peft_model(model, config)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
        raise PolicyError(
            f"No adapters for targets {options.targets!r}: {error} Give --policy.lora-targets some of: "
            f"{', '.join(sorted(linear))}."
        ) from error


def load_adapters(model: PreTrainedModel, folder: Path) -> Any:
    """The model with the adapters of a folder, trainable."""
    peft = _peft()
    with failing_as(f"The adapters in {str(folder)!r} do not fit their base model"), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")  # they would be as at the start
        return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True)


def check_adapters(model: Any) -> None:
    """Refuse adapters that cannot be merged into the weights, so that a checkpoint would be another model."""
    if not has_adapters(model):
        return
    if not isinstance(model, _peft().PeftModel):
        raise PolicyError(
            f"{type(model).__name__} has adapters inside that only peft's own model can merge. Give the model of "
            "peft.get_peft_model or peft.PeftModel.from_pretrained."
        )
    owners: dict[int, list[str]] = {}
    for name, part in model.named_modules():
        for weight in part.parameters(recurse=False):
            owners.setdefault(id(weight), []).append(name.removeprefix("base_model.model."))
    for part in _layers(model):
        if part.disable_adapters:
            raise PolicyError("The model's adapters are switched off. Call model.base_model.enable_adapter_layers().")
        shared = [owners[id(weight)] for weight in part.base_layer.parameters() if len(owners[id(weight)]) > 1]
        if shared:
            names = " and ".join(name.removesuffix(".base_layer") for name in shared[0][:2])
            raise PolicyError(
                f"Adapters cannot be merged into a weight that two layers have: {names}. Give --policy.lora-targets "
                "that leave out both, or other adapters."
            )


def _layers(model: Any) -> list[Any]:
    """The layers whose weight adapters change by a sum."""
    return [m for m in model.modules() if hasattr(m, "get_delta_weight") and getattr(m, "base_layer", None) is not None]


def added_to(layer: Any) -> Iterator[Tensor]:
    """The matrices that active adapters add to a layer's weight when it is read; none for a layer without adapters."""
    if hasattr(layer, "get_delta_weight") and not layer.merged and not layer.disable_adapters:
        for name in layer.active_adapters:
            if name in layer.lora_A or name in layer.lora_embedding_A:  # another layer may have it
                yield layer.get_delta_weight(name)


def base_of(folder: Path) -> str | None:
    """The base model that a folder of adapters names; None if the folder has no adapters.

    Raises:
        PolicyError: the settings of the adapters name no base model.
    """
    if not (folder / SETTINGS).is_file():
        return None
    try:
        base = read_json(folder / SETTINGS)["base_model_name_or_path"]
    except (ValueError, LookupError, TypeError) as error:
        raise PolicyError(f"{folder / SETTINGS} names no base_model_name_or_path: {error}") from error
    return str(base)


def has_adapters(model: Any) -> bool:
    """Whether the model has adapters of peft."""
    return getattr(model, "peft_config", None) is not None


def adapted(model: Any) -> Adapted:
    """The parameters that the adapters of a model cover."""
    covered: set[int] = set()
    for part in model.modules():
        base = getattr(part, "base_layer", None)
        if isinstance(base, nn.Module):
            covered |= {id(p) for p in base.parameters()}
    frozen: dict[str, int] = {}
    trained = reached = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            trained += parameter.numel()
        elif id(parameter) in covered:
            reached += parameter.numel()
        else:
            kind = ".".join(part for part in name.split(".") if not part.isdigit()).removeprefix("base_model.model.")
            frozen[kind] = frozen.get(kind, 0) + parameter.numel()
    return Adapted(trained, reached, sum(frozen.values()), max(frozen, key=frozen.__getitem__, default=""))


def merged(model: Any, dtype: torch.dtype | None = None) -> Any:
    """The plain model: itself, or a copy in which adapters are merged into the weights.

    The sum is made in float32 and rounded once.

    Args:
        model: with or without adapters.
        dtype: type of the merged weights; None: the model's own.
    """
    if not has_adapters(model):
        return model
    whole = copy.deepcopy(model)
    if model.dtype != torch.float64:
        whole = whole.float()
    return whole.merge_and_unload().to(model.dtype if dtype is None else dtype)


@torch.no_grad()
def lost_in_rounding(model: Any) -> float:
    """The share of the adapters' update that is lost if it is merged into weights of the model's own type.

    Returns:
        The norm of the lost part over the norm of the update; 0 for float32.
    """
    if model.dtype in (torch.float32, torch.float64):
        return 0.0
    lost = whole = 0.0
    for part in _layers(model):
        before = part.base_layer.weight.float()
        for delta in map(Tensor.float, added_to(part)):
            lost += float(((before + delta).to(model.dtype).float() - before - delta).square().sum())
            whole += float(delta.square().sum())
    return (lost / whole) ** 0.5 if whole else 0.0


def save(model: Any, folder: Path, base: str) -> None:
    """Write the merged model in float32, and the adapters themselves into a folder inside.

    Args:
        model: a model with adapters.
        folder: the folder to write.
        base: name of the base model.
    """
    merged(model, dtype=torch.promote_types(model.dtype, torch.float32)).save_pretrained(folder)
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = base
    model.save_pretrained(folder / FOLDER, save_embedding_layers=False)
    lost = lost_in_rounding(model)
    if lost:
        log.info(
            "Adapters: %s holds them as they are. The weights beside it are merged in float32; in %s they would lose "
            "%.0f %% of the update.",
            folder / FOLDER,
            str(model.dtype).removeprefix("torch."),
            100 * lost,
        )


def _unused(model: Any) -> list[str]:
    """Linear layers that are not used for token ids, such as those of an image encoder."""
    used = {id(part) for part in (*model.get_decoder().modules(), model.get_output_embeddings())}
    return [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and id(part) not in used]


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise PolicyError("Low-rank adapters need peft. Install it with: pip install 'llmrl[lora]'") from error
    return peft
