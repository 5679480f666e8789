"""How far a step moves the policy's distributions, including tokens that were not sampled.

The metrics of every run look at sampled tokens alone. These metrics cost two passes through the model over a few rows,
and the entropy in every update, so they are off unless ``train.drift`` is set. docs/claims.md uses the same numbers on
exact tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.losses import PolicyLoss
from llmrl.policies.policy import Policy
from llmrl.rollouts.batch import LAYOUT, Batch
from llmrl.training.learner import OLD
from llmrl.training.measures import Measures

QUANTILES = (1, 10, 50, 90, 99)
"""Reported percentiles of the entropy ratio."""
DECILES = 10
ROWS, POSITIONS = 16, 256
"""Number of responses and of their sampled tokens at which the divergence is measured."""
TINY = 1e-8
"""As in ERC's gate: two entropies of 0 have the ratio 1."""


class _Update(NamedTuple):
    """The sampled tokens of one update, each [M]."""

    old_entropy: Tensor
    entropy: Tensor
    has_advantage: Tensor
    zero_grad: Tensor


@dataclass
class Drift:
    """Watches the updates of one step: :meth:`begin`, :meth:`note` after each update, :meth:`result`.

    Args:
        policy: the policy that is trained.
        loss: the policy loss of the recipe.
    """

    policy: Policy
    loss: PolicyLoss
    updates: list[_Update] = field(init=False, default_factory=list)
    layout: TensorDict = field(init=False)
    """The tokens at which the divergence is measured, on the CPU."""
    before: Tensor = field(init=False)
    """[M, V] log-probabilities before the updates."""

    def __post_init__(self) -> None:
        self.loss = self.loss.to(self.policy.device)

    def begin(self, batch: Batch) -> None:
        """Remember the distributions before the first update.

        Args:
            batch: all rows of the step.
        """
        self.updates = []
        self.layout = thinned(batch.layout, ROWS, POSITIONS)
        self.before = self.policy.distributions(self.layout)

    def note(self, batch: Batch) -> None:
        """Add the tokens of an update.

        Args:
            batch: rows of the update, as the loss read them; the scores of the update are in ``batch.whole``.
        """
        data = batch.data.copy()
        scores = (*OLD, *OLD.values())
        for name in scores:
            data[name] = torch.zeros_like(data[keys.SAMPLER_LOG_PROB])
        data = batch.having(data).refreshed(scores).data
        with torch.no_grad():
            zero_grad = self.loss.examine(data).zero_grad
        mask = data[keys.MASK]
        entries = (data[keys.OLD_ENTROPY], data[keys.ENTROPY], data[keys.ADVANTAGE] != 0, zero_grad)
        self.updates.append(_Update(*(x[mask] for x in entries)))

    def result(self) -> Measures:
        """The metrics of the step; none if no token was trained on."""
        if not sum(len(update.entropy) for update in self.updates):
            return {}
        after = self.policy.distributions(self.layout)
        chosen = self.layout[keys.TOKENS][self.layout[keys.MASK]].to(after.device)
        sampled, rest = divergence(self.before, after, chosen)
        found: Measures = {
            "actor/kl_step": sampled + rest,
            "actor/kl_step_sampled": sampled,
            "actor/kl_step_unsampled": rest,
        }
        old, new, has_advantage, zero_grad = map(torch.cat, zip(*self.updates, strict=True))
        ratio = (new.double().clamp_min(0) + TINY) / (old.double().clamp_min(0) + TINY)
        found |= {f"actor/entropy_ratio_p{q}": _quantiles(ratio, [q / 100])[0] for q in QUANTILES}
        edges = _quantiles(old.double(), [n / DECILES for n in range(1, DECILES)])
        decile = torch.bucketize(old.double(), edges)
        for number in range(DECILES):
            inside = has_advantage & (decile == number)
            found[f"actor/trained_decile{number + 1}"] = _share(~zero_grad, inside)
        for number, update in enumerate(self.updates):
            found[f"actor/trained_update{number + 1}"] = _share(~update.zero_grad, update.has_advantage)
        return found


def thinned(layout: TensorDict, rows: int, positions: int) -> TensorDict:
    """Some of the rows with a sampled token, and a mask of at most ``positions`` of their sampled tokens.

    Rows and tokens are evenly spaced.

    >>> layout = TensorDict({keys.TOKENS: torch.arange(8).view(2, 4)}, [2])
    >>> layout[keys.ATTENTION] = torch.ones(2, 4, dtype=torch.bool)
    >>> layout[keys.MASK] = torch.tensor([[False, True, True, True]]).expand(2, 4)
    >>> thinned(layout, rows=1, positions=2)[keys.MASK].int().tolist()
    [[0, 1, 0, 1]]
    """
    live = layout[keys.MASK].any(1).nonzero().squeeze(1)
    live = live[:: -(-len(live) // rows) or 1]
    found = layout.select(*LAYOUT)[live].clone()
    mask = found[keys.MASK]
    order = mask.flatten().cumsum(0).view_as(mask) - 1
    distance = -(-int(mask.sum()) // positions) or 1
    found[keys.MASK] = mask & (order % distance == 0)
    return found


def divergence(before: Tensor, after: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """KL(before, after), the mean over positions, split into sampled tokens and all others.

    Args:
        before: [M, V] log-probabilities.
        after: [M, V] log-probabilities.
        chosen: [M] int64, the sampled tokens.

    Returns:
        The part of the sampled token and the part of all other tokens, each a mean over positions, in nats. One of the
        two may be negative; their sum is not.

    >>> before = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> after = torch.tensor([[0.5, 0.4, 0.1]]).log()
    >>> [round(x.item(), 4) for x in divergence(before, after, torch.tensor([0]))]
    [0.0, 0.1116]
    """
    terms = torch.where(before > -torch.inf, before.exp() * (before - after), 0)
    sampled = terms.gather(-1, chosen[:, None])[:, 0]
    return sampled.mean(), (terms.sum(-1) - sampled).mean()


def _quantiles(x: Tensor, shares: list[float]) -> Tensor:
    # torch.quantile refuses more than 16 million numbers; a sort does not.
    at = torch.tensor(shares, dtype=torch.float64) * (len(x) - 1)
    return x.sort().values[at.round().long().to(x.device)]


def _share(flags: Tensor, among: Tensor) -> Tensor:
    """The share of true values among some; 0 if there are none."""
    return (flags & among).sum() / among.sum().clamp_min(1)
