"""Train on several ranks, of which one meets a fault: ``one_rank.py HOW STEP ARGUMENTS...`` of ``llmrl train``.

``kill``: rank 1 is killed behind a step, once; a restart is left alone. ``raise``, ``memory``: it raises there.
``full``: from there on it cannot write. ``writing``: it is killed while it writes that step's checkpoint, once.
``stop``: it alone is sent SIGTERM. ``none``: nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import trivial  # noqa: E402, F401  registers tests/SayA-v0

from llmrl.distributed import shards  # noqa: E402
from llmrl.training.trainer import Trainer  # noqa: E402


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def first() -> bool:
    """Whether this is the first call; several torchruns do not count restarts alike."""
    mark = Path(sys.argv[sys.argv.index("--output") + 1] + ".met")
    before = mark.exists()
    mark.touch()
    return not before


def fault(how: str) -> None:
    """What rank 1 meets."""
    if how == "kill" and first():
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise ConnectionError("no sandbox is free")
    if how == "memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if how == "full":
        shards.write = no_space
    if how == "writing" and first():
        shards.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """The run's exit status."""
    from llmrl.commands.cli import main

    how, number = sys.argv[1], int(sys.argv[2])
    step = Trainer.step

    def faulty(self: Trainer):
        done = step(self)
        if self.counters.step == number and os.environ["RANK"] == "1":
            fault(how)
        return done

    Trainer.step = faulty  # type: ignore[method-assign]
    return main(["train", *sys.argv[3:]])


if __name__ == "__main__":
    sys.exit(main())
