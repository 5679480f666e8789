"""Stopping in order: signals ask a run to finish its step and write a checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; what Kubernetes, docker stop and timeout send; a terminal that closes; what Slurm sends on request."""


class StopAsked(Exception):
    """Raised inside work that may be left unfinished, once a signal has come."""


class Stop:
    """Whether a signal has asked the run to stop; a second one leaves at once."""

    def __init__(self) -> None:
        self.asked: str | None = None

    @contextlib.contextmanager
    def watched(self, note: Callable[[str], object]) -> Iterator[None]:
        """Answer the signals within this block; whoever handled them before does so again afterwards.

        Only the main thread may do so: in another one, whoever runs us there handles signals.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_signal(number: int, frame: Any) -> None:
            if self.asked is not None:
                raise KeyboardInterrupt
            self.asked = signal.Signals(number).name
            note(f"{self.asked}: stopping after this step, with a checkpoint. Once more to leave at once.")

        # Who ignores a signal, as nohup does for its command, is not to be stopped by it.
        handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, on_signal) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
