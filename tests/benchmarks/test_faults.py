"""A few cells of the fault matrix, whose whole is in docs/faults.md."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("cc") is None,
    reason="mounts file systems and makes writes fail: needs Linux, root and a C compiler",
)
def test_faults_keep_their_promise_in_the_middle_of_an_update():
    command = [sys.executable, str(SCRIPT), "--moments", "update", "--faults"]
    faults = ["SIGKILL", "SIGTERM", "disk full", "a second run", "run folder removed", "reader of stdout gone"]
    faults += ["config.yaml damaged", "metrics.jsonl cut in mid-line", "checkpoints moved, links in their place"]
    done = subprocess.run([*command, *faults], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kept ") == len(faults)
