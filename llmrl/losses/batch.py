"""What the parts of a policy loss look at: one batch, checked and made safe once, at the door.

Masked positions may hold anything, NaN included.  Every tensor is selected with ``torch.where``
before any arithmetic, so no garbage reaches a value or a gradient; ``x * mask`` would let it
through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from llmrl import keys
from llmrl.keys import Key
from llmrl.losses.segments import Pool

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are bounded to plus and minus this; exp(20) is 4.9e8."""
LOG_PROB_LIMIT = 1e4
"""No sampled token is less likely than exp(-1e4); makes -inf finite."""

_ENTRIES = {entry.key: entry for entry in keys.TABLE}


class MissingEntry(KeyError):
    """A loss reads an entry that the TensorDict lacks; the message says who writes it."""

    def __str__(self) -> str:
        return str(self.args[0])


def describe(key: Key) -> str:
    """What the table of entries says about one: shape, type, meaning, writer.

    >>> describe("value_target")
    '[N, T] float32, the return to regress on; written by GAE'
    """
    entry = _ENTRIES.get(key)
    if entry is None:
        return "an entry of your own, which you must write before the loss"
    return f"{entry.shape} {entry.dtype}, {entry.meaning}; written by {entry.writer}"


def missing(key: Key, given: Iterable[Key], name: Key | None = None) -> MissingEntry:
    """The error for an absent entry.

    Args:
        key: where it was looked for.
        given: what there was.
        name: its name in the table, where ``set_keys`` moved it.
    """
    present = ", ".join(sorted(map(repr, given))) or "nothing"
    return MissingEntry(f"The loss reads {key!r}, which is missing. It is {describe(name or key)}. Given: {present}.")


def bounded(log_ratio: Tensor) -> Tensor:
    """The one bound on log-ratios: within +-20, so that exp() and its gradient are finite.

    Beyond the bound the gradient is zero; on it, and inside, it is 1.

    >>> bounded(torch.tensor([-float("inf"), 0.5, 100.0]))
    tensor([-20.0000,   0.5000,  20.0000])
    """
    return log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def finite_log_prob(log_prob: Tensor) -> Tensor:
    """Log-probabilities without infinities; a token at a limit gets no gradient."""
    return log_prob.clamp(-LOG_PROB_LIMIT, LOG_PROB_LIMIT)


def select(mask: Tensor, x: Tensor, safe: float = 0.0, dtype: torch.dtype | None = None) -> Tensor:
    """``x`` where ``mask``, else ``safe``, in ``dtype``; nothing flows back to masked positions.

    >>> select(torch.tensor([True, False]), torch.tensor([1.0, float("nan")]))
    tensor([1., 0.])
    """
    x = x if dtype is None else x.to(dtype)
    return torch.where(mask, x, torch.as_tensor(safe, dtype=x.dtype, device=x.device))


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if one of the tensors is, else float32: half precision is never computed in."""
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def check_mask(mask: Tensor, key: Key = keys.MASK) -> None:
    """Raise unless ``mask`` is a bool tensor [N, T]."""
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{key!r} must be a bool tensor, got {mask.dtype}. It is {describe(keys.MASK)}. Convert it: mask.bool()."
        )
    if mask.ndim != 2:
        raise ValueError(f"{key!r} must have shape [N, T], got {list(mask.shape)}. It is {describe(keys.MASK)}.")


def check_entry(x: Tensor, mask: Tensor, key: Key, name: Key | None = None) -> None:
    """Raise unless ``x`` is of floats (a partition: of int64) and of the shape the table gives.

    ``[N, 1]`` passes for ``[N, T]``: one number for a whole response.
    """
    name = name or key
    rows, columns = mask.shape
    if name == keys.PARTITION:
        if x.dtype != torch.int64:
            raise TypeError(f"{key!r} must be int64, got {x.dtype}. It is {describe(name)}.")
    elif not x.dtype.is_floating_point:
        raise TypeError(
            f"{key!r} must be a tensor of floats, got {x.dtype}. It is {describe(name)}. Convert it: x.float()."
        )
    entry = _ENTRIES.get(name)
    per_row = entry is not None and entry.shape == "[N, 1]"
    if tuple(x.shape) == (rows, 1) or (tuple(x.shape) == (rows, columns) and not per_row):
        return
    wanted = f"[N, 1] = [{rows}, 1]" if per_row else f"[N, T] = [{rows}, {columns}], as the mask has"
    raise ValueError(f"{key!r} must have shape {wanted}, got {list(x.shape)}. It is {describe(name)}.")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One batch as ratio, clip and gates see it: everything [N, T], finite under the mask.

    Made by :meth:`of`.  Optional entries are read as attributes; reading one that was not given
    raises :class:`MissingEntry`.  Nothing but ``log_prob`` and ``log_ratio`` has a gradient.
    """

    mask: Tensor
    """bool [N, T]: the tokens the policy sampled."""
    log_ratio: Tensor
    """[N, T] log_prob - old_log_prob, bounded, 0 outside the mask; with gradient."""
    advantage: Tensor
    """[N, T], 0 outside the mask."""
    given: Mapping[Key, Tensor]
    """The entries as they came: only for this class, which selects before it gives them out."""
    cache: dict[Key, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was selected or pooled before: ratio, clip and metrics need the same."""

    @classmethod
    def of(
        cls,
        *,
        mask: Tensor,
        log_prob: Tensor,
        old_log_prob: Tensor,
        advantage: Tensor,
        extra: Mapping[Key, Tensor] | None = None,
    ) -> Step:
        """Check and select.  float64 stays float64; everything else becomes float32.

        Args:
            mask: bool [N, T].
            log_prob: [N, T].
            old_log_prob: [N, T].
            advantage: [N, T], or [N, 1] for one number per response.
            extra: further entries by key, such as ``{"old_entropy": ...}``.

        >>> Step.of(
        ...     mask=torch.tensor([[True, False]]),
        ...     log_prob=torch.tensor([[-1.0, float("nan")]]),
        ...     old_log_prob=torch.tensor([[-1.5, 0.0]]),
        ...     advantage=torch.tensor([[2.0]]),
        ... ).log_ratio
        tensor([[0.5000, 0.0000]])
        """
        check_mask(mask)
        given = {
            keys.LOG_PROB: log_prob,
            keys.OLD_LOG_PROB: old_log_prob,
            keys.ADVANTAGE: advantage,
            **(extra or {}),
        }
        for key, x in given.items():
            check_entry(x, mask, key)
        dtype = compute_dtype(log_prob)
        # A difference may be taken before it is selected: its backward multiplies nothing.  Without
        # the limit, a token that both policies call impossible would be inf - inf.
        old = old_log_prob.detach().to(dtype).clamp(-LOG_PROB_LIMIT, LOG_PROB_LIMIT)
        return cls(
            mask=mask,
            log_ratio=bounded(select(mask, log_prob.to(dtype) - old)),
            advantage=select(mask, advantage.detach(), dtype=dtype),
            given=given,
        )

    @property
    def beyond(self) -> Tensor:
        """bool [N, T]: tokens whose log-ratio is beyond the bound, where it has no gradient."""
        return (self[keys.LOG_PROB] - self.old_log_prob).abs() > LOG_RATIO_LIMIT

    @property
    def log_prob(self) -> Tensor:
        """[N, T], with gradient; 0 outside the mask."""
        dtype = self.advantage.dtype
        return finite_log_prob(select(self.mask, self.given[keys.LOG_PROB], dtype=dtype))

    @property
    def old_log_prob(self) -> Tensor:
        """[N, T]; 0 outside the mask."""
        return finite_log_prob(self[keys.OLD_LOG_PROB])

    @property
    def entropy(self) -> Tensor:
        """[N, T] nats, of the policy being trained; 0 outside the mask."""
        return self[keys.ENTROPY]

    @property
    def old_entropy(self) -> Tensor:
        """[N, T] nats, before the update; 0 outside the mask."""
        return self[keys.OLD_ENTROPY]

    @property
    def max_entropy(self) -> Tensor:
        """[N, 1] nats, log of the vocabulary size."""
        row = self.mask.any(1, keepdim=True)
        return select(row, self._given(keys.MAX_ENTROPY), 1.0, self.advantage.dtype)

    @property
    def partition(self) -> Tensor:
        """int64 [N, T]: the part a token belongs to; -1 outside the mask."""
        pool = self._pooled()[0]
        return torch.where(pool.inside, pool.bucket, -1)

    def in_part(self, part: int) -> Tensor:
        """[N, T]: 1 for the tokens of this part, else 0."""
        return (self._pooled()[0].bucket == part).to(self.advantage.dtype)

    def part_mean(self, x: Tensor) -> Tensor:
        """For each token the mean of ``x`` [N, T] over its part; 0 where it has none."""
        pool, share = self._pooled()
        return pool.sum(x) * share

    @property
    def part_share(self) -> Tensor:
        """[N, T]: 1 / how many tokens the token's part has; 0 where it has none."""
        return self._pooled()[1]

    def __getitem__(self, key: Key) -> Tensor:
        """An entry [N, T] by its key, without gradient: how a part reads an entry of its own."""
        if key not in self.cache:
            x = self._given(key)
            self.cache[key] = select(self.mask, x, dtype=self.advantage.dtype)
        return self.cache[key]

    def _pooled(self) -> tuple[Pool, Tensor]:
        if keys.PARTITION not in self.cache:
            pool = Pool(self._given(keys.PARTITION), self.mask)
            self.cache[keys.PARTITION] = pool, pool.share(self.advantage.dtype)
        return self.cache[keys.PARTITION]

    def _given(self, key: Key) -> Tensor:
        if key not in self.given:
            raise missing(key, self.given)
        return self.given[key].detach()
