"""One run from its settings to its files: build, show, evaluate, train, evaluate, plot.

Files of a run: ``config.yaml  metrics.jsonl  rollouts/  eval/  plots/  checkpoint-*/  latest``.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.utils import logging as transformers_logging

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.errors import ConfigError
from llmrl.evaluation import DifferentProblems, Evaluation, evaluate
from llmrl.policies.critic import Critic
from llmrl.policies.policy import LoraOptions, Policy
from llmrl.report.plots import plot_run
from llmrl.rollouts.collect import Rollouts, collect
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.files import write_rollouts
from llmrl.training import checkpoint, faults, randomness
from llmrl.training.config import Config, env_class
from llmrl.training.display import Display
from llmrl.training.metrics import MetricsFile, writing
from llmrl.training.sinks import Run, Trackers, require
from llmrl.training.trainer import Trainer

# Above this the sampler and the scorer do not compute the same distribution: a ratio of 1 would be
# off by 2 % per token in float32.
MISMATCH_TOLERANCE = {"float32": 0.02, "bfloat16": 1.0}
GREEDY = "eval/greedy"


def train(config: Config, display: Display | None = None) -> Path | None:
    """Do what the settings say; returns the folder of the run, None after a dry run.

    Raises:
        ConfigError: the settings cannot be used; nothing has been written.
        TrainingError: training broke off; the last checkpoint is intact.
    """
    with contextlib.ExitStack() as stack:
        display = stack.enter_context(display or Display())
        require(config.log.to)
        start = _resume_from(config, display)
        folder = _choose_folder(config, start)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        transformers_logging.disable_progress_bar()  # it would break into ours
        randomness.seed_all(config.seed)
        state = None if start is None else checkpoint.load_state(start)
        if state is not None:
            _refuse_changes(config, state)
        trainer, held_out = build(config, start)
        trainer.note = display.note
        stack.callback(trainer.environments.close)
        stack.callback(held_out.close)
        stack.callback(trainer.policy.close)
        if state is not None:
            trainer.load(state)
        introduce(trainer, held_out, display)
        if config.dry_run:
            display.note("Dry run: everything above is in order; nothing was written.")
            return None
        if start is None and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if start is not None:
            for path in checkpoint.set_aside_later(start):
                display.note(f"{path} is what was checkpoint {checkpoint.step_of(path)}, later than this one.")
        trainer.faults = folder / "faults"
        (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
        metrics = MetricsFile(folder / "metrics.jsonl", 0 if state is None else state["metrics_position"])
        stack.callback(metrics.close)
        trackers = Trackers(Run(folder, trainer.counters.step, config), display.note)
        stack.callback(trackers.close)
        before = _evaluate(trainer, held_out, folder, "before", display)
        if state is not None:
            # What has been checked and evaluated since may have drawn from them.
            randomness.load(state["random"], trainer.environments)
        finished = _loop(trainer, held_out, folder, metrics, trackers, display)
        if not finished:
            display.note(f"Stopped. Go on with the same command and: --output {folder} --resume auto")
            return folder
        after = _evaluate(trainer, held_out, folder, "after", display)
        if before is not None and after is not None:
            try:
                display.comparison(before, after)
            except DifferentProblems as error:  # an environment that draws anew at every reset
                display.note(f"No paired gain. {error}")
        if after is not None and config.checkpoint.keep_best == GREEDY:
            checkpoint.note_score((folder / "latest").resolve(), checkpoint.Score(GREEDY, after.greedy.mean))
        for path in plot_run(folder):
            display.note(f"plot: {path}")
        display.note(f"model: {folder / 'latest'}")
    return folder


def build(config: Config, start: Path | None = None) -> tuple[Trainer, Environments]:
    """The trainer and the held-out environments of a run.

    Args:
        start: a checkpoint whose weights the policy takes.
    """
    options = {k: v for k, v in vars(config.algo).items() if k != "name"}
    try:
        recipe = algorithm(config.algo.name, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--algo {config.algo.name}: {error}") from error
    _check_group_size(config, recipe)
    _check_rescore(config, recipe)
    env_options = {k: v for k, v in vars(config.env).items() if k != "id"}
    # Data that cannot be read should stop us before a model is loaded.
    try:
        environments = _environments(config.env.id, env_options)
    except ConfigError as error:
        raise ConfigError(f"{error}{_from_files(config, 'env.')}") from error
    if config.eval.env is not None:
        held_out = held_out_environments(config.eval.env, {})
    else:
        held_out = held_out_environments(config.env.id, env_options)
    # A checkpoint of adapters holds them merged into the weights; they go back onto the model they
    # were made for, from the trainer's own state.
    fresh = start is None or config.policy.lora_rank > 0
    policy = _load_policy(config, config.policy.path if fresh else str(start))
    critic = Critic.from_policy(policy) if keys.VALUE in recipe.in_keys else None
    reference = None
    if keys.REF_LOG_PROB in recipe.in_keys:
        reference = _load_policy(config, config.policy.path) if start else copy.deepcopy(policy)
        reference.requires_grad_(False)
    _attach_engine(config, policy)
    return Trainer(config, policy, recipe, environments, critic, reference), held_out


def _from_files(config: Config, prefix: str) -> str:
    """Which settings nobody typed; an error that they cause would be a riddle."""
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


def _environments(env_id: str, options: dict[str, Any]) -> Environments:
    environments = Environments(env_id, options)
    try:
        environments.of_size(1)
    except (OSError, ValueError, TypeError, LookupError, ImportError) as error:
        raise ConfigError(f"--env {env_id}: {error}") from error
    return environments


def _load_policy(config: Config, path: str) -> Policy:
    settings = config.policy
    return Policy.from_pretrained(
        path,
        dtype=settings.dtype,
        device=settings.device,
        temperature=settings.temperature,
        max_prompt_length=settings.max_prompt_length,
        max_response_length=settings.max_response_length,
        chat_template=settings.chat_template,
        lora=LoraOptions(rank=settings.lora_rank) if settings.lora_rank else None,
        gradient_checkpointing=settings.gradient_checkpointing,
        packing=config.train.packing,
        share_prompts=config.train.share_prompts,
    )


def _attach_engine(config: Config, policy: Policy) -> None:
    settings = config.policy
    if settings.engine == "transformers":
        return
    try:
        from llmrl.policies.sampling.vllm import VLLM
    except ImportError as error:
        advice = f"--policy.engine {settings.engine} needs {error.name}: pip install 'llmrl[serve]'"
        raise ConfigError(advice) from error

    policy.engine = VLLM(
        policy.model,
        max_length=policy.max_prompt_length + policy.max_response_length,
        url=None if settings.engine == "vllm" else settings.engine,
        cache_gib=settings.engine_cache,
        sleep=settings.engine_sleep,
        version=policy.version,
    )


def _check_group_size(config: Config, recipe: Algorithm) -> None:
    needed = getattr(recipe.credit.advantage, "min_group_size", 1)
    if config.train.group_size < needed:
        raise ConfigError(
            f"--train.group-size {config.train.group_size}: {recipe.name} compares the responses to one problem "
            f"with each other and needs at least {needed} of them. Give --train.group-size {max(needed, 8)}, or an "
            "algorithm with a critic (--algo ppo)."
        )


def _check_rescore(config: Config, recipe: Algorithm) -> None:
    reasons = {
        keys.OLD_ENTROPY: "reads entropies, which only scoring tells",
        keys.SAMPLER_LOG_PROB: "weighs by the gap between sampler and scorer, which would be 0",
    }
    for key, reason in reasons.items():
        if not config.train.rescore and key in recipe.in_keys:
            raise ConfigError(f"--train.no-rescore: {recipe.name} {reason}. Leave it out.")


def _resume_from(config: Config, display: Display) -> Path | None:
    if config.resume is None:
        return None
    try:
        return checkpoint.find(_default_folder(config, newest=True), config.resume, display.note)
    except (FileNotFoundError, checkpoint.DamagedCheckpoint) as error:
        raise ConfigError(str(error)) from error


def _default_folder(config: Config, newest: bool) -> Path:
    """``--output``, or runs/ALGORITHM-SEED with the first free (or last used) number behind it."""
    if config.output is not None:
        return config.output
    stem = f"{config.algo.name.replace(':', '.')}-{config.seed}"
    numbered = [Path("runs") / (stem if n == 1 else f"{stem}-{n}") for n in range(1, 10_000)]
    free = next(i for i, path in enumerate(numbered) if not path.exists())
    return numbered[max(free - 1, 0)] if newest else numbered[free]


def _choose_folder(config: Config, start: Path | None) -> Path:
    """Where the run goes; refused here, before anything expensive, if it could not go there."""
    if start is not None:
        return start.parent
    folder = _default_folder(config, newest=False)
    if folder.exists() and any(folder.iterdir()) and not config.force:
        raise ConfigError(
            f"The output folder {folder} is not empty. Go on with the run in it by --resume auto, choose "
            "another --output, or give --force to delete what it holds."
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"The output folder {folder} cannot be made: {existing} is not writable.")
    return folder


def _refuse_changes(config: Config, state: dict[str, Any]) -> None:
    """A resumed run must be the run that was stopped, but for its length and its files."""
    old, new = json.loads(state["config"]), config.to_dict()
    free = {"train.steps", "threads", "policy.device"}
    changes = [
        f"  {key}: was {before!r}, is {now!r}"
        for key, before, now in _differences(old, new)
        if key not in free and not key.startswith(("checkpoint.", "log."))
    ]
    if changes and not config.force:
        raise ConfigError(
            "The settings are not those of the run that is resumed:\n"
            + "\n".join(changes)
            + "\nGive the same settings, or --force to go on with the new ones."
        )


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}.")
    elif old != new:
        yield prefix.rstrip("."), old, new


def introduce(trainer: Trainer, held_out: Environments, display: Display) -> None:
    """Show what is about to happen, and check that it can.

    Raises:
        ConfigError: sampler and scorer disagree, or no response of the check could be graded.
    """
    config, policy = trainer.config, trainer.policy
    size = sum(p.numel() for p in policy.model.parameters())
    trained = sum(p.numel() for p in trainer.learner.parameters)
    rows = config.train.prompts_per_step * config.train.group_size
    display.panel("algorithm", str(trainer.algorithm))
    display.settings(config)
    problems = trainer.environments.num_problems()
    display.note(
        f"policy     {config.policy.path}: {size / 1e6:.2f}M parameters, {trained / 1e6:.2f}M trained, "
        f"{config.policy.dtype} on {policy.device}, vocabulary {policy.vocab_size}, "
        f"end tokens {sorted(policy.end_ids)}\n"
        f"problems   {trainer.environments.env_id}: {'unlimited' if problems is None else problems} for training\n"
        f"each step  {config.train.prompts_per_step} problems x {config.train.group_size} responses = {rows}, "
        f"{config.train.updates_per_step} updates; {config.train.steps} steps, {torch.get_num_threads()} threads"
    )
    for rule in trainer.problems.rules:
        display.note(f"choice     {rule}")
    probe = collect(policy, trainer.environments, range(8), seed=config.seed, group_size=1)
    if not len(probe):
        raise ConfigError(
            f"The first 8 prompts are all longer than --policy.max-prompt-length {config.policy.max_prompt_length}."
        )
    first = policy.prompts.encode([probe.records[0]["problem"]])[0]
    display.panel("first prompt, as the model reads it", str(policy.tokenizer.decode(first)))
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
    tolerance = MISMATCH_TOLERANCE[config.policy.dtype]
    if gap > tolerance:
        raise ConfigError(
            f"The sampler's log-probabilities differ from the scorer's by {gap:.3g} nats (tolerance {tolerance}). "
            "Importance ratios would be wrong from the start. Likely causes: a generation setting that truncates or "
            "reshapes the distribution (top_p, top_k, repetition_penalty), dropout, or attention that reads padding."
        )


def _refuse_broken(env_id: str, probe: Rollouts, display: Display) -> None:
    """An environment that raises everywhere is not worth starting with; one that does so once may be."""
    faulty = [record["fault"] for record in probe.records if record.get("fault")]
    if len(faulty) == len(probe):
        raise ConfigError(f"--env {env_id}: it raised an error at every one of the first problems:\n{faulty[0]}")
    if faulty:
        display.note(
            f"check      the environment raised an error at {len(faulty)} of {len(probe)} problems, first "
            f"{faults.last_line(faulty[0])!r}; in training such groups are left out"
        )


def _gold_check(environments: Environments, records: list[dict[str, Any]]) -> tuple[int, int] | None:
    """How many gold answers of the records the environment rewards; None if it shows none."""
    if any("answer" not in record for record in records):
        return None
    env = environments.of_size(len(records))
    env.reset(seed=0, options={"problem_id": [record["problem_id"] for record in records]})
    _, rewards, *_ = env.step([f"\\boxed{{{record['answer']}}}" for record in records])
    return int((rewards > 0).sum()), len(records)


def _evaluate(
    trainer: Trainer,
    held_out: Environments,
    folder: Path,
    name: str,
    display: Display,
    samples: int | None = None,
) -> Evaluation | None:
    """Evaluate and write the files; an evaluation that is already there is read instead."""
    settings = trainer.config.eval
    if settings.problems == 0:
        return None
    path = folder / "eval" / f"{name}.jsonl"
    if path.is_file() and name == "before":
        return Evaluation.read(path)
    samples = settings.samples if samples is None else samples
    move = display.bar(f"evaluation {name}", settings.problems * (1 + samples))
    result = evaluate(
        trainer.policy,
        held_out,
        settings.problems,
        samples=samples,
        batch=settings.batch,
        seed=trainer.config.seed,
        on_batch=lambda done, total: move(done),
    )
    move(settings.problems * (1 + samples))
    result.write(folder / "eval", name)
    averages = f", avg@{samples} {result.average}" if samples else ""
    display.note(f"evaluation {name}: greedy {result.greedy}{averages}")
    if faulty := [record["fault"] for record in result.records if record.get("fault")]:
        display.note(
            f"In {len(faulty)} responses of it the environment raised an error, first "
            f"{faults.last_line(faulty[0])!r}; they count as not correct."
        )
    return result


@dataclass
class _Interrupt:
    """Whether Ctrl-C was pressed; a second press leaves at once."""

    asked: bool = False

    @contextlib.contextmanager
    def watched(self, display: Display) -> Iterator[None]:
        def on_signal(number: int, frame: Any) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            display.note("Stopping after this step, with a checkpoint. Once more to leave at once.")

        try:
            old = signal.signal(signal.SIGINT, on_signal)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, old)


def _loop(
    trainer: Trainer,
    held_out: Environments,
    folder: Path,
    metrics_file: MetricsFile,
    trackers: Trackers,
    display: Display,
) -> bool:
    """All steps; False if the user stopped them."""
    config, counters = trainer.config, trainer.counters
    total, interrupt = config.train.steps, _Interrupt()
    saved = counters.step
    move = display.bar(f"{trainer.algorithm.name}", total, counters.step)
    with interrupt.watched(display):
        while counters.step < total and not interrupt.asked:
            metrics, rollouts = trainer.step()
            step, last = counters.step, counters.step == total
            if config.eval.every and step % config.eval.every == 0 and not last:
                result = _evaluate(trainer, held_out, folder, f"step_{step:06d}", display, samples=0)
                if result is not None:
                    metrics[GREEDY] = result.greedy.mean
            metrics_file.write(step, metrics)
            trackers.log(step, metrics)
            display.step(step, total, metrics)
            move(step)
            if trainer.keeps_rollouts(step):
                with writing(folder / "rollouts"):
                    write_rollouts(folder / "rollouts", step, rollouts)
            best = config.checkpoint.keep_best
            score = checkpoint.Score(best, metrics[best]) if best in metrics else None
            judged = best == GREEDY and score is not None
            if step % config.checkpoint.every == 0 or judged or last or interrupt.asked:
                trainer.save(folder, metrics_file, score)
                saved = step
        if interrupt.asked and saved != counters.step:
            trainer.save(folder, metrics_file)
    return counters.step >= total
