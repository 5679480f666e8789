"""``python -m llmrl.algorithms.run --algo espo``: the same as ``llmrl train``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from llmrl.commands.cli import leave, run

    leave(run("llmrl.commands.train", sys.argv[1:], "python -m llmrl.algorithms.run"))
