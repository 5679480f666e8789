"""Run a program on several ranks, under a time limit that shows where each rank hangs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PREAMBLE = "import faulthandler, os; faulthandler.dump_traceback_later(float(os.environ['RANKS_LIMIT']), exit=True); "


def launch(program, *arguments, ranks=2, limit=120, check=True, env=None, torchrun=()):
    """Run a Python file by torchrun on this machine.

    Args:
        program: a path.
        ranks: how many processes.
        limit: seconds until every rank prints its stacks and ends.
        check: fail unless all ranks end with 0.
        torchrun: further options of torchrun.

    Returns:
        The finished process, with its output.
    """
    start = f"{PREAMBLE}import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [
        sys.executable,
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *torchrun),
        *("--no-python", sys.executable, "-c", start, str(program), *map(str, arguments)),
    ]
    more = {"OMP_NUM_THREADS": "1", "RANKS_LIMIT": str(limit), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = subprocess.Popen(
        command,
        env={**os.environ, **more, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit + 30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if check:
        assert process.returncode == 0, output
    return subprocess.CompletedProcess(command, process.returncode, output)
