"""A pretended accelerator: tensors that say they are on ``vgpu:0`` and keep their data on the CPU.

It needs no GPU and no CUDA build. Operators run on the CPU with real values and real autograd, so results can be
compared with a CPU run, and

- an operator that mixes a tensor of the device with one of the CPU (other than a number) raises :class:`Mismatch`;
- whatever makes the CPU wait for a GPU (``.item()``, ``.tolist()``, ``nonzero``, ``.cpu()`` ...) is counted.

It rests on an experimental function of torch, so it holds for the version that is tested. Kernels, streams and memory
of a real GPU are not pretended.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "vgpu"
WAITING = frozenset(
    [
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "_unique2",
        "unique_dim",
        "unique_consecutive",
        "equal",
        "is_nonzero",
    ]
)
"""Operators whose result the CPU has to know before it goes on."""
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")
"""Operators that take positions from the CPU."""


class Mismatch(RuntimeError):
    """An operator got tensors of two devices."""


@dataclass
class Waits:
    """How often the CPU would have waited for the device."""

    count: int = 0


WAITS = Waits()


class VTensor(torch.Tensor):
    """A tensor on the pretended device; ``inner`` has its data."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, real):
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=torch.device(NAME, 0),
        )
        self.inner = real
        return self

    def __repr__(self):
        return f"{NAME}({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _real(x: Any) -> Any:
    if isinstance(x, VTensor):
        return x.inner
    return torch.device("cpu") if isinstance(x, torch.device) and x.type == NAME else x


def _wrap(x: Any) -> Any:
    return VTensor(x) if isinstance(x, torch.Tensor) and not isinstance(x, VTensor) else x


def _counts_places(name: str, args: Any) -> bool:
    """Whether an operator takes positions from a mask: how many are true has to be known first."""
    if name not in INDEXING:
        return False
    masks = [index for index in args[1] if isinstance(index, VTensor) and index.dtype in (torch.bool, torch.uint8)]
    filled = name != "index" and len(masks) == len(args[1]) == 1 and args[2].numel() == 1  # as masked_fill
    return bool(masks) and not filled


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator on the CPU; its result is on the device where its tensors or its ``device`` are."""
    flat, _ = tree_flatten((args, kwargs))
    ours = [x for x in flat if isinstance(x, VTensor)]
    others = [x for x in flat if isinstance(x, torch.Tensor) and not isinstance(x, VTensor)]
    device = kwargs.get("device")
    if device is None:
        device = next((x for x in flat if isinstance(x, torch.device)), None)
    name = func.overloadpacket.__name__
    WAITS.count += bool(ours) and (name in WAITING or _counts_places(name, args))
    real_args, real_kwargs = tree_map(_real, args), tree_map(_real, kwargs)
    if name in ("_to_copy", "to"):
        out = func(*real_args, **real_kwargs)
        there = _pretended(device) if device is not None else bool(ours)
        WAITS.count += bool(ours) and not there
        return _wrap(out) if there else out
    if name == "copy_":
        func(*real_args, **real_kwargs)
        return args[0]
    if ours and any(x.ndim > 0 for x in others):
        indices = name in INDEXING and isinstance(args[0], VTensor)
        if not (indices and all(x.dtype in (torch.int64, torch.bool) for x in others)):
            shapes = [tuple(x.shape) for x in others if x.ndim > 0]
            raise Mismatch(f"{func}: tensors on {NAME} and on cpu, {shapes}")
    out = func(*real_args, **real_kwargs)
    if not (ours or _pretended(device)) or (device is not None and not _pretended(device)):
        return out
    given = {id(x.inner): x for x in ours}  # operators in place give back what went in
    return tree_map(lambda o: given.get(id(o), _wrap(o)) if isinstance(o, torch.Tensor) else o, out)


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _pretended(kwargs.get("device")):
            del kwargs["device"]
            return func(*args, **kwargs).to(NAME)
        if func in (torch.Tensor.tolist, torch.Tensor.numpy) and isinstance(args[0], VTensor):
            WAITS.count += 1
            return func(args[0].inner.detach(), *args[1:], **kwargs)
        return func(*args, **kwargs)


class _Generator(torch.Generator):
    """Random numbers come from the CPU, whatever the device."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls, "cpu")


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a device."""

    def synchronize(self, *args): ...

    def current_stream(self, *args): ...

    def manual_seed_all(self, *args): ...

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def is_available(self):
        return True

    def _is_in_bad_fork(self):
        return False

    def get_amp_supported_dtype(self):
        return [torch.float32, torch.bfloat16]


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _real(target).copy_(_real(source))
    WAITS.count += isinstance(source, VTensor) and not isinstance(target, VTensor)
    return target


@functools.cache
def register() -> torch.library.Library:
    """Make the device known to torch, once in a process and before its first backward pass.

    From then on torch says everywhere that there is an accelerator, so tests do this in a process of their own.
    """
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    kernels = torch.library.Library("aten", "IMPL")

    def empty_strided(size, stride, *, dtype=None, **_):
        return VTensor(torch.empty_strided(size, stride, dtype=dtype))

    def empty(size, *, dtype=None, **_):
        return VTensor(torch.empty(size, dtype=dtype))

    for operator, kernel in {
        "empty_strided": empty_strided,
        "empty.memory_format": empty,
        "_copy_from": _copy_from,
    }.items():
        kernels.impl(operator, kernel, "PrivateUse1")
    return kernels


@contextlib.contextmanager
def pretend_gpu() -> Iterator[Waits]:
    """Within, ``device="vgpu"`` works; waits are counted from zero. See :func:`register`."""
    register()
    WAITS.count = 0
    generator, torch.Generator = torch.Generator, _Generator
    try:
        with _Functions(), _Operators():
            yield WAITS
    finally:
        torch.Generator = generator
