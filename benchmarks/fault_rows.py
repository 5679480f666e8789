"""What can go wrong with a run: the rows of the fault matrix, each with what makes it happen and what is promised."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import failing
import torch

LIBC = ctypes.CDLL(None, use_errno=True)
WRITES = failing.Writes()
"""Kept: the preloaded library goes on counting in its memory."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    act: Callable[[Path], object]
    """Makes it happen, in the process of the run; is given the run's folder."""
    promise: str
    """What ought to happen."""
    statuses: tuple[int, ...]
    """Exit statuses that keep the promise."""
    trace: bool = False
    """Whether a traceback may be shown: for mistakes in code, which whoever mends them needs."""
    tells: bool = True
    """Whether a nonzero status comes with a sentence."""
    alters: bool = False
    """Whether a run may go on with other numbers: a group that an environment lost is not sampled again."""
    damages: bool = False
    """Whether the fault itself damages a checkpoint."""
    loses: int = 0
    """Of how many steps the fault itself destroys the metrics."""
    mend: Callable[[Path], object] = lambda folder: None
    """Takes it away again, before the run goes on."""
    base: str = "train"
    """What is disturbed: a key of ``faults.BASES``."""
    beside: Callable[[Path, Path], list[str]] | None = None
    """The command that another process gives at that moment, of the model and the run's folder; it must be refused."""


def _raise(error: BaseException) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        raise error

    return act


def _signals(*numbers: int, gap: float = 0.0) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
            until = time.monotonic() + gap
            while time.monotonic() < until:
                time.sleep(0.05)

    return act


def _shell(script: str) -> Callable[[Path], object]:
    """A shell in the process group of the run does it, while the run waits for it."""
    return lambda folder: subprocess.run(["sh", "-c", script, "sh", str(os.getpid())], check=False)


def _small_files(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))


def _no_descriptors(folder: Path) -> None:
    free = os.dup(2)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _no_memory(folder: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(), resource.RLIM_INFINITY))


def _fill(folder: Path) -> None:
    """Fill the file system of the run, which is a small one of its own."""
    with (folder.parent / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass


def _close_folder(folder: Path) -> None:
    """Take away the right to write to the run's folder, and the power of root to do so nevertheless."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if LIBC.capget(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    data[0] &= ~0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    if LIBC.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _open_folder(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def _read_only(folder: Path) -> None:
    if folder.exists():
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def _writable(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)  # none, where no run was there


def _writes_fail(error: str) -> Callable[[Path], object]:
    return lambda folder: WRITES.arm(folder, 1, error, forever=True)


def _no_reader(folder: Path) -> None:
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(read)


def _damage(folder: Path) -> None:
    for file in sorted(folder.glob("checkpoint-*/model.safetensors"))[-1:]:
        with file.open("r+b") as stream:
            stream.seek(200)
            stream.write(b"\xff\xff")


def _half_written(folder: Path) -> None:
    (folder / ".writing-checkpoint-000009").mkdir(exist_ok=True)
    (folder / ".writing-checkpoint-000009" / "model.safetensors").write_bytes(b"half")


def _link_checkpoints(folder: Path) -> None:
    """As who moves checkpoints to a larger disk does."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not checkpoint.is_symlink():
            elsewhere = folder.parent / "elsewhere"
            elsewhere.mkdir(exist_ok=True)
            shutil.move(checkpoint, elsewhere / checkpoint.name)
            checkpoint.symlink_to(elsewhere / checkpoint.name)


def _damage_config(folder: Path) -> None:
    (folder / "config.yaml").write_bytes(b"policy: [\xff\x00 &a !!python/object:os.system")


def _cut_metrics(folder: Path) -> None:
    file = folder / "metrics.jsonl"
    if file.is_file() and file.stat().st_size:
        os.truncate(file, file.stat().st_size - 25)


def _clock(*times: float) -> Callable[[Path], object]:
    """Every look at the clock gives the next of some times, over and over."""

    def act(folder: Path) -> None:
        looks = iter(times * 100_000)
        time.time = lambda: next(looks)

    return act


def _stir(folder: Path) -> None:
    torch.manual_seed(99)


def _hang_then_stop(folder: Path) -> None:
    stop = "sleep 0.5; kill -TERM $1; sleep 1.5; kill -TERM $1"
    subprocess.Popen(["sh", "-c", stop, "sh", str(os.getpid())], start_new_session=True)
    time.sleep(100)


def _run_beside(model: Path, folder: Path) -> list[str]:
    from faults import arguments

    return arguments(model, folder)


def _resume_beside(model: Path, folder: Path) -> list[str]:
    return [*_run_beside(model, folder), "--resume", "auto"]


def _evaluation_beside(model: Path, folder: Path) -> list[str]:
    return ["eval", "--policy", str(model), "--env", "tests/SayA-v0", "--problems", "1", "--output", str(folder)]


STOPS = "finishes the step, writes a checkpoint, status 3; before the first step it leaves at once, status 130"
LEAVES = "leaves at once with a sentence; checkpoints are whole"
GOES_ON = "the run does not notice"
REFUSED = "it is refused with a sentence; the first does not notice"
FAULTS: dict[str, Fault] = {
    "SIGKILL": Fault(_signals(signal.SIGKILL), "checkpoints are whole", (-9,), tells=False),
    "SIGTERM": Fault(_signals(signal.SIGTERM), STOPS, (3, 0, 130)),
    "SIGTERM as `timeout` sends it": Fault(
        _shell("trap '' TERM; kill -TERM $1; kill -TERM 0; kill -CONT 0"), STOPS, (3, 0, 130)
    ),
    "SIGHUP": Fault(_signals(signal.SIGHUP), STOPS, (3, 0, 130)),
    "SIGUSR1": Fault(_signals(signal.SIGUSR1), STOPS, (3, 0, 130)),
    "SIGINT": Fault(_signals(signal.SIGINT), STOPS, (3, 0, 130)),
    "SIGTERM twice": Fault(_signals(signal.SIGTERM, signal.SIGTERM, gap=1.5), LEAVES, (130,)),
    "hangs, then SIGTERM twice": Fault(_hang_then_stop, LEAVES, (130,)),
    "SIGSTOP, then SIGCONT": Fault(
        lambda folder: _shell("(kill -STOP $1; sleep 0.5; kill -CONT $1) & wait")(folder), GOES_ON, (0,)
    ),
    "disk full": Fault(
        _fill,
        "a sentence, or what is not needed is left out",
        (0, 1, 2),
        mend=lambda folder: (folder.parent / "filler").unlink(missing_ok=True),
    ),
    "files above 64 KiB": Fault(_small_files, "a sentence, status 1", (0, 1, 2)),
    "no file descriptor left": Fault(_no_descriptors, "a sentence, status 1", (0, 1, 2)),
    "permission denied": Fault(_close_folder, "a sentence", (0, 1, 2), mend=_open_folder),
    "file system read-only": Fault(_read_only, "a sentence, status 1", (1, 2), mend=_writable),
    "every write gives EIO": Fault(_writes_fail("EIO"), "a sentence, status 1", (1, 2)),
    "every write gives ESTALE": Fault(_writes_fail("ESTALE"), "a sentence, status 1", (1, 2)),
    "run folder removed": Fault(lambda folder: shutil.rmtree(folder, True), "a sentence, status 1", (1, 2)),
    "run folder renamed": Fault(
        lambda folder: folder.exists() and folder.rename(f"{folder}-moved"), "a sentence, status 1", (1, 2)
    ),
    "reader of stdout gone": Fault(_no_reader, GOES_ON, (0,)),
    "a second run": Fault(lambda folder: None, REFUSED, (0,), beside=_run_beside),
    "a second resume": Fault(lambda folder: None, REFUSED, (0,), base="resume", beside=_resume_beside),
    "an evaluation into the run's folder": Fault(lambda folder: None, REFUSED, (0,), beside=_evaluation_beside),
    "a second evaluation": Fault(lambda folder: None, REFUSED, (0,), base="eval", beside=_evaluation_beside),
    "last checkpoint damaged": Fault(_damage, "the run does not notice; a resume passes it over", (0,), damages=True),
    "a half-written checkpoint": Fault(_half_written, "is cleared away", (0,)),
    "checkpoints moved, links in their place": Fault(_link_checkpoints, GOES_ON, (0,)),
    "config.yaml damaged": Fault(_damage_config, GOES_ON, (0,)),
    "metrics.jsonl cut in mid-line": Fault(
        _cut_metrics, "the metrics of that step are lost, and no others", (0,), loses=1
    ),
    "clock at 1970": Fault(_clock(0.0), GOES_ON, (0,)),
    "clock jumps by days": Fault(_clock(1.9e9, 1.8e9, 1.8e9 + 1), GOES_ON, (0,)),
    "global generator seeded": Fault(_stir, "other numbers at most; a run ends", (0,), alters=True),
    "memory used up": Fault(
        _no_memory, "smaller micro-batches, or an error; checkpoints are whole", (0, 1, 2, -6), True, alters=True
    ),
    "GPU out of memory": Fault(
        _raise(torch.OutOfMemoryError("CUDA out of memory")),
        "smaller micro-batches, or an error",
        (0, 1, 2),
        True,
        alters=True,
    ),
    "SystemExit in a library": Fault(
        _raise(SystemExit(5)), "ends; in an environment the group is lost", (0, 1, 2), alters=True
    ),
    "KeyboardInterrupt in a library": Fault(_raise(KeyboardInterrupt()), LEAVES, (130,)),
    "an exception in code": Fault(
        _raise(RuntimeError("a mistake")),
        "a traceback for whoever mends it; checkpoints are whole",
        (0, 1, 2),
        True,
        alters=True,
    ),
}
if sys.platform != "linux" or os.geteuid() != 0:
    raise SystemExit("The fault matrix mounts small file systems: it needs Linux and root, as in a container.")
