"""Writing checkpoints, one after the other: at once, or in a thread while training continues."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from llmrl.distributed.world import World
from llmrl.errors import ConfigError
from llmrl.training.process import started_thread

MEMORY = Path("/proc/meminfo")


class Writer:
    """The writer of a run's checkpoints.

    Args:
        world: the ranks; in a thread of its own the writer speaks with the others on a line of its own.
        background: write in a thread; the work must then read nothing that training changes.
    """

    def __init__(self, world: World, background: bool) -> None:
        self.background = background
        self.world = world.beside() if background else world
        self._thread = started_thread("llmrl-checkpoint") if background else None
        self._running: Future[Path] | None = None

    def write(self, work: Callable[[], Path]) -> None:
        """Do the work; in the background, once the work before it has ended.

        Raises:
            OSError: this checkpoint, or in the background the one before it, could not be written.
        """
        self.wait()
        if self._thread is None:
            work()
        else:
            self._running = self._thread.submit(work)

    def check(self) -> None:
        """Raise what the latest checkpoint met, if its writing has ended; does not wait."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Return when the latest checkpoint is written.

        Raises:
            OSError: it could not be.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Let what is being written come to its end; its error is not raised."""
        if self._thread is not None:
            self._thread.shutdown()


def refuse_without_memory(wanted: int) -> None:
    """Refuse a copy that does not fit into memory.

    Args:
        wanted: bytes.

    Raises:
        ConfigError: fewer are free, as far as the kernel tells.
    """
    if not MEMORY.is_file():
        return
    free = next(int(line.split()[1]) for line in MEMORY.read_text().splitlines() if line.startswith("MemAvailable"))
    if wanted > free << 10:
        raise ConfigError(
            f"--checkpoint.background writes from a copy of weights and optimizer of about {wanted / 2**30:.1f} GiB, "
            f"and {free / 2**20:.1f} GiB of memory are free. Leave it out."
        )
