"""Shaping: what a recipe adds to the rewards of the environment or subtracts from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tensordict import TensorDict
from torch import Tensor

from llmrl import keys

PAPER_LIMIT = 20_480
"""Largest response of DAPO's paper, tokens."""

Shape = Callable[[TensorDict], Tensor]
"""Entries -> shaped rewards [N, 1]."""


@dataclass(frozen=True, kw_only=True)
class SoftOverlong:
    """Subtract up to ``penalty`` in the last ``window`` tokens before the limit. DAPO eq. 13.

    Up to limit - window tokens nothing is subtracted; then the amount rises linearly to ``penalty`` at the limit, and
    stays there. A number that is None follows the response limit of the run; outside a run it is the paper's, 20,480
    or 4,096.
    """

    limit: int | None = None
    """Largest response length, tokens; None: the response limit."""
    window: int | None = None
    """The penalty begins this many tokens before the limit; None: a fifth of the limit, as in the paper."""
    penalty: float = 1.0
    """The largest penalty. The paper's is half the range of rewards: 1 for +1 and -1, 0.5 for 1 and 0."""

    def __post_init__(self) -> None:
        window = 1 if self.window is None else self.window
        limit = max(window, 1) if self.limit is None else self.limit  # an open limit is checked when it is known
        if not 0 < window <= limit:
            raise ValueError(
                "SoftOverlong: window must be above 0 and at most limit, got window "
                f"{window} and limit {limit}, both in tokens."
            )

    def _numbers(self) -> tuple[int, int]:
        limit = PAPER_LIMIT if self.limit is None else self.limit
        return limit, max(limit // 5, 1) if self.window is None else self.window

    def resolve(self, max_response_length: int) -> SoftOverlong:
        """The component with the numbers that follow from the response limit, in tokens.

        >>> SoftOverlong().resolve(160)
        SoftOverlong(limit=160, window=32, penalty=1.0)
        """
        limited = replace(self, limit=max_response_length) if self.limit is None else self
        limit, window = limited._numbers()
        return replace(self, limit=limit, window=window)

    def __call__(self, td: TensorDict) -> Tensor:
        """Rewards [N, 1].

        >>> import torch
        >>> td = TensorDict({("masks", "all_assistant_mask"): torch.ones(1, 9) > 0}, [1])
        >>> td["next", "reward"] = torch.tensor([[1.0]])
        >>> SoftOverlong(limit=10, window=4)(td)
        tensor([[0.2500]])
        """
        reward = td.get(keys.SHAPED_REWARD, td[keys.REWARD])
        length = td[keys.MASK].sum(1).to(reward.dtype)
        limit, window = self._numbers()
        over = ((length - (limit - window)) / window).clamp(0, 1)
        return reward - self.penalty * over.reshape(reward.shape)
