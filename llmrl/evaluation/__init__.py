"""Evaluation: accuracy of a policy on fixed problems, with confidence intervals over problems.

Each name is loaded when it is first used. The estimators are plain functions of counts: they load no torch and can
be used with samples from anywhere.

>>> from llmrl.evaluation import pass_at_k
>>> pass_at_k(4, 1, 4)
1.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmrl.evaluation.estimators import Estimate, estimate, majority_at_k, mcnemar, pass_at_k, wilson
    from llmrl.evaluation.outcomes import Evaluation
    from llmrl.evaluation.pairs import Comparison, DifferentProblems, compare
    from llmrl.evaluation.running import evaluate

_HOMES = {
    "estimators": ("Estimate", "estimate", "majority_at_k", "mcnemar", "pass_at_k", "wilson"),
    "outcomes": ("Evaluation",),
    "pairs": ("Comparison", "DifferentProblems", "compare"),
    "running": ("evaluate",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


__all__ = [
    "Comparison",
    "DifferentProblems",
    "Estimate",
    "Evaluation",
    "compare",
    "estimate",
    "evaluate",
    "majority_at_k",
    "mcnemar",
    "pass_at_k",
    "wilson",
]
