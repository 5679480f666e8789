"""``python -m llmrl COMMAND``: the same as the console script ``llmrl``."""

from __future__ import annotations

import sys

from llmrl.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
