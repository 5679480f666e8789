"""Incidents: failures in a step that need not end the run. They are counted, reported and kept; too many end the run.

Batches and tracebacks are kept in a folder (:mod:`llmrl.training.faults`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmrl.rollouts.batch import Batch
from llmrl.rollouts.records import Record
from llmrl.training import faults
from llmrl.training.config import TrainConfig
from llmrl.training.faults import TrainingError
from llmrl.training.gathering import Gathered
from llmrl.training.learner import OLD
from llmrl.training.sums import Sums


@dataclass
class Counters:
    """Counts since the start of the run; part of every checkpoint."""

    step: int = 0
    tokens: int = 0
    groups: int = 0
    skipped_updates: int = 0
    bad_in_a_row: int = 0
    lost_groups: int = 0
    lost_in_a_row: int = 0


@dataclass
class Incidents:
    """Groups that broke, steps without a verdict, and updates that were left out.

    Args:
        counters: of the run; ``step`` counts finished steps.
        options: how many failures end the run.
        env_id: the environment, for messages.
        note: is called with a sentence about each failure.
        folder: for batches and tracebacks; None: they are not kept.
    """

    counters: Counters
    options: TrainConfig
    env_id: str
    note: Callable[[str], object]
    folder: Path | None = None

    def of_gathering(self, gathered: Gathered) -> None:
        """Count what went wrong while a batch was gathered.

        Raises:
            TrainingError: no response got a verdict in too many steps in a row.
        """
        self._report_faults(gathered.broken)
        self._stop_if_nothing_is_graded(gathered)

    def of_update(self, sums: Sums, batch: Batch, records: Sequence[Record]) -> None:
        """Count an update; report one that was left out.

        Args:
            sums: what the update measured.
            batch: its rows.
            records: of all rows of the step.

        Raises:
            TrainingError: too many in a row were left out.
        """
        if sums.skipped:
            self.counters.skipped_updates += 1
            self.counters.bad_in_a_row += 1
            self._report_bad_update(batch, records)
        elif sums.tokens:
            self.counters.bad_in_a_row = 0

    def _report_faults(self, broken: Sequence[Record]) -> None:
        """Count the groups that were left out because their environment raised, and write them down."""
        if not broken:
            return
        step, counters = self.counters.step + 1, self.counters
        lost = len({record["group"] for record in broken})
        counters.lost_groups += lost
        first = broken[0]
        where = ""
        if self.folder is not None:
            path = self.folder / f"step_{step:06d}_environment.jsonl"
            with self._unless_disk_is_full():
                faults.write_records(path, step, broken)
                where = f" Tracebacks: {path}."
        self.note(
            f"Step {step}: {lost} groups left out, because their environment raised an error, first "
            f"{faults.last_line(first['fault'])!r} at problem {first['problem_id']}.{where}"
        )

    def _stop_if_nothing_is_graded(self, gathered: Gathered) -> None:
        """Count the steps in a row without a single verdict, and stop after too many."""
        counters, records, broken = self.counters, gathered.records, gathered.broken
        graded = any(record.get("valid", True) for record in records)
        counters.lost_in_a_row = counters.lost_in_a_row + 1 if (records or broken) and not graded else 0
        if counters.lost_in_a_row < self.options.max_lost_steps:
            return
        steps = f"{counters.lost_in_a_row} steps in a row (up to step {counters.step + 1})"
        if broken:
            raise TrainingError(
                f"The environment {self.env_id} raised an error in every group of {steps}, so there is nothing to "
                f"learn from. The last error:\n{broken[-1]['fault']}"
            )
        reasons = Counter(str(record.get("verdict", "none")) for record in records)
        raise TrainingError(
            f"No response of {steps} got a verdict from the verifier of {self.env_id}, so there is nothing to learn "
            f"from. In the last step: {', '.join(f'{name} {count}' for name, count in reasons.most_common())}. Try the "
            "verifier on a response of your own with llmrl verify, and give it more time where it timed out."
        )

    def _report_bad_update(self, batch: Batch, records: Sequence[Record]) -> None:
        """Keep the batch of an update that was left out; stop after too many in a row."""
        counters, step = self.counters, self.counters.step + 1
        where = ""
        if self.folder is not None:
            with self._unless_disk_is_full():
                own = [records[row] for row in batch.rows.tolist()]
                path = faults.dump(self.folder, step, batch.refreshed(OLD.values()).data, own)
                where = f" Its batch: {path}." if path else ""
        self.note(f"Step {step}: an update was left out, because its loss or gradient was not finite.{where}")
        if counters.bad_in_a_row >= self.options.max_bad_steps:
            raise TrainingError(
                f"The loss or the gradient was not finite in {counters.bad_in_a_row} updates in a row (step "
                f"{step}). The weights are those of the last good update. Try a lower "
                f"--train.learning-rate, or look at the batch.{where}"
            )

    @contextmanager
    def _unless_disk_is_full(self) -> Iterator[None]:
        """Write something that training does not need; a full disk is reported and does not end the run."""
        try:
            yield
        except OSError as error:
            self.note(f"Could not be written, going on without: {error}")
