"""``python -m llmrl.algorithms.run --algo espo``: the same as ``llmrl train``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from llmrl.commands.train import main

    sys.exit(main(prog="python -m llmrl.algorithms.run"))
