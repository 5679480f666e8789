"""What earlier steps gave to the same problems: state of the trainer, and part of a checkpoint."""

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
    """The statistics of every problem that was asked before; part of a checkpoint."""

    of_problem: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    def recall(self, problem_ids: Sequence[int], td: TensorDict) -> Tensor:
        """What earlier steps gave to each row's problem; this step's rewards are noted after that.

        Args:
            problem_ids: one per row.
            td: rewards and groups of this step.

        Returns:
            [N, 3], zeros at a first visit.
        """
        nothing = (0.0, 0.0, 0.0)
        past = torch.tensor([self.of_problem.get(i, nothing) for i in problem_ids], dtype=torch.float64).to(
            td[keys.REWARD].device
        )
        merged = merge_statistics(past, reward_statistics(td)).tolist()
        self.of_problem |= {i: (row[0], row[1], row[2]) for i, row in zip(problem_ids, merged, strict=True)}
        return past
