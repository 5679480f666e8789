"""A few of the writes that fail in turn; benchmarks/writes.py fails them all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "writes.py"


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler and Linux, to fail writes"
)
def test_a_write_that_fails_loses_nothing():
    command = [sys.executable, str(SCRIPT), "--commands", "train", "compare", "--every", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["train", "compare"]
    assert all(int(row[2]) >= 2 and int(row[3]) == int(row[4]) >= 2 for row in rows)
