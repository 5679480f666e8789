"""Statistics of the rewards of a problem in earlier steps, and the advantage that uses them.

The statistics of a group are three numbers, ``[visits, mean, deviation]``, in float64: the number of steps that asked
the problem, and mean and standard deviation of the rewards of its responses in these steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.credit.advantage import per_token
from llmrl.credit.groups import Groups
from llmrl.keys import Key


@dataclass(frozen=True, kw_only=True)
class SmoothGroupAdvantage:
    """A group's advantage, smoothed by the rewards of the same problem in earlier steps. DCPO.

    i is the number of steps that asked the problem, this step included. z is (R - mean) / std over this step's
    group; Z is the same with mean and std over all i groups. A is the smaller in absolute value of

        Z / i + z (i - 1) / i     and     z / i + Z (i - 1) / i

    so a group of equal rewards still has an advantage if they differ from those of earlier groups. In the first
    of these steps it is :class:`GroupAdvantage` without ``eps``. Rows without a verdict get 0 and do not enter the
    statistics. Source: arXiv:2509.02333, smooth advantage standardisation, as in the authors' code.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (
        keys.MASK,
        keys.REWARD,
        keys.GROUP,
        keys.VALID,
        keys.PAST_REWARDS,
    )
    min_group_size: ClassVar[int] = 2

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"`` [N, T]; without ``"past_rewards"`` every step counts as the first.

        >>> td = TensorDict({"group": [7, 7], keys.MASK: torch.ones(2, 1) > 0}, [2])
        >>> td["next", "reward"] = torch.tensor([[1.0], [1.0]])
        >>> td["past_rewards"] = torch.tensor([[1.0, 0.0, 0.0]]).double().expand(2, 3)
        >>> SmoothGroupAdvantage()(td)["advantage"]
        tensor([[0.5000],
                [0.5000]])
        """
        groups = Groups(td)
        groups.need(self.min_group_size, "SmoothGroupAdvantage")
        past = td.get(keys.PAST_REWARDS, None)
        past = groups.reward.new_zeros(len(groups.index), 3) if past is None else past.double()
        now = reward_statistics(td)
        visits, *overall = merge_statistics(past, now).unbind(1)
        blend = 1 / visits.clamp_min(1)
        one, every = (_standardised(groups.reward, mean, std) for mean, std in (now[:, 1:].unbind(1), overall))
        first, second = every * blend + one * (1 - blend), one * blend + every * (1 - blend)
        advantage = torch.where(first.abs() < second.abs(), first, second)
        return per_token(td, torch.where(groups.valid, advantage, 0))


def _standardised(reward: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.where(std > 0, (reward - mean) / torch.where(std > 0, std, 1), 0)


def reward_statistics(td: TensorDict, *, raw: bool = False) -> Tensor:
    """Statistics of each row's group: 1 (0 without a verdict), mean and sample standard deviation of its rewards.

    Returns:
        [N, 3], float64; the standard deviation of equal rewards is exactly 0.
    """
    groups = Groups(td, raw=raw)
    std = torch.where(groups.uniform(), 0, groups.std(1))
    return torch.stack(((groups.count > 0).double(), groups.mean(), std), 1)[groups.index]


def merge_statistics(past: Tensor, now: Tensor) -> Tensor:
    """Statistics of all visits, from those of the earlier visits and of one more.

    A visit is a step that asked the problem; all visits count equally. The variance is the mean variance within
    visits plus the variance between their means. As in :meth:`Groups.uniform`, a deviation within the rounding of
    float32 is 0: the mean of equal numbers is not exactly that number, and dividing by the difference would make
    advantages of order 1 out of rounding.

    Args:
        past: [N, 3], visits, mean, deviation.
        now: [N, 3], the same; its visits are 0 or 1.

    >>> merge_statistics(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    tensor([[2.0000, 0.5000, 0.5000]])
    """
    visits = past[:, 0] + now[:, 0]
    weights = torch.stack((past[:, 0], now[:, 0])) / visits.clamp_min(1)
    mean = (weights * torch.stack((past[:, 1], now[:, 1]))).sum(0)
    within = (weights * torch.stack((past[:, 2], now[:, 2])).square()).sum(0)
    between = weights.prod(0) * (past[:, 1] - now[:, 1]).square()
    deviation = (within + between).sqrt()
    size = torch.maximum(past[:, 1].abs(), now[:, 1].abs())
    deviation = torch.where(deviation > torch.finfo(torch.float32).eps * size, deviation, 0)
    return torch.stack((visits, mean, deviation), 1)
