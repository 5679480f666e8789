"""Collect: prompts from an environment, responses from the policy, rewards from the verifier.

A batch has one row per episode, however many turns the episode has, and a group of rows per problem. The texts are kept
in addition to the tensors, for files that people read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.distributed.world import World
from llmrl.policies.episode import pack
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.play import Trajectory, play
from llmrl.rollouts.records import Record, reported
from llmrl.rollouts.stream import problem_seed, row_seed


@dataclass
class Rollouts:
    """Finished episodes: the tensors of :mod:`llmrl.keys`, and one record of text per row."""

    data: TensorDict
    records: list[Record]
    dropped_prompts: int = 0
    """Number of problems that were left out because their prompt was too long."""

    def __len__(self) -> int:
        return len(self.records)

    def select(self, rows: torch.Tensor) -> Rollouts:
        """The rows where a bool tensor [N] is true."""
        records = [record for record, keep in zip(self.records, rows.tolist(), strict=True) if keep]
        return Rollouts(self.data[rows], records, self.dropped_prompts)


def collect(
    policy: Policy,
    environments: Environments,
    problem_ids: Sequence[int],
    *,
    seed: int,
    group_size: int = 1,
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    first_group: int = 0,
    stream: str = "train",
    world: World = World(),  # noqa: B008 (without state)
) -> Rollouts:
    """Play each problem ``group_size`` times, each time to the end of the episode.

    Several turns become one row: see :mod:`llmrl.rollouts.play`. With several ranks, each rank plays some of the
    groups, and all ranks return the same rollouts.

    Args:
        policy: the policy that answers.
        environments: the environments that ask the problems and pay the rewards.
        problem_ids: one problem id per group.
        seed: seed of the responses, and of environments that draw a problem instead of looking it up by id.
        options: how responses are sampled.
        first_group: the group id of the first problem; the ids of the next ones follow.
        stream: name of the purpose, such as ``"train"``; each stream has its own random numbers.
        world: the ranks that share the groups.

    Returns:
        One row per episode, the rows of a group together. Problems whose prompt is longer than the
        policy allows are left out and counted.
    """
    ids = [i for i in problem_ids for _ in range(group_size)]
    rows = len(ids)
    mine = [i * group_size + member for i in world.mine(len(problem_ids)) for member in range(group_size)]

    def seed_of(row: int, turn: int, what: str = stream) -> int:
        return row_seed(seed, what, first_group + row // group_size, row % group_size, turn)

    played: list[tuple[Trajectory, str, dict[str, Any]]] = []
    with world.together():
        if mine:
            env = environments.of_size(len(mine))
            draws = [seed_of(row, 0, f"{stream} environment") for row in mine]
            environments.seed(draws)  # some environments ignore the seed of reset
            observations, _ = env.reset(
                seed=[problem_seed(seed, stream, ids[row]) for row in mine],
                options={"problem_id": [ids[row] for row in mine]},
            )
            shown = env.reported
            environments.seed(draws)  # the rows of a group have one problem, and draws of their own after it
            done = play(policy, env, observations, options=options, seeds=lambda i, turn: seed_of(mine[i], turn))
            played = list(zip(done, observations, shown, strict=True))
    by_group = world.gather([played[at : at + group_size] for at in range(0, len(mine), group_size)])
    every = [row for group in by_group for row in group]
    trajectories = [trajectory for trajectory, _, _ in every]
    data = pack([t.episode for t in trajectories], policy.pad_id).to(policy.device).exclude("finish_reason")
    groups = torch.arange(rows) // group_size + first_group
    data[keys.GROUP] = groups
    data[keys.REWARD] = torch.tensor([[t.reward] for t in trajectories], dtype=torch.float32)
    data[keys.TERMINATED] = torch.tensor([[t.terminated] for t in trajectories])
    data[keys.TRUNCATED] = torch.tensor([[t.truncated or t.episode.cut] for t in trajectories])
    data[keys.VALID] = torch.tensor([t.valid for t in trajectories])
    records = [
        {
            "group": int(groups[row]),
            "problem_id": ids[row],
            "problem": problem,
            "response": t.turns[-1]["response"],
            "reward": t.reward,
            "finish_reason": "length" if t.episode.cut else "end",
            "tokens": sum(t.episode.sampled),
            "turns": len(t.turns),
            "transcript": t.turns,
            **reported({**at_reset, **t.info}),
        }
        for row, (t, problem, at_reset) in enumerate(every)
    ]
    fits = torch.tensor([not t.episode.refused for t in trajectories])
    dropped = int((~fits).sum()) // group_size
    return Rollouts(data, records, dropped).select(fits) if dropped else Rollouts(data, records)


def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
    """Several batches joined into one, aligned where the responses begin."""
    begins = [_begin(part.data) for part in parts]
    widths = [part.data[keys.ATTENTION].shape[1] for part in parts]
    begin = max(begins)
    tail = max(w - b for w, b in zip(widths, begins, strict=True))
    padded = []
    for part, b, w in zip(parts, begins, widths, strict=True):
        left, right = begin - b, tail - (w - b)

        def pad(x: torch.Tensor, width: int = w, sides: tuple[int, int] = (left, right)) -> torch.Tensor:
            return torch.nn.functional.pad(x, sides) if x.ndim == 2 and x.shape[1] == width else x

        padded.append(part.data.apply(pad, batch_size=part.data.batch_size))
    records = [record for part in parts for record in part.records]
    return Rollouts(torch.cat(padded), records, sum(part.dropped_prompts for part in parts))


def _begin(data: TensorDict) -> int:
    sampled = data[keys.MASK].any(0).nonzero()
    return int(sampled[0]) if len(sampled) else data[keys.MASK].shape[1]
