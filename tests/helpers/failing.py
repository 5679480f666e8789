"""Makes writes fail below Python: a library that is loaded before all others, and how it is told which one."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("failing.c")
ERRORS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "ESTALE")}


def preload(library: Path) -> None:
    """Compile the library and begin this program again with it; returns where it is loaded already."""
    if "failing" in os.environ.get("LD_PRELOAD", ""):
        return
    made = library / "failing.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": str(made)})


class Writes:
    """The writes of a forked process below a folder: counted, and one of them failing."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 4096)
        self._library = ctypes.CDLL(None)

    def arm(self, folder: Path, which: int = 0, error: str = "ENOSPC", forever: bool = False) -> None:
        """The write ``which`` (1, 2, ...) fails, and all later ones if that lasts for ever; 0: none."""
        self._shared[:] = bytes(4096)
        self._library.arm(
            str(folder).encode(),
            ctypes.c_long(which),
            ERRORS[error],
            int(forever),
            ctypes.byref(ctypes.c_char.from_buffer(self._shared)),
        )

    @property
    def count(self) -> int:
        """How many there were."""
        return int.from_bytes(self._shared[:8], sys.byteorder)

    @property
    def first(self) -> str:
        """What failed: the operation and the file."""
        return self._shared[8:520].split(b"\0")[0].decode()
