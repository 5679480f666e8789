"""``python -m llmrl.algorithms.run --algo espo``: train from the command line."""

from __future__ import annotations

from rich.console import Console


def main(arguments: list[str] | None = None, prog: str = "llmrl train") -> int:
    """Parse, train, and turn errors that the user can mend into one message.

    Returns:
        0 after a run, a dry run or a clean stop; 2 for settings that cannot be used; 1 if training broke off.
    """
    from llmrl.errors import ConfigError, EngineError
    from llmrl.policies.policy import PolicyError
    from llmrl.registry import UnknownName
    from llmrl.training.config import parse
    from llmrl.training.session import train
    from llmrl.training.trainer import TrainingError

    try:
        train(parse(arguments, prog=prog))
    except (ConfigError, UnknownName, PolicyError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, style="red")
        return 2
    except (TrainingError, EngineError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, style="red")
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("Left at once; the last checkpoint is intact.")
        return 130
    return 0
