"""Gathering: the batch of one step is sampled, graded, shaped, filtered and refilled.

This file decides which problems are asked. It reads nothing that an update changes, so a second thread may gather a
batch while another batch trains (``train.ahead``).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.credit import Credit
from llmrl.distributed.world import World
from llmrl.likeness import Anything, Each, Table, refuse_unlike
from llmrl.policies.policy import Policy
from llmrl.rollouts.collect import Rollouts, collect, concatenate
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.files import NEEDED, refuse_missing_tensors, refuse_wrong_tensors
from llmrl.rollouts.records import FORM as RECORD
from llmrl.rollouts.records import Record
from llmrl.rollouts.stream import NoProblemLeft, ProblemStream
from llmrl.training import faults
from llmrl.training.config import TrainConfig
from llmrl.training.curriculum import pass_rates
from llmrl.training.faults import TrainingError
from llmrl.training.measures import describe, fetch

AHEAD = "a batch that was sampled ahead"
"""What messages call it."""
FORM = {
    "rollouts": {"data": Table("", Anything()), "records": "", "dropped_prompts": 0},
    "metrics": Table("", 0.0),
    "records": "",
    "broken": "",
    "groups": 0,
    "tokens": 0,
    "version": 0,
}
"""The form of the state of :class:`Gathered`, for :func:`llmrl.likeness.refuse_unlike`."""


@dataclass
class Gathered:
    """One batch, with measures of its sampling."""

    rollouts: Rollouts
    """The rollouts that are trained on."""
    metrics: dict[str, float]
    records: list[Record]
    """Measures of all complete groups that were sampled, before any filter."""
    broken: list[Record]
    """Records of the rows whose environment raised an error."""
    groups: int
    """Number of groups that were requested."""
    tokens: int
    """Number of tokens that were sampled."""
    version: int
    """Version of the weights that sampled."""

    def state(self) -> dict[str, Any]:
        """The state of a batch that has not been trained on, for a checkpoint: numbers, texts and tensors."""
        return {
            **vars(self),
            "rollouts": {
                "data": {str(k): v.cpu().clone() for k, v in self.rollouts.data.flatten_keys(".").items()},
                "records": json.dumps(self.rollouts.records),
                "dropped_prompts": self.rollouts.dropped_prompts,
            },
            "records": json.dumps(self.records),
            "broken": json.dumps(self.broken),
        }

    @classmethod
    def load(cls, state: dict[str, Any], device: torch.device) -> Gathered:
        """Restore a state that :meth:`state` returned.

        Raises:
            ValueError: it is none.
        """
        saved = state["rollouts"]
        records = _read(saved["records"])
        refuse_missing_tensors(AHEAD, saved["data"], NEEDED)
        refuse_wrong_tensors(AHEAD, saved["data"], len(records))
        data = TensorDict(saved["data"], batch_size=[len(records)]).unflatten_keys(".").to(device)
        return cls(
            **{
                **state,
                "rollouts": Rollouts(data, records, saved["dropped_prompts"]),
                "records": _read(state["records"]),
                "broken": _read(state["broken"]),
            }
        )


def _read(text: str) -> list[Record]:
    records = json.loads(text)
    refuse_unlike(records, Each(RECORD), "records")
    return records


@dataclass
class Gatherer:
    """Asks the problems of a run, step by step."""

    policy: Policy
    environments: Environments
    problems: ProblemStream
    credit: Credit
    """Credit of the recipe: shaping, the groups to keep, and the number of refills."""
    options: TrainConfig
    seed: int
    world: World
    """The ranks that share the groups; if a second thread gathers, with a process group of their own."""

    def gather(self, step: int, first_group: int) -> Gathered:
        """The batch of a step.

        Args:
            step: the step that the batch is for, counted from 0.
            first_group: the number of its first group; the seeds of the responses follow from it.

        Raises:
            TrainingError: curriculum and filter leave no problem.
        """
        began, version = time.perf_counter(), self.policy.version
        sampled: list[Rollouts] = []
        kept: list[Rollouts] = []
        broken: list[Record] = []
        wanted = self.options.prompts_per_step
        missing, groups, rounds = wanted, 0, 0
        while missing > 0 and rounds <= self.credit.max_refills:
            asked = collect(
                self.policy,
                self.environments,
                self.next_problems(missing),
                seed=self.seed,
                group_size=self.options.group_size,
                first_group=first_group + groups,
                world=self.world,
            )
            rounds += 1
            groups += missing
            rollouts, raised = faults.split_faults(asked)
            broken += raised
            sampled.append(rollouts)
            self.problems.observe(step, pass_rates(rollouts.records))
            rollouts.data[keys.SHAPED_REWARD] = rollouts.data[keys.REWARD]
            if not len(rollouts):
                continue  # every prompt was too long
            keep = self.credit.keep(rollouts.data)  # decided by the verdicts, before any shaping
            for shape in self.credit.shape:
                rollouts.data[keys.SHAPED_REWARD] = shape(rollouts.data)
            if keep.any():
                kept.append(rollouts.select(keep))
                missing -= int(rollouts.data[keys.GROUP][keep].unique().numel())
        everything = concatenate(sampled)
        metrics = fetch(describe(everything))
        for rule in self.problems.rules:
            metrics |= rule.metrics()
        metrics["dynamic_sampling/rounds"] = float(rounds)
        whole = sum(part.data[keys.GROUP].unique().numel() for part in sampled)
        metrics["dynamic_sampling/acceptance"] = (wanted - missing) / max(whole, 1)
        metrics["progress/problems"] = float(self.problems.position)
        metrics["time/generate"] = time.perf_counter() - began
        return Gathered(
            rollouts=concatenate(kept) if kept else Rollouts(everything.data[:0], []),
            metrics=metrics,
            records=everything.records,
            broken=broken,
            groups=groups,
            tokens=int(everything.data[keys.MASK].sum()),
            version=version,
        )

    def next_problems(self, count: int) -> list[int]:
        """Problem ids from the stream.

        Raises:
            TrainingError: curriculum and filter leave no problem.
        """
        try:
            return self.problems.take(count)
        except NoProblemLeft as error:
            raise TrainingError(f"{error} Give --filter.revisit above 0, or other problems.") from error
