"""From rewards to advantages: shape, keep, compare.

The trainer calls, in this order, ``keep`` and ``shape`` when responses come in and ``advantage``
once per step.  All of them take a TensorDict with the entries of :mod:`llmrl.keys`, one row per
response.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key

Shape = Callable[[TensorDict], Tensor]
"""Rewards [N, 1] in place of those given."""
Keep = Callable[[TensorDict], Tensor]
"""bool [N]: the rows to train on, whole groups."""
Advantage = Callable[[TensorDict], TensorDict]
"""The same entries and ``"advantage"`` [N, T], 0 outside the mask."""


def _reward(td: TensorDict) -> Tensor:
    """Rewards [N], float64: group statistics of float32 rewards are not exact."""
    return td[keys.REWARD].reshape(td.batch_size[0]).double()


def _valid(td: TensorDict) -> Tensor:
    """bool [N]; without the entry every verdict counts."""
    valid = td.get(keys.VALID, None)
    if valid is None:
        return torch.ones(td.batch_size[0], dtype=torch.bool, device=td[keys.REWARD].device)
    return valid.reshape(td.batch_size[0])


@dataclass(frozen=True, kw_only=True)
class KeepAll:
    """Train on every group."""

    def __call__(self, td: TensorDict) -> Tensor:
        """bool [N]."""
        return torch.ones(td.batch_size[0], dtype=torch.bool, device=td[keys.REWARD].device)


@dataclass(frozen=True, kw_only=True)
class MixedRewards:
    """Train on groups whose rewards differ: DAPO's dynamic sampling, arXiv:2503.14476.

    The others have no advantage.  Rows without a verdict do not make a group mixed; a group of one
    row is kept.
    """

    def __call__(self, td: TensorDict) -> Tensor:
        """bool [N].

        >>> td = TensorDict({"group": [0, 0, 1, 1]}, [4])
        >>> td["next", "reward"] = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
        >>> MixedRewards()(td)
        tensor([ True,  True, False, False])
        """
        groups = Groups(td)
        return ((groups.largest > groups.smallest) | (groups.rows == 1))[groups.index]


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """Subtract up to ``penalty`` in the last ``window`` tokens before the limit.  DAPO eq. 13.

    0 up to limit - window tokens, then linear, -penalty at the limit and beyond.
    """

    limit: int = 20_480
    """Largest response length, tokens."""
    window: int = 4_096
    """How many tokens before the limit the penalty begins."""
    penalty: float = 1.0
    """The largest penalty."""

    def __post_init__(self) -> None:
        if not 0 < self.window <= self.limit:
            raise ValueError(
                "SoftOverlong: window must be above 0 and at most limit, got window "
                f"{self.window} and limit {self.limit}, both in tokens."
            )

    def __call__(self, td: TensorDict) -> Tensor:
        """Rewards [N, 1].

        >>> td = TensorDict({("masks", "all_assistant_mask"): torch.ones(1, 9) > 0}, [1])
        >>> td["next", "reward"] = torch.tensor([[1.0]])
        >>> SoftOverlong(limit=10, window=4)(td)
        tensor([[0.2500]])
        """
        reward = td[keys.REWARD]
        length = td[keys.MASK].sum(1).to(reward.dtype)
        over = ((length - (self.limit - self.window)) / self.window).clamp(0, 1)
        return reward - self.penalty * over.reshape(reward.shape)


class Groups:
    """Statistics of the valid rewards of each group; ids are arbitrary integers."""

    def __init__(self, td: TensorDict) -> None:
        self.reward, self.valid = _reward(td), _valid(td)
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
        """[groups] of the valid rewards."""
        return self.sum(torch.where(self.valid, self.reward, 0)) / self.count.clamp_min(1)

    def centred(self) -> Tensor:
        """[N] rewards minus their group's mean; 0 for rows without a verdict."""
        return torch.where(self.valid, self.reward - self.mean()[self.index], 0)

    def std(self, ddof: int) -> Tensor:
        """[groups] deviation of the valid rewards; equal ones may leave a trace of rounding."""
        free = (self.count - ddof).clamp_min(1)
        return (self.sum(self.centred().square()) / free).sqrt()

    def need(self, rows: int, who: str) -> None:
        """Raise if a group is too small to be compared within."""
        if len(self.rows) and int(self.rows.min()) < rows:
            raise ValueError(
                f"{who} compares the responses to one prompt and was given a group of "
                f"{int(self.rows.min())}. Sample at least {rows} responses per prompt "
                "(group_size), or use an algorithm with a critic."
            )


def per_token(td: TensorDict, advantage: Tensor) -> TensorDict:
    """The entries with the row's advantage [N] on each of its sampled tokens."""
    dtype = torch.float64 if td[keys.REWARD].dtype == torch.float64 else torch.float32
    out = td.copy()
    out[keys.ADVANTAGE] = torch.where(td[keys.MASK], advantage.to(dtype)[:, None], 0)
    return out


@dataclass(frozen=True, kw_only=True)
class GroupAdvantage:
    """A = (R - mean) / (std + eps) over the responses to the same prompt.  GRPO, arXiv:2402.03300.

    Exactly 0 where all rewards of a group are equal.  Rows without a verdict get 0 and stay out of
    mean and deviation.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.MASK, keys.REWARD, keys.GROUP, keys.VALID)
    min_group_size: ClassVar[int] = 2

    divide_by_std: bool = True
    """False: only subtract the mean (Dr. GRPO)."""
    ddof: int = 1
    """1: the sample's deviation, as in most code; 0: the population's, as GPPO prints it."""
    eps: float = 1e-6
    """Added to the deviation."""

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
    """A = R - mean of the other responses to the same prompt.  RLOO, arXiv:2402.14740."""

    in_keys: ClassVar[tuple[Key, ...]] = (keys.MASK, keys.REWARD, keys.GROUP, keys.VALID)
    min_group_size: ClassVar[int] = 2

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"``; 0 where no other response has a verdict."""
        groups = Groups(td)
        groups.need(self.min_group_size, "LeaveOneOut")
        reward = torch.where(groups.valid, groups.reward, 0)
        others = (groups.count - 1).clamp_min(1)[groups.index]
        baseline = (groups.sum(reward)[groups.index] - reward) / others
        alone = (groups.count < 2)[groups.index]
        zero = groups.uniform()[groups.index] | ~groups.valid | alone
        return per_token(td, torch.where(zero, 0, reward - baseline))


@dataclass(frozen=True, kw_only=True)
class GAE:
    """Generalised advantage estimation with a critic, over the sampled tokens.  arXiv:1506.02438.

    delta_t = R_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lam A_{t+1}

    The reward falls on the last sampled token.  Tokens that the policy did not sample are skipped,
    so what a tool or a user said is transparent.  Rows without a verdict get 0.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.MASK, keys.REWARD, keys.VALID, keys.VALUE)

    gamma: float = 1.0
    """Discount per token."""
    lam: float = 0.95
    """0: one-step differences; 1: the whole return minus the value."""
    whiten: bool = True
    """Give the batch's advantages mean 0 and variance 1; the value target is made before."""

    def __post_init__(self) -> None:
        for name, x in (("gamma", self.gamma), ("lam", self.lam)):
            if not 0 <= x <= 1:
                raise ValueError(f"GAE: {name} must be between 0 and 1, got {x}.")

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"`` and ``"value_target"`` [N, T], 0 outside the mask."""
        mask, reward, valid = td[keys.MASK], _reward(td), _valid(td)
        value = torch.where(mask, td[keys.VALUE].detach().double(), 0)
        reward = torch.where(valid, reward, 0)
        advantage = torch.zeros_like(value)
        ahead = torch.zeros_like(reward)  # [N] advantage of the next sampled token
        next_value = torch.zeros_like(reward)
        last = torch.ones_like(valid)  # no sampled token seen yet, going backwards
        for t in reversed(range(mask.shape[1])):
            now, v = mask[:, t], value[:, t]
            delta = torch.where(last, reward, 0) + self.gamma * next_value - v
            ahead = torch.where(now, delta + self.gamma * self.lam * ahead, ahead)
            advantage[:, t] = torch.where(now, ahead, 0)
            next_value = torch.where(now, v, next_value)
            last = last & ~now
        target = advantage + value
        used = mask & valid[:, None]
        if self.whiten:
            count = used.sum().clamp_min(1)
            mean = torch.where(used, advantage, 0).sum() / count
            variance = torch.where(used, (advantage - mean).square(), 0).sum()
            variance = variance / (count - 1).clamp_min(1)
            advantage = (advantage - mean) / (variance + 1e-8).sqrt()
        dtype = torch.float64 if td[keys.VALUE].dtype == torch.float64 else torch.float32
        out = td.copy()
        out[keys.ADVANTAGE] = torch.where(used, advantage, 0).to(dtype)
        # without a verdict the value is its own target: nothing to learn
        out[keys.VALUE_TARGET] = torch.where(used, target, value).to(dtype)
        return out


@dataclass(frozen=True, kw_only=True)
class OverlongFilter:
    """Cut off responses count in the baseline and are not trained on: their mask is emptied.

    DAPO's overlong filtering, the alternative to :class:`SoftOverlong`.
    """

    base: Advantage = GroupAdvantage()
    """What gives the advantage."""

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """What the base reads, and which responses were cut off."""
        return (*getattr(self.base, "in_keys", ()), keys.TRUNCATED)

    @property
    def min_group_size(self) -> int:
        """That of the base."""
        return getattr(self.base, "min_group_size", 1)

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"`` and the mask."""
        out = self.base(td)
        whole = ~td[keys.TRUNCATED].reshape(-1, 1)
        out[keys.MASK] = td[keys.MASK] & whole
        out[keys.ADVANTAGE] = torch.where(whole, out[keys.ADVANTAGE], 0)
        return out


@dataclass(frozen=True, kw_only=True)
class Credit:
    """How rewards become advantages; part of an algorithm."""

    shape: tuple[Shape, ...] = ()
    """Each changes the rewards, in this order."""
    keep: Keep = KeepAll()
    """Which groups are trained on."""
    advantage: Advantage = GroupAdvantage()
    """What a token's probability is raised by."""
    max_refills: int = 0
    """How often groups that were not kept are replaced by new ones, per step."""

    def __post_init__(self) -> None:
        if callable(self.shape):
            raise TypeError(f"Credit: shape must be a tuple of callables: ({self.shape!r},).")
        if not self.max_refills >= 0:
            raise ValueError(f"Credit: max_refills must be 0 or more, got {self.max_refills}.")
