"""What a policy does with its model: temperature, limits, prompts and ways of scoring."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmrl.errors import PolicyError


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What a policy does with its model.

    >>> PolicyOptions(instruction="Put the final answer in \\\\boxed{}.").temperature
    1.0
    """

    temperature: float = 1.0
    """Of sampling; scores are taken at the same temperature."""
    max_prompt_length: int = 1024
    """Longer prompts are refused, never cut. The limit is smaller where the model's context leaves no room for a
    response behind such a prompt."""
    max_response_length: int = 256
    """The most tokens behind the prompt: of one response, or of all responses and replies of an episode of several
    turns."""
    chat_template: str | None = "auto"
    """``"auto"``: the tokenizer's if it has one; None: ``prompt_template``; else the name of one of the tokenizer's
    templates, or the path of a Jinja file."""
    prompt_template: str = "{problem}"
    """What a prompt looks like without a chat template."""
    system_prompt: str | None = None
    """The message in front of the first problem; needs a chat template."""
    instruction: str | None = None
    """Written behind each problem, after an empty line, such as: Put the final answer in \\\\boxed{}."""
    template_arguments: Mapping[str, Any] | None = None
    """Given to the chat template, such as ``{"enable_thinking": False}``."""
    packing: bool = False
    """Score several responses in one row, without padding; a model that cannot keep them apart is refused."""
    share_prompts: bool = True
    """Score the responses to a prompt behind one pass over the prompt, if the model supports that and it saves enough.
    Not together with packing or gradient checkpointing."""
    fast_cpu: bool = True
    """Sample on a CPU with repacked weights and an attention for one token at a time; the result is the same to
    rounding."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise PolicyError(f"temperature must be greater than 0, got {self.temperature}.")
