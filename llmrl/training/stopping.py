"""Signals ask a run to stop: it finishes its step and writes a checkpoint. Before its first step it ends at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Sent by Ctrl-C; by Kubernetes, docker stop and timeout; by a terminal that closes; by Slurm on request."""

ONE_REQUEST = 1.0
"""Seconds in which all signals are one request: timeout sends its signal twice, systemd may send two kinds at once."""


class StopAsked(Exception):
    """Raised inside work that may stay unfinished, after a signal has come."""


class Stop:
    """Whether a signal has asked the run to stop; a second request ends it at once."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._since = 0.0
        self._in_steps = False

    @contextlib.contextmanager
    def in_steps(self) -> Iterator[None]:
        """A block whose steps are finished when a signal comes; outside of it nothing is worth waiting for."""
        self._in_steps = True
        try:
            yield
        finally:
            self._in_steps = False

    @contextlib.contextmanager
    def watched(self, note: Callable[[str], object]) -> Iterator[None]:
        """Handle the signals within this block; afterwards the earlier handlers are restored.

        Only the main thread may handle signals. In another thread this does nothing.

        Raises:
            KeyboardInterrupt: a second request has come, or one outside of :meth:`in_steps`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: Any) -> None:
            if self.asked is not None:
                if time.monotonic() - self._since < ONE_REQUEST:
                    return
                raise KeyboardInterrupt
            self._since = time.monotonic()
            self.asked = signal.Signals(number).name
            if not self._in_steps:
                raise KeyboardInterrupt
            note(f"{self.asked}: stopping after this step, with a checkpoint. A second signal stops at once.")

        # A signal that is ignored, as nohup ignores one for its command, must not stop the run.
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, on_signal) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
