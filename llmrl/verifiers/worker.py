"""A process for tasks that may hang: it reads tasks as JSON lines, and answers each with a JSON line.

:mod:`llmrl.verifiers.pool` starts it as ``python -m llmrl.verifiers.worker module:function`` and kills
it when a task takes too long.  It limits its own memory, and gives up writing files, starting
processes and the network, before it reads anything.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

from llmrl.registry import load_object


def restrict(memory: int) -> None:
    """Bound the address space to ``memory`` bytes; no core dumps, no writing to files."""
    try:
        import resource
    except ImportError:  # not a POSIX system: the deadline alone bounds the worker
        return
    wanted = {"RLIMIT_AS": memory, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0}
    for name, limit in wanted.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        try:
            resource.setrlimit(kind, (limit, limit))
        except (ValueError, OSError):
            continue  # macOS knows RLIMIT_AS but refuses to set it


REFUSED = frozenset(
    {
        *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        *("os.startfile", "subprocess.Popen", "pty.spawn", "os.kill", "os.killpg"),
        *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"),
        *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink"),
        *("os.truncate", "os.chmod", "os.chown"),
    }
)
"""Audit events of which no task has need."""


def give_up_privileges() -> None:
    """Refuse, for the rest of the process, what reaches beyond this process.

    A second defence after never evaluating text: it stops Python code, not a fault in a C library.
    """
    sys.dont_write_bytecode = True

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in REFUSED or (event == "open" and _writes(*arguments)):
            raise PermissionError(f"a task may not do this: {event}")

    sys.addaudithook(refuse)


def _writes(_path: Any, mode: str | None, flags: int) -> bool:
    if mode is not None:
        return not set(mode).isdisjoint("wax+")
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def bound_cpu(seconds: float) -> None:
    """Let the system end this process when one task burns far more than its deadline.

    The pool kills on time; this is for a worker whose pool died first.
    """
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime + 2 * seconds + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def serve(reference: str, memory: int, deadline: float) -> None:
    """Answer tasks until standard input ends.

    The lines written are ``{"ready": true}`` once, then for each task ``{"started": true}`` and
    ``{"value": ...}`` or ``{"error": text}``.
    """
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the replies

    def send(line: str) -> None:
        replies.write(line.encode() + b"\n")
        replies.flush()

    def reply(**message: Any) -> None:
        send(json.dumps(message))

    try:
        function = load_object(reference)
    except (ImportError, LookupError) as error:
        reply(error=f"{type(error).__name__}: {error}")
        return
    restrict(memory)
    give_up_privileges()
    reply(ready=True)
    for given in sys.stdin.buffer:
        task = json.loads(given)
        bound_cpu(deadline)
        reply(started=True)
        try:
            line = json.dumps({"value": function(*task)})
        except (Exception, SystemExit) as error:  # whatever a task raises is its outcome
            line = json.dumps({"error": f"{type(error).__name__}: {error}"[:500]})
        send(line)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
