"""Options of a policy: temperature, limits, prompts and ways of scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmrl.errors import PolicyError


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """Options of a policy.

    >>> PolicyOptions(instruction="Put the final answer in \\\\boxed{}.").temperature
    1.0
    """

    temperature: float = 1.0
    """Sampling temperature; scores use the same temperature."""
    max_prompt_length: int = 1024
    """Maximum number of tokens of a prompt. Longer prompts are refused, never cut. The limit is lowered if the model's
    context has no room for such a prompt and a response."""
    max_response_length: int = 256
    """Maximum number of tokens after the prompt: of one response, or of all responses and replies of an episode."""
    chat_template: str | None = "auto"
    """``"auto"``: the tokenizer's if it has one; None: ``prompt_template``; else the name of one of the tokenizer's
    templates, or the path of a Jinja file."""
    prompt_template: str = "{problem}"
    """Form of the prompt without a chat template."""
    system_prompt: str | None = None
    """System message before the first problem; needs a chat template."""
    instruction: str | None = None
    """Text after each problem, after an empty line, such as: Put the final answer in \\\\boxed{}."""
    template_arguments: Mapping[str, Any] | None = None
    """Arguments of the chat template, such as ``{"enable_thinking": False}``."""
    packing: bool = False
    """Score several responses in one row, without padding; a model that cannot separate them is refused."""
    share_prompts: bool = True
    """Compute a prompt once for all its responses in scoring, if the model supports that and it saves enough. Not
    possible with packing or gradient checkpointing."""
    fast_cpu: bool = True
    """On a CPU, sample with repacked weights and attention for one token at a time; the result is equal to rounding."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise PolicyError(f"temperature must be greater than 0, got {self.temperature}.")
