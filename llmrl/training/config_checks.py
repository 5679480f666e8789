"""Checks of the values of settings, alone and together, before anything is loaded."""

from __future__ import annotations

import math

from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.text import one_line
from llmrl.training.config import Config, CurriculumConfig, FilterConfig, PolicyConfig

MOST_RESPONSES = 1_000_000
"""Maximum number of responses of a step, which are held in memory."""


def check_config(config: Config) -> None:
    """Refuse settings that would fail later."""
    train, policy = config.train, config.policy
    positive = {
        "train.steps": train.steps,
        "train.prompts_per_step": train.prompts_per_step,
        "train.group_size": train.group_size,
        "train.updates_per_step": train.updates_per_step,
        "train.epochs": train.epochs,
        "train.micro_batch_tokens": train.micro_batch_tokens,
        "policy.max_response_length": policy.max_response_length,
        "policy.temperature": policy.temperature,
        "train.max_grad_norm": train.max_grad_norm,
        "train.max_bad_steps": train.max_bad_steps,
        "train.max_lost_steps": train.max_lost_steps,
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep,
        "eval.batch": config.eval.batch,
        **({} if config.threads is None else {"threads": config.threads}),
        **({} if config.eval.temperature is None else {"eval.temperature": config.eval.temperature}),
    }
    not_negative = {
        "train.learning_rate": train.learning_rate,
        "train.critic_learning_rate": train.critic_learning_rate,
        "train.weight_decay": train.weight_decay,
        "train.warmup_steps": train.warmup_steps,
        "train.critic_warmup_steps": train.critic_warmup_steps,
        "eval.problems": config.eval.problems,
        "eval.samples": config.eval.samples,
        "eval.every": config.eval.every,
        "checkpoint.export_every": config.checkpoint.export_every,
        "checkpoint.rollouts_every": config.checkpoint.rollouts_every,
    }
    for name, value in positive.items():
        if not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be greater than 0, got {value}.")
    for name, value in not_negative.items():
        if not value >= 0:
            raise ConfigError(f"--{name.replace('_', '-')} must be 0 or more, got {value}.")
    for name, value in {**not_negative, "policy.temperature": policy.temperature}.items():
        if not math.isfinite(value):
            raise ConfigError(f"--{name.replace('_', '-')} must be a finite number, got {value}.")
    if not -(2**63) <= config.seed < 2**63:
        raise ConfigError(f"--seed must be a whole number of 64 bits, got {one_line(str(config.seed), 80)}.")
    if not all(0 <= beta < 1 for beta in train.adam_betas):
        raise ConfigError(f"--train.adam-betas must be from 0 to below 1, got {train.adam_betas}.")
    if train.packing and policy.gradient_checkpointing:
        raise ConfigError("--train.packing and --policy.gradient-checkpointing do not go together. Leave one out.")
    if train.ahead not in (0, 1):
        raise ConfigError(
            f"--train.ahead must be 0 or 1 (steps that sampling is ahead of training), got {train.ahead}."
        )
    if train.ahead and policy.engine_sleep:
        raise ConfigError(
            "--train.ahead 1 samples during the update, but --policy.engine-sleep frees the engine's memory then. "
            "Leave one out."
        )
    if train.env_timeout < 0:
        raise ConfigError(f"--train.env-timeout must be 0 or more seconds, got {train.env_timeout}.")
    if train.max_mismatch is not None and not train.max_mismatch >= 0:
        raise ConfigError(f"--train.max-mismatch must be 0 or more nats, got {train.max_mismatch}; 0 is no limit.")
    evaluation = config.eval
    if config.checkpoint.keep_best == "eval/greedy" and not (evaluation.every and evaluation.problems):
        raise ConfigError(
            "--checkpoint.keep-best eval/greedy needs evaluations during training, got --eval.every "
            f"{evaluation.every} and --eval.problems {evaluation.problems}. Give --eval.every "
            f"{config.checkpoint.every}, or --checkpoint.keep-best reward/accuracy."
        )
    rows = train.prompts_per_step * train.group_size
    if rows > MOST_RESPONSES:
        raise ConfigError(
            f"--train.prompts-per-step {train.prompts_per_step} with --train.group-size {train.group_size} are {rows} "
            f"responses a step, and at most {MOST_RESPONSES} can be held. Give smaller numbers."
        )
    if train.updates_per_step > rows:
        raise ConfigError(
            f"--train.updates-per-step {train.updates_per_step} cannot share the {rows} responses of a step "
            f"({train.prompts_per_step} prompts x {train.group_size}). Give at most {rows}."
        )
    if policy.temperature < 0.05:
        raise ConfigError(
            f"--policy.temperature {policy.temperature} is almost greedy: importance ratios at this temperature "
            "overflow. Sample at 0.05 or more."
        )
    _check_engine(policy)
    _check_selection(config.curriculum, config.filter)


def _check_engine(policy: PolicyConfig) -> None:
    engines = ("transformers", "vllm")
    if policy.engine not in engines and not policy.engine.startswith(("http://", "https://")):
        raise ConfigError(
            f"No engine is called {policy.engine!r}. {suggest(policy.engine, engines)} Or give the address of one that "
            "llmrl serve started: http://HOST:PORT."
        )
    if policy.engine == "transformers" and (policy.engine_sleep or policy.engine_cache is not None):
        raise ConfigError(
            "--policy.engine-sleep and --policy.engine-cache are for vLLM. Give --policy.engine vllm too."
        )
    if policy.engine_cache is not None and not policy.engine_cache > 0:
        raise ConfigError(f"--policy.engine-cache must be greater than 0 GiB, got {policy.engine_cache}.")


def _check_selection(curriculum: CurriculumConfig, filtering: FilterConfig) -> None:
    threshold, every = curriculum.threshold, curriculum.every
    if threshold is not None and every is not None:
        raise ConfigError(
            "--curriculum.threshold and --curriculum.every are two ways to admit the next level. Give only one of them."
        )
    if curriculum.start is not None and threshold is None and every is None:
        raise ConfigError(
            "--curriculum.start says where to begin. Also give --curriculum.threshold or --curriculum.every."
        )
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"--curriculum.threshold must be above 0 and at most 1, got {threshold}.")
    for name, value in (("window", curriculum.window), ("every", every)):
        if value is not None and value < 1:
            raise ConfigError(f"--curriculum.{name} must be 1 or more, got {value}.")
    if filtering.visits < 0:
        raise ConfigError(f"--filter.visits must be 0 or more, got {filtering.visits}.")
    if not 0 <= filtering.revisit <= 1:
        raise ConfigError(f"--filter.revisit must be from 0 to 1, got {filtering.revisit}.")
