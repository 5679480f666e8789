"""The process that does what may hang: reads tasks as JSON lines, answers each with a JSON line.

:mod:`llmrl.verifiers.pool` starts it as ``python -m llmrl.verifiers.worker module:function`` and kills
it when a task takes too long.  It limits its own memory, and gives up files and subprocesses, before it
reads anything.
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

    def reply(**message: Any) -> None:
        replies.write(json.dumps(message).encode() + b"\n")
        replies.flush()

    try:
        function = load_object(reference)
    except (ImportError, LookupError) as error:
        reply(error=f"{type(error).__name__}: {error}")
        return
    restrict(memory)
    reply(ready=True)
    for line in sys.stdin.buffer:
        task = json.loads(line)
        bound_cpu(deadline)
        reply(started=True)
        try:
            value = function(*task)
        except Exception as error:  # whatever a task raises is its outcome
            reply(error=f"{type(error).__name__}: {error}"[:500])
        else:
            reply(value=value)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
