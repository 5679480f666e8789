"""The interface of N equal processes that train one model, and its implementation for one process.

The batch is replicated, the model is copied or sharded, and the work is distributed. Every rank holds the whole batch
and computes its advantages, weights and segments. Only sampling, scoring and backward passes are distributed. So the
result does not depend on the number of ranks.

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

YEAR = 525_600
"""Minutes; the longest time that a rank may be told to wait."""


@dataclass(frozen=True)
class WorldConfig:
    """Several processes that train one model; they are started by torchrun."""

    shard: int | None = None
    """Ranks that share one copy of the model, such as 8 on machines of 8 GPUs; by default 1 on CPUs, all on GPUs."""
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    """Communication backend; auto: nccl on GPUs, gloo on CPUs."""
    timeout_minutes: float = 30.0
    """Minutes that a rank waits for another one before it ends."""
    reshard: bool = True
    """Free a layer's gathered weights after each pass: less memory; otherwise an update gathers and adds up once."""


@dataclass(frozen=True)
class Reading:
    """The size of a part of the work, as the model reads it."""

    passes: int
    """Forward passes."""
    tokens: int
    """Number of tokens in these passes, padding included."""


class LostRank(UserError, RuntimeError):
    """Another rank ended or does not answer; the message names it if it reported a reason."""

    exit_status = 1


class World:
    """One process; collective operations are the identity."""

    rank: int = 0
    size: int = 1
    shards: int = 1
    """Ranks that share one copy of the weights; with 1 each rank holds a whole copy."""

    @property
    def main(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def local_device(self, device: str | None) -> str | None:
        """The device of this rank, if the user named only a kind of device or none."""
        return device

    def mine(self, count: int) -> range:
        """The share of ``count`` items that this rank processes; shares differ by at most one item.

        >>> World().mine(3)
        range(0, 3)
        """
        return range(self.rank, count, self.size)

    def share(self, parts: Iterable[T], reads: Callable[[T], Reading]) -> Iterator[tuple[T, bool]]:
        """The parts that this rank processes, each with a flag that says whether its result counts.

        Ranks with whole copies get about the same number of tokens each, and possibly no part.

        Every pass through a sharded model is a collective, so all ranks must make the same number of passes. In each
        round, every rank gets a part with the same number of passes. If none is left for a rank, it repeats a part of
        another rank with the flag False, and its result must not count.

        Args:
            parts: the same list on every rank.
            reads: returns the size of a part.

        >>> list(World().share(["a", "b"], lambda part: Reading(passes=1, tokens=1)))
        [('a', True), ('b', True)]
        """
        for part in parts:
            yield part, True

    def gather(self, mine: Sequence[T]) -> list[T]:
        """The results of all ranks, in the order of :meth:`mine`: item i of the result belongs to item i."""
        return list(mine)

    def sum(self, *tensors: Tensor) -> None:
        """Add up each tensor over the ranks, in place."""

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of whole copies over the ranks; a sharded model does this in its backward pass.

        Afterwards all ranks have bitwise equal gradients. A gradient that no rank has stays None.
        """

    def smallest(self, tensor: Tensor) -> None:
        """The smallest of each element over the ranks, in place."""

    def largest(self, tensor: Tensor) -> None:
        """The largest of each element over the ranks, in place."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank."""
        return flag

    def agree(self, error: BaseException | None) -> None:
        """Raise the error of one rank on every rank, so that no rank waits for one that has ended.

        Raises:
            BaseException: ``error`` itself on the rank that met it.
            LostRank: on the others, with the text and the rank of the error.
        """
        if error is not None:
            raise error

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that may fail on one rank; :meth:`agree` then raises on all. It must contain no collective."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as met:  # the next line raises it on all ranks
            error = met
        self.agree(error)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The whole work of the ranks: if one rank ends, all end, and one sentence names it."""
        yield

    def from_main(self, make: Callable[[], T]) -> T:
        """Return on every rank the result of ``make`` on rank 0; if it raises there, every rank raises."""
        return make()

    def shard(self, module: torch.nn.Module, blocks: Sequence[torch.nn.Module], entries: Sequence[str]) -> None:
        """Shard the parameters of a module over the ranks; does nothing if each rank holds a whole copy.

        Args:
            module: the root; parameters outside the blocks (embedding, norm, head) are sharded with it.
            blocks: the repeated layers, gathered one at a time.
            entries: names of methods of ``module``, other than forward, that run it; with a gradient they must return
                only tensors, because FSDP2 looks for tensors.
        """

    def unshard(self, block: torch.nn.Module) -> None:
        """Gather the weights of a block that :meth:`shard` has sharded."""

    def like(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """A whole tensor in the form of a parameter: this rank's shard of it if the parameter is sharded."""
        return tensor

    def whole(self, tensor: Tensor) -> Tensor:
        """A parameter or gradient as one tensor; a collective if it is sharded."""
        return tensor

    def weights(self, module: torch.nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Yield every entry of the state dict as a whole tensor. All ranks must iterate over all entries."""
        for name, tensor in module.state_dict().items():
            yield name, self.whole(tensor)

    def beside(self) -> World:
        """The same ranks for a second thread, whose collectives cannot mix with those of this one."""
        return self

    def close(self) -> None:
        """Leave the process groups."""


def launched() -> int:
    """The number of processes that the launcher started; 1 without a launcher.

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
        device: the device that the user requested, such as ``"cpu"``; None: a GPU if there is one.

    Raises:
        ConfigError: the options do not fit the number of ranks or GPUs.
    """
    size = launched()
    if options.shard is not None and (options.shard < 1 or size % options.shard):
        raise ConfigError(
            f"--world.shard {options.shard} does not divide the {size} ranks that were started. Give a divisor "
            f"of {size}, or start another number by torchrun --nproc-per-node."
        )
    if not 0 < options.timeout_minutes <= YEAR:
        raise ConfigError(
            f"--world.timeout-minutes must be greater than 0 and at most {YEAR} (a year), got "
            f"{options.timeout_minutes}."
        )
    if size == 1:
        return World()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE={size} is set, but not {' and '.join(missing)}. Start the processes by torchrun, which sets "
            "all of them, or unset WORLD_SIZE to train with one process."
        )
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
        like: the model that names these classes, if ``model`` does not.
    """
    names = set((model if like is None else like)._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]
