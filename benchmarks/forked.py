"""Commands of llmrl in forked processes that have imported everything already; results that outlast an interruption.

Importing torch, transformers and matplotlib takes many times longer than a run of a tiny model. A forked process
begins as a fresh one does: a session and process group of its own, Python's own answers to signals, one thread, no
state of an earlier run.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from llmrl.commands.cli import main as llmrl
from llmrl.reports import plots

LIMIT = 180
"""Seconds after which a command counts as hanging."""
HANGS = 999
"""Its status then."""


class Child:
    """A command in a process of its own.

    Args:
        command: what follows ``llmrl``.
        log: gets what it says.
        before: is called in the process before the command.
        program: what Python runs instead of both, in a process that has imported nothing.
    """

    def __init__(
        self,
        command: list[str],
        log: Path,
        before: Callable[[], object] | None = None,
        program: list[str] | None = None,
    ) -> None:
        self.log = log
        self.pid = os.fork()
        if self.pid == 0:
            _be(command, log, before, program)

    def ended(self) -> bool:
        """Whether it has; does not wait, and leaves its status to be read."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Its status: negative for a signal, :data:`HANGS` if it hangs. Nothing of its group is left."""
        deadline = time.monotonic() + LIMIT
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        hangs = not self.ended()
        with contextlib.suppress(ProcessLookupError):  # its workers end with it
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return HANGS if hangs else os.waitstatus_to_exitcode(status)

    @property
    def said(self) -> str:
        """All that it wrote to its outputs."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


def run(command: list[str], log: Path, before: Callable[[], object] | None = None) -> int:
    """The status of a command, once it has ended."""
    return Child(command, log, before).wait()


def _be(command: list[str], log: Path, before: Callable[[], object] | None, program: list[str] | None) -> None:
    """Be the process of a command; does not return."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.closerange(3, 256)
        if program is not None:
            os.execv(sys.executable, [sys.executable, *program])
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


def import_what_is_used(commands: Sequence[list[str]], place: Path) -> None:
    """Import here what the commands import, so that their forked processes need not; they themselves run in forks.

    Pictures are not drawn from now on, which takes longer than the rest of a short run: their files are written.
    """
    torch.set_num_threads(1)
    plots._curves = lambda rows, panels, path, title: _not_drawn(path)  # type: ignore[assignment]
    plots._bars = lambda before, after, path: _not_drawn(path)  # type: ignore[assignment]
    for number, command in enumerate(commands):
        names, log = place / "modules", place / "log"
        code = run(["--version"], log, lambda: _list_modules(command, names))  # noqa: B023
        if code != 0:
            raise RuntimeError(f"Command {number} ended with {code}: {log.read_text()}")
        for name in names.read_text().split():
            with contextlib.suppress(ImportError):  # made by hand in a package, such as six.moves
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _list_modules(command: list[str], names: Path) -> None:
    if llmrl(command) != 0:
        raise RuntimeError(f"llmrl {' '.join(command)} failed")
    names.write_text("\n".join(sys.modules))


def _not_drawn(path: Path) -> Path:
    path.write_bytes(b"not drawn")
    return path


class Results:
    """What was found, a line of JSON each, written as it comes: what is there already is not found again.

    Args:
        file: of the lines; None keeps them in memory.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file is not None and file.is_file() else []
        self.found: dict[str, dict[str, Any]] = {entry["key"]: entry for entry in map(json.loads, lines)}
        here = Path(__file__).parent
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=7"], cwd=here, capture_output=True, text=True
        )
        self.commit = described.stdout.strip() or "unknown"

    def get(self, key: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The entry of a key; found now if it is not there."""
        if key not in self.found:
            entry = {"key": key, "commit": self.commit, "date": str(datetime.date.today()), **find()}
            self.found[key] = entry
            if self.file is not None:
                with self.file.open("a") as stream:
                    stream.write(json.dumps(entry) + "\n")
        return self.found[key]
