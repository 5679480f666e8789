"""The divergence from a reference as a penalty in the reward, token by token, and the control of its weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.credit.advantage import Advantage, GroupAdvantage, smallest_group
from llmrl.credit.groups import valid_of
from llmrl.keys import Key, reads, require_entry
from llmrl.losses.batch import bounded, finite_log_prob, select
from llmrl.losses.terms import Estimator, k1

Controller = Callable[[Tensor, Tensor], Tensor]
"""(coefficient of this step, divergence of this step in nats per token) -> coefficient of the next step, all 0-dim."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveKL:
    """Raise or lower the coefficient until the divergence meets a target.

    e = clip((KL - target) / target, -0.2, 0.2)
    beta <- beta (1 + gain e)

    Source: Ziegler et al. 2019, arXiv:1909.08593, section 2.2, with gain 0.1. In code with a
    horizon in episodes, the gain is the number of episodes of a step divided by the horizon.
    """

    target: float
    """Nats per token. (The paper's target is per response.)"""
    gain: float = 0.1
    """How strongly a step corrects; the coefficient changes by at most the factor 1 +- 0.2 gain."""

    def __post_init__(self) -> None:
        if not 0 < self.target < float("inf"):
            raise ValueError(f"AdaptiveKL: target must be above 0 nats per token and finite, got {self.target}.")
        if not 0 < self.gain < 5:
            raise ValueError(
                f"AdaptiveKL: gain must be above 0 and below 5, got {self.gain}: the coefficient is multiplied by "
                "1 - 0.2 gain or more, which must stay positive."
            )

    def __call__(self, coefficient: Tensor, kl: Tensor) -> Tensor:
        """The next coefficient.

        >>> AdaptiveKL(target=0.1)(torch.tensor(0.5), torch.tensor(9.0))
        tensor(0.5100)
        """
        return coefficient * (1 + self.gain * (kl / self.target - 1).clamp(-0.2, 0.2))


@dataclass(frozen=True, kw_only=True)
class KLPenalty:
    """Advantages of rewards minus a penalty: the divergence from the reference, token by token.

    r_t = -coefficient * KL_t

    KL_t is estimated from log pi_old and log pi_ref of the sampled token. GAE adds r_t to the reward of token t; group
    baselines add the sum over the response to its reward. The environment's reward, the shaped reward and the choice
    of groups do not change. Rows without a verdict do not count. Source: Ziegler et al. 2019,
    arXiv:1909.08593, eq. 2."""

    base: Advantage = field(default_factory=GroupAdvantage)
    """Computes the advantage."""
    coefficient: float = 0.05
    """Reward per nat, at the start of a run."""
    estimator: Estimator = k1
    """The estimator: k1, k2, k3 or absolute. It is computed without a gradient, so only its value matters."""
    controller: Controller | None = None
    """Changes the coefficient from step to step, such as AdaptiveKL; None: it is fixed."""

    def __post_init__(self) -> None:
        if not 0 < self.coefficient < float("inf"):
            raise ValueError(f"KLPenalty: coefficient must be above 0 and finite, got {self.coefficient}.")
        if keys.PAST_REWARDS in reads(self.base):
            raise ValueError(
                f"KLPenalty: {type(self.base).__name__} compares with rewards of earlier steps, and those have no "
                "penalty. Put the divergence into the loss instead (kl_in_reward off)."
            )

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """The entries that the base reads, and those from which the penalty is computed."""
        state: tuple[Key, ...] = () if self.controller is None else (keys.KL_COEFFICIENT,)
        return (*reads(self.base), keys.OLD_LOG_PROB, keys.REF_LOG_PROB, *state)

    @property
    def min_group_size(self) -> int:
        """The group size that the base needs."""
        return smallest_group(self.base)

    def __call__(self, td: TensorDict) -> TensorDict:
        """Writes the base's entries, ``"token_reward"`` [N, T], and ``"kl_coefficient"`` [N, 1] of the next step.

        >>> td = TensorDict({"group": [0, 0], keys.MASK: torch.ones(2, 2) > 0}, [2])
        >>> td["next", "reward"] = torch.tensor([[1.0], [0.0]])
        >>> td["old_log_prob"] = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]])
        >>> td["ref_log_prob"] = torch.tensor([[-1.0, -3.0], [-1.0, -1.0]])
        >>> KLPenalty(base=GroupAdvantage(divide_by_std=False), coefficient=0.1)(td)["advantage"]
        tensor([[ 0.4000,  0.4000],
                [-0.4000, -0.4000]])
        """
        out = td.copy()
        kl = self.divergence(td)
        before = td.get(keys.KL_COEFFICIENT, None)
        coefficient = kl.new_tensor(self.coefficient) if before is None else before.reshape(-1)[0].to(kl.dtype)
        out[keys.TOKEN_REWARD] = -coefficient * kl
        counted = td[keys.MASK] & valid_of(td)[:, None]
        mean = torch.where(counted, kl, 0).sum() / counted.sum().clamp_min(1)
        after = coefficient if self.controller is None else self.controller(coefficient, mean)
        out[keys.KL_COEFFICIENT] = torch.where(counted.any(), after, coefficient).expand(len(td), 1).clone()
        return self.base(out)

    def divergence(self, td: TensorDict) -> Tensor:
        """Estimated KL of each sampled token in nats, [N, T] float64; 0 outside the mask."""
        mask = td[keys.MASK]
        old, ref = (
            finite_log_prob(select(mask, require_entry(td, name).detach(), dtype=torch.float64))
            for name in (keys.OLD_LOG_PROB, keys.REF_LOG_PROB)
        )
        return select(mask, self.estimator(bounded(ref - old), torch.zeros_like(old)))
