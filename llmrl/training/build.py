"""The objects of a run: environments, policy, critic, reference, algorithm, put together into a trainer."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm, tis
from llmrl.credit import smallest_group
from llmrl.distributed.world import World
from llmrl.envs.text import TextEnv
from llmrl.envs.wrappers import PartNameTaken, reward_wrapper
from llmrl.errors import ConfigError, UserError
from llmrl.losses.correction import weighs
from llmrl.policies.adapters import base_of
from llmrl.policies.critic import Critic
from llmrl.policies.limits import context_length
from llmrl.policies.policy import LoraOptions, Policy, local_folder
from llmrl.policies.prompts import json_or_text
from llmrl.policies.sampling.beside import EngineOfRank
from llmrl.rollouts.environments import Environments, not_held_out
from llmrl.training import checkpoint
from llmrl.training.command_line import DATA_ENV
from llmrl.training.config import Config, PolicyConfig, TrainConfig
from llmrl.training.given import Given
from llmrl.training.options import env_class, refuse_unknown_options
from llmrl.training.trainer import Trainer


def build(
    config: Config, start: Path | None = None, given: Given | None = None, world: World | None = None
) -> tuple[Trainer, Environments]:
    """The trainer and the held-out environments of a run.

    Args:
        config: the resolved settings.
        start: a checkpoint whose weights the policy takes.
        given: parts that are not to be made.
        world: the ranks that train together; policy, critic and reference are spread over them.

    Raises:
        ConfigError: a part cannot be made, or does not fit the others.
    """
    given, world = given or Given(), world or World()
    settings = dataclasses.replace(config.policy, device=world.local_device(config.policy.device))
    limit = (given.policy or config.policy).max_response_length
    recipe = _corrected(_resolved(given.algorithm or _algorithm(config.algo), limit), config.train)
    _check_group_size(config.train, recipe, config.filter.visits)
    _check_rescore(config.train, recipe)
    _check_reward(config, recipe)
    # Data that cannot be read should stop us before a model is loaded.
    environments, held_out = _problems(config, given)
    for made in (environments, held_out):
        made.time_limit = config.train.env_timeout or None
    # A checkpoint of adapters holds them merged into the weights; they go back onto the model they
    # were made for, from the trainer's own state.
    adapted = config.policy.lora_rank > 0 or base_of(local_folder(settings.path) or Path()) is not None
    fresh = start is None or adapted or (start / checkpoint.SHARDS).is_dir()
    policy = given.policy or _load_policy(settings, config.train, settings.path if fresh else str(start))
    _check_eval_length(config.eval.max_response_length, policy)
    critic = Critic.from_policy(policy) if keys.VALUE in recipe.in_keys else None
    reference = None
    if keys.REF_LOG_PROB in recipe.in_keys:
        again = start is not None and given.policy is None
        reference = _load_policy(settings, config.train, settings.path) if again else copy.deepcopy(policy)
        reference.requires_grad_(False)
        reference.shard(world, sample=False)
    if critic is not None:
        critic.shard(world, policy)
    policy.shard(world)
    if given.policy is None:
        _attach_engine(settings, policy, world)
    if config.train.ahead and policy.engine is None:
        policy.sample_from_copy(world)
    return Trainer(config, policy, recipe, environments, critic, reference, world=world), held_out


def _algorithm(section: Any) -> Algorithm:
    options = {k: v for k, v in vars(section).items() if k != "name"}
    try:
        return algorithm(section.name, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--algo {section.name}: {error}") from error


def _resolved(recipe: Algorithm, limit: int) -> Algorithm:
    try:
        return recipe.resolve(limit)
    except ValueError as error:
        raise ConfigError(f"--policy.max-response-length {limit}, with {recipe.name}: {error}") from error


def _check_reward(config: Config, recipe: Algorithm) -> None:
    if config.reward and any(keys.REWARD in loss().prepared_from for loss in recipe.terms):
        raise ConfigError(
            f"{recipe.name} imitates responses of reward 1 or more (positive_nll), and --reward changes the reward of "
            "correct and of wrong ones. Leave one out."
        )


def _corrected(recipe: Algorithm, train: TrainConfig) -> Algorithm:
    """The recipe with a weight against responses of older weights, where sampling is ahead of training."""
    if not (train.ahead and train.ahead_correction) or any(map(weighs, recipe.corrections)):
        return recipe
    if not train.rescore:
        raise ConfigError(
            "--train.ahead 1 weighs tokens by the gap between sampler and scorer, which --train.no-rescore leaves "
            "unknown. Leave one out, or give --train.no-ahead-correction."
        )
    return tis(base=lambda: recipe)


def _problems(config: Config, given: Given) -> tuple[Environments, Environments]:
    """Environments to train on, and those to evaluate on; a remark says which of their problems are not held out."""
    environments, evaluation = _both(config, given)
    evaluation.remark = not_held_out(environments, evaluation)
    return environments, evaluation


def _both(config: Config, given: Given) -> tuple[Environments, Environments]:
    options = {k: v for k, v in vars(config.env).items() if k != "id"}
    try:
        environments = given.environments or _environments(config.env.id, options, config.reward)
    except ConfigError as error:
        raise ConfigError(f"{error}{_from_files(config, 'env.')}") from error
    if given.environments is not None and config.reward:
        environments = given.environments.wrapped(_parts(config.reward))
    if given.held_out is not None:
        return environments, given.held_out
    if config.eval.env is not None and config.eval.data is not None:
        raise ConfigError("--eval.env and --eval.data both say what to evaluate on. Give one.")
    if config.eval.env is not None:
        return environments, held_out_environments(config.eval.env, {})
    if config.eval.data is not None:
        return environments, _evaluation_data(config.eval.data, options if config.env.id == DATA_ENV else {})
    if given.environments is None:
        return environments, held_out_environments(config.env.id, options)
    try:
        held_out = given.environments.held_out()
        held_out.of_size(1)
    except (OSError, ValueError, TypeError, LookupError, ImportError) as error:
        raise ConfigError(f"env: {error}") from error
    return environments, held_out


def _evaluation_data(source: str, options: dict[str, Any]) -> Environments:
    """A data set to evaluate on: all of a file, what is called test of a folder or a data set of the hub."""
    whole = Path(source).expanduser().is_file()
    options = {k: v for k, v in options.items() if k not in ("test_share", "subset", "name", "subjects", "levels")}
    return _environments(DATA_ENV, {**options, "source": source, "split": "all" if whole else "test"})


def resolve(config: Config) -> None:
    """Put into the settings what an automatic choice of the environment comes to.

    Raises:
        ConfigError: it comes to generated problems, which are for llmrl/nano, and another model is to learn them.
    """
    thing = env_class(config.env.id)
    if not isinstance(thing, type) or not issubclass(thing, TextEnv):
        return
    given = {k: v for k, v in vars(config.env).items() if k != "id"}
    fixed = gymnasium.spec(config.env.id.rpartition(":")[2]).kwargs
    try:
        resolved = thing.resolve({**fixed, **given})
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"--env {config.env.id}: {error}{_from_files(config, 'env.')}") from error
    for name, value in given.items():
        if resolved[name] != value:
            setattr(config.env, name, resolved[name])
    if given.get("source") == "auto" and resolved["source"] == "generated" and config.policy.path != PolicyConfig.path:
        raise ConfigError(
            f"--env {config.env.id}: MATH is neither in LLMRL_DATA nor available from the hub, so generated problems "
            f"would be asked, and they are made for {PolicyConfig.path}. Give --env.source generated to train "
            f"{config.policy.path} on them anyway, or --data with a data set of your own."
        )


def _from_files(config: Config, prefix: str) -> str:
    """Names the settings that come from files, since the user did not type what the error is about."""
    typed = "command line"
    named = [k for k, o in config.origins.items() if k.startswith(prefix) and o != typed]
    if not named:
        return ""
    files = ", ".join(sorted({config.origins[key] for key in named}))
    return f" (From {files}: {', '.join(named)}. The command line wins over it.)"


def held_out_environments(env_id: str, options: dict[str, Any]) -> Environments:
    """The test problems of an environment that has a split; ``options`` may name another one."""
    if "split" in inspect.signature(env_class(env_id)).parameters:
        options = {"split": "test", **options}
    return _environments(env_id, options)


def _parts(rewards: Sequence[str]) -> list[Callable[[gymnasium.Env], gymnasium.Env]]:
    try:
        return [reward_wrapper(text) for text in rewards]
    except UserError as error:
        raise ConfigError(f"--reward: {error}") from error


def _environments(env_id: str, options: dict[str, Any], rewards: Sequence[str] = ()) -> Environments:
    refuse_unknown_options(env_id, options)
    environments = Environments(env_id, options, wrappers=_parts(rewards))
    try:
        environments.of_size(1)
    except PartNameTaken as error:
        raise ConfigError(f"--reward: {error}") from error
    except (OSError, ValueError, TypeError, LookupError, ImportError) as error:
        raise ConfigError(f"--env {env_id}: {error}") from error
    return environments


def _load_policy(settings: PolicyConfig, train: TrainConfig, path: str) -> Policy:
    return Policy.from_pretrained(
        path,
        dtype=settings.dtype,
        device=settings.device,
        temperature=settings.temperature,
        max_prompt_length=settings.max_prompt_length,
        max_response_length=settings.max_response_length,
        chat_template=settings.chat_template,
        prompt_template=settings.prompt_template,
        system_prompt=settings.system_prompt,
        instruction=settings.instruction,
        template_arguments={key: json_or_text(value) for key, value in settings.template_arguments.items()},
        lora=_adapters(settings),
        attn_implementation=settings.attn_implementation,
        fast_cpu=settings.fast_cpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        packing=train.packing,
        share_prompts=train.share_prompts,
    )


def _adapters(settings: PolicyConfig) -> LoraOptions | None:
    if not settings.lora_rank:
        return None
    alpha = 2.0 * settings.lora_rank if settings.lora_alpha is None else settings.lora_alpha
    return LoraOptions(rank=settings.lora_rank, alpha=alpha, targets=settings.lora_targets)


def _attach_engine(settings: PolicyConfig, policy: Policy, world: World) -> None:
    if settings.engine == "transformers":
        return
    try:
        from llmrl.policies.sampling.vllm import VLLM
    except ImportError as error:
        advice = f"--policy.engine {settings.engine} needs {error.name}: pip install 'llmrl[serve]'"
        raise ConfigError(advice) from error

    whole = None
    if world.size > 1:  # all continue together when every server has the weights
        whole = policy.whole or policy.sample_from_copy(world)
        whole.model.to("cpu")  # nothing samples from it
    engine = VLLM(
        policy.model if whole is None else whole.model,
        max_length=policy.max_prompt_length + policy.max_response_length,
        url=None if settings.engine == "vllm" else settings.engine,
        cache_gib=settings.engine_cache,
        sleep=settings.engine_sleep,
        version=policy.version,
        run=world.from_main(lambda: uuid.uuid4().hex),
        share=(world.rank, world.size),
    )
    policy.engine = engine if whole is None else EngineOfRank(whole, engine)


def _check_eval_length(limit: int | None, policy: Policy) -> None:
    context = context_length(policy.model.config)
    if limit is not None and context is not None and policy.max_prompt_length + limit > context:
        raise ConfigError(
            f"--eval.max-response-length {limit}: the model's context has {context} tokens, and prompts may have "
            f"{policy.max_prompt_length}. Give a smaller one of the two limits."
        )


def _check_group_size(train: TrainConfig, recipe: Algorithm, visits: int) -> None:
    needed = smallest_group(recipe.credit.advantage)
    if train.group_size < needed:
        raise ConfigError(
            f"--train.group-size {train.group_size}: {recipe.name} compares the responses to one problem "
            f"with each other and needs at least {needed} of them. Give --train.group-size {max(needed, 8)}, or an "
            "algorithm with a critic (--algo ppo)."
        )
    if visits and needed == 1:
        raise ConfigError(
            f"--filter.visits {visits}: {recipe.name} learns from groups of equal rewards too, which the filter passes "
            "over. Leave it out."
        )


def _check_rescore(train: TrainConfig, recipe: Algorithm) -> None:
    reasons = {
        keys.OLD_ENTROPY: "reads entropies, which only scoring tells",
        keys.SAMPLER_LOG_PROB: "weighs by the gap between sampler and scorer, which would be 0",
    }
    for key, reason in reasons.items():
        if not train.rescore and key in recipe.in_keys:
            raise ConfigError(f"--train.no-rescore: {recipe.name} {reason}. Leave it out.")
    if train.drift and not train.rescore:
        raise ConfigError(
            "--train.drift compares with old entropies, which only scoring tells. Leave out --train.no-rescore."
        )
