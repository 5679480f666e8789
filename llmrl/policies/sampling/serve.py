"""The process of an engine: a server that closes silent connections, and the end of the process.

The trainer starts its own engine with a Unix socket; ``llmrl serve`` starts one for trainers on other machines.
:mod:`llmrl.policies.sampling.service` answers the requests.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmrl.policies.sampling import wire
from llmrl.policies.sampling.folders import PrivateFolder
from llmrl.policies.sampling.host import ENVIRONMENT, Host
from llmrl.policies.sampling.service import Service

HEAD_WITHIN = 10.0  # seconds in which a connection must have named its request
MAX_CONNECTIONS = 256
MAX_SILENT = 64  # connections that have not named their request; the oldest makes room


def _protocol() -> type[H11Protocol]:
    """HTTP that closes connections without a request: after a time limit, or when there are too many."""
    silent: dict[H11Protocol, None] = {}  # in order of arrival

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.waits = self.loop.call_later(HEAD_WITHIN, transport.abort)
            silent[self] = None
            if len(silent) > MAX_SILENT:
                oldest = next(iter(silent))
                del silent[oldest]
                oldest.transport.abort()

        def handle_events(self) -> None:
            super().handle_events()
            if self.cycle is not None:
                self.has_spoken()

        def connection_lost(self, exc: Exception | None) -> None:
            self.has_spoken()
            super().connection_lost(exc)

        def has_spoken(self) -> None:
            self.waits.cancel()
            silent.pop(self, None)

    return Protocol


def own_names() -> set[str]:
    """The names of this machine."""
    full, short = socket.getfqdn().lower(), socket.gethostname().lower()
    return {"localhost", full, short, short.partition(".")[0]}


def server(service: Service) -> uvicorn.Server:
    """The server of the requests; ``server(...).run(sockets=[...])`` serves until the process is asked to end."""
    config = uvicorn.Config(
        service.application(),
        http=_protocol(),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=1 << 16,
    )
    return uvicorn.Server(config)


def run(
    listener: socket.socket,
    *,
    token: str,
    names: Collection[str],
    inbox: Path | None = None,
    token_file: Path | None = None,
) -> int:
    """Serve with vLLM until the process is asked to end; does not return, but ends the process.

    Args:
        listener: a listening socket.
        token: the token that a request must have.
        names: host names that requests may use.
        inbox: the trainer's folder for weights; None: they come in the body of requests.
        token_file: the file with the token, to be removed at the end.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    own = PrivateFolder() if inbox is None else None
    folder = own.path if own is not None else inbox
    assert folder is not None  # one of the two

    def leave(status: int) -> None:
        if own is not None:
            own.close()
        if token_file is not None:
            token_file.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # the engine's threads are not waited for

    service = Service(Host(), token=token, folder=folder, names=names, uploads=inbox is None, broken=lambda: leave(1))
    signal.signal(signal.SIGTERM, lambda number, frame: leave(0))
    signal.signal(signal.SIGINT, lambda number, frame: leave(0))
    server(service).run(sockets=[listener])
    leave(0)
    return 0


def _leave_with(stream: Any) -> None:
    """End this process when the other end of ``stream`` is closed."""

    def wait() -> None:
        stream.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str] | None = None) -> int:
    """The trainer's own engine: it inherits a listening socket, and ends with the trainer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--inbox", type=Path, required=True)
    options = parser.parse_args(arguments)
    _leave_with(sys.stdin.buffer)
    token = os.environ.pop(wire.TOKEN_VARIABLE)
    return run(socket.socket(fileno=options.fd), token=token, names=["engine"], inbox=options.inbox)


if __name__ == "__main__":
    sys.exit(main())
