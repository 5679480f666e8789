"""Engines, which sample for a policy: their protocol, samples, options and random numbers.

:mod:`llmrl.policies.sampling.sampler` has the policy's own loop, and :mod:`llmrl.policies.sampling.vllm` the engine in
a process or a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from llmrl.errors import ConfigError

FINISH_END, FINISH_LENGTH, FINISH_REFUSED = 0, 1, 2
LARGEST_SEED = (1 << 63) - 1


class Sample(NamedTuple):
    """One response."""

    tokens: list[int]
    """Sampled ids, including the end token."""
    log_probs: list[float]
    """Log-probability of each token under the distribution from which it was drawn."""
    finish_reason: int
    """``FINISH_END``: an end token was sampled; ``FINISH_LENGTH``: the limit was reached; ``FINISH_REFUSED``: the
    prompt is too long, and nothing was sampled."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Options of sampling.


    >>> SamplingOptions(greedy=True, max_new_tokens=8).temperature is None
    True
    """

    temperature: float | None = None
    """Logits are divided by it; None: the policy's temperature. Recorded log-probabilities are at this temperature,
    those of greedy responses too."""
    greedy: bool = False
    """Take the likeliest token instead of drawing one."""
    max_new_tokens: int | None = None
    """Maximum number of tokens after a prompt, over all turns of an episode; None: the policy's limit."""

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature must be greater than 0, got {self.temperature}.")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}.")


class Engine(Protocol):
    """Samples for the policy, from separate weights."""

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        *,
        end_ids: Iterable[int],
        version: int,
        max_new_tokens: int | Sequence[int],
        temperature: float,
        greedy: bool,
        seeds: Sequence[int] | None,
    ) -> list[Sample]:
        """One response for each context, in order; the samples of a row depend only on its seed.

        Args:
            contexts: token ids, at least one each.
            end_ids: tokens that end a response.
            version: version of the weights; an engine with other weights raises.
            max_new_tokens: limit of every response, or one for each.
            temperature: the divisor of the logits.
            greedy: take the likeliest token; ``seeds`` is not used then.
            seeds: one for each row; None: drawn from torch's global generator. See :func:`row_seeds`.
        """

    def push(self, model: Any, version: int) -> None:
        """Take the model's weights."""

    def pause(self) -> None:
        """Allow the engine to free its memory; nothing is sampled until the next push."""

    def close(self) -> None:
        """End the engine; safe to call twice."""


def row_limits(
    contexts: Sequence[Sequence[int]], *, max_new_tokens: int | Sequence[int], temperature: float
) -> list[int]:
    """The limit of each response; raises ValueError for contexts or limits that allow no response."""
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}.")
    if isinstance(max_new_tokens, int):
        limits = [max_new_tokens] * len(contexts)
    else:
        limits = list(max_new_tokens)
    if len(limits) != len(contexts):
        raise ValueError(f"Got {len(limits)} max_new_tokens for {len(contexts)} contexts.")
    if limits and min(limits) < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {min(limits)}.")
    empty = [row for row, context in enumerate(contexts) if len(context) == 0]
    if empty:
        raise ValueError(f"A context needs at least one token; empty: rows {empty[:8]}.")
    return limits


def row_seeds(count: int, seeds: Sequence[int] | None) -> list[int]:
    """One seed for each row: those given, or new ones from torch's global generator.

    Raises:
        ValueError: their number is not ``count``, or one is not from 0 to 2**63 - 1.

    >>> row_seeds(2, [7, 8])
    [7, 8]
    """
    if seeds is None:
        return torch.randint(LARGEST_SEED, (count,)).tolist()
    given = [int(seed) for seed in seeds]
    if len(given) != count:
        raise ValueError(f"Got {len(given)} seeds for {count} rows. Give one seed for each row.")
    if given and not 0 <= min(given) <= max(given) <= LARGEST_SEED:
        raise ValueError(f"A seed is a whole number from 0 to 2**63 - 1, got {min(given)} to {max(given)}.")
    return given


def uniform(seeds: Tensor, begin: int, end: int) -> Tensor:
    """Random numbers in [0, 1) that depend only on a row's seed and on the position in its response.

    Number ``t`` of a row is the output of SplitMix64 (Steele, Lea and Flood 2014) after ``t + 1`` steps from the
    row's mixed seed. There is no state, so rows may leave, move or be sampled elsewhere.

    Args:
        seeds: [B] int64, not negative.
        begin: the first position.
        end: the position after the last.

    Returns:
        [B, end - begin] float32, multiples of 2**-24; the same on every device.

    >>> seeds = torch.tensor([3, 4])
    >>> bool((uniform(seeds, 2, 5)[1] == uniform(seeds[1:], 0, 9)[0, 2:5]).all())
    True
    """
    steps = torch.arange(begin + 1, end + 1, device=seeds.device)
    # Products and sums of int64 wrap around, as those of unsigned numbers do.
    state = _mixed(seeds)[:, None] + steps * _signed(0x9E3779B97F4A7C15)
    return ((_mixed(state) >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's output function on int64."""
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """An unsigned shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
