"""``python -m llmrl COMMAND``: the same as the console script ``llmrl``."""

from __future__ import annotations

from llmrl.commands.cli import start

if __name__ == "__main__":
    start()
