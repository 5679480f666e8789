"""Statistics of groups, the responses to one prompt, and rules for which groups are trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys

Keep = Callable[[TensorDict], Tensor]
"""bool [N]: the rows to train on, whole groups."""


def reward_of(td: TensorDict) -> Tensor:
    """Shaped rewards [N] of whole responses, float64, without the rewards of single tokens.

    Group statistics of float32 rewards would not be exact.
    """
    return td.get(keys.SHAPED_REWARD, td[keys.REWARD]).reshape(td.batch_size[0]).double()


def token_reward_of(td: TensorDict) -> Tensor:
    """Rewards [N, T] of single tokens, float64; 0 outside the mask, and everywhere if the entry is missing."""
    mask, reward = td[keys.MASK], td.get(keys.TOKEN_REWARD, None)
    if reward is None:
        return torch.zeros(mask.shape, dtype=torch.float64, device=mask.device)
    return torch.where(mask, reward.double(), 0)


def _return_of(td: TensorDict) -> Tensor:
    reward = reward_of(td)
    return reward if td.get(keys.TOKEN_REWARD, None) is None else reward + token_reward_of(td).sum(1)


def valid_of(td: TensorDict) -> Tensor:
    """bool [N]: the rows with a verdict; all rows if the entry is missing."""
    valid = td.get(keys.VALID, None)
    if valid is None:
        return torch.ones(td.batch_size[0], dtype=torch.bool, device=td[keys.REWARD].device)
    return valid.reshape(td.batch_size[0])


class Groups:
    """Statistics of the valid rewards of each group; ids are arbitrary integers.

    A response's reward is its shaped reward plus the sum of its tokens' rewards; with ``raw``, the environment's
    reward.
    """

    def __init__(self, td: TensorDict, *, raw: bool = False) -> None:
        self.reward = td[keys.REWARD].reshape(td.batch_size[0]).double() if raw else _return_of(td)
        self.valid = valid_of(td)
        _, self.index, self.rows = td[keys.GROUP].reshape(-1).unique(return_inverse=True, return_counts=True)
        self.count = self.sum(self.valid.double())
        self.largest = self._extreme("amax", -torch.inf)
        self.smallest = self._extreme("amin", torch.inf)

    def sum(self, x: Tensor) -> Tensor:
        """[groups] sum of x [N]."""
        return x.new_zeros(len(self.rows)).index_add_(0, self.index, x)

    def _extreme(self, how: str, neutral: float) -> Tensor:
        start = self.reward.new_full((len(self.rows),), neutral)
        used = torch.where(self.valid, self.reward, neutral)
        return start.scatter_reduce(0, self.index, used, how)

    def uniform(self) -> Tensor:
        """bool [groups]: all valid rewards equal, up to the rounding of float32."""
        size = torch.maximum(self.largest.abs(), self.smallest.abs())
        return ~(self.largest - self.smallest > torch.finfo(torch.float32).eps * size)

    def mean(self) -> Tensor:
        """[groups] mean of the valid rewards."""
        return self.sum(torch.where(self.valid, self.reward, 0)) / self.count.clamp_min(1)

    def centred(self) -> Tensor:
        """[N] rewards minus their group's mean; 0 for rows without a verdict."""
        return torch.where(self.valid, self.reward - self.mean()[self.index], 0)

    def std(self, ddof: int) -> Tensor:
        """[groups] standard deviation of the valid rewards; of equal rewards, 0 up to rounding."""
        free = (self.count - ddof).clamp_min(1)
        return (self.sum(self.centred().square()) / free).sqrt()

    def need(self, rows: int, who: str) -> None:
        """Raise if a group has fewer than ``rows`` responses."""
        if len(self.rows) and int(self.rows.min()) < rows:
            raise ValueError(
                f"{who} compares the responses to one prompt, but got a group of "
                f"{int(self.rows.min())}. Sample at least {rows} responses per prompt "
                "(group_size), or use an algorithm with a critic."
            )


@dataclass(frozen=True, kw_only=True)
class KeepAll:
    """Train on every group."""

    def __call__(self, td: TensorDict) -> Tensor:
        """bool [N]."""
        return torch.ones(td.batch_size[0], dtype=torch.bool, device=td[keys.REWARD].device)


@dataclass(frozen=True, kw_only=True)
class MixedRewards:
    """Train on groups whose rewards differ: DAPO's dynamic sampling, arXiv:2503.14476.

    The other groups have no advantage. Rows without a verdict do not make a group mixed. A group of one row is
    kept.
    """

    def __call__(self, td: TensorDict) -> Tensor:
        """bool [N].

        >>> td = TensorDict({"group": [0, 0, 1, 1]}, [4])
        >>> td["next", "reward"] = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
        >>> MixedRewards()(td)
        tensor([ True,  True, False, False])
        """
        groups = Groups(td, raw=True)
        return ((groups.largest > groups.smallest) | (groups.rows == 1))[groups.index]
