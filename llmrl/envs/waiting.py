"""A time limit for calls of foreign code: an environment or a verifier might never return."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

GRACE = 20.0
"""Seconds after the limit, or the limit if that is longer, until a call that ignores the exception ends the process."""


class TookTooLong(Exception):
    """A call did not return within its time limit; the message names what was called."""


@contextlib.contextmanager
def at_most(seconds: float | None, what: str) -> Iterator[None]:
    """Raise an exception inside this block after ``seconds``.

    If the code catches the exception, or waits where Python cannot interrupt it, the process ends :data:`GRACE` later
    with a message and status 1. In other threads than the main one, only this second limit holds, since Python handles
    signals in the main thread alone.

    Args:
        seconds: the limit; None: there is none.
        what: name of the call, such as ``"step of mine/Env-v0"``.

    Raises:
        TookTooLong: the limit has passed.

    >>> import time
    >>> with at_most(0.05, "sleep"):
    ...     time.sleep(30)
    Traceback (most recent call last):
    llmrl.envs.waiting.TookTooLong: sleep did not return within 0.05 s.
    """
    if seconds is None:
        yield
        return
    longest = seconds + max(seconds, GRACE)
    returned = threading.Lock()
    returned.acquire()
    # Thread.start would wait for ever for a thread that has no memory to begin with.
    _thread.start_new_thread(_watch, (returned, longest, f"{what} did not return within {longest:g} s"))
    alarmed = threading.current_thread() is threading.main_thread()
    waiting = True
    if alarmed:

        def on_alarm(number: int, frame: Any) -> None:
            if waiting:
                raise TookTooLong(f"{what} did not return within {seconds:g} s.")

        before = signal.signal(signal.SIGALRM, on_alarm)
        signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds, 1.0))
    try:
        yield
    finally:
        waiting = False
        if alarmed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        returned.release()


def _watch(returned: threading.Lock, seconds: float, text: str) -> None:
    """End the process with a message if the lock is not released in time."""
    if not returned.acquire(timeout=seconds):
        _end(text)


def _end(text: str) -> None:
    sys.stderr.write(
        f"\nerror: {text} and cannot be interrupted. This process ends; what was finished is kept, and "
        "--resume auto goes on from the last checkpoint.\n"
    )
    sys.stderr.flush()
    os._exit(1)
