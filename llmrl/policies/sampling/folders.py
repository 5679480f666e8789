"""Folders that only this account can enter, for tokens, sockets and weights for an engine.

A killed process leaves its folder behind, possibly in shared memory. The next process that makes a folder removes those
of ended processes. They are recognised by a lock that ends with its process.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from pathlib import Path

from filelock import FileLock, Timeout

from llmrl.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
WAIT = 60.0  # seconds for another process to make its folder


class FolderError(UserError, OSError):
    """No private folder can be made; the message names the place and the reason."""

    exit_status = 1


class PrivateFolder:
    """A new folder of mode 0700, locked while this process lives, and removed when it ends.

    Args:
        room: bytes that will be written; the folder is in shared memory if three times as much is free there.

    Raises:
        FolderError: there is no place that only this account can enter.
    """

    def __init__(self, room: int | None = None) -> None:
        base = _base(SHARED_MEMORY if room is not None and _roomy(room) else Path(tempfile.gettempdir()))
        try:
            with FileLock(base / "lock", timeout=WAIT):
                _remove_left(base)
                self.path = Path(tempfile.mkdtemp(prefix="engine-", dir=base))
                self._lock = FileLock(self.path / "lock", thread_local=False)
                self._lock.acquire(timeout=0)
                self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        except Timeout as error:
            raise FolderError(f"Another process has held {base / 'lock'} for {WAIT:.0f} seconds. End it.") from error

    def close(self) -> None:
        """Remove the folder; safe to call twice."""
        self._remove()
        self._lock.release(force=True)


def token_file(port: int) -> Path:
    """The file of a token that a server on this machine made; only this account can read it."""
    return _base(Path(tempfile.gettempdir())) / f"token-{port}"


def write_private(file: Path, text: str) -> None:
    """Write a file of mode 0600, and replace an existing one."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)


def _base(parent: Path) -> Path:
    """This account's folder in a place that other accounts can write to."""
    base = parent / f"llmrl-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise FolderError(
            f"{base} is not a folder that this account alone can enter. Remove it, or set TMPDIR to another place."
        )
    return base


def _remove_left(base: Path) -> None:
    """Remove the folders whose owner has ended; called with the lock of the base held."""
    for folder in base.glob("engine-*"):
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release(force=True)


def _roomy(size: int) -> bool:
    return SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 3 * size
