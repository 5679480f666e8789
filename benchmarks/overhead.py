"""What checkpoints, logging and the bookkeeping of evaluations cost, as a share of a run's time.

python benchmarks/overhead.py                        the default run, with its default intervals
python benchmarks/overhead.py --train.steps 25       any options of `llmrl train`

Counted is the time inside the functions that write: sampling, grading and learning are what a run is for, and so is
answering the problems of an evaluation.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmrl.evaluation import Evaluation
from llmrl.training import session
from llmrl.training.command_line import parse
from llmrl.training.display import Display
from llmrl.training.metrics_file import MetricsFile
from llmrl.training.sinks import Trackers
from llmrl.training.trainer import Trainer

PLOTS = "plots, once at the end"
COUNTED: dict[str, tuple[tuple[Any, str], ...]] = {
    "checkpoints": ((Trainer, "save"),),
    "metrics and trackers": ((MetricsFile, "write"), (Trackers, "log")),
    "lines on the screen": ((Display, "step"), (Display, "note")),
    "files of rollouts": ((session, "write_rollouts"),),
    "files of evaluations": ((Evaluation, "write"),),
    PLOTS: ((session, "plot_run"),),
}


def timed(function: Callable[..., Any], name: str, spent: Counter[str]) -> Callable[..., Any]:
    """``function``, which adds its seconds to ``spent[name]``."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - began  # type: ignore[assignment]

    return wrapper


def main() -> int:
    """Run, then print the table."""
    spent: Counter[str] = Counter()
    for name, places in COUNTED.items():
        for owner, attribute in places:
            setattr(owner, attribute, timed(getattr(owner, attribute), name, spent))
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "run")
        config = parse(["--output", output, *sys.argv[1:]])
        began = time.perf_counter()
        session.train(config)
        whole = time.perf_counter() - began
    print(f"\n{config.algo.name}, {config.policy.path}, {config.train.steps} steps, {whole:.1f} s")
    print("\n| what | seconds | share of the run |\n| --- | --- | --- |")
    for name, seconds in [*spent.items(), ("all but the plots", spent.total() - spent[PLOTS])]:
        print(f"| {name} | {seconds:.2f} | {100 * seconds / whole:.2f} % |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
