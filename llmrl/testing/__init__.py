"""Checks for algorithms, verifiers and environments that are written outside the package.

They need no test framework. Each check raises an ``AssertionError`` with a message of one sentence: what was
tried, what happened, what was expected.
"""

from llmrl.testing.algorithms import ALGORITHM_CHECKS, check_algorithm
from llmrl.testing.environments import ENVIRONMENT_CHECKS, check_environment
from llmrl.testing.verifiers import VERIFIER_CHECKS, check_verifier

__all__ = [
    "ALGORITHM_CHECKS",
    "ENVIRONMENT_CHECKS",
    "VERIFIER_CHECKS",
    "check_algorithm",
    "check_environment",
    "check_verifier",
]
