"""Outcomes of an evaluation: from the records of its responses to its numbers and its files.

Only the records are needed, neither the policy nor the verifier.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrl.evaluation.estimators import Estimate, estimate, majority_at_k, pass_at_k
from llmrl.likeness import is_unlike, refuse_unlike
from llmrl.rollouts.records import FORM, Record, is_correct
from llmrl.text import DamagedFile, counted, json_line, one_line, read_json_lines

NEEDED = frozenset({"greedy", "problem_id", "reward"})
"""Entries of every record of an evaluation."""
SUMMARIZED = NEEDED | {"finish_reason", "group", "tokens"}
"""Entries that a summary reads too; every evaluation that llmrl runs writes them."""


def is_outcome(record: Record) -> bool:
    """Whether a record from a file is one of an evaluation."""
    return record.keys() >= NEEDED and not is_unlike(record, FORM)


@dataclass(repr=False)
class Evaluation:
    """Outcomes of one policy on one set of problems."""

    records: list[Record]
    """One record per response: the record of :func:`llmrl.rollouts.collect.collect` with ``"greedy"``, and for a
    sampled response ``"vote"``: equal answers to a problem have the same number (None: no answer)."""
    dropped_prompts: int = 0
    """Number of problems that were left out because their prompt was too long; no measure counts them."""

    @classmethod
    def read(cls, path: Path, needed: Set[str] = NEEDED) -> Evaluation:
        """Read an evaluation from the ``.jsonl`` of its responses.

        Args:
            path: the file.
            needed: entries of every record; :data:`SUMMARIZED` for a summary.

        Raises:
            DamagedFile: a line is not a record, or lacks an entry.
        """
        records = read_json_lines(path)
        for number, record in enumerate(records, 1):
            if lacking := needed - record.keys():
                raise DamagedFile(
                    f"{path}, line {number} is not a response of an evaluation: it has no {sorted(lacking)[0]}."
                )
            try:
                refuse_unlike(record, FORM, "it")
            except ValueError as error:
                raise DamagedFile(
                    f"{path}, line {number} is not a response of an evaluation: {one_line(str(error))}."
                ) from error
        return cls(records)

    def scores(self, greedy: bool) -> dict[int, list[float]]:
        """For each problem id, whether each of its responses is correct."""
        return {
            problem: [float(is_correct(record)) for record in records]
            for problem, records in self._by_problem(greedy).items()
        }

    @property
    def samples(self) -> int:
        """Number of sampled responses per problem; if it differs between problems, the smallest."""
        return min(map(len, self._by_problem(False).values()), default=0)

    @property
    def greedy(self) -> Estimate:
        """Accuracy of the greedy response."""
        return estimate([values[0] for values in self.scores(True).values()])

    @property
    def average(self) -> Estimate:
        """avg@k: mean accuracy of the sampled responses."""
        return estimate([float(np.mean(values)) for values in self.scores(False).values()])

    def pass_at(self, k: int) -> Estimate:
        """pass@k of the sampled responses."""
        return estimate([pass_at_k(len(v), int(sum(v)), k) for v in self.scores(False).values()])

    def majority_at(self, k: int) -> Estimate:
        """maj@k of the sampled responses, as :func:`~llmrl.evaluation.majority_at_k` defines it.

        Raises:
            ValueError: no response has an extracted answer.
        """
        if not self.votes:
            raise ValueError(
                "maj@k needs the extracted answers, and these records have none: the environment "
                "reports no 'extracted' in its info."
            )
        groups = self._by_problem(False).values()
        return estimate([_majority(records, k) for records in groups])

    @property
    def votes(self) -> bool:
        """Whether some sampled response has an extracted answer; a vote of None is not one."""
        return any(record.get("vote") is not None for record in self.records)

    def values(self, ks: Sequence[int] | None = None) -> dict[str, dict[int, float]]:
        """Every measure, problem by problem: ``{"greedy": {problem_id: value}, "pass@8": ...}``.

        Args:
            ks: values of k for pass@k and maj@k; by default the number of samples.
        """
        table = {"greedy": {i: values[0] for i, values in self.scores(True).items()}}
        scores, groups = self.scores(False), self._by_problem(False)
        if not scores:
            return table
        table[f"avg@{self.samples}"] = {i: float(np.mean(v)) for i, v in scores.items()}
        for k in (self.samples,) if ks is None else ks:
            table[f"pass@{k}"] = {i: pass_at_k(len(v), int(sum(v)), k) for i, v in scores.items()}
            if self.votes:
                table[f"maj@{k}"] = {i: _majority(group, k) for i, group in groups.items()}
        return table

    def estimates(self, ks: Sequence[int] | None = None) -> dict[str, Estimate]:
        """Every measure with its interval: ``{"greedy": ..., "avg@4": ..., "pass@4": ...}``.

        Args:
            ks: as in :meth:`values`.
        """
        return {name: _estimate(per_problem) for name, per_problem in self.values(ks).items()}

    def by(self, *fields: str) -> dict[tuple[Any, ...], Estimate]:
        """Greedy accuracy for each combination of values of the fields, such as ``by("subject", "level")``."""
        cells: dict[tuple[Any, ...], list[float]] = {}
        for record in self.records:
            if record["greedy"]:
                cell = tuple(record.get(field) for field in fields)
                cells.setdefault(cell, []).append(float(is_correct(record)))
        return {cell: estimate(values) for cell, values in sorted(cells.items(), key=str)}

    def summary(self, ks: Sequence[int] | None = None) -> dict[str, Any]:
        """The numbers, for a JSON file.

        Args:
            ks: as in :meth:`values`.
        """
        table = self.values(ks)
        greedy = [r for r in self.records if r["greedy"]]
        sampled = [r for r in self.records if not r["greedy"]]
        return {
            "problems": len(greedy),
            "dropped_prompts": self.dropped_prompts,
            **{name: _estimate(per_problem)._asdict() for name, per_problem in table.items()},
            **_shares(greedy),
            **({"sampled": _shares(sampled)} if sampled else {}),
            "by_subject": self._cells("subject", table),
            "by_level": self._cells("level", table),
        }

    def write(
        self,
        folder: Path,
        name: str,
        step: int | None = None,
        settings: Mapping[str, Any] | None = None,
        title: str | None = None,
        remark: str | None = None,
    ) -> None:
        """Write ``NAME.json`` with the summary and ``NAME.jsonl`` with every response.

        Args:
            folder: the folder to write to; made if it is missing.
            name: name of both files.
            step: training step after which the policy was evaluated; it is written into the summary.
            settings: how the responses were sampled; they are written into the summary too.
            title: name of the problems, for the summary.
            remark: which of them are training problems, for the summary; empty: none.
        """
        folder.mkdir(parents=True, exist_ok=True)
        about = {"step": step, "settings": settings, "title": title, "remark": remark}
        summary = {**{key: value for key, value in about.items() if value is not None}, **self.summary()}
        (folder / f"{name}.json").write_text(json.dumps(summary, indent=2) + "\n")
        with (folder / f"{name}.jsonl").open("w") as file:
            for record in self.records:
                file.write(json_line(record))

    def __repr__(self) -> str:
        measures = ", ".join(f"{name} {value}" for name, value in self.estimates().items())
        return f"<Evaluation of {counted(len(self.scores(True)), 'problem')}: {measures}>"

    def _repr_html_(self) -> str:
        """The measures as a table, for a notebook."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
            for name, value in self.estimates().items()
        )
        return f"<table><caption>{counted(len(self.scores(True)), 'problem')}, 95 % intervals</caption>{rows}</table>"

    def _by_problem(self, greedy: bool) -> dict[int, list[Record]]:
        table: dict[int, list[Record]] = {}
        for record in self.records:
            if record["greedy"] == greedy:
                table.setdefault(record["problem_id"], []).append(record)
        return table

    def _cells(self, field: str, table: dict[str, dict[int, float]]) -> dict[str, Any]:
        """For each value of a field, the greedy estimate; the other measures follow under their names."""
        members: dict[str, set[int]] = {}
        for record in self.records:
            members.setdefault(str(record.get(field)), set()).add(record["problem_id"])
        cells: dict[str, Any] = {}
        for value, problems in sorted(members.items()):
            greedy, *others = (
                (name, _estimate({i: v for i, v in per_problem.items() if i in problems})._asdict())
                for name, per_problem in table.items()
            )
            cells[value] = {**greedy[1], "problems": len(problems), **dict(others)}
        return cells


def count_votes(records: Sequence[Record], same: Callable[[str, str], bool]) -> list[int | None]:
    """Number the answers of the responses to one problem, in order of appearance.

    All correct responses have the same answer, the gold answer. Two other answers are equal if ``same`` says
    so. None: the response has no answer, or no verdict.

    >>> said = [("7", "wrong"), ("1/2", "correct"), ("", "no_answer"), ("0.5", "correct"), ("7.0", "wrong")]
    >>> records = [{"extracted": answer, "verdict": verdict} for answer, verdict in said]
    >>> count_votes(records, lambda a, b: float(a) == float(b))
    [0, 1, None, 1, 0]
    """
    answers: list[str | None] = []  # None stands for the gold answer
    votes: list[int | None] = []
    for record in records:
        answer = record.get("extracted")
        if not answer or not record.get("valid", True):
            votes.append(None)
            continue
        given = None if is_correct(record) else answer
        known = next((i for i, other in enumerate(answers) if _equal(other, given, same)), None)
        if known is None:
            answers.append(given)
        votes.append(len(answers) - 1 if known is None else known)
    return votes


def _equal(first: str | None, second: str | None, same: Callable[[str, str], bool]) -> bool:
    if first is None or second is None:
        return first is second
    return first == second or same(first, second)


def _majority(records: list[Record], k: int) -> float:
    voting = [record for record in records if record.get("vote") is not None]
    right = sum(map(is_correct, voting))
    wrong = Counter(record["vote"] for record in voting if not is_correct(record))
    return majority_at_k(right, list(wrong.values()), len(records) - len(voting), k)


def _estimate(per_problem: dict[int, float]) -> Estimate:
    return estimate(list(per_problem.values()))


def _shares(records: list[Record]) -> dict[str, float]:
    """Shares of responses with no answer, a timeout, no verdict, and cut off; and the mean length in tokens."""
    return {
        "no_answer": _share(r.get("verdict") == "no_answer" for r in records),
        "timeout": _share(r.get("verdict") == "timeout" for r in records),
        "invalid": _share(not r.get("valid", True) for r in records),
        "truncated": _share(r["finish_reason"] == "length" for r in records),
        "response_length": float(np.mean([r["tokens"] for r in records])),
    }


def _share(flags: Iterable[bool]) -> float:
    flags = list(flags)
    return sum(flags) / max(len(flags), 1)
