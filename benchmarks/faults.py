"""The fault matrix: what can go wrong, at every moment of a run, and what was seen.

Each cell is a run of a tiny model in a process of its own, in which one thing goes wrong at one moment. Afterwards the
same command goes on with ``--resume auto``, undisturbed, and its last weights are compared bitwise with those of a
run in which nothing went wrong.

    python benchmarks/faults.py --output docs/faults.md
    python benchmarks/faults.py --faults SIGTERM "disk full" --moments update
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import errno
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from llmrl.commands.cli import main as llmrl
from llmrl.envs.vector import TextVectorEnv
from llmrl.evaluation import Evaluation
from llmrl.policies.policy import Policy
from llmrl.training import checkpoint, session
from llmrl.training.learner import Learner

TESTS = Path(__file__).parents[1] / "tests"

LIMIT = 120
"""Seconds after which a cell counts as hanging."""
STEPS = 4

MOMENTS: dict[str, tuple[Any, str, int]] = {
    "start": (session, "build", 1),
    "sampling": (Policy, "respond", 4),
    "grading": (TextVectorEnv, "step", 4),
    "update": (Learner, "update", 3),
    "checkpoint": (checkpoint, "_write_state", 2),
    "evaluation": (session, "evaluate", 1),
    "end": (Evaluation, "write", 2),
}
"""What is called then, and which call of it the fault comes before."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    act: Callable[[Path], object]
    promise: str
    """What ought to happen."""
    statuses: tuple[int, ...]
    """Exit statuses that keep the promise."""
    trace: bool = False
    """Whether a traceback may be shown: for mistakes in code, which whoever mends them needs."""
    tells: bool = True
    """Whether a nonzero status comes with a sentence."""


def _raise(error: BaseException) -> Callable[[Path], object]:
    def act(folder: Path) -> None:
        raise error

    return act


def _signals(*numbers: int) -> Callable[[Path], object]:
    return lambda folder: [os.kill(os.getpid(), number) for number in numbers]


def _small_files(folder: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, resource.RLIM_INFINITY))


def _few_descriptors(folder: Path) -> None:
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _no_reader(folder: Path) -> None:
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(read)


def _claim(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from llmrl.training.folder import held\n"
        "with held(Path(sys.argv[1])): print('entered')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    if "entered" in done.stdout:
        raise AssertionError("a second process entered the folder")


def _damage(folder: Path) -> None:
    for file in sorted(folder.glob("checkpoint-*/model.safetensors"))[-1:]:
        with file.open("r+b") as stream:
            stream.seek(200)
            stream.write(b"\xff\xff")


def _half_written(folder: Path) -> None:
    (folder / ".writing-checkpoint-000009").mkdir(exist_ok=True)
    (folder / ".writing-checkpoint-000009" / "model.safetensors").write_bytes(b"half")


def _stop_clock(folder: Path) -> None:
    time.time = lambda: 0.0


def _stir(folder: Path) -> None:
    torch.manual_seed(99)


def _hang_then_stop(folder: Path) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    signal.signal(
        signal.SIGALRM, lambda *_: (os.kill(os.getpid(), signal.SIGTERM), os.kill(os.getpid(), signal.SIGTERM))
    )
    time.sleep(LIMIT)


def _full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


STOPS = "finishes the step, writes a checkpoint, status 3; before the first step it may leave at once"
LEAVES = "leaves at once with a sentence; checkpoints are whole"
FAULTS: dict[str, Fault] = {
    "SIGKILL": Fault(_signals(signal.SIGKILL), "checkpoints are whole", (-9,), tells=False),
    "SIGTERM": Fault(_signals(signal.SIGTERM), STOPS, (3, 0, -15), tells=False),
    "SIGHUP": Fault(_signals(signal.SIGHUP), STOPS, (3, 0, -1), tells=False),
    "SIGUSR1": Fault(_signals(signal.SIGUSR1), STOPS, (3, 0, -10), tells=False),
    "SIGINT": Fault(_signals(signal.SIGINT), STOPS, (3, 0, 130), tells=False),
    "SIGTERM twice": Fault(_signals(signal.SIGTERM, signal.SIGTERM), LEAVES, (130, -15), tells=False),
    "hangs, then SIGTERM twice": Fault(_hang_then_stop, LEAVES, (130, -15, 0), tells=False),
    "disk full": Fault(_raise(_full_disk()), "a sentence, or what is not needed is left out", (0, 1, 2)),
    "files above 64 KiB": Fault(_small_files, "a sentence, status 1", (0, 1, 2)),
    "no file descriptor left": Fault(_few_descriptors, "a sentence, status 1", (0, 1, 2)),
    "permission denied": Fault(_raise(PermissionError(errno.EACCES, "Permission denied")), "a sentence", (0, 1, 2)),
    "run folder removed": Fault(lambda folder: shutil.rmtree(folder, True), "a sentence, status 1", (1, 2)),
    "run folder renamed": Fault(
        lambda folder: folder.exists() and folder.rename(f"{folder}-moved"), "a sentence, status 1", (1, 2)
    ),
    "reader of stdout gone": Fault(_no_reader, "training does not notice", (0,)),
    "a second process": Fault(_claim, "it is refused; the run does not notice", (0,)),
    "last checkpoint damaged": Fault(_damage, "the run does not notice; a resume passes it over", (0,)),
    "a half-written checkpoint": Fault(_half_written, "is cleared away", (0,)),
    "clock at 1970": Fault(_stop_clock, "the run does not notice", (0,)),
    "global generator seeded": Fault(_stir, "other numbers at most; a run ends", (0,)),
    "MemoryError": Fault(_raise(MemoryError("out of memory")), "smaller micro-batches, or an error", (0, 1, 2), True),
    "GPU out of memory": Fault(
        _raise(torch.OutOfMemoryError("CUDA out of memory")), "smaller micro-batches, or an error", (0, 1, 2), True
    ),
    "SystemExit in a library": Fault(_raise(SystemExit(5)), "ends; in an environment the group is lost", (0, 1, 2, 5)),
    "KeyboardInterrupt in a library": Fault(_raise(KeyboardInterrupt()), LEAVES, (130,)),
    "an exception in code": Fault(
        _raise(RuntimeError("a mistake")), "a traceback for whoever mends it; checkpoints are whole", (0, 1, 2), True
    ),
}
ALTERS = {"global generator seeded", "MemoryError", "GPU out of memory", "disk full", "permission denied"} | {
    "an exception in code",
    "SystemExit in a library",
}
"""Faults after which a run may go on with other numbers: a group that an environment lost is not sampled again."""


def arguments(model: Path, output: Path) -> list[str]:
    """The command line of every cell."""
    return [
        *("train", "--policy", str(model), "--env", "tests/Noisy-v0", "--algo", "grpo", "--output", str(output)),
        *("--policy.max-response-length", "4", "--train.prompts-per-step", "2", "--train.group-size", "4"),
        *("--train.updates-per-step", "2", "--train.learning-rate", "1e-2", "--train.warmup-steps", "1"),
        *("--train.steps", str(STEPS), "--eval.problems", "2", "--eval.samples", "0", "--checkpoint.every", "1"),
        *("--threads", "1", "--checkpoint.rollouts-every", "0"),
    ]


def run(command: list[str], log: Path, before: Callable[[], object] | None = None) -> int:
    """Run a command of llmrl in a forked process; returns its status, negative for a signal, 999 if it hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            if before is not None:
                before()
            status = llmrl(command)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            with contextlib.suppress(BaseException):
                os.write(2, traceback.format_exc().encode())
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
            os._exit(status)
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 999


def break_at(moment: str, act: Callable[[Path], object], folder: Path) -> None:
    """Have something happen before a call."""
    owner, name, wanted = MOMENTS[moment]
    function, calls = getattr(owner, name), 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == wanted:
            act(folder)
        return function(*args, **kwargs)

    setattr(owner, name, broken)


def weights(folder: Path) -> dict[str, torch.Tensor] | None:
    """The last weights of a run; None if there are none."""
    file = folder / "latest" / "model.safetensors"
    return load_file(file) if file.is_file() else None


def equal(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor] | None) -> bool:
    """Bitwise."""
    return one is not None and other is not None and all(torch.equal(one[name], other[name]) for name in one)


def cell(name: str, moment: str, model: Path, place: Path, good: dict[str, torch.Tensor]) -> tuple[bool, str]:
    """Whether the promise was kept, and what was seen."""
    fault, folder, log = FAULTS[name], place / "run", place / "log"
    command = arguments(model, folder)
    status = run(command, log, lambda: break_at(moment, fault.act, folder))
    said = log.read_text(errors="replace") if log.exists() else ""
    wrong = []
    if status not in fault.statuses:
        wrong.append("hangs" if status == 999 else f"status {status}")
    if "Traceback" in said and not fault.trace:
        wrong.append("a traceback")
    if status not in (0, 3) and fault.tells and not fault.trace and "error: " not in said:
        wrong.append("no sentence")
    seen = "hangs" if status == 999 else f"status {status}"
    moved = Path(f"{folder}-moved")
    if moved.exists():
        shutil.rmtree(folder, ignore_errors=True)
        moved.rename(folder)
    whole = checkpoint.list_checkpoints(folder)
    if any(checkpoint.damages(path) for path in whole) and "damaged" not in name:
        wrong.append("a damaged checkpoint")
    again = run([*command, "--resume", "auto"], place / "log2")
    if again != 0:
        wrong.append(f"a resume ends with {again}: {(place / 'log2').read_text(errors='replace').strip()[-200:]}")
    elif name in ALTERS:
        seen += ", goes on"
    elif equal(weights(folder), good):
        seen += ", goes on bitwise"
    else:
        wrong.append("other weights after a resume")
    return not wrong, "; ".join([seen, *wrong])


def write(table: dict[str, dict[str, tuple[bool, str]]], moments: list[str]) -> str:
    """The page."""
    cells = [entry for row in table.values() for entry in row.values()]
    kept = sum(ok for ok, _ in cells)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout.strip()
    lines = [
        "# What goes wrong, and when",
        "",
        "A run of a tiny model, in which one thing goes wrong at one moment. Afterwards the same command goes on with",
        "`--resume auto`; *bitwise* means that its last weights are those of a run in which nothing went wrong. The",
        "number is the exit status, negative for a signal that ended the process. A cell in bold broke its promise.",
        "",
        f"{kept} of {len(cells)} cells keep the promise of their row.",
        f"`python benchmarks/faults.py --output docs/faults.md`, commit {commit or 'unknown'},",
        f"{datetime.date.today()}, {os.cpu_count()} CPU cores, {platform.machine()}.",
        "",
        "| fault | promised | " + " | ".join(moments) + " |",
        "| --- | --- |" + " --- |" * len(moments),
    ]
    for name, row in table.items():
        shown = [text.replace("status ", "").replace("|", "/").replace("\n", " ") for _, text in row.values()]
        marked = [text if ok else f"**{text}**" for text, (ok, _) in zip(shown, row.values(), strict=True)]
        lines.append(f"| {name} | {FAULTS[name].promise} | {' | '.join(marked)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the cells; status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS), metavar="FAULT")
    parser.add_argument("--moments", nargs="*", default=list(MOMENTS), choices=list(MOMENTS), metavar="MOMENT")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    sys.path[:0] = [str(TESTS), str(TESTS / "helpers")]
    import noisy  # noqa: F401  registers tests/Noisy-v0
    from tiny import tiny_folder

    torch.set_num_threads(1)
    table: dict[str, dict[str, tuple[bool, str]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        model = tiny_folder(Path(temporary) / "model", sharpness=1.0, num_hidden_layers=1)
        reference = Path(temporary) / "good"
        reference.mkdir()
        assert run(arguments(model, reference / "run"), reference / "log") == 0, (reference / "log").read_text()
        good = weights(reference / "run")
        assert good is not None
        for name in options.faults:
            for moment in options.moments:
                place = Path(temporary) / "cell"
                place.mkdir()
                table.setdefault(name, {})[moment] = cell(name, moment, model, place, good)
                ok, text = table[name][moment]
                print(f"{'kept  ' if ok else 'BROKEN'} {name}, {moment}: {text}", flush=True)
                shutil.rmtree(place)
            if options.output is not None:
                options.output.write_text(write(table, options.moments))
    return int(not all(ok for row in table.values() for ok, _ in row.values()))


if __name__ == "__main__":
    sys.exit(main())
