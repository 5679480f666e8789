"""Python code for a process in which every started thread dies before it begins, as when there is no memory for it."""

from __future__ import annotations

import subprocess
import sys

BREAK = """
import threading
def die(self):
    raise MemoryError
threading.Thread._bootstrap_inner = die
"""


def run_without_threads(code: str) -> str:
    """What some code prints in such a process; one that waits for a thread to begin is ended after 60 seconds."""
    done = subprocess.run([sys.executable, "-c", BREAK + code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout
