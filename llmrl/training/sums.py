"""Sums of metrics over micro-batches, ranks and updates."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from llmrl.distributed.world import World
from llmrl.training.metrics import Reduce, find_metric, metric_name

NOTHING = {Reduce.SMALLEST: math.inf, Reduce.LARGEST: -math.inf}
"""The value that leaves a minimum or maximum unchanged."""
_PER_TOKEN = (Reduce.TOKENS, Reduce.SEGMENT)
_PICKS = {Reduce.SMALLEST: torch.minimum, Reduce.LARGEST: torch.maximum}


class Sums:
    """Metrics of one or several updates, each added up by the rule of its row in the registry.

    Values stay on the device until :meth:`fetch`.

    >>> sums = Sums()
    >>> sums.add({"ratio_mean": torch.tensor(1.0), "ratio_max": torch.tensor(2.0)}, tokens=3)
    >>> sums.add({"ratio_mean": torch.tensor(2.0), "ratio_max": torch.tensor(1.5)}, tokens=1)
    >>> sums.result()
    {'actor/ratio_mean': 1.25, 'actor/ratio_max': 2.0}
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.updates = 1
        self.skipped = False
        """Whether the update was skipped because it was not finite."""
        self._waiting: list[tuple[str, Tensor, int]] = []
        self._totals: dict[str, float] = {}

    def add(self, outputs: Mapping[str, Tensor], tokens: int) -> None:
        """Add the outputs of a loss module for one micro-batch of ``tokens`` sampled tokens."""
        for name, value in outputs.items():
            if name != "tokens":
                if _reduce(metric_name(name)) is Reduce.SEGMENT:  # until the result a mean over all tokens
                    value = value * outputs[_share_of(name)]
                self._waiting.append((metric_name(name), value.detach(), tokens))
        self.tokens += tokens

    def note(self, metric: str, value: Tensor) -> None:
        """Add a metric of the whole update."""
        self._waiting.append((metric, value.detach(), 1))

    def reduce(self, world: World, tokens: int, device: torch.device) -> None:
        """Add up the values of all ranks, before the first fetch; a rank may have added nothing.

        Args:
            world: the ranks.
            tokens: number of tokens that all ranks together have added.
            device: where this rank computes.
        """
        if world.size == 1:
            return
        kept: dict[str, Tensor] = {}
        for name, value, weight in self._waiting:
            how = _reduce(name)
            value = value.reshape(()).double() * (weight if how in _PER_TOKEN else 1)
            kept[name] = _PICKS.get(how, torch.add)(kept[name], value) if name in kept else value
        names = dict.fromkeys(name for mine in world.gather([list(kept)]) for name in mine)
        nothing = {name: NOTHING.get(_reduce(name), 0.0) for name in names}
        kept = {name: kept.get(name, torch.tensor(nothing[name], dtype=torch.float64, device=device)) for name in names}
        for pick, together in ((torch.minimum, world.smallest), (torch.maximum, world.largest), (None, world.sum)):
            picked = [name for name in kept if _PICKS.get(_reduce(name)) is pick]
            if picked:
                stacked = torch.stack([kept[name] for name in picked])
                together(stacked)
                kept.update(zip(picked, stacked, strict=True))
        self.tokens = tokens
        self._waiting = [(name, value, 1) for name, value in kept.items()]

    def fetch(self) -> Mapping[str, float]:
        """The totals so far; one transfer from the device if something was added since the last call."""
        if self._waiting:
            values = torch.cat([value.reshape(1).double() for _, value, _ in self._waiting]).tolist()
            for (name, _, tokens), value in zip(self._waiting, values, strict=True):
                self._total(name, value * tokens if _reduce(name) in _PER_TOKEN else value)
            self._waiting = []
        return self._totals

    def join(self, other: Sums) -> None:
        """Add the totals of another update."""
        for name, value in other.fetch().items():
            self._total(name, value)
        self.tokens += other.tokens
        self.updates += other.updates

    def result(self) -> dict[str, float]:
        """The metrics."""
        totals = self.fetch()
        over = {Reduce.TOKENS: max(self.tokens, 1), Reduce.UPDATES: self.updates}

        def divisor(name: str) -> float:
            how = _reduce(name)
            return (totals[_share_of(name)] or 1) if how is Reduce.SEGMENT else over.get(how, 1)

        return {name: total / divisor(name) for name, total in totals.items()}

    def _total(self, name: str, value: float) -> None:
        if name not in self._totals:
            self._totals[name] = value
        elif _reduce(name) in NOTHING:
            pick = min if _reduce(name) is Reduce.SMALLEST else max
            self._totals[name] = pick(self._totals[name], value)
        else:
            self._totals[name] += value


def _share_of(name: str) -> str:
    """The name of the share of tokens that are in the segment of another metric.

    >>> _share_of("actor/segment1_clip_width")
    'actor/segment1_share'
    """
    return re.sub(r"(segment\d+)_\w+", r"\1_share", name)


def _reduce(name: str) -> Reduce:
    found = find_metric(name)
    # A metric that is not in the registry comes from a user's loss module and is a mean over tokens, as theirs are.
    return Reduce.TOKENS if found is None else found.reduce
