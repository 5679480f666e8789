"""The state of a run: written into a checkpoint, compared with its expected form, and restored from a checkpoint."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrl.likeness import MOST, Anything, Each, Maybe, Some, Table, Within, refuse_unlike
from llmrl.text import one_line
from llmrl.training import checkpoint, randomness
from llmrl.training.gathering import FORM as PENDING
from llmrl.training.gathering import Gathered
from llmrl.training.incidents import Counters
from llmrl.training.metrics_file import MetricsFile
from llmrl.training.trainer import Trainer


def save(trainer: Trainer, folder: Path, metrics: MetricsFile | None, score: checkpoint.Score | None = None) -> Path:
    """Write a checkpoint; every rank takes part, and only rank 0 gives a metrics file.

    With ``checkpoint.background`` the checkpoint is still being written when this returns; ``trainer.writer.wait()``
    waits for it.

    Args:
        trainer: between two steps.
        folder: of the run.
        metrics: is flushed first; the state holds how much of it belongs to the run so far.
        score: by which ``checkpoint.keep_best`` compares this checkpoint with others.

    Raises:
        OSError: this checkpoint, or in the background the one before it, could not be written.
    """
    if metrics is not None:
        metrics.flush()
    world, writer, options = trainer.world, trainer.writer, trainer.config.checkpoint
    step = trainer.counters.step
    whole = step == trainer.config.train.steps or score is not None
    whole |= options.export_every > 0 and step % options.export_every == 0

    state = state_of(trainer, 0 if metrics is None else metrics.position)
    tensors = trainer.learner.tensors() if world.size > 1 else {}
    export: Callable[[Path], Path] = trainer.policy.save
    if writer.background:  # none of this may change while it is written
        state = copy.deepcopy(state)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        if world.size == 1 or (whole and world.main):
            export = trainer.policy.snapshot()
    world = writer.world

    def save_model(aside: Path) -> None:
        if world.size == 1:
            export(aside)
            return
        from llmrl.distributed import shards  # one process imports no process groups

        shards.write(tensors, aside / checkpoint.SHARDS, world)
        with world.together():
            if whole and world.main:
                export(aside)

    writer.write(lambda: checkpoint.save(folder, step, save_model, state, options.keep, score, world))
    return checkpoint.path_of(folder, step)


def state_of(trainer: Trainer, metrics_position: int) -> dict[str, Any]:
    """The state that resuming needs, without the weights of the policy."""
    return {
        "counters": vars(trainer.counters).copy(),
        "problems": trainer.problems.state(),
        "past_rewards": trainer.past_rewards.of_problem.copy(),
        "pending": None if trainer.pending is None else trainer.pending.state(),
        "kl_coefficient": trainer.kl_coefficient,
        "learner": trainer.learner.state() if trainer.world.size == 1 else None,  # else in shards
        "shuffling": trainer.shuffling.get_state(),
        "random": trainer.world.gather([randomness.state(trainer.environments)]),
        "micro_batch_tokens": trainer.memory.budget,
        "policy_version": trainer.policy.version,
        "metrics_position": metrics_position,
        "config": json.dumps(trainer.config.to_dict()),
    }


def form_for(trainer: Trainer, *, sharded: bool) -> dict[str, Any]:
    """The form of what :func:`state_of` returns, for :func:`llmrl.likeness.refuse_unlike`.

    Args:
        trainer: its learner's weights give the shapes of the moments.
        sharded: whether the state of the learner may be in shards, apart from this one.
    """
    learner = trainer.learner.form()
    return {
        "counters": Some(vars(Counters())),
        "problems": {"position": 0, "rules": Table("", Anything())},  # each rule compares its own
        "past_rewards": Table(0, (0.0, 0.0, 0.0)),
        "pending": Maybe(PENDING),
        "kl_coefficient": Maybe(0.0),
        "learner": Maybe(learner) if sharded else learner,
        "shuffling": trainer.shuffling.get_state(),
        "random": Each(randomness.form(), least=1),
        "micro_batch_tokens": Within(1, MOST),
        "policy_version": 0,
        "metrics_position": 0,
        "config": "",
    }


def restore(trainer: Trainer, state: dict[str, Any], start: Path) -> None:
    """Let a trainer continue from what :func:`state_of` returned.

    Args:
        trainer: as it was built for the same run.
        state: of a checkpoint.
        start: the checkpoint's folder. If it holds a whole model, whoever made the policy has loaded its weights.

    Raises:
        DamagedCheckpoint: it is no state of such a run.
    """
    try:
        refuse_unlike(state, form_for(trainer, sharded=(start / checkpoint.SHARDS).is_dir()), "state")
        _restore(trainer, state, start)
    except ValueError as error:
        raise checkpoint.DamagedCheckpoint(
            f"{start / checkpoint.STATE} is no state of this run: {one_line(str(error))} Give another --resume."
        ) from error


def _restore(trainer: Trainer, state: dict[str, Any], start: Path) -> None:
    trainer.counters = trainer.incidents.counters = Counters(**state["counters"])
    trainer.problems.load(state["problems"])
    trainer.past_rewards.of_problem = dict(state["past_rewards"])
    pending = state["pending"]
    trainer.pending = None if pending is None else Gathered.load(pending, trainer.policy.device)
    trainer.kl_coefficient = state["kl_coefficient"]
    if state["learner"] is not None:
        trainer.learner.load(state["learner"])
    else:
        from llmrl.distributed import shards  # one process imports no process groups

        shards.read(trainer.learner.tensors(), start / checkpoint.SHARDS, trainer.world)
        trainer.learner.adopt_masters()
    trainer.shuffling.set_state(state["shuffling"])
    restore_random(trainer, state)
    train = json.loads(state["config"]).get("train")
    if isinstance(train, dict) and train.get("micro_batch_tokens") == trainer.config.train.micro_batch_tokens:
        trainer.memory.budget = state["micro_batch_tokens"]  # less than the setting where memory had run out
    trainer.policy.sync(state["policy_version"])


def restore_random(trainer: Trainer, state: dict[str, Any]) -> None:
    """Restore the random generators of the process; exact if the checkpoint has the same number of ranks."""
    states = state["random"]
    randomness.load(states[trainer.world.rank % len(states)], trainer.environments)
