"""Several ranks: collectives with a time limit, whole copies, and FSDP2. The only file that uses process groups.

Gradients are summed, not averaged. llmrl's token weights are computed over the whole optimiser batch, so the sum of
the ranks' gradients equals the gradient of one process.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from llmrl.distributed.world import LostRank, Reading, World, WorldConfig
from llmrl.errors import ConfigError, UserError

T = TypeVar("T")

BUCKET = 2**26
"""Bytes of gradients in one transfer; a larger gradient has its own transfer."""


class Ranks(World):
    """One of several processes, each with the whole batch and a share of the model.

    Args:
        options: how the ranks work together.
        mesh: its last axis is over the ranks that share a copy of the model; an axis before it is over the copies.
        device: the device of this rank.
    """

    def __init__(self, options: WorldConfig, mesh: DeviceMesh, device: torch.device) -> None:
        self.options = options
        self.mesh = mesh
        self.device = device
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        self.shards = mesh.size(-1)
        self.spread: list[FSDPModule] = []
        """Every module that gathers its weights."""
        # Objects are sent from CPU memory, whatever the backend of the gradients.
        self.objects = dist.new_group(backend="gloo", timeout=_limit(options))
        self.tensors: Any = None  # the group of all ranks
        self.store = _own_store(timedelta(seconds=10))

    @classmethod
    def join(cls, options: WorldConfig, device: str | None) -> Ranks:
        """Connect to the other ranks that torchrun started.

        Raises:
            ConfigError: there are more ranks than GPUs on this machine.
            LostRank: not all ranks connected in time.
        """
        here = _device_of_rank(device)
        backend = options.backend if options.backend != "auto" else ("nccl" if here.type == "cuda" else "gloo")
        if backend == "nccl" and here.type != "cuda":
            raise ConfigError(f"--world.backend nccl needs GPUs, and the device is {here}. Give --world.backend gloo.")
        try:
            dist.init_process_group(backend, timeout=_limit(options), **_meeting_place(_limit(options)))
        except (dist.DistError, RuntimeError, ValueError) as error:
            raise LostRank(
                f"Rank {os.environ.get('RANK')} of {os.environ.get('WORLD_SIZE')} did not meet the others at "
                f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}: {error}"
            ) from error
        size = dist.get_world_size()
        # Gloo sends weights through the memory that CPUs compute from, so gathers cost more there than copies.
        shard = options.shard or (1 if here.type == "cpu" else size)
        if shard == size:
            mesh = init_device_mesh(here.type, (size,), mesh_dim_names=("shard",))
        else:
            mesh = init_device_mesh(here.type, (size // shard, shard), mesh_dim_names=("copies", "shard"))
        return cls(options, mesh, here)

    def local_device(self, device: str | None) -> str | None:
        """The GPU of this rank, or the CPU."""
        return str(self.device)

    def share(self, parts: Iterable[T], reads: Callable[[T], Reading]) -> Iterator[tuple[T, bool]]:
        """The parts of this rank; see :meth:`World.share`."""
        # The longest first, so that short parts at the end even out the load.
        dealt = sorted(((reads(part), part) for part in parts), key=lambda pair: -pair[0].tokens)
        if self.shards == 1:
            loads = [0] * self.size
            for reading, part in dealt:
                least = loads.index(min(loads))
                loads[least] += reading.tokens
                if least == self.rank:
                    yield part, True
            return
        kinds: dict[int, list[T]] = {}
        for reading, part in dealt:
            kinds.setdefault(reading.passes, []).append(part)
        rounds = [
            of_kind[begin : begin + self.size]
            for _, of_kind in sorted(kinds.items())
            for begin in range(0, len(of_kind), self.size)
        ]
        for number, together in enumerate(rounds):
            self._reduce_after(last=number == len(rounds) - 1)
            yield (together[self.rank], True) if self.rank < len(together) else (together[-1], False)

    def _reduce_after(self, last: bool) -> None:
        """Set how a backward pass reduces the gradients of a sharded model; the last pass of an update differs.

        Copies add up their gradients once per update. If gathered weights are kept, all ranks do.
        """
        for part in self.spread:
            part.set_requires_all_reduce(last)
            if not self.options.reshard:
                part.set_requires_gradient_sync(last)
                part.set_reshard_after_backward(last)

    def gather(self, mine: Sequence[T]) -> list[T]:
        """The results of all ranks, in the order of :meth:`World.mine`."""
        every: list[Sequence[T]] = self._objects(list(mine))
        count = sum(map(len, every))
        return [every[i % self.size][i // self.size] for i in range(count)]

    def sum(self, *tensors: Tensor) -> None:
        """Add up each tensor over the ranks, in place."""
        for tensor in tensors:
            self._reduce(tensor, dist.ReduceOp.SUM)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients of whole copies; see :meth:`World.sum_gradients`."""
        if self.shards > 1 or not parameters:
            return
        there = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32)
        there = there.to(self.device)
        self.largest(there)
        added = [parameter for parameter, has in zip(parameters, there.tolist(), strict=True) if has]
        for bucket in _buckets(added):
            flat = torch.cat([_gradient(parameter).reshape(-1) for parameter in bucket])
            self.sum(flat)
            for parameter, gradient in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = gradient.view_as(parameter)

    def smallest(self, tensor: Tensor) -> None:
        """The smallest of each element over the ranks, in place."""
        self._reduce(tensor, dist.ReduceOp.MIN)

    def largest(self, tensor: Tensor) -> None:
        """The largest of each element over the ranks, in place."""
        self._reduce(tensor, dist.ReduceOp.MAX)

    def any(self, flag: bool) -> bool:
        """Whether the flag is true on any rank."""
        return any(self._objects(flag))

    def agree(self, error: BaseException | None) -> None:
        """Raise the error of one rank on every rank."""
        texts = self._objects(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, text in enumerate(texts):
            if text is not None:
                raise LostRank(f"Rank {rank} of {self.size} stopped, and so do all. {text}")

    def from_main(self, make: Callable[[], T]) -> T:
        """Return or raise on every rank the result of ``make`` on rank 0."""
        value = None
        with self.together():
            value = make() if self.main else None
        found: T = self._objects(value)[0]
        return found

    @contextmanager
    def watched(self) -> Iterator[None]:
        """If one rank ends, all end; the first one reports the reason, and the others refer to it."""
        try:
            yield
        except SystemExit:
            raise
        except BaseException as error:
            lost = self._lost(error) if _is_loss(error) else error
            self._leave(lost)
            if lost is error:
                raise
            raise lost from error

    def _leave(self, error: BaseException) -> None:
        """Report why this rank ends, unless another rank has reported a reason already."""
        if isinstance(error, LostRank):
            return
        status = error.exit_status if isinstance(error, UserError) else 1
        first = self.store.compare_set("ended", "", str(self.rank)).decode()
        if first == str(self.rank):
            self.store.set("reason", f"Rank {self.rank} of {self.size}: {type(error).__name__}: {error}")
        elif isinstance(error, UserError | OSError):
            raise SystemExit(status) from error  # one copy of the sentence is enough

    def shard(self, module: torch.nn.Module, blocks: Sequence[torch.nn.Module], entries: Sequence[str]) -> None:
        """FSDP2: each block, then the root with everything else.

        Raises:
            ConfigError: one part of the module holds weights of two types.
        """
        if self.shards == 1:
            return
        how: dict[str, Any] = {"mesh": self.mesh, "reshard_after_forward": self.options.reshard}
        half = {p.dtype for p in module.parameters()} & {torch.bfloat16, torch.float16}
        if half:
            # In one process each part computes in its own type; adapters, for example, in float32.
            for part in _in_other_types(module, blocks, half):
                fully_shard(part, **how)
            # The shards are float32, which a step of 1e-6 needs; the passes compute in the smaller type.
            # Inputs stay as they are: a batch holds advantages and log-probabilities next to the tokens.
            how["mp_policy"] = MixedPrecisionPolicy(
                param_dtype=half.pop(), reduce_dtype=torch.float32, cast_forward_inputs=False
            )
            module.float()
        for block in blocks:
            fully_shard(block, **how)
        fully_shard(module, **how)
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                # Otherwise the collective would apply the factor, which gloo cannot do.
                part.set_force_sum_reduction_for_comms(True)
                self.spread.append(part)
        for entry in entries:
            register_fsdp_forward_method(module, entry)

    def unshard(self, block: torch.nn.Module) -> None:
        """Gather the weights of a block."""
        if isinstance(block, FSDPModule):
            block.unshard()

    def like(self, tensor: Tensor, parameter: Tensor) -> Tensor:
        """This rank's shard of a whole tensor that all ranks have."""
        if not isinstance(parameter, DTensor):
            return tensor
        tensor = tensor.to(device=self.device, dtype=parameter.dtype)
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)

    def whole(self, tensor: Tensor) -> Tensor:
        """A parameter or gradient as one tensor; a collective if it is sharded."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def beside(self) -> Ranks:
        """The same ranks with a separate process group; every rank must call this."""
        other = copy.copy(self)
        other.objects = other.tensors = dist.new_group(backend="gloo", timeout=_limit(self.options))
        return other

    def close(self) -> None:
        """Leave the process groups."""
        dist.destroy_process_group()

    def _reduce(self, tensor: Tensor, how: Any) -> None:
        try:
            dist.all_reduce(tensor, how, group=self.tensors)
        except RuntimeError as error:
            raise self._lost(error) from error

    def _objects(self, mine: Any) -> list[Any]:
        every: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(every, mine, group=self.objects)
        except RuntimeError as error:
            raise self._lost(error) from error
        return every

    def _lost(self, error: BaseException) -> LostRank:
        if isinstance(error, LostRank):
            return error
        try:
            self.store.wait(["reason"], timedelta(seconds=3))
            return LostRank(f"All ranks end with {self.store.get('reason').decode()}")
        except RuntimeError:  # no rank has reported a reason
            return LostRank(
                f"Rank {self.rank} of {self.size} lost another one, which ended without a word (killed, perhaps for "
                f"lack of memory) or did not answer within --world.timeout-minutes {self.options.timeout_minutes}: "
                f"{str(error).splitlines()[0]}"
            )


def _in_other_types(
    module: torch.nn.Module, blocks: Sequence[torch.nn.Module], half: Set[torch.dtype]
) -> list[torch.nn.Module]:
    """The parts of a module whose own weights are not of the smaller type.

    Raises:
        ConfigError: the own weights of a part are of several types, or a block or the root is such a part.
    """
    found = []
    for name, part in module.named_modules():
        types = {weight.dtype for weight in part.parameters(recurse=False)}
        if not types or (types == half and len(half) == 1):
            continue
        if types & half or len(types) > 1 or part in (module, *blocks):
            raise ConfigError(
                f"{name or type(module).__name__} has weights of {' and '.join(sorted(map(str, types | half)))}, which "
                "cannot be shared between ranks. Give --world.shard 1, or a --policy.dtype that it has alone."
            )
        found.append(part)
    return found


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Groups of parameters of one type whose gradients are sent together: few transfers, each with little memory."""
    bucket: list[Tensor] = []
    held = 0
    for parameter in parameters:
        if bucket and (held + parameter.nbytes > BUCKET or bucket[0].dtype != parameter.dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(parameter)
        held += parameter.nbytes
    if bucket:
        yield bucket


BROKEN = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "Broken pipe", "gloo", "NCCL")
"""Messages of PyTorch's backends when another rank has ended."""


def _is_loss(error: BaseException) -> bool:
    """Whether an error says that the connection to another rank broke or timed out."""
    if isinstance(error, (LostRank, dist.DistError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in BROKEN)


def _own_store(timeout: timedelta) -> dist.PrefixStore:
    """torchrun's store, which outlives the ranks, with separate keys for this start.

    On one machine the keys differ between restarts. Several torchruns count restarts differently, so they share keys.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.PrefixStore(
        f"llmrl/{os.environ.get('TORCHELASTIC_RUN_ID', '')}/{attempt}",
        dist.TCPStore(address, port, is_master=False, timeout=timeout),
    )


def _meeting_place(timeout: timedelta) -> dict[str, Any]:
    """The store for ``init_process_group``; nothing if no torchrun serves one.

    Without separate keys, restarted ranks could find the addresses of dead ones.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return {"store": _own_store(timeout), "rank": rank, "world_size": size}


def _limit(options: WorldConfig) -> timedelta:
    return timedelta(minutes=options.timeout_minutes)


def _device_of_rank(device: str | None) -> torch.device:
    """The CPU, or the GPU of this rank on its machine."""
    kind = torch.device(device).type if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
    if kind != "cuda":
        return torch.device(kind)
    local = int(os.environ.get("LOCAL_RANK", "0"))
    found = torch.cuda.device_count()
    if local >= found:
        raise ConfigError(
            f"Rank {local} on this machine has no GPU: {os.environ.get('LOCAL_WORLD_SIZE', '?')} ranks were started "
            f"for {found} GPUs. Give torchrun --nproc-per-node {max(found, 1)}, or --policy.device cpu."
        )
    here = torch.device("cuda", local)
    torch.cuda.set_device(here)
    return here
