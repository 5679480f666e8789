"""How a model is scored exactly: its attention and its forward pass are tried before they are used.

Decides which models are refused. Gaps are measured in :mod:`llmrl.policies.sampling.trial` and
:mod:`llmrl.policies.scoring.probing`.
"""

from __future__ import annotations

import logging
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from llmrl.errors import PolicyError
from llmrl.policies.options import PolicyOptions
from llmrl.policies.sampling.trial import LONG, Rounding, attention_gap, changes, padded_gap, rounding_of
from llmrl.policies.scoring.forward import ForwardPass
from llmrl.policies.scoring.probing import TOLERANCE, checkpointed_gap, forward_pass_for

log = logging.getLogger(__name__)


def name_of(model: Any) -> str:
    """A model's class and where it is from."""
    return f"{type(model).__name__} {model.config.name_or_path}".rstrip()


def settle_attention(model: Any, longest: int, temperature: float) -> Rounding:
    """Measure the model's rounding, and replace an attention kernel that drops something, such as a soft-cap.

    Args:
        model: a Hugging Face causal language model; transformers' own attention is set where the kernel is not exact.
        longest: the most tokens that a prompt and its response have together.
        temperature: what logits are divided by.

    Raises:
        PolicyError: the model cannot compute a sequence at all.
    """
    try:
        rounding = rounding_of(model, temperature)
        used = model.config._attn_implementation
        if used == "eager":
            return rounding
        try:
            gap = attention_gap(model, longest)
        except (ValueError, NotImplementedError):
            return rounding  # a model with one kernel only
    except RuntimeError as error:
        raise PolicyError(
            f"{name_of(model)} cannot compute a sequence of {LONG} tokens: {error} Its settings do not fit together."
        ) from error
    if not gap <= rounding.tolerance:
        log.warning(
            "%s: attention %r drops something that the model asks for, log-probabilities are off by %.2g nats. "
            "'eager' is used instead.",
            name_of(model),
            used,
            gap,
        )
        model.set_attn_implementation("eager")
    return rounding


def exact_forward_pass(model: Any, options: PolicyOptions, *, longest: int, rounding: Rounding) -> ForwardPass:
    """How responses pass through the model to be scored.

    Args:
        model: a Hugging Face causal language model.
        options: whether several responses are scored in one row, and whether a prompt's responses may be scored behind
            one pass over it.
        longest: the most tokens that a prompt and its response have together.
        rounding: of the model; smaller gaps count as agreement.

    Raises:
        PolicyError: the model cannot be scored exactly, or not as asked.
    """
    name = name_of(model)
    gap = padded_gap(model, longest)
    if not gap <= rounding.tolerance:
        raise PolicyError(
            f"{name}: a sequence's log-probabilities change with the sequences beside it, by {gap:.2g} nats "
            f"(rounding: {rounding.tolerance:.2g}). Its positions or its attention depend on the longest "
            f"sequence of a batch (lengths {changes(model.config)}). Give --policy.max-prompt-length and "
            "--policy.max-response-length that stay below such a length together, or another model."
        )
    if getattr(model, "is_gradient_checkpointing", False):
        _try_checkpointing(model)
    return forward_pass_for(model.get_decoder(), name, packing=options.packing, share_prompts=options.share_prompts)


def set_training(model: nn.Module, mode: bool) -> None:
    """Keep a model in evaluation mode, without dropout, all but its layers with gradient checkpointing.

    Those keep their activations in evaluation mode.
    """
    model.eval()
    for part in model.modules():
        if isinstance(part, GradientCheckpointingLayer):
            part.training = mode and part.gradient_checkpointing


def _try_checkpointing(model: Any) -> None:
    training = [part for part in model.modules() if part.training]
    why: str | None = None
    try:
        gap = checkpointed_gap(model.get_decoder(), lambda mode: set_training(model, mode))
        if not gap <= TOLERANCE.get(model.dtype, 0.1):
            why = f"hidden states or gradients are off by {gap:.2g} of their length"
    except Exception as error:  # whatever a model that was never checkpointed makes of it
        why = f"{type(error).__name__}: {error}"
    finally:
        model.eval()
        for part in training:
            part.training = True
    if why is not None:
        raise PolicyError(
            f"{name_of(model)} cannot be trained with gradient checkpointing: {why}. Leave out "
            "--policy.gradient-checkpointing."
        )
