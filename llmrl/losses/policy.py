"""The policy loss, made of ratio, clip, gates and weights, and its metrics.

    loss = -(weight * objective).sum()

A recipe chooses the components (:mod:`llmrl.algorithms`). ``weight`` already holds the averaging.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.batch import LOG_RATIO_LIMIT, TokenBatch
from llmrl.losses.clip import Bounds, Clip, Clipped, PPOClip, as_tensor, bounded_clip
from llmrl.losses.correction import Correction
from llmrl.losses.gate import Gate
from llmrl.losses.module import BatchLoss, bind, component_keys
from llmrl.losses.partition import Partition
from llmrl.losses.ratio import TokenRatio
from llmrl.losses.segments import check_segment_ids

Ratio = Callable[[TokenBatch], Tensor]

METRICS = (
    "tokens",
    "clip_fraction_low",
    "clip_fraction_high",
    "zero_grad_fraction",
    "gate_fraction",
    "kl_approx_k1",
    "kl_approx_k3",
    "ratio_mean",
    "ratio_min",
    "ratio_max",
)
"""The metrics that :class:`PolicyLoss` returns in addition to its loss, in this order."""
SEGMENT_METRICS = ("share", "clip_fraction", "entropy", "clip_width")
"""Metrics of each segment ``k``, named ``segment{k}_share`` and so on: means over the segment's tokens.
``entropy`` is there if the loss reads old entropies, ``clip_width`` (half the distance of the bounds) if the
clip has bounds."""


class Components(Protocol):
    """The components of a policy loss; :class:`llmrl.algorithms.Algorithm` has them."""

    @property
    def ratio(self) -> Ratio: ...
    @property
    def clip(self) -> Clip: ...
    @property
    def gates(self) -> tuple[Gate, ...]: ...
    @property
    def partition(self) -> Partition | None: ...
    @property
    def corrections(self) -> tuple[Correction, ...]: ...


@dataclass(frozen=True, kw_only=True)
class LossComponents:
    """Components without a recipe: ``PolicyLoss(LossComponents(clip=PPOClip(high=0.28)))``."""

    ratio: Ratio = field(default_factory=TokenRatio)
    """The importance ratio."""
    clip: Clip = field(default_factory=PPOClip)
    """Bounds how far the ratio counts."""
    gates: tuple[Gate, ...] = ()
    """Gates, which select the tokens that keep their gradient."""
    partition: Partition | None = None
    """The partition that made the segments of the batch; it says for how many segments there are metrics."""
    corrections: tuple[Correction, ...] = ()
    """If there are any, ``"policy_weight"`` is read instead of ``"weight"``."""


class Examined(NamedTuple):
    """The policy loss token by token, everything [N, T]."""

    batch: TokenBatch
    """The batch as the components read it."""
    weight: Tensor
    """How much the token counts."""
    log_ratio: Tensor
    """As the recipe defines it; with gradient."""
    clipped: Clipped
    """Before the gates."""
    objective: Tensor
    """To be maximised; detached where a gate drops the gradient."""
    kept: Tensor | None
    """bool: tokens that keep their gradient under every gate; None without gates."""

    @property
    def zero_grad(self) -> Tensor:
        """bool: sampled tokens that have an advantage and get no gradient."""
        batch, clipped = self.batch, self.clipped
        zero = clipped.low | clipped.high if clipped.lost is None else clipped.lost
        if clipped.through_ratio:
            zero = zero | batch.beyond
        if self.kept is not None:
            zero = zero | ~self.kept
        return zero & batch.mask & (batch.advantage != 0)


class PolicyLoss(BatchLoss):
    """The clipped policy gradient of a recipe.

    It reads the mask, ``log_prob``, ``old_log_prob``, ``advantage``, ``weight`` and the entries that the
    components name. It returns a new TensorDict with ``loss_objective`` and detached metrics. Every metric but
    ``tokens``, ``ratio_min`` and ``ratio_max`` is a mean over the call's sampled tokens: to join
    micro-batches, average them weighted by ``tokens``, and take the smallest ``ratio_min`` and the largest
    ``ratio_max``. Those of segment ``k`` are means over its tokens: weight them by ``tokens * segment{k}_share``.
    ``zero_grad_fraction`` is the share of tokens that have an advantage and get no gradient:
    clipped, dropped by a gate, or beyond the bound of log-ratios.

    The numbers of the components are buffers (``clip_low``, ``gate0_high``, ...) and part of ``state_dict``.

    Args:
        components: an :class:`~llmrl.algorithms.Algorithm` or :class:`LossComponents`.

    >>> loss = PolicyLoss(LossComponents(clip=PPOClip(low=0.2, high=0.28)))
    >>> batch = TensorDict(
    ...     {
    ...         ("masks", "all_assistant_mask"): torch.tensor([[True, True]]),
    ...         "log_prob": torch.tensor([[-1.0, -1.0]], requires_grad=True),
    ...         "old_log_prob": torch.tensor([[-1.0, -2.0]]),
    ...         "advantage": torch.tensor([[1.0, 1.0]]),
    ...         "weight": torch.tensor([[0.5, 0.5]]),
    ...     }
    ... )
    >>> out = loss(batch)
    >>> round(out["loss_objective"].item(), 4), out["clip_fraction_high"].item()
    (-1.14, 0.5)
    """

    def __init__(self, components: Components | None = None) -> None:
        super().__init__()
        self.components: Components = LossComponents() if components is None else components
        self._bind()
        extra = component_keys((self.components.ratio, self.components.clip, *self.components.gates))
        self._extra = extra
        self._weight = keys.POLICY_WEIGHT if self.components.corrections else keys.WEIGHT
        self.reads = (keys.MASK, keys.LOG_PROB, keys.OLD_LOG_PROB, keys.ADVANTAGE, self._weight, *extra)
        rule = self.components.partition
        self._segments_shown = 0 if rule is None or keys.SEGMENT not in extra else rule.segments
        known = (True, True, keys.OLD_ENTROPY in extra, self._bounded is not None)
        self._segment_metrics_shown = [n for n, k in zip(SEGMENT_METRICS, known, strict=True) if k]

    def _bind(self) -> None:
        self._ratio = bind(self.components.ratio, "ratio", self)
        self._clip = bind(self.components.clip, "clip", self)
        self._bounded = bounded_clip(self._clip)
        self._gates = [bind(gate, f"gate{i}", self) for i, gate in enumerate(self.components.gates)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PolicyLoss:
        super()._apply(fn, recurse)
        self._bind()  # moving a module replaces its buffers
        return self

    @property
    def out_keys(self) -> list[Key]:
        """The entries that are written."""
        segments, names = range(self._segments_shown), self._segment_metrics_shown
        return ["loss_objective", *METRICS, *(f"segment{k}_{name}" for k in segments for name in names)]

    def batch(self, tensordict: TensorDictBase) -> TokenBatch:
        """The batch as the components read it."""
        mask = self.read_mask(tensordict)
        # On a GPU this check would make the CPU wait; Algorithm.weigh has already checked segments that were given.
        if keys.SEGMENT in self._extra and mask.device.type == "cpu":
            check_segment_ids(self.read(tensordict, keys.SEGMENT))
        return TokenBatch.of(
            mask=mask,
            log_prob=self.read(tensordict, keys.LOG_PROB),
            old_log_prob=self.read(tensordict, keys.OLD_LOG_PROB),
            advantage=self.read(tensordict, keys.ADVANTAGE),
            extra={name: self.read(tensordict, name) for name in self._extra},
        )

    def bounds(self, batch: TokenBatch) -> Bounds | None:
        """The smallest and the largest ratio that the clip lets count; None for a clip without bounds."""
        return None if self._bounded is None else self._bounded.bounds(batch)

    def examine(self, tensordict: TensorDictBase) -> Examined:
        """The loss of a batch token by token, before it is summed."""
        batch = self.batch(tensordict)
        weight = self.read_weight(tensordict, batch.mask, batch.log_ratio.dtype, self._weight)
        log_ratio = self._ratio(batch)
        clipped = self._clip(log_ratio, batch)
        objective = clipped.objective
        kept = None
        for gate in self._gates:
            keep = gate(batch, clipped)
            objective = torch.where(keep, objective, objective.detach())
            kept = keep if kept is None else kept & keep
        return Examined(batch, weight, log_ratio, clipped, objective, kept)

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """Loss and metrics of one micro-batch; see the class."""
        found = self.examine(tensordict)
        loss = -(found.weight * found.objective).sum()
        with torch.no_grad():
            metrics = self._metrics(found)
        return TensorDict({"loss_objective": loss, **metrics}, batch_size=[])

    def _metrics(self, found: Examined) -> dict[str, Tensor]:
        batch, log_ratio, clipped, kept = found.batch, found.log_ratio, found.clipped, found.kept
        mask, own = batch.mask, batch.log_ratio
        live = mask.to(own.dtype)  # a product is several times faster than torch.where; all values are finite here
        beyond = (1 - live) * (2 * LOG_RATIO_LIMIT)
        tokens = mask.sum()
        count = tokens.clamp_min(1).to(own.dtype)
        low, high = clipped.low & mask, clipped.high & mask
        # without tokens: values that the minimum and maximum over micro-batches ignore
        lowest = (log_ratio + beyond).amin() if mask.numel() else own.sum() + LOG_RATIO_LIMIT
        highest = (log_ratio - beyond).amax() if mask.numel() else own.sum() - LOG_RATIO_LIMIT
        excess = torch.expm1(own)
        ratio = excess + 1 if log_ratio is own else log_ratio.exp()
        metrics = {
            "tokens": tokens,
            "clip_fraction_low": low.sum() / count,
            "clip_fraction_high": high.sum() / count,
            "zero_grad_fraction": found.zero_grad.sum() / count,
            "gate_fraction": (tokens if kept is None else (kept & mask).sum()) / count,
            "kl_approx_k1": -own.sum() / count,  # own is 0 outside the mask
            "kl_approx_k3": (excess - own).sum() / count,
            "ratio_mean": _total(ratio, live) / count,
            "ratio_min": lowest.clamp(max=LOG_RATIO_LIMIT).exp(),
            "ratio_max": highest.clamp(min=-LOG_RATIO_LIMIT).exp(),
        }
        if self._segments_shown:
            metrics.update(self._segment_metrics(batch, low | high, count))
        return metrics

    def _segment_metrics(self, batch: TokenBatch, held: Tensor, count: Tensor) -> dict[str, Tensor]:
        shown = {"clip_fraction": held.to(batch.advantage.dtype)}
        if "entropy" in self._segment_metrics_shown:
            shown["entropy"] = batch.old_entropy
        bounds = self.bounds(batch)
        if bounds is not None:
            low, high = (as_tensor(bound, batch.advantage).expand_as(batch.advantage) for bound in bounds)
            shown["clip_width"] = (high - low) / 2
        metrics = {}
        for k in range(self._segments_shown):
            inside = batch.in_segment(k)
            size = inside.sum()
            metrics[f"segment{k}_share"] = size / count
            for name, x in shown.items():
                metrics[f"segment{k}_{name}"] = _total(inside, x) / size.clamp_min(1)
        return metrics


def _total(x: Tensor, y: Tensor) -> Tensor:
    return torch.dot(x.flatten(), y.flatten())  # the sum of the product, without storing the product
