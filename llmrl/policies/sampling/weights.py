"""A model's weights with their names in a checkpoint, and the files for an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from llmrl.policies.adapters import merged
from llmrl.policies.sampling.wire import digest_of_file, part_name

PART_BYTES = 1 << 28  # of one file, if no tensor is larger


def weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield every weight with its name in a checkpoint, with merged adapters and a tied head."""
    from transformers.core_model_loading import revert_weight_conversion

    plain = merged(model)
    for name, tensor in revert_weight_conversion(plain, plain.state_dict()).items():
        yield name, tensor.detach()


def write_parts(tensors: Iterable[tuple[str, Tensor]], folder: Path, part_bytes: int = PART_BYTES) -> list[str]:
    """Write tensors to safetensors files, one file at a time, so that memory never holds a second copy.

    Args:
        tensors: names and tensors; every name once.
        folder: folder for the files, which are named by :func:`~llmrl.policies.sampling.wire.part_name`.
        part_bytes: maximum size of a file; a larger tensor has its own file.

    Returns:
        The SHA-256 of each file.
    """
    digests: list[Future[str]] = []
    part: dict[str, Tensor] = {}
    size = 0
    with ThreadPoolExecutor(4) as hashing:  # of parts while the next are written

        def close() -> None:
            file = folder / part_name(len(digests))
            save_file(_apart(part), file)
            digests.append(hashing.submit(digest_of_file, file))

        for name, tensor in tensors:
            if part and size + tensor.nbytes > part_bytes:
                close()
                part, size = {}, 0
            part[name] = tensor
            size += tensor.nbytes
        if part:
            close()
        return [digest.result() for digest in digests]


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without shared memory, because the format has no ties."""
    taken: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous()
        apart[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in taken else tensor
        taken.add(tensor.untyped_storage().data_ptr())
    return apart
