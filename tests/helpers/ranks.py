"""Run a program on several ranks, under a time limit that shows where each rank hangs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PREAMBLE = "import faulthandler, os; faulthandler.dump_traceback_later(float(os.environ['RANKS_LIMIT']), exit=True); "


def launch(program, *arguments, ranks=2, limit=120, check=True, env=None, torchrun=(), agents=1):
    """Run a Python file by torchrun on this machine.

    Args:
        program: a path.
        ranks: how many processes.
        limit: seconds until every rank prints its stacks and ends.
        check: fail unless all ranks end with 0.
        torchrun: further options of torchrun.
        agents: how many torchruns share the ranks, as on several machines.

    Returns:
        The finished process, with its output; of several agents one behind the other.
    """
    start = f"{PREAMBLE}import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    meeting = ["--standalone"]
    if agents > 1:
        with socket.create_server(("localhost", 0)) as free:
            place = f"localhost:{free.getsockname()[1]}"
        meeting = ["--nnodes", str(agents), "--rdzv-backend", "c10d", "--rdzv-endpoint", place, "--rdzv-id", "tests"]
    command = [
        sys.executable,
        *("-m", "torch.distributed.run", *meeting, "--nproc-per-node", str(ranks // agents), *torchrun),
        *("--no-python", sys.executable, "-c", start, str(program), *map(str, arguments)),
    ]
    more = {"OMP_NUM_THREADS": "1", "RANKS_LIMIT": str(limit), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    deadline = time.monotonic() + limit + 30
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(agents):
            written = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(
                command,
                env={**os.environ, **more, **(env or {})},
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_end, process)
            started.append((process, written))
        output = ""
        for process, written in started:
            process.wait(max(deadline - time.monotonic(), 1))
            written.seek(0)
            output += written.read()
    status = max((abs(process.returncode) for process, _ in started), default=0)
    if check:
        assert status == 0, output
    return subprocess.CompletedProcess(command, status, output)


def _end(process):
    """End torchrun and its ranks, each of which leads a session of its own, if they have not ended."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
