"""Compare two evaluations on the same problems, problem by problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmrl.errors import UserError
from llmrl.evaluation.estimators import Estimate, estimate, mcnemar
from llmrl.evaluation.outcomes import Evaluation


class DifferentProblems(UserError, ValueError):
    """The two evaluations asked different problems; the message says how many."""


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same problems."""

    first: dict[str, Estimate]
    """The first policy's measures that both evaluations have, such as ``greedy`` and ``pass@8``."""
    second: dict[str, Estimate]
    """The same measures of the second policy."""
    difference: dict[str, Estimate]
    """Second minus first, with paired intervals."""
    both: int
    """Number of problems that both greedy responses get right."""
    only_first: int
    """Number of problems that only the first gets right."""
    only_second: int
    """Number of problems that only the second gets right."""
    neither: int
    """Number of problems that neither gets right."""

    @property
    def p_value(self) -> float:
        """McNemar's exact test on the greedy responses."""
        return mcnemar(self.only_first, self.only_second)

    def to_dict(self) -> dict[str, Any]:
        """The numbers, for a JSON file."""
        return {
            "measures": {
                name: {
                    "first": self.first[name]._asdict(),
                    "second": self.second[name]._asdict(),
                    "difference": self.difference[name]._asdict(),
                }
                for name in self.difference
            },
            "greedy": {
                "both": self.both,
                "only_first": self.only_first,
                "only_second": self.only_second,
                "neither": self.neither,
                "mcnemar_p": self.p_value,
            },
        }


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """The differences between two policies on the same problems, second minus first.

    Raises:
        DifferentProblems: they did not answer the same problems.
    """
    _check_problems(first, second)
    fewest = min(first.samples, second.samples)
    # With the same number of samples everywhere, pass@1 equals avg@k, which is there already.
    powers = {2**i for i in range(first.samples == second.samples, fewest.bit_length())}
    ks = sorted({*powers, fewest} - {0})
    one, other = first.values(ks), second.values(ks)
    names = [name for name in one if name in other]
    pairs = {name: [(one[name][i], other[name][i]) for i in one[name]] for name in names}
    right = [(a > 0, b > 0) for a, b in pairs["greedy"]]
    return Comparison(
        first={name: estimate([a for a, _ in values]) for name, values in pairs.items()},
        second={name: estimate([b for _, b in values]) for name, values in pairs.items()},
        difference={name: estimate([b - a for a, b in values], (-1.0, 1.0)) for name, values in pairs.items()},
        both=right.count((True, True)),
        only_first=right.count((True, False)),
        only_second=right.count((False, True)),
        neither=right.count((False, False)),
    )


def _check_problems(first: Evaluation, second: Evaluation) -> None:
    asked = [
        {r["problem_id"]: (r.get("problem"), r.get("answer")) for r in part.records if r["greedy"]}
        for part in (first, second)
    ]
    only = [len(asked[0].keys() - asked[1].keys()), len(asked[1].keys() - asked[0].keys())]
    other = sum(asked[0][i] != asked[1][i] for i in asked[0].keys() & asked[1].keys())
    if any(only) or other:
        raise DifferentProblems(
            f"The evaluations asked different problems: {only[0]} are in the first alone, {only[1]} in the "
            f"second alone, and {other} have the same id but another text or answer. Evaluate both "
            "policies with the same environments, options and number of problems."
        )
