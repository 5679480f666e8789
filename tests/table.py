"""The one table of all algorithms, and how tests evaluate them.

A new algorithm adds one row here and with it gets every test of tests/algorithms/test_table.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import oracles
import torch
from strategies import Batch
from torch import Tensor

from llmrl.algorithms import algorithm

Oracle = Callable[[Batch, Tensor], Tensor]


@dataclass(frozen=True)
class Outcome:
    """What an algorithm makes of a batch; the gradient is with respect to the log-probabilities."""

    loss: Tensor
    grad: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        return bool(self.loss.isfinite().all() and self.grad.isfinite().all())


@dataclass(frozen=True)
class Row:
    """One algorithm, its paper's loss, and which general sentences do not hold for it.

    Args:
        name: of the algorithm, as on the command line.
        options: of the recipe.
        oracle: the loss from the paper, called with a batch and its log-probabilities.
        same_value: the oracle's value is meant too, not the gradient alone.
        potential: the gradient is the derivative of the value (no stop-gradient is at work).
        per_token: advantages may differ inside a sequence.
        over_batch: a token's loss depends on the whole micro-batch (covariances).
        penalty: a term beside the policy loss has a gradient of its own.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    oracle: Oracle | None = None
    same_value: bool = True
    potential: bool = True
    per_token: bool = True
    over_batch: bool = False
    penalty: bool = False

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{k}={v}" for k, v in self.options.items())])

    def make(self) -> Any:
        return algorithm(self.name, **self.options)


def total(out: Any) -> Tensor:
    """The loss that a trainer differentiates."""
    return sum(value for name, value in out.items() if name.startswith("loss_"))


def evaluate(recipe: Any, batch: Batch, dtype: torch.dtype = torch.float64) -> Outcome:
    """Loss and gradient of a whole batch, its weights made on the way."""
    torch.manual_seed(0)  # Clip-Cov draws
    new = batch.log_prob.clone().requires_grad_()
    td = recipe.weigh(batch.td(new, dtype))
    return _outcome(recipe, td, new)


def evaluate_split(recipe: Any, batch: Batch, parts: Iterable[list[int]]) -> Outcome:
    """Loss and gradient summed over micro-batches; weights are those of the whole batch."""
    new = batch.log_prob.clone().requires_grad_()
    td = recipe.weigh(batch.td(new))
    outcomes = [_outcome(recipe, td[rows], new) for rows in parts]
    return Outcome(sum(o.loss for o in outcomes), sum(o.grad for o in outcomes))


def _outcome(recipe: Any, td: Any, new: Tensor) -> Outcome:
    out = recipe.loss()(td)
    loss = total(out)
    (grad,) = torch.autograd.grad(loss, new, retain_graph=True)
    metrics = {k: v for k, v in out.items() if not k.startswith("loss_")}
    return Outcome(loss.detach(), grad, metrics)


def oracle_outcome(oracle: Oracle, batch: Batch) -> Outcome:
    new = batch.log_prob.clone().requires_grad_()
    loss = oracle(batch, new)
    if not loss.requires_grad:
        return Outcome(loss, torch.zeros_like(new))
    (grad,) = torch.autograd.grad(loss, new)
    return Outcome(loss.detach(), grad)


def assert_same(a: Outcome, b: Outcome, *, value: bool = True, atol: float = 1e-10) -> None:
    """Equal to rounding, relative to the size of the numbers at hand."""
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=atol)
    if value:
        torch.testing.assert_close(a.loss, b.loss, rtol=1e-9, atol=atol)


def factors(recipe: Any, batch: Batch) -> Tensor:
    """The gradient factor F of each token with an advantage, from grad = -w A F; NaN elsewhere."""
    weight = recipe.weigh(batch.td())["weight"]
    scale = torch.where(batch.mask, weight * batch.advantage, 0.0)
    return torch.where(scale != 0, -evaluate(recipe, batch).grad / scale, float("nan"))


def with_kl(base: Oracle, coefficient: float) -> Oracle:
    """The oracle plus k3 to a reference that is the old policy, averaged over sequences."""

    def oracle(b: Batch, lp: Tensor) -> Tensor:
        def rule(i: int, j: int, new: Tensor) -> Tensor:
            d = b.old_log_prob[i, j] - new
            return coefficient * (d.exp() - d - 1)

        return base(b, lp) + oracles.sequence_mean(b, lp, rule)

    return oracle


ROWS: tuple[Row, ...] = (
    Row("ppo", oracle=oracles.ppo),
    Row(
        "ppo",
        {"critic": False, "clip_low": 0.1, "clip_high": 0.5, "dual_clip": 3.0},
        partial(oracles.ppo, low=0.1, high=0.5, dual=3.0),
    ),
    Row("grpo", {"kl": 0.0}, oracles.grpo),
    Row("grpo", {}, with_kl(oracles.grpo, 0.04), penalty=True),
    Row("dr_grpo", {"max_length": 7}, partial(oracles.dr_grpo, length=7)),
    Row("rloo", {}, partial(oracles.dr_grpo, length=1)),
    Row("dapo", {}, oracles.dapo),
    Row("dapo", {"dual_clip": 3.0}, partial(oracles.dapo, dual=3.0)),
    Row("gppo", {}, oracles.gppo, potential=False),
    Row("gppo", {"dual_clip": 10.0}, partial(oracles.gppo, dual=10.0), potential=False),
    Row("ce_gppo", {}, oracles.ce_gppo, potential=False),
    Row(
        "ce_gppo",
        {"beta_low": 0.5, "beta_high": 2.0},
        partial(oracles.ce_gppo, beta_low=0.5, beta_high=2.0),
        potential=False,
    ),
    Row("ce_gppo", {"literal": True}, partial(oracles.ce_gppo, literal=True), potential=False),
    Row(
        "ce_gppo",
        {"beta_low": 0.0, "beta_high": 0.0},
        partial(oracles.ce_gppo, beta_low=0.0, beta_high=0.0),
        potential=False,
    ),
    Row("gspo", {}, oracles.gspo_token),
    Row("gspo", {"clip_low": 0.1, "clip_high": 0.15}, partial(oracles.gspo_token, low=0.1, high=0.15)),
    Row("gspo", {"token_form": False}, oracles.gspo, per_token=False),
    Row("espo", {}, oracles.espo),
    Row("espo", {"alpha": 0.5}, partial(oracles.espo, alpha=0.5)),
    Row("espo", {"clip_floor": 0.01, "clip_ceiling": 0.012}, partial(oracles.espo, eps_min=0.01, eps_max=0.012)),
    Row("espo", {"fixed_clip": (0.1, 0.2)}, partial(oracles.espo, eps=(0.1, 0.2))),
    Row("espo", {"old_token_ratio": True}, partial(oracles.espo, token_ratio="old"), potential=False),
    Row("erc", {}, oracles.erc, potential=False),
    Row(
        "erc+gppo",
        {"low": 0.8, "high": 1.2},
        partial(oracles.erc, base=oracles.gppo, low=0.8, high=1.2),
        potential=False,
    ),
    Row("erc+gspo", {}, partial(oracles.erc, base=oracles.gspo_token), potential=False),
    Row("erc+espo", {}, partial(oracles.erc, base=oracles.espo), potential=False),
    Row("cispo", {}, oracles.cispo, potential=False),
    Row("cispo", {"clip_low": 0.2}, partial(oracles.cispo, low=0.2), potential=False),
    Row("sapo", {}, oracles.sapo),
    Row("gmpo", {}, oracles.gmpo, per_token=False),
    Row("clip_cov", {}, potential=False, over_batch=True),
    Row("kl_cov", {}, oracles.kl_cov, over_batch=True, penalty=True),
    Row("aspo", {"kl": 0.0}, oracles.aspo, same_value=False, potential=False),
    Row("aspo", {}, potential=False, penalty=True),
    Row("dcpo", {}, oracles.dcpo),
    Row("tis", {}, oracles.dapo),
    Row("mis", {}, oracles.dapo),
    Row("mis+gspo", {}, oracles.gspo_token),
    Row("examples.custom_algorithm:steady", {"nats": 0.0}, potential=False),
)
