"""The types of a problem and of a source of problems, and the split of a problem.

A source is a sequence: problem i is always the same. A source with an unlimited number of problems has ``size`` None.
Files and the hub have their own modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from llmrl.errors import ConfigError

SPLITS = ("train", "test")
BadGold = Literal["keep", "drop", "error"]
BadRows = Literal["error", "drop"]
TEST_SHARE = 10
"""One in this many problems is a test problem, unless the data are divided already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question with its gold answer."""

    id: str
    """Its id, unique within its source."""
    problem: str
    """The statement."""
    answer: str
    """The gold answer, as the verifier reads it."""
    solution: str | None = None
    """A worked solution that ends in the answer."""
    subject: str | None = None
    """Its subject, such as ``algebra``."""
    level: int | None = None
    """Difficulty, 1 to 5."""
    source: str = ""
    """Source of the problem: ``generated``, the name of a file or of a data set."""


@dataclass(frozen=True, kw_only=True)
class ProblemOptions:
    """The options that environments of problem sets share: which problems they ask, and how they are read.

    Subjects and levels may be a single one, several, or several in one text with commas.

    Raises:
        ValueError: an option has an invalid value.
    """

    source: str = "auto"
    """The source of the problems."""
    split: str | None = None
    """Training or test problems."""
    subjects: tuple[str, ...] | None = None
    """Subjects to use; None: all."""
    levels: tuple[int, ...] | None = None
    """Difficulties to use; None: all."""
    seed: int = 0
    """Seed of generated problems."""
    problem_column: str | None = None
    """The column of the problem, if its name is unusual."""
    answer_column: str | None = None
    """The column of the answer, if its name is unusual."""
    bad_gold: BadGold = "keep"
    """Treatment of gold answers that cannot be parsed."""
    bad_rows: BadRows = "error"
    """Treatment of rows that cannot be used."""
    check: bool = True
    """Whether gold answers are checked with the mathematical verifier."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "subjects", _subjects(self.subjects))
        object.__setattr__(self, "levels", _levels(self.levels))
        for name, given, known in (
            ("bad_gold", self.bad_gold, ("keep", "drop", "error")),
            ("bad_rows", self.bad_rows, ("error", "drop")),
        ):
            if given not in known:
                raise ConfigError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, got {given!r}.")


def _subjects(given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    items = given.split(",") if isinstance(given, str) else given
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"subjects must be names such as ('algebra', 'geometry'), got {given!r}.")
    return tuple(item.strip() for item in items if item.strip()) or None


def _levels(given: Any) -> tuple[int, ...] | None:
    if given is None:
        return None
    items = given.replace(",", " ").split() if isinstance(given, str) else given
    items = items if isinstance(items, (list, tuple, set, frozenset, range)) else (items,)
    levels = []
    for item in items:
        whole = isinstance(item, int) and not isinstance(item, bool)
        if not whole and not (isinstance(item, str) and item.strip().isdecimal()):
            raise ConfigError(f"levels must be whole numbers such as (1, 2), got {given!r}.")
        levels.append(int(item))
    return tuple(levels) or None


@runtime_checkable
class Problems(Protocol):
    """A source of problems."""

    @property
    def size(self) -> int | None:
        """The number of problems; None: unlimited."""

    def __getitem__(self, index: int) -> Problem:
        """Problem ``index``, always the same."""


@runtime_checkable
class AsksProblems(Protocol):
    """An environment whose problems are numbered, such as :class:`~llmrl.envs.text.TextEnv`."""

    problems: Problems
    """The source of the problems."""


@runtime_checkable
class NamesResetOptions(Protocol):
    """An environment that says which options its ``reset`` understands."""

    reset_options: Collection[str]
    """Their names."""


def digest(text: str) -> int:
    """A 64-bit number that depends only on the text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def split_of(key: str) -> str:
    """The split of a problem, by a hash of its key: train and test never overlap.

    Args:
        key: the text; or, if a problem can have several wordings, what all of them share.

    >>> split_of("What is $1 + 4$?"), split_of("What is $2 + 4$?")
    ('train', 'test')
    """
    return "train" if digest(key) % TEST_SHARE else "test"
