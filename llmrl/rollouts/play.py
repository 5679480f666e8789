"""Play: all episodes of a batch at once, turn by turn, from the first prompt to the last reward.

This file decides whose turn it is. The policy handles the tokens, the environment the replies and rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from llmrl.envs.vector import TextVectorEnv
from llmrl.policies.episode import Episode
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions


@dataclass
class Trajectory:
    """One finished episode: its tokens, its turns, and what the environment reported."""

    episode: Episode
    """Its tokens."""
    turns: list[dict[str, Any]] = field(default_factory=list)
    """``observation``, ``response``, ``reward`` and sampled ``tokens`` of each turn."""
    info: dict[str, Any] = field(default_factory=dict)
    """The ``info`` of the last step; ``reward_parts`` are summed over the steps."""
    terminated: bool = False
    """Whether the environment ended the episode."""
    truncated: bool = False
    """Whether the environment cut the episode off. ``episode.cut`` says whether it ran out of tokens."""
    valid: bool = True
    """Whether every graded response got a verdict."""

    @property
    def reward(self) -> float:
        """Sum of the rewards of the turns."""
        return sum(turn["reward"] for turn in self.turns)

    def take(self, turn: dict[str, Any], info: dict[str, Any]) -> None:
        """Record a turn and what the environment reported."""
        self.turns.append(turn)
        parts, new = self.info.get("reward_parts"), info.get("reward_parts")
        if parts and new:
            both = {name: parts.get(name, 0.0) + new.get(name, 0.0) for name in {**parts, **new}}
            info = {**info, "reward_parts": both}
        self.info = info
        self.valid &= bool(info.get("valid", True))


def play(
    policy: Policy,
    env: TextVectorEnv,
    problems: Sequence[str],
    *,
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    seeds: Callable[[int, int], int] | None = None,
) -> list[Trajectory]:
    """Play to their end the episodes that ``env.reset`` has begun.

    An episode ends when the environment says so, when a response is cut off at the policy's limit, or
    when the reply leaves no room for another response. In the last two cases it counts as cut off. A row
    that has ended is not stepped again, and no more tokens are sampled for it.

    Args:
        policy: the policy that answers.
        env: N environments.
        problems: the N first observations.
        options: how responses are sampled.
        seeds: (row, turn) -> seed of this response; None: drawn from torch's global generator.

    Returns:
        N finished episodes. If a prompt is longer than the policy allows, its episode has no tokens, and
        its only response is the empty text.
    """
    trajectories = [Trajectory(episode) for episode in policy.begin(problems)]
    heard = [[problem] for problem in problems]
    live = list(range(len(trajectories)))
    while live:
        responses = policy.respond(
            [trajectories[row].episode for row in live],
            options,
            seeds=None if seeds is None else [seeds(row, len(trajectories[row].turns)) for row in live],
        )
        actions: list[str | None] = [None] * len(trajectories)
        for row, response in zip(live, responses, strict=True):
            actions[row] = response
        replies, rewards, terminated, truncated, _ = env.step(actions)
        cut = np.zeros(len(trajectories), dtype=bool)
        for row, response in zip(live, responses, strict=True):
            trajectory = trajectories[row]
            before = sum(turn["tokens"] for turn in trajectory.turns)
            turn = {
                "observation": heard[row][-1],
                "response": response,
                "reward": float(rewards[row]),
                "tokens": sum(trajectory.episode.sampled) - before,
            }
            trajectory.take(turn, env.reported[row])
            trajectory.terminated, trajectory.truncated = bool(terminated[row]), bool(truncated[row])
            if not (trajectory.terminated or trajectory.truncated):
                heard[row].append(replies[row])
                cut[row] = not policy.append_reply(trajectory.episode, heard[row], options)
        env.truncate(cut)
        live = [row for row in live if not (terminated[row] or truncated[row] or cut[row])]
    return trajectories
