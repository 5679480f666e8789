"""Rewards of the same problems in earlier steps: state of the trainer, and part of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.credit.history import merge_statistics, reward_statistics


@dataclass
class PastRewards:
    """Reward statistics of every problem that was asked before."""

    of_problem: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    def recall(self, problem_ids: Sequence[int], td: TensorDict) -> Tensor:
        """The statistics of each row's problem in earlier steps; afterwards this step's rewards are added.

        Args:
            problem_ids: one problem id per row.
            td: entries with rewards and groups of this step.

        Returns:
            [N, 3]; zeros for a problem that was not asked before.
        """
        nothing = (0.0, 0.0, 0.0)
        past = torch.tensor([self.of_problem.get(i, nothing) for i in problem_ids], dtype=torch.float64).to(
            td[keys.REWARD].device
        )
        now = reward_statistics(td, raw=True)
        seen: set[int] = set()
        for row, (problem, group) in enumerate(zip(problem_ids, td[keys.GROUP].reshape(-1).tolist(), strict=True)):
            # One visit per group: if a problem is in two groups of a step, both count.
            if group not in seen:
                seen.add(group)
                before = torch.tensor([self.of_problem.get(problem, nothing)], dtype=torch.float64)
                visits, mean, deviation = merge_statistics(before, now[row : row + 1].cpu())[0].tolist()
                self.of_problem[problem] = (visits, mean, deviation)
        return past
