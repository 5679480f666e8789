"""What shows foreign text as text: the console that prints everything, and messages of other libraries.

Errors of the output never end a run.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from llmrl.text import visible


class Terminal(Console):
    """A console of rich that prints no control character and reads no markup, wherever a text came from.

    If the output can no longer be written (its reader has ended, the disk is full), printing does nothing.

    Args:
        stderr: write to the standard error.
        file: write there instead.
    """

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, **options: Any) -> None:
        stream = file or (sys.stderr if stderr else sys.stdout)
        super().__init__(file=cast(IO[str], Lasting(stream)), markup=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of rich, with control characters escaped."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a text as it is: no highlighting, no wrapping."""
        self.print(text, highlight=False, soft_wrap=True, style=style)


class Lasting(io.TextIOBase):
    """A text stream that ignores output it cannot write, and escapes characters its encoding lacks."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.broken = False

    def write(self, text: str) -> int:
        """Write, or do nothing if an earlier write has failed."""
        if not self.broken:
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            except (OSError, ValueError):  # ValueError: the stream is closed
                self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing if an earlier write has failed."""
        if not self.broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """The file descriptor of the underlying stream."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the underlying stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _give_up(self) -> None:
        self.broken = True
        if self._stream is sys.stdout:
            # Otherwise Python would try to write the rest of the buffer when it ends, and fail with status 120.
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            except (OSError, ValueError):
                return


@contextlib.contextmanager
def messages_as_text() -> Iterator[None]:
    """Within the block, log messages and warnings of all libraries are printed without control characters."""
    record, form = logging.getLogRecordFactory(), warnings.formatwarning
    logging.setLogRecordFactory(_Record)
    warnings.formatwarning = lambda *args, **kwargs: visible(form(*args, **kwargs))
    try:
        yield
    finally:
        logging.setLogRecordFactory(record)
        warnings.formatwarning = form


class _Record(logging.LogRecord):
    def getMessage(self) -> str:
        return visible(super().getMessage())


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without control characters, as ``sys.excepthook``; errors may quote foreign text."""
    Terminal(stderr=True).say("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))
