"""Before the first step: a start-up report, and checks that stop a run that could not work."""

from __future__ import annotations

from typing import Any

import torch

from llmrl import keys
from llmrl.errors import ConfigError
from llmrl.policies.foreign import text_of
from llmrl.policies.names import local_folder
from llmrl.rollouts.collect import Rollouts, collect
from llmrl.rollouts.environments import Environments
from llmrl.text import counted, one_line
from llmrl.training import faults
from llmrl.training.config import PROMPT, Config
from llmrl.training.display import Display
from llmrl.training.files import flatten, made_by
from llmrl.training.mismatch import PROBE_EVERY, PROBES, check_start, limit_of
from llmrl.training.trainer import Trainer
from llmrl.training.writer import refuse_without_memory


def introduce(trainer: Trainer, display: Display) -> None:
    """Show the start-up report, and check that the run can work.

    Raises:
        ConfigError: sampler and scorer disagree, or no response of the check could be graded.
    """
    config, policy = trainer.config, trainer.policy
    size = sum(p.numel() for p in policy.model.parameters())
    trained = sum(p.numel() for p in trainer.learner.parameters)
    rows = config.train.prompts_per_step * config.train.group_size
    display.panel("algorithm", str(trainer.algorithm))
    display.settings(config)
    if (said := _another_training(config)) is not None:
        display.note(said)
    problems = trainer.environments.num_problems()
    display.note(
        f"policy     {config.policy.path}: {size / 1e6:.2f}M parameters, {trained / 1e6:.2f}M trained, "
        f"{config.policy.dtype} on {policy.device}, vocabulary {policy.vocab_size}, "
        f"end tokens {sorted(policy.end_ids)}\n"
        f"problems   {trainer.environments}: {'unlimited' if problems is None else problems} for training\n"
        f"each step  {counted(config.train.prompts_per_step, 'problem')} x "
        f"{counted(config.train.group_size, 'response')} = {rows}, {counted(config.train.updates_per_step, 'update')}; "
        f"{counted(config.train.steps, 'step')}, {counted(torch.get_num_threads(), 'thread')}"
    )
    for rule in trainer.problems.rules:
        display.note(f"choice     {rule}")
    with trainer.world.together():
        if trainer.world.main:  # the only rank that saves whole models
            policy.try_saving()
    if config.checkpoint.background:
        # For one rank: its share of master weights and two moments, in float32, and the model that it may export.
        refuse_without_memory(12 * trained // trainer.world.shards + sum(p.nbytes for p in policy.model.parameters()))
    for line in policy.describe():
        display.note(line)
    eight = range(min(8, problems or 8))
    probe = collect(policy, trainer.environments, eight, seed=config.seed, group_size=1, world=trainer.world)
    if not len(probe):
        raise ConfigError(
            f"The prompts of the first {counted(len(eight), 'problem')} are all longer than --policy.max-prompt-length "
            f"{config.policy.max_prompt_length}."
        )
    if probe.dropped_prompts:
        display.note(
            f"prompts    of the first {counted(len(eight), 'problem')}, {probe.dropped_prompts} are longer than "
            f"--policy.max-prompt-length {config.policy.max_prompt_length}; such problems are dropped"
        )
    if probe.dropped_prompts:
        display.note(
            f"check      {probe.dropped_prompts} of the first {counted(len(eight), 'problem')} left out: more than "
            f"{policy.max_prompt_length} tokens, the limit of prompts (prompt_length/dropped counts them)"
        )
    first = policy.prompts.encode([probe.records[0]["problem"]])[0]
    display.panel("first prompt, as the model reads it", text_of(policy.tokenizer, first))
    record = probe.records[0]
    _refuse_broken(trainer.environments.env_id, probe, display)
    display.panel(
        f"a response before training: {record.get('verdict', record['reward'])}"
        + (f" (gold answer {record['answer']})" if "answer" in record else ""),
        record["response"],
    )
    golds = _gold_check(trainer.environments, probe.records)
    if golds is not None:
        display.note(f"check      the verifier accepts {golds[0]} of {golds[1]} gold answers in a box")
    with torch.no_grad():
        scored = policy.score(probe.data)
    mask = probe.data[keys.MASK]
    gap = float((scored[keys.LOG_PROB] - probe.data[keys.SAMPLER_LOG_PROB])[mask].abs().max())
    display.note(f"check      sampler and scorer differ by at most {gap:.1e} nats on {int(mask.sum())} tokens")
    check_start(gap, limit_of(policy, config.train))
    if config.train.ahead:
        display.note(
            f"check      later on they are compared every {PROBE_EVERY} steps, on {PROBES} short responses sampled "
            "for that (--train.ahead 1): those of a step are of older weights, whose change rollout/mismatch_mean "
            "holds too"
        )


def _another_training(config: Config) -> str | None:
    """What differs from the run that made the policy, of the settings that are not taken from it."""
    run = made_by(local_folder(config.policy.path), config.policy.path)
    if run is None:
        return None
    file, before = run
    now = flatten(config.to_dict())
    env = [name for name in before if name.startswith("env.")] if before.get("env.id") == now["env.id"] else ["env.id"]
    names = ["algo.name", *env, "train.steps", "train.learning_rate", *(f"policy.{name}" for name in PROMPT)]
    differing = [name for name in names if name in before and before[name] != now.get(name)]
    if not differing:
        return None
    pairs = [
        f"{name} {one_line(str(now.get(name)), 80)} (there {one_line(str(before[name]), 80)})" for name in differing
    ]
    return f"policy     differs from {file}, which made it: {', '.join(pairs)}"


def _refuse_broken(env_id: str, probe: Rollouts, display: Display) -> None:
    """Raise if the environment or the verifier fails at every problem; note it if it fails at some."""
    ungraded = [record for record in probe.records if record.get("verdict") == "error"]
    if len(ungraded) == len(probe):
        raise ConfigError(
            f"No response to the first problems got a verdict: {ungraded[0].get('detail')}. Try the verifier or the "
            "reward function alone on a response and an answer."
        )
    faulty = [record["fault"] for record in probe.records if record.get("fault")]
    if len(faulty) == len(probe):
        raise ConfigError(
            f"--env {env_id}: it raised an error at every one of the first problems: {faults.last_line(faulty[0])} "
            f"({faults.place(faulty[0])}). Try it alone: make it, reset it, and give it a step."
        )
    if faulty:
        display.note(
            f"check      the environment raised an error at {len(faulty)} of {len(probe)} problems, first "
            f"{faults.last_line(faulty[0])!r}; in training such groups are left out"
        )


def _gold_check(environments: Environments, records: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The number of gold answers that the environment accepts, and the number tried; None if it shows none."""
    if any("answer" not in record for record in records):
        return None
    env = environments.of_size(len(records))
    env.reset(seed=0, options={"problem_id": [record["problem_id"] for record in records]})
    _, rewards, *_ = env.step([f"\\boxed{{{record['answer']}}}" for record in records])
    accepted = [  # the verdict: further parts of the reward may pay for any box
        report["verdict"] == "correct" if "verdict" in report else reward > 0
        for report, reward in zip(env.reported, rewards.tolist(), strict=True)
    ]
    return sum(accepted), len(records)
