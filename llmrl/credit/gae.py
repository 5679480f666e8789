"""Advantages with a critic: generalised advantage estimation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.credit.groups import reward_of, token_reward_of, valid_of
from llmrl.keys import Key


@dataclass(frozen=True, kw_only=True)
class GAE:
    """Generalised advantage estimation with a critic, over the sampled tokens. arXiv:1506.02438.

    delta_t = R_t + gamma V_{t+1} - V_t,   A_t = delta_t + gamma lam A_{t+1}

    R_t is the token's own reward ("token_reward"); the last sampled token also gets the response's reward. Tokens
    that the policy did not sample, such as those of a tool or a user, are skipped: t + 1 is the next sampled token.
    Rows without a verdict get 0.
    """

    in_keys: ClassVar[tuple[Key, ...]] = (keys.MASK, keys.REWARD, keys.VALID, keys.VALUE)

    gamma: float = 1.0
    """Discount per token."""
    lam: float = 0.95
    """0: one-step differences; 1: the whole return minus the value."""
    whiten: bool = True
    """Give the batch's advantages mean 0 and variance 1. The value target is computed before that."""

    def __post_init__(self) -> None:
        for name, x in (("gamma", self.gamma), ("lam", self.lam)):
            if not 0 <= x <= 1:
                raise ValueError(f"GAE: {name} must be between 0 and 1, got {x}.")

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes ``"advantage"`` and ``"value_target"`` [N, T], 0 outside the mask."""
        mask, reward, valid = td[keys.MASK], reward_of(td), valid_of(td)
        value = torch.where(mask, td[keys.VALUE].detach().double(), 0)
        reward = torch.where(valid, reward, 0)
        own = token_reward_of(td)
        advantage = torch.zeros_like(value)
        ahead = torch.zeros_like(reward)  # [N] advantage of the next sampled token
        next_value = torch.zeros_like(reward)
        last = torch.ones_like(valid)  # no sampled token seen yet, going backwards
        for t in reversed(range(mask.shape[1])):
            now, v = mask[:, t], value[:, t]
            delta = own[:, t] + torch.where(last, reward, 0) + self.gamma * next_value - v
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
        # without a verdict the value is its own target, so its loss is 0
        out[keys.VALUE_TARGET] = torch.where(used, target, value).to(dtype)
        return out
