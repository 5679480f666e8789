"""Parts of a run that exist already as objects, and what the record of the run says of them.

An object has no options in the settings. What is true of it is read off it, so that ``config.yaml``, the start report,
the page and the card never show a default that was not used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, make_dataclass
from typing import Any

from llmrl.algorithms import Algorithm
from llmrl.errors import ConfigError
from llmrl.policies import adapters
from llmrl.policies.policy import Policy
from llmrl.rollouts.environments import Environments
from llmrl.training.config import Config, PolicyConfig, plain_value

ORIGIN = "given as an object"
"""Origin of a setting that was read from an object."""
OBJECT = "an object of type"
"""Beginning of the text by which a record names an object, such as rows of data."""


@dataclass(frozen=True)
class Given:
    """Parts of a run that exist already, in place of those that the settings name."""

    policy: Policy | None = None
    algorithm: Algorithm | None = None
    environments: Environments | None = None
    held_out: Environments | None = None


def describe(config: Config, given: Given) -> None:
    """Put into the settings what is true of the parts that are given.

    Args:
        config: the resolved settings; changed in place.
        given: the parts.

    Raises:
        ConfigError: the settings ask for another way of scoring than the policy's own.
    """
    if given.policy is not None:
        _describe_policy(config, given.policy)
    if given.algorithm is not None:
        config.algo = make_dataclass("GivenAlgorithm", [("name", str)])(given.algorithm.name)
        config.origins["algo.name"] = ORIGIN
    if given.environments is not None:
        options = {name: _plainly(value) for name, value in given.environments.options.items() if name != "id"}
        fields = {"id": given.environments.env_id, **options}
        config.env = make_dataclass("GivenEnvironment", [(name, object) for name in fields])(**fields)
        config.origins |= {f"env.{name}": ORIGIN for name in fields}
    if given.held_out is not None:
        config.eval.env = given.held_out.title
        config.origins["eval.env"] = ORIGIN


def _describe_policy(config: Config, policy: Policy) -> None:
    for name in ("packing", "share_prompts"):
        value = getattr(policy.options, name)
        if f"train.{name}" in config.origins and getattr(config.train, name) != value:
            raise ConfigError(
                f"train.{name} is for a policy that is given by its name. A Policy has its own; make it with {name}="
                f"{not value}."
            )
        if getattr(config.train, name) != value:
            setattr(config.train, name, value)
            config.origins[f"train.{name}"] = ORIGIN
    config.policy = policy_settings(policy)
    for field in dataclasses.fields(PolicyConfig):
        value, usual = getattr(config.policy, field.name), getattr(PolicyConfig(), field.name)
        if field.name == "path" or value != usual:
            config.origins[f"policy.{field.name}"] = ORIGIN


def policy_settings(policy: Policy) -> PolicyConfig:
    """The options with which a policy of this kind is made by name, as far as the object tells them."""
    options, model = policy.options, policy.model
    made = PolicyConfig(
        path=model.config.name_or_path or type(model).__name__,
        device=str(policy.device),
        temperature=policy.temperature,
        max_prompt_length=policy.max_prompt_length,
        max_response_length=policy.max_response_length,
        chat_template=options.chat_template,
        prompt_template=options.prompt_template,
        system_prompt=options.system_prompt,
        instruction=options.instruction,
        template_arguments=dict(options.template_arguments or {}),
        attn_implementation=model.config._attn_implementation,
        fast_cpu=options.fast_cpu,
        gradient_checkpointing=model.is_gradient_checkpointing,
    )
    # Types and engines may be others than those that a name can ask for.
    dtype: Any = str(model.dtype).removeprefix("torch.")
    made.dtype = dtype
    if policy.engine is not None:
        made.engine = type(policy.engine).__name__
    if adapters.has_adapters(model):
        used = model.peft_config[model.active_adapter]
        made.lora_rank, made.lora_alpha = used.r, float(used.lora_alpha)
        targets = used.target_modules
        made.lora_targets = (targets,) if isinstance(targets, str) else tuple(sorted(targets))
    return made


def _plainly(value: Any) -> Any:
    """An option of an environment as a record holds it: as it is where that is plain, otherwise by its type.

    >>> _plainly((1, 2)), _plainly([{"problem": "1 + 1"}])
    ([1, 2], 'an object of type list')
    """
    plain = plain_value(value)
    parts = plain if isinstance(plain, list) else plain.values() if isinstance(plain, Mapping) else [plain]
    if all(part is None or isinstance(part, (str, int, float)) for part in parts):
        return plain
    return f"{OBJECT} {type(value).__name__}"
