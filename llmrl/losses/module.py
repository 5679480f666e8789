"""The base class of the loss modules: keys that can be renamed, numbers as buffers, clear errors.

They are TorchRL ``LossModule``s without a network: a TensorDict in, a new TensorDict out.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives.common import LossModule

from llmrl import keys
from llmrl.keys import Key, check_entry, check_mask, reads, require_entry
from llmrl.losses.batch import select
from llmrl.registry import suggest

Component = TypeVar("Component")


@dataclass
class AcceptedKeys:
    """The keys of the entries that losses read; ``loss.set_keys(advantage="my_advantage")`` changes one."""

    mask: Key = keys.MASK
    log_prob: Key = keys.LOG_PROB
    old_log_prob: Key = keys.OLD_LOG_PROB
    ref_log_prob: Key = keys.REF_LOG_PROB
    advantage: Key = keys.ADVANTAGE
    weight: Key = keys.WEIGHT
    entropy: Key = keys.ENTROPY
    old_entropy: Key = keys.OLD_ENTROPY
    max_entropy: Key = keys.MAX_ENTROPY
    segment: Key = keys.SEGMENT
    value: Key = keys.VALUE
    old_value: Key = keys.OLD_VALUE
    value_target: Key = keys.VALUE_TARGET
    reward: Key = keys.REWARD
    policy_weight: Key = keys.POLICY_WEIGHT
    positive_weight: Key = keys.POSITIVE_WEIGHT


_DEFAULTS = {default: name for name, default in dataclasses.asdict(AcceptedKeys()).items()}


class BatchLoss(LossModule):
    """A loss without a network, computed from entries that are already in the batch.

    Subclasses list the entries they read in ``reads``, by the names of :mod:`llmrl.keys`. Numbers that
    are registered as buffers stay float64 whatever type the module is cast to: in bfloat16, 1 + 3e-4
    rounds to 1.
    """

    _AcceptedKeys = AcceptedKeys
    reads: tuple[Key, ...] = ()
    prepared: tuple[Key, ...] = ()
    """Entries that :meth:`prepare` makes."""
    prepared_from: tuple[Key, ...] = ()
    """Entries that :meth:`prepare` reads."""

    def prepare(self, tensordict: TensorDictBase) -> dict[Key, Tensor]:
        """Make the entries that need a whole optimiser batch, before it is cut into micro-batches.

        Returns:
            One entry for each name in ``prepared``; none by default.
        """
        return {}

    def key(self, name: Key) -> Key:
        """The key under which the entry of that name is looked up."""
        field = _DEFAULTS.get(name)
        return name if field is None else getattr(self.tensor_keys, field)

    @property
    def in_keys(self) -> list[Key]:
        """The entries that the loss reads."""
        return [self.key(name) for name in self.reads]

    def set_keys(self, **names: Key) -> None:
        """Change keys: ``set_keys(advantage="my_advantage")``; None restores the default."""
        known = [field.name for field in dataclasses.fields(AcceptedKeys)]
        for name in names:
            if name not in known:
                raise ValueError(f"The losses have no key {name!r}. {suggest(name, known)}")
        super().set_keys(**names)

    def _forward_value_estimator_keys(self, **kwargs: Any) -> None:
        """Does nothing: there is no value estimator."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BatchLoss:
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    def read(self, tensordict: TensorDictBase, name: Key) -> Tensor:
        """An entry; if it is missing, the error says what it is and what writes it."""
        return require_entry(tensordict, self.key(name), name)

    def read_safe(self, tensordict: TensorDictBase, name: Key, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """An entry [N, T], checked, 0 outside the mask, in ``dtype``."""
        value = self.read(tensordict, name)
        check_entry(value, mask, self.key(name), name)
        return select(mask, value, dtype=dtype)

    def read_mask(self, tensordict: TensorDictBase) -> Tensor:
        """The mask, checked."""
        mask = self.read(tensordict, keys.MASK)
        check_mask(mask, self.key(keys.MASK))
        return mask

    def read_weight(
        self, tensordict: TensorDictBase, mask: Tensor, dtype: torch.dtype, name: Key = keys.WEIGHT
    ) -> Tensor:
        """The weight of that name, checked, 0 outside the mask."""
        return self.read_safe(tensordict, name, mask, dtype).detach()


def number(value: float) -> Tensor:
    """A hyper-parameter as a tensor for a buffer: 0-dim, float64."""
    return torch.tensor(float(value), dtype=torch.float64)


def component_keys(components: Iterable[object]) -> tuple[Key, ...]:
    """The further entries that the components read, each key once; those that every batch has are left out."""
    return tuple(dict.fromkeys(key for component in components for key in reads(component)))


def bind(component: Component, prefix: str, module: torch.nn.Module) -> Component:
    """A copy of a component whose numbers are buffers of ``module``, named by their path.

    The numbers then follow ``state_dict``, and ``module.clip_high.fill_(0.3)`` changes them.
    """
    if not dataclasses.is_dataclass(component) or isinstance(component, type):
        return component
    live = copy.copy(component)
    for field in dataclasses.fields(component):
        value = getattr(component, field.name)
        name = f"{prefix}_{field.name}"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if name not in module._buffers:
                module.register_buffer(name, number(value))
            object.__setattr__(live, field.name, module._buffers[name])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            object.__setattr__(live, field.name, bind(value, name, module))
    return live
