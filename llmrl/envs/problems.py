"""What a problem is, what a source of problems is, and which split a problem belongs to.

A source is a sequence: problem i is always the same.  Sources that draw problems without end say so
by ``size`` None.  Files and the hub are in their own modules.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

SPLITS = ("train", "test")
TEST_SHARE = 10
"""One in so many problems is a test problem where nothing else divides them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with its gold answer."""

    id: str
    """Unique within its source."""
    problem: str
    """The statement."""
    answer: str
    """The gold answer, as the verifier reads it."""
    solution: str | None = None
    """A worked solution that ends in the answer."""
    subject: str | None = None
    """Such as ``algebra``."""
    level: int | None = None
    """Difficulty, 1 to 5."""
    source: str = ""
    """Where it comes from: ``generated``, the name of a file or of a data set."""


class Problems(Protocol):
    """A source of problems."""

    @property
    def size(self) -> int | None:
        """How many there are; None: they never end."""

    def __getitem__(self, index: int) -> Problem:
        """Problem ``index``, always the same."""


def digest(text: str) -> int:
    """A number of 64 bits that depends on the text alone, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def split_of(key: str) -> str:
    """The split that a problem belongs to, by what identifies it: train and test can never overlap.

    Args:
        key: the text; or, where one problem can be told in several ways, what they have in common.

    >>> split_of("What is $1 + 4$?"), split_of("What is $2 + 4$?")
    ('train', 'test')
    """
    return "train" if digest(key) % TEST_SHARE else "test"
