"""Rewards in place of those the environment gave: what a recipe adds or takes off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tensordict import TensorDict
from torch import Tensor

from llmrl import keys

Shape = Callable[[TensorDict], Tensor]
"""Rewards [N, 1] in place of those given."""


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
    """The largest penalty: half the reward's range in the paper, so 1 for rewards of +1 and -1, 0.5 for 1 and 0."""

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
        reward = td.get(keys.SHAPED_REWARD, td[keys.REWARD])
        length = td[keys.MASK].sum(1).to(reward.dtype)
        over = ((length - (self.limit - self.window)) / self.window).clamp(0, 1)
        return reward - self.penalty * over.reshape(reward.shape)
