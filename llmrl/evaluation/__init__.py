"""Evaluation: accuracy of a policy on fixed problems, with confidence intervals over problems.

The estimators are plain functions of counts, so they can be used on anybody's samples.
"""

from llmrl.evaluation.estimators import Estimate, estimate, majority_at_k, mcnemar, pass_at_k
from llmrl.evaluation.outcomes import Evaluation
from llmrl.evaluation.pairs import Comparison, DifferentProblems, compare
from llmrl.evaluation.running import evaluate

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
]
