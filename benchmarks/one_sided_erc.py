"""One-sided ERC under the name that the claims' runs gave it: a recipe in one file.

llmrl study --algos dapo benchmarks.one_sided_erc:one_sided
"""

from __future__ import annotations

from dataclasses import replace

from llmrl.algorithms import Algorithm, algorithm


def one_sided(*, low: float = 0.95, high: float = 1.05) -> Algorithm:
    """DAPO with ERC's gate, which drops only tokens that their own update moves further out of the band."""
    return replace(algorithm("erc", low=low, high=high, sides="outward"), name="one-sided ERC")
