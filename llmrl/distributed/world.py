"""Which of N equal processes this is, and what they do together; one process is the world of this file.

The batch is replicated, the model is copied or sharded, the work is shared. Every rank holds the whole batch and
computes advantages, weights and segments of it itself. Only sampling, scoring and backward passes are
shared out. So the result does not depend on the number of ranks.

:class:`World` is one process: every method is the identity, and ``torch.distributed`` is not imported.
:mod:`llmrl.distributed.ranks` is the same for several.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from llmrl.errors import ConfigError, UserError

T = TypeVar("T")


@dataclass(frozen=True)
class WorldConfig:
    """Several processes that train one model; they are started by torchrun."""

    shard: int | None = None
    """Ranks that share one copy of the model, such as 8 on machines of 8 GPUs; by default 1 on CPUs, where each rank
    holds a whole copy, and all ranks on GPUs."""
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """What carries tensors between ranks; auto: nccl on GPUs, gloo on CPUs."""
    timeout_minutes: float = 30.0
    """How long a rank waits for another one before it gives up."""
    reshard: bool = True
    """Free a layer's gathered weights after each pass: less memory. Otherwise they, and whole gradients, are kept to
    the end of an update, which then gathers once and adds up once, however many micro-batches it has."""


@dataclass(frozen=True)
class Reading:
    """What a model reads of a part of the work."""

    passes: int
    """Forward passes."""
    tokens: int
    """Read in them, padding included."""


class LostRank(UserError, RuntimeError):
    """Another rank ended or stopped answering; the message names it if it said why."""

    exit_status = 1


class World:
    """One process. What several do together is the identity here."""

    rank: int = 0
    size: int = 1
    shards: int = 1
    """Ranks that share one copy of the weights; with 1 each rank holds a whole copy."""

    @property
    def main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def local_device(self, device: str | None) -> str | None:
        """The device of this rank, where the user named a kind of device or none."""
        return device

    def mine(self, count: int) -> range:
        """Which of ``count`` things this rank does; every rank gets equally many, or one less.

        >>> World().mine(3)
        range(0, 3)
        """
        return range(self.rank, count, self.size)

    def share(self, parts: Iterable[T], reads: Callable[[T], Reading]) -> Iterator[tuple[T, bool]]:
        """The parts that this rank does, each with whether it counts.

        Ranks with whole copies get about equally many tokens each, and perhaps no part at all.

        Every pass through a sharded model is a collective, so all ranks must make equally many. In each
        round, every rank gets a part that takes equally many passes. A rank for which none is left gets one
        that another rank does, with False: its result must not count.

        Args:
            parts: the same list on every rank.
            reads: what a model reads of a part.

        >>> list(World().share(["a", "b"], lambda part: Reading(passes=1, tokens=1)))
        [('a', True), ('b', True)]
        """
        for part in parts:
            yield part, True

    def gather(self, mine: Sequence[T]) -> list[T]:
        """What all ranks did, in the order of :meth:`mine`: item i of the result is thing i."""
        return list(mine)

    def sum(self, *tensors: Tensor) -> None:
        """Add up each tensor over the ranks, in place."""

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of whole copies over the ranks; those of a sharded model its backward pass adds up.

        All ranks end with the same gradients, bitwise. One that no rank has stays None.
        """

    def smallest(self, tensor: Tensor) -> None:
        """The smallest of each element over the ranks, in place."""

    def largest(self, tensor: Tensor) -> None:
        """The largest of each element over the ranks, in place."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank."""
        return flag

    def agree(self, error: BaseException | None) -> None:
        """Raise on every rank what one of them met, so that none waits for one that has left.

        Raises:
            BaseException: ``error`` itself on the rank that met it.
            LostRank: on the others, with its text and rank.
        """
        if error is not None:
            raise error

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that may fail on one rank: then :meth:`agree` raises on all. The ranks must not meet inside it."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as met:  # handed on by the next line
            error = met
        self.agree(error)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The whole work of the ranks: whatever ends one of them ends all, and one sentence names that one."""
        yield

    def from_main(self, make: Callable[[], T]) -> T:
        """What ``make`` returns on rank 0, on every rank; what it raises there, every rank raises."""
        return make()

    def shard(self, module: torch.nn.Module, blocks: Sequence[torch.nn.Module], entries: Sequence[str]) -> None:
        """Spread the parameters of a module over the ranks; nothing is done where each holds a whole copy.

        Args:
            module: the root; what no block holds (embedding, norm, head) is sharded with it.
            blocks: the repeated layers, gathered one at a time.
            entries: names of methods of ``module``, other than forward, that run it; with a gradient they must return
                tensors alone, since FSDP2 looks for those.
        """

    def unshard(self, block: torch.nn.Module) -> None:
        """Gather the weights of a block that :meth:`shard` has spread."""

    def like(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """A whole tensor in the form of a parameter: this rank's share of it where that one is sharded."""
        return tensor

    def whole(self, tensor: Tensor) -> Tensor:
        """A parameter or gradient as one tensor; a collective where it is sharded."""
        return tensor

    def weights(self, module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Every entry of the state dict as a whole tensor, one at a time. All ranks must go through it."""
        for name, tensor in module.state_dict().items():
            yield name, self.whole(tensor)

    def beside(self) -> World:
        """The same ranks, for a second thread: what it does with the others cannot be mixed up with this one's."""
        return self

    def close(self) -> None:
        """Leave the others."""


def launched() -> int:
    """How many processes the launcher started; 1 without a launcher.

    >>> launched()
    1
    """
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"WORLD_SIZE={text!r} must be a number of processes, as torchrun sets it.")
    return int(text)


def join(options: WorldConfig, device: str | None = None) -> World:
    """The world that the launcher made: one process, or one of several ranks.

    Args:
        options: how the ranks work together.
        device: what the user asked for, such as ``"cpu"``; None: a GPU if there is one.

    Raises:
        ConfigError: the options do not fit the number of ranks or GPUs.
    """
    size = launched()
    if options.shard is not None and (options.shard < 1 or size % options.shard):
        raise ConfigError(
            f"--world.shard {options.shard} does not divide the {size} ranks that were started. Give a divisor "
            f"of {size}, or start another number by torchrun --nproc-per-node."
        )
    if not options.timeout_minutes > 0:
        raise ConfigError(f"--world.timeout-minutes must be greater than 0, got {options.timeout_minutes}.")
    if size == 1:
        return World()
    from llmrl.distributed.ranks import Ranks

    return Ranks.join(options, device)


@contextmanager
def joined(options: WorldConfig, device: str | None = None) -> Iterator[World]:
    """:func:`join` within a block, watched; the ranks part after it."""
    world = join(options, device)
    with world.watched():
        yield world
    world.close()


def blocks_of(model: Any, like: Any = None) -> list[torch.nn.Module]:
    """The repeated layers of a Hugging Face model, by the classes that it says must not be split.

    Args:
        model: a model, or a part of one.
        like: the model that names these classes, where ``model`` does not.
    """
    names = set((model if like is None else like)._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]
