"""The results of a study: tables of estimates from its rows, and the files that other programs read."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.studies.exact.task import Settings
from llmrl.studies.grid import Row
from llmrl.studies.statistics import (
    Array,
    SeedEstimate,
    estimate,
    estimate_curve,
    improvement,
    pooled_mean,
    profile,
    rate,
)
from llmrl.studies.store import read_study

POINTS = 21
"""Number of points of a curve over several tasks, from the first to the last rollout."""


@dataclass(frozen=True)
class Line:
    """One algorithm in the table."""

    algorithm: str
    runs: int
    """Number of runs with results."""
    failed: int
    score: SeedEstimate
    """Final score, interquartile mean."""
    area: SeedEstimate
    """Mean score over the run, interquartile mean."""
    difference: SeedEstimate | None
    """Final score minus the baseline's for equal seeds, interquartile mean; None for the baseline itself."""
    better: SeedEstimate | None
    """The probability that a run beats one of the baseline."""
    collapsed: SeedEstimate
    """Share of runs that ended below half of their own best score."""
    entropy: float
    """Mean entropy of whole answers at the end, in nats."""
    kl: float
    """Mean KL(old, new) of whole answers per rollout, in nats."""
    zero_grad: float
    """Mean share of tokens without gradient."""


class Results:
    """The rows of a study, and estimates from them.

    Args:
        rows: rows of any tasks, algorithms and settings.
        baseline: the algorithm that the others are compared with; by default the first of the rows.

    Raises:
        ConfigError: there are no rows, the baseline is not among them, or they hold two versions of a task.
    """

    def __init__(self, rows: Sequence[Row], baseline: str | None = None) -> None:
        if not rows:
            raise ConfigError("A study without runs has no results.")
        self.rows = list(rows)
        self.algorithms = list(dict.fromkeys(row.cell.algorithm for row in rows))
        self.baseline = self.algorithms[0] if baseline is None else baseline
        if self.baseline not in self.algorithms:
            raise ConfigError(f"The baseline {baseline!r} was not run. {suggest(self.baseline, self.algorithms)}")
        self.versions = _versions(rows)
        self._varied = _varied(rows)
        self.strata = list(dict.fromkeys(map(self.stratum, rows)))
        self._lines: dict[tuple[str, tuple[str, ...]], Line] = {}
        self._found: dict[str, dict[str, dict[int, Row]]] = {}
        for row in rows:
            if not row.failed:
                by_stratum = self._found.setdefault(row.cell.algorithm, {})
                by_stratum.setdefault(self.stratum(row), {})[row.cell.seed] = row

    def stratum(self, row: Row) -> str:
        """The task and the settings that differ within the study. Runs of a stratum differ only in algorithm and
        seed."""
        settings = dataclasses.asdict(row.cell.settings)
        return ", ".join([row.cell.task, *(f"{name} {settings[name]:g}" for name in self._varied)])

    def seeds(self, algorithm: str, stratum: str) -> list[int]:
        """The seeds of runs with results."""
        return sorted(self._found.get(algorithm, {}).get(stratum, {}))

    def values(self, algorithm: str, number: str, strata: Sequence[str] | None = None) -> list[Array]:
        """A number of the runs' summaries, one array over seeds for each stratum with results."""
        found = self._found.get(algorithm, {})
        return [
            np.array([found[s][seed].summary[number] for seed in self.seeds(algorithm, s)])
            for s in (self.strata if strata is None else strata)
            if found.get(s)
        ]

    def differences(
        self,
        first: str,
        second: str,
        number: str = "final",
        strata: Sequence[str] | None = None,
        transform: Callable[[float], float] = float,
    ) -> list[Array]:
        """``second`` minus ``first`` for equal seeds, one array for each stratum with a common seed.

        Args:
            first: an algorithm.
            second: an algorithm.
            number: the name of a number of the summaries.
            strata: by default all.
            transform: applied to the numbers before the subtraction, such as ``math.log``.
        """
        a, b = self._found.get(first, {}), self._found.get(second, {})
        found = []
        for stratum in self.strata if strata is None else strata:
            common = sorted(set(a.get(stratum, {})) & set(b.get(stratum, {})))
            if common:
                pairs = ((a[stratum][s].summary[number], b[stratum][s].summary[number]) for s in common)
                found.append(np.array([transform(y) - transform(x) for x, y in pairs]))
        return found

    def line(self, algorithm: str, strata: Sequence[str] | None = None) -> Line:
        """One algorithm in the table, over all strata or some.

        Raises:
            ConfigError: no run of it has results there.
        """
        chosen = tuple(self.strata if strata is None else strata)
        if (algorithm, chosen) not in self._lines:  # the bootstrap costs more than everything else here
            self._lines[algorithm, chosen] = self._line(algorithm, chosen)
        return self._lines[algorithm, chosen]

    def _line(self, algorithm: str, strata: Sequence[str]) -> Line:
        finals = self.values(algorithm, "final", strata)
        if not finals:
            raise ConfigError(f"No run of {algorithm} has numbers: see the errors of its rows.")
        failed = sum(r.failed and r.cell.algorithm == algorithm and self.stratum(r) in strata for r in self.rows)
        collapsed = np.concatenate(self.values(algorithm, "collapsed", strata))
        difference = better = None
        pairs = self.differences(self.baseline, algorithm, "final", strata)
        if algorithm != self.baseline and pairs:
            difference = estimate(pairs)
            both = [s for s in strata if self.seeds(self.baseline, s) and self.seeds(algorithm, s)]
            better = improvement(self.values(self.baseline, "final", both), self.values(algorithm, "final", both))

        def mean(number: str) -> float:
            return float(pooled_mean(*self.values(algorithm, number, strata)))

        return Line(
            algorithm=algorithm,
            runs=sum(map(len, finals)),
            failed=failed,
            score=estimate(finals),
            area=estimate(self.values(algorithm, "area", strata)),
            difference=difference,
            better=better,
            collapsed=rate(int(collapsed.sum()), len(collapsed)),
            entropy=mean("entropy"),
            kl=mean("kl"),
            zero_grad=mean("zero_grad"),
        )

    def complete(self, strata: Sequence[str] | None = None) -> list[str]:
        """The algorithms with results in each of the strata in which any has some. Numbers over several strata are
        comparable only between these.

        Args:
            strata: by default all.
        """
        chosen = set(self.strata if strata is None else strata)
        needed = {s for found in self._found.values() for s in found} & chosen
        return [a for a in self.algorithms if needed and needed <= set(self._found.get(a, {}))]

    def table(self, strata: Sequence[str] | None = None) -> list[Line]:
        """A line for each algorithm that is :meth:`complete`."""
        return [self.line(a, strata) for a in self.complete(strata)]

    def curve(self, algorithm: str, number: str = "score", stratum: str | None = None) -> tuple[Any, ...]:
        """Positions in the run (0 to 1), interquartile mean and bounds of a curve, over all strata or one."""
        strata = self.strata if stratum is None else [stratum]
        place = np.linspace(0, 1, POINTS)
        found = []
        for s in strata:
            rows = self._found.get(algorithm, {}).get(s, {})
            curves = [rows[seed].curves[number] for seed in sorted(rows) if number in rows[seed].curves]
            if curves:
                found.append(np.array([np.interp(place, np.linspace(0, 1, len(c)), c) for c in curves]).T)
        return (place, *estimate_curve(found)) if found else ()

    def profile(self, algorithm: str) -> tuple[Any, ...]:
        """Thresholds, and the share of runs with a final score above each, with bounds."""
        thresholds = np.linspace(0, 1, 51)
        return thresholds, *profile(self.values(algorithm, "final"), thresholds)

    def notes(self) -> list[str]:
        """Notes on missing intervals, missing lines, failed runs, and runs that were not made on this machine."""
        notes = list(dict.fromkeys(f"{e.note}." for line in self.table() for e in (line.score,) if e.note))
        for name in self._found:
            if name not in self.complete():
                notes.append(f"{name} lacks results of a task or setting, so no number over all of them is given.")
        for row in self.rows:
            if row.failed:
                notes.append(f"{row.cell.algorithm} on {self.stratum(row)}, seed {row.cell.seed}, failed: {row.error}")
        if shipped := sum(row.shipped for row in self.rows):
            notes.append(f"{shipped} runs came with llmrl and were not repeated on this machine.")
        return notes

    # Files

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON: the table over everything and per stratum."""
        return {
            "versions": self.versions,
            "baseline": self.baseline,
            "strata": self.strata,
            "all": [_plain(line) for line in self.table()],
            "by_stratum": {s: [_plain(line) for line in self.table([s])] for s in self.strata},
            "notes": self.notes(),
        }

    def write(self, folder: Path) -> list[Path]:
        """``results.json``, ``runs.csv`` (a row per run) and ``table.tex``; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in ("results.json", "runs.csv", "table.tex")]
        paths[0].write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        with paths[1].open("w", newline="") as file:
            numbers = list(dict.fromkeys(name for row in self.rows for name in row.summary))
            writer = csv.writer(file)
            writer.writerow(["task", "algorithm", "seed", *_settings(), *numbers, "seconds", "shipped", "error"])
            for row in self.rows:
                cell = row.cell
                settings = dataclasses.asdict(cell.settings).values()
                found = [row.summary.get(name, "") for name in numbers]
                writer.writerow(
                    [cell.task, cell.algorithm, cell.seed, *settings, *found, row.seconds, row.shipped, row.error]
                )
        paths[2].write_text(self.latex())
        return paths

    def latex(self) -> str:
        """The table as a LaTeX tabular (package booktabs)."""
        lines = [
            r"\begin{tabular}{lllllr}",
            r"\toprule",
            r"algorithm & final score & difference & P(better) & area & collapsed \\",
            r"\midrule",
        ]
        for line in self.table():
            cells = [
                line.algorithm,
                line.score,
                line.difference or "--",
                line.better or "--",
                line.area,
                f"{line.collapsed.value:.2f}",
            ]
            lines.append(" & ".join(_tex(str(cell)) for cell in cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def load(folder: str | Path, baseline: str | None = None) -> Results:
    """The results of the last study in a folder, as :func:`~llmrl.studies.study` returned them.

    Of an unfinished study it has the runs so far.

    Args:
        folder: the study's folder.
        baseline: the algorithm that the others are compared with; by default the study's.

    Raises:
        ConfigError: the folder holds no study, or the baseline was not run.
    """
    rows, of_study = read_study(Path(folder))
    return Results(rows, baseline or of_study)


def _versions(rows: Sequence[Row]) -> dict[str, int]:
    """The version of each task."""
    versions: dict[str, int] = {}
    for row in rows:
        task, version = row.cell.task, row.cell.version
        if versions.setdefault(task, version) != version:
            raise ConfigError(
                f"The runs of {task} are of versions {versions[task]} and {version}, which are not compared. Use a "
                "folder for each version."
            )
    return versions


def _settings() -> list[str]:
    return [f.name for f in dataclasses.fields(Settings)]


def _varied(rows: Sequence[Row]) -> list[str]:
    """The settings that differ within a task."""
    varied = []
    for name in _settings():
        found: dict[str, set[float]] = {}
        for row in rows:
            found.setdefault(row.cell.task, set()).add(dataclasses.asdict(row.cell.settings)[name])
        if any(len(values) > 1 for values in found.values()):
            varied.append(name)
    return varied


def _plain(line: Line) -> dict[str, Any]:
    return {f.name: _json(getattr(line, f.name)) for f in dataclasses.fields(line)}


def _json(value: Any) -> Any:
    return value.to_dict() if isinstance(value, SeedEstimate) else value


def _tex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, rf"\{character}" if character != "\\" else r"\textbackslash ")
    return text
