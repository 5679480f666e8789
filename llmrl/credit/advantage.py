"""Advantages without a critic: each response is compared with the others to the same prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.credit.groups import Groups
from llmrl.keys import Key, reads

Advantage = Callable[[TensorDict], TensorDict]
"""Entries -> the same entries and ``"advantage"`` [N, T], 0 outside the mask."""


@runtime_checkable
class ComparesGroups(Protocol):
    """An advantage that compares the responses to one prompt."""

    @property
    def min_group_size(self) -> int:
        """The smallest number of responses to a prompt."""


def smallest_group(advantage: Advantage) -> int:
    """The smallest number of responses to a prompt; 1 if the advantage compares none."""
    return advantage.min_group_size if isinstance(advantage, ComparesGroups) else 1


def per_token(td: TensorDict, advantage: Tensor) -> TensorDict:
    """The entries with the row's advantage [N] on each of its sampled tokens."""
    dtype = torch.float64 if td[keys.REWARD].dtype == torch.float64 else torch.float32
    out = td.copy()
    out[keys.ADVANTAGE] = torch.where(td[keys.MASK], advantage.to(dtype)[:, None], 0)
    return out


@dataclass(frozen=True, kw_only=True)
class GroupAdvantage:
    """The reward compared with the rewards of all responses to the same prompt. GRPO, arXiv:2402.03300.

    A = (R - mean) / (std + eps)

    mean and std are over the group. A is exactly 0 if all rewards of the group are equal. Rows without a
    verdict get 0 and do not enter mean and std.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.MASK, keys.REWARD, keys.GROUP, keys.VALID)
    min_group_size: ClassVar[int] = 2

    divide_by_std: bool = True
    """False: only subtract the mean (Dr. GRPO)."""
    ddof: int = 1
    """1: standard deviation of a sample, as in most code; 0: of a population, as in GPPO's paper."""
    eps: float = 1e-6
    """Added to the standard deviation."""

    def __post_init__(self) -> None:
        if self.ddof not in (0, 1):
            raise ValueError(f"GroupAdvantage: ddof must be 0 or 1, got {self.ddof}.")
        if not self.eps >= 0:
            raise ValueError(f"GroupAdvantage: eps must be 0 or more, got {self.eps}.")

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"``.

        >>> td = TensorDict({"group": [7, 7], keys.MASK: torch.ones(2, 1) > 0}, [2])
        >>> td["next", "reward"] = torch.tensor([[1.0], [0.0]])
        >>> GroupAdvantage()(td)["advantage"]
        tensor([[ 0.7071],
                [-0.7071]])
        """
        groups = Groups(td)
        groups.need(self.min_group_size, "GroupAdvantage")
        centred = groups.centred()
        if self.divide_by_std:
            std = groups.std(self.ddof) + self.eps
            # a uniform group may have std 0; its rows are set to 0 below
            centred = centred / torch.where(groups.uniform(), 1, std)[groups.index]
        return per_token(td, torch.where(groups.uniform()[groups.index], 0, centred))


@dataclass(frozen=True, kw_only=True)
class LeaveOneOut:
    """The reward minus the mean reward of the other responses to the same prompt. RLOO, arXiv:2402.14740.

    A_i = R_i - mean_{j != i} R_j
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.MASK, keys.REWARD, keys.GROUP, keys.VALID)
    min_group_size: ClassVar[int] = 2

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"`` [N, T]; 0 if no other response of the group has a verdict."""
        groups = Groups(td)
        groups.need(self.min_group_size, "LeaveOneOut")
        reward = torch.where(groups.valid, groups.reward, 0)
        others = (groups.count - 1).clamp_min(1)[groups.index]
        baseline = (groups.sum(reward)[groups.index] - reward) / others
        alone = (groups.count < 2)[groups.index]
        zero = groups.uniform()[groups.index] | ~groups.valid | alone
        return per_token(td, torch.where(zero, 0, reward - baseline))


@dataclass(frozen=True, kw_only=True)
class OverlongFilter:
    """Responses that were cut off count in the baseline, but are not trained on: their mask becomes empty.

    DAPO's overlong filtering, an alternative to :class:`SoftOverlong`.
    """

    base: Advantage = GroupAdvantage()
    """Computes the advantage."""

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """The entries that the base reads, and ``"truncated"``."""
        return (*reads(self.base), keys.TRUNCATED)

    @property
    def min_group_size(self) -> int:
        """The group size that the base needs."""
        return smallest_group(self.base)

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"`` [N, T] and the mask [N, T]."""
        out = self.base(td)
        whole = ~td[keys.TRUNCATED].reshape(-1, 1)
        out[keys.MASK] = td[keys.MASK] & whole
        out[keys.ADVANTAGE] = torch.where(whole, out[keys.ADVANTAGE], 0)
        return out
