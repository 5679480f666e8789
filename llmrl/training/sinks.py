"""Experiment trackers: TensorBoard, Weights & Biases and Trackio, each through its own logger.

``metrics.jsonl`` is always written, and llmrl reads only that file; trackers get copies. If a tracker fails, it is left
out from then on, and training continues.
"""

from __future__ import annotations

import importlib
import importlib.util
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from llmrl.errors import ConfigError
from llmrl.evaluation import Evaluation
from llmrl.training.config import Config
from llmrl.training.files import flatten
from llmrl.training.metrics import find_metric

HEADLINES = ("eval/greedy", "reward/mean")
"""The metrics next to the hyperparameters in TensorBoard's table of runs."""


class Tracker(Protocol):
    """The methods of a tracker."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the numbers of a step."""

    def close(self) -> None:
        """Write out buffered numbers."""


class Run(NamedTuple):
    """Facts about the run that a tracker gets at the start."""

    folder: Path
    step: int
    """Number of steps that were done before; above 0, the run is resumed."""
    config: Config

    @property
    def plain_settings(self) -> dict[str, Any]:
        """The settings by dotted names; values other than numbers, texts and bools become texts."""
        flat = flatten(self.config.to_dict())
        return {
            name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in flat.items()
        }

    @property
    def run_id(self) -> str:
        """The run's id at the tracker; it is kept in the file ``run_id``, to be the same after a resume."""
        path = self.folder / "run_id"
        if not path.is_file():
            path.write_text(uuid.uuid4().hex[:8] + "\n")
        return path.read_text().strip()


class TensorBoard:
    """Event files in the run's folder ``tensorboard``, by torch's writer, with the settings as hyperparameters."""

    module = "tensorboard"

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        # Numbers that a killed run wrote after its checkpoint are hidden, since these steps are done again.
        purge = run.step + 1 if run.step else None
        self.writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge)
        # Not with add_hparams: it begins a second file, and a program that follows the run would read only that.
        for summary in hparams(run.plain_settings, dict.fromkeys(HEADLINES, 0.0)):
            self.writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one scalar per metric."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()


class Wandb:
    """A run of Weights & Biases; ``WANDB_MODE=offline`` keeps it on this machine."""

    module = "wandb"

    def __init__(self, run: Run) -> None:
        wandb = importlib.import_module(self.module)
        self.run = wandb.init(
            project=run.config.log.project,
            name=run.folder.name,
            dir=str(run.folder),
            id=run.run_id,
            resume="allow",
            config=run.config.to_dict(),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record all metrics in one call."""
        self.run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Upload buffered numbers."""
        self.run.finish()


class Trackio:
    """A run of Trackio, on this machine unless its own settings say otherwise."""

    module = "trackio"

    def __init__(self, run: Run) -> None:
        self.trackio = importlib.import_module(self.module)
        self.trackio.init(
            project=run.config.log.project,
            name=f"{run.folder.name}-{run.run_id}",
            resume="allow",
            config=run.config.to_dict(),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record all metrics in one call."""
        self.trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        """Write out buffered numbers."""
        self.trackio.finish()


TRACKERS: dict[str, Callable[[Run], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "trackio": Trackio,
}


def require(names: Sequence[str]) -> None:
    """Raise :class:`ConfigError` unless all these trackers are installed; this is fast."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f'--log.to {name}: {name} is not installed. Install it: pip install "llmrl[{name}]"')


def renamed(metrics: Mapping[str, float], names: str) -> dict[str, float]:
    """Metrics under the names that ``--log.names`` asks for.

    >>> renamed({"reward/mean": 0.5, "groups/mixed": 1.0}, "trl")
    {'reward': 0.5, 'groups/mixed': 1.0}
    """
    if names != "trl":
        return dict(metrics)
    rows = {name: find_metric(name) for name in metrics}
    return {
        (row.trl if (row := rows[name]) is not None and row.trl else name): value for name, value in metrics.items()
    }


class Trackers:
    """The trackers of a run.

    Args:
        run: facts about the run.
        note: called with a sentence when one of them fails.

    Raises:
        ConfigError: a tracker cannot start, for example because nobody is logged in.
    """

    def __init__(self, run: Run, note: Callable[[str], object]) -> None:
        self._names = run.config.log.names
        self._note = note
        self._open: dict[str, Tracker] = {}
        for name in run.config.log.to:
            try:
                self._open[name] = TRACKERS[name](run)
            except Exception as error:
                self.close()
                raise ConfigError(
                    f"--log.to {name}: it could not start ({type(error).__name__}: {error}). Fix that, or leave it out."
                ) from error

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the numbers of a step to all trackers."""
        named = renamed(metrics, self._names)
        for name, tracker in list(self._open.items()):
            self._try(name, lambda tracker=tracker: tracker.log(step, named))  # type: ignore[misc]

    def evaluation(self, step: int, evaluation: Evaluation) -> None:
        """Pass an evaluation after ``step`` steps to all trackers: measures as ``eval/MEASURE``, with intervals."""
        figures: dict[str, float] = {}
        for name, value in evaluation.estimates().items():
            figures |= {f"eval/{name}": value.mean, f"eval/{name}_low": value.low, f"eval/{name}_high": value.high}
        self.log(step, figures)

    def close(self) -> None:
        """Close all trackers; safe to call twice."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)
        self._open.clear()

    def _try(self, name: str, do: Callable[[], Any]) -> None:
        try:
            do()
        except Exception as error:
            del self._open[name]
            self._note(
                f"{name} failed ({type(error).__name__}: {error}) and is left out from now on; metrics.jsonl "
                "has everything."
            )
