"""Runs a function on untrusted input in processes that are killed when they take too long.

A worker is a fresh interpreter: nothing of the parent is forked into it, so it is safe next to torch, from
any thread and under any start method.  It starts with the first task.  A worker gives up
privileges before it calls the function: see :func:`llmrl.verifiers.worker.restrict`.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

START_LIMIT = 60.0
"""Seconds a worker may take to import what it needs, on a busy machine."""
STALL_LIMIT = 10.0
"""Seconds a worker that is ready may take to read a task and to say so."""
END_LIMIT = 5.0
"""Seconds for the system to end a process that was killed."""
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Environment variables a worker sees; the others, with their credentials, it does not."""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """The outcome of one task."""

    status: Literal["done", "timeout", "error"]
    value: Any = None
    """What the function returned, as JSON brings it back."""
    detail: str = ""
    """What went wrong."""
    began: bool = True
    """Whether the task was begun: where it was not, a worker is at fault and not the task."""


def _made_again(function: str, size: int, deadline: float, memory: int) -> WorkerPool:
    return WorkerPool(function, size=size, deadline=deadline, memory=memory)


class WorkerPool:
    """Calls ``function`` in processes that can be killed.

    Args:
        function: ``module:function``; takes and returns values that JSON can hold.
        size: how many processes at most.
        deadline: seconds of wall time from when a worker begins a task; then it is killed.
        memory: bytes of address space a worker may have (Linux).

    A pool can be copied and pickled; the copy starts processes of its own.

    >>> with WorkerPool("operator:add") as pool:
    ...     pool.run([(1, 2), (1, "2")])[0].value
    3
    """

    def __init__(self, function: str, *, size: int = 2, deadline: float = 2.0, memory: int = 2**30) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}: it is a number of processes.")
        if not deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, got {deadline}.")
        self.function = function
        self.size = size
        self.deadline = deadline
        self.memory = memory
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._reset()
        _POOLS.add(self)
        weakref.finalize(self, _kill, self._all)  # when nobody holds the pool, and at exit

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, also in another process, has the same options and workers of its own."""
        return _made_again, (self.function, self.size, self.deadline, self.memory)

    def _reset(self) -> None:
        self._idle.clear()
        self._all.clear()
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(self.size)

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self.function, "size": self.size, "deadline": self.deadline, "memory": self.memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        function = state.pop("function")
        WorkerPool.__init__(self, function, **state)

    def start(self) -> None:
        """Start a worker if there is none, without waiting for it, so that the first task need not wait as long."""
        with self._lock:
            if not self._all:
                worker = _Worker(self.function, self.memory, self.deadline)
                self._all.add(worker)
                self._idle.append(worker)

    def run(self, tasks: Sequence[Sequence[Any]]) -> list[TaskResult]:
        """One outcome a task, in order.  Any thread may call it; tasks share the pool's processes."""
        if len(tasks) <= 1:
            return [self._one(task) for task in tasks]
        outcomes = [TaskResult("error", detail="not run")] * len(tasks)
        left = iter(range(len(tasks)))
        lock, done = threading.Lock(), threading.Semaphore(0)

        def work() -> None:
            while True:
                with lock:
                    index = next(left, None)
                if index is None:
                    return
                try:
                    outcomes[index] = self._one(tasks[index])
                finally:
                    done.release()

        # Thread.start would wait for ever for a thread that has no memory to begin with; this thread works too, so
        # that every task is run without it.
        for _ in range(min(self.size, len(tasks)) - 1):
            _thread.start_new_thread(work, ())
        work()
        for _ in tasks:
            done.acquire()
        return outcomes

    def _one(self, task: Sequence[Any]) -> TaskResult:
        with self._slots:
            outcome, used = self._attempt(task)
            if used and not outcome.began:  # the worker that was there is gone, and the task was not begun
                outcome, _ = self._attempt(task)
        return outcome

    def _attempt(self, task: Sequence[Any]) -> tuple[TaskResult, bool]:
        """The outcome, and whether the worker had been there before."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is not None and not worker.alive():
            self._end(worker)  # it ended while idle
            worker = None
        used = worker is not None
        if worker is None:
            worker = _Worker(self.function, self.memory, self.deadline)
            self._all.add(worker)
        outcome = None
        try:
            outcome = worker.call(task)
        finally:
            if outcome is not None and outcome.status == "done":
                with self._lock:
                    self._idle.append(worker)
            else:
                self._end(worker)
        return outcome, used

    def _end(self, worker: _Worker) -> None:
        worker.kill()
        self._all.discard(worker)

    def close(self) -> None:
        """End the processes that have nothing to do.  A later task starts new ones."""
        with self._lock:
            idle = list(self._idle)
            self._idle.clear()
        for worker in idle:
            self._end(worker)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One process and the pipes to it; used by one thread at a time."""

    def __init__(self, function: str, memory: int, deadline: float) -> None:
        self.deadline = deadline
        self._buffer = b""
        self._ready = False
        root = str(Path(__file__).resolve().parents[2])
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([root, *(path for path in sys.path if path)])
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "llmrl.verifiers.worker"),
                *(function, str(memory), str(deadline)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
        )

    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, task: Sequence[Any]) -> TaskResult:
        if not self._ready:
            message = self._read(START_LIMIT)
            if message is None or "ready" not in message:
                reason = self._death() if message is None else message["error"]
                return TaskResult("error", detail=f"the worker did not start: {reason}", began=False)
            self._ready = True
        try:
            written = self._write(json.dumps(list(task)).encode() + b"\n")
        except BrokenPipeError:
            return TaskResult("error", detail=self._death(), began=False)
        if not written or self._read(STALL_LIMIT) is None:
            return TaskResult("error", detail=self._missing(), began=False)
        began = time.monotonic()
        message = self._read(self.deadline)
        if message is None:
            if time.monotonic() - began >= self.deadline:
                return TaskResult("timeout", detail=f"took more than {self.deadline:g} s")
            return TaskResult("error", detail=self._death())
        if "error" in message:
            return TaskResult("error", detail=message["error"])
        return TaskResult("done", value=message["value"])

    def _write(self, data: bytes) -> bool:
        """Write to the worker; False when it does not read."""
        assert self._process.stdin is not None
        stream = self._process.stdin.fileno()
        os.set_blocking(stream, False)
        left, end = memoryview(data), time.monotonic() + STALL_LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_WRITE)
            while left:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return False
                with contextlib.suppress(BlockingIOError):  # the pipe filled up in between
                    left = left[os.write(stream, left) :]
        return True

    def _missing(self) -> str:
        """Why there is no reply to a task."""
        if self.alive():
            return (
                f"the worker process {self._process.pid} has not taken its task within {STALL_LIMIT:g} s: it is "
                "stopped, or the machine is too busy; it was ended and the next task gets another"
            )
        return self._death()

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None when the time is up or the process ended."""
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                try:
                    chunk = os.read(stream, 65_536)
                except OSError:
                    if not self._process.stdout.closed:
                        raise
                    return None  # another thread ended the process, as at the end of the interpreter
                if not chunk:
                    return None
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _death(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # it may be on its way out, and its own status tells more
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_LIMIT)
        return f"the worker ended with status {self._process.returncode}"

    def kill(self) -> None:
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the system reaps it when it can
            self._process.wait(END_LIMIT)
        self.release()

    def release(self) -> None:
        """Close this process's ends of the pipes."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


_POOLS: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


def _kill(workers: set[_Worker]) -> None:
    for worker in list(workers):
        worker.kill()


def _forget_parents_workers() -> None:
    """A forked child must not talk over its parent's pipes, nor wait for locks that nobody holds."""
    for pool in list(_POOLS):
        for worker in pool._all:
            worker.release()
            worker._process.returncode = 0  # the parent's child, not ours to wait for
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents_workers)
