"""Files of tensors with the usual mode; those of safetensors can be read by one account alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

# It can only be read by setting it, which threads must not see: once, before there are any.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file of the mode that ``open`` would give it.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    try:
        save_file(dict(tensors), file, metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:  # its reason for a full disk is in the text alone
        raise OSError(f"{file}: {error}") from error
    usual_mode(file)


def usual_mode(*files: Path) -> None:
    """Give files the mode of files made by ``open``."""
    for file in files:
        file.chmod(0o666 & ~_UMASK)
