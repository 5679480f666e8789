"""The pytest file that docs/testing.md shows passes, and its tables name every check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from llmrl.testing import ALGORITHM_CHECKS, ENVIRONMENT_CHECKS, VERIFIER_CHECKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()


def test_the_shown_file_passes(tmp_path):
    (shown,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "test_mine.py").write_text(shown)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_mine.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_every_check_is_described():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted([*ALGORITHM_CHECKS, *VERIFIER_CHECKS, *ENVIRONMENT_CHECKS])
