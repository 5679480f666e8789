"""Files of tensors with the usual mode; files that safetensors writes are readable by one account only."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

# The umask can only be read by setting it, which affects all threads, so it is read once before any start.
_UMASK = os.umask(0o077)
os.umask(_UMASK)
_NUMBER = re.compile(r"\(os error (\d+)\)")


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise OSError for a path if a library written in Rust raises its own error for a full disk.

    Such libraries (safetensors, tokenizers) give the number of the error only in their text.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        found = _NUMBER.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with the mode that ``open`` would give it.

    Raises:
        OSError: the disk is full or not writable.
    """
    with disk_errors(file):
        save_file(dict(tensors), file, metadata=None if metadata is None else dict(metadata))
    usual_mode(file)


def usual_mode(*files: Path) -> None:
    """Give files the mode of files made by ``open``."""
    for file in files:
        file.chmod(0o666 & ~_UMASK)
