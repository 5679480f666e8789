"""Tests of a model's attention and forward passes before they are used; a model that fails them is refused.

:mod:`llmrl.policies.sampling.trial` and :mod:`llmrl.policies.scoring.probing` measure the differences.
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
    """A model's class and its name or folder."""
    return f"{type(model).__name__} {model.config.name_or_path}".rstrip()


def settle_attention(model: Any, longest: int, temperature: float) -> Rounding:
    """Measure the model's rounding, and replace an attention kernel that ignores a setting, such as a soft-cap.

    Args:
        model: a Hugging Face causal language model; if the kernel is not exact, transformers' own attention is set.
        longest: maximum number of tokens of a prompt and its response together.
        temperature: the divisor of the logits.

    Raises:
        PolicyError: the model cannot compute a sequence.
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
    """The forward pass for scoring that the options ask for and that is exact for the model.

    Args:
        model: a Hugging Face causal language model.
        options: whether several responses are scored in one row, and whether a prompt is computed once for its
            responses.
        longest: maximum number of tokens of a prompt and its response together.
        rounding: the model's rounding; smaller differences count as agreement.

    Raises:
        PolicyError: the model cannot be scored exactly, or not with these options.
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
    """Keep a model in evaluation mode, without dropout, except for its layers with gradient checkpointing.

    In evaluation mode those layers would keep their activations.
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
    except Exception as error:  # a model that does not support it can raise any error
        why = f"{type(error).__name__}: {error}"
    finally:
        model.eval()
        for part in training:
            part.training = True
    if why is not None:
        raise PolicyError(
            f"{name_of(model)} cannot be trained with gradient checkpointing: {why.rstrip('.')}. Leave out "
            "--policy.gradient-checkpointing."
        )
