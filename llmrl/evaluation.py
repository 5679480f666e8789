"""Evaluation: accuracy of a policy on fixed problems, with confidence intervals over problems.

The estimators are plain functions of a table of outcomes, so they can be used on anybody's samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from llmrl.policies.policy import Policy
from llmrl.training.rollout import Environments, collect


class Estimate(NamedTuple):
    """A mean over problems and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(per_problem: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean over problems, with the percentile bootstrap over problems.

    Problems are resampled, not responses: the responses to one problem are not independent.

    >>> estimate([1.0] * 50)
    Estimate(mean=1.0, low=1.0, high=1.0)
    """
    values = np.asarray(per_problem, dtype=float)
    if not len(values):
        return Estimate(math.nan, math.nan, math.nan)
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that at least one of k responses drawn without replacement is correct, unbiased.

        1 - C(n - c, k) / C(n, k)

    Source: Chen et al. 2021, arXiv:2107.03374, eq. 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 4), round(pass_at_k(5, 2, 2), 3)
    (0.25, 1.0, 0.7)
    """
    if not 1 <= k <= samples:
        raise ValueError(f"k must be in 1..{samples}, the number of samples; got {k}.")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


@dataclass
class Evaluation:
    """Outcomes of one policy on one set of problems."""

    records: list[dict[str, Any]]
    """One per response: the record of :func:`llmrl.training.rollout.collect` and ``"greedy"``."""

    def scores(self, greedy: bool) -> dict[int, list[float]]:
        """For each problem id, whether each of its responses is correct."""
        table: dict[int, list[float]] = {}
        for record in self.records:
            if record["greedy"] == greedy:
                table.setdefault(record["problem_id"], []).append(float(_correct(record)))
        return table

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

    def by(self, *fields: str) -> dict[tuple[Any, ...], Estimate]:
        """Greedy accuracy for each value of the fields, such as ``by("subject", "level")``."""
        cells: dict[tuple[Any, ...], list[float]] = {}
        for record in self.records:
            if record["greedy"]:
                cell = tuple(record.get(field) for field in fields)
                cells.setdefault(cell, []).append(float(_correct(record)))
        return {cell: estimate(values) for cell, values in sorted(cells.items(), key=str)}

    def summary(self) -> dict[str, Any]:
        """The numbers, for a JSON file."""
        greedy = [r for r in self.records if r["greedy"]]
        result: dict[str, Any] = {
            "problems": len(greedy),
            "greedy": self.greedy._asdict(),
            "no_answer": _share(r.get("verdict") == "no_answer" for r in greedy),
            "timeout": _share(r.get("verdict") == "timeout" for r in greedy),
            "truncated": _share(r["finish_reason"] == "length" for r in greedy),
            "response_length": float(np.mean([r["tokens"] for r in greedy])),
            "by_subject": {str(k[0]): v._asdict() for k, v in self.by("subject").items()},
            "by_level": {str(k[0]): v._asdict() for k, v in self.by("level").items()},
        }
        sampled = self.scores(False)
        if sampled:
            k = min(map(len, sampled.values()))
            result[f"avg@{k}"] = self.average._asdict()
            result[f"pass@{k}"] = self.pass_at(k)._asdict()
        return result

    def write(self, folder: Path, name: str) -> None:
        """``NAME.json`` with the summary and ``NAME.jsonl`` with every response."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(self.summary(), indent=2) + "\n")
        with (folder / f"{name}.jsonl").open("w") as file:
            for record in self.records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _correct(record: dict[str, Any]) -> bool:
    """By the verdict where there is one, so that shaped rewards do not count as accuracy."""
    return record["verdict"] == "correct" if "verdict" in record else record["reward"] >= 1


def _share(flags: Any) -> float:
    flags = list(flags)
    return sum(flags) / max(len(flags), 1)


def evaluate(
    policy: Policy,
    environments: Environments,
    problems: int,
    *,
    samples: int = 4,
    batch: int = 512,
    seed: int = 0,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Answer the first ``problems`` problems greedily once, and ``samples`` times by sampling.

    Args:
        batch: responses generated at once.
        seed: of the sampling; the same seed gives the same responses.
        on_batch: called with (responses done, responses in all) for a progress display.
    """
    size = environments.num_problems()
    count = problems if size is None else min(problems, size)
    generator = torch.Generator(device=policy.device).manual_seed(seed)
    records: list[dict[str, Any]] = []
    total = count * (1 + samples)
    for greedy, group in ((True, 1), (False, samples)):
        if group == 0:
            continue
        chunk = max(batch // group, 1)
        for begin in range(0, count, chunk):
            ids = range(begin, min(begin + chunk, count))
            part = collect(
                policy, environments, ids, seed=seed, generator=generator, group_size=group,
                greedy=greedy, first_group=begin,
            )  # fmt: skip
            records += [{**record, "greedy": greedy} for record in part.records]
            on_batch(len(records), total)
    return Evaluation(records)
