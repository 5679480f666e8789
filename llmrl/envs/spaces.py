"""The space of texts, with support for the shared memory of Gymnasium's asynchronous vector environments."""

from __future__ import annotations

import multiprocessing
import string
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, overload

import numpy as np
from gymnasium.spaces import Text
from gymnasium.vector.utils.shared_memory import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

MAX_LENGTH = 1_000_000
"""The largest number of characters of a text."""
SAMPLE_LENGTH = 64
"""The largest number of characters of a random text."""
_UTF32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
"""Code points without a byte order mark."""


class FreeText(Text):
    """Any text up to a length: LaTeX, line breaks, every script, also the empty text.

    Gymnasium's ``Text`` allows only the characters of a list. This space uses the list for random samples only.

    >>> "Löse $x^2 = 4$.\\n" in FreeText(), "" in FreeText(), 4 in FreeText()
    (True, True, False)
    """

    def __init__(self, max_length: int = MAX_LENGTH, *, seed: Any = None) -> None:
        charset = string.ascii_letters + string.digits + " .,+-*/=()^{}$\\"
        super().__init__(max_length, min_length=0, charset=charset, seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a text that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A short random text; ``mask`` and ``probability`` as in ``gymnasium.spaces.Text``."""
        if mask is None and probability is None:
            longest = min(self.max_length, SAMPLE_LENGTH)
            mask = (int(self.np_random.integers(longest + 1)), None)
        return super().sample(mask, probability)

    def __repr__(self) -> str:
        return f"FreeText({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FreeText) and other.max_length == self.max_length


class SharedTexts(Sequence[str]):
    """The texts that are in shared memory now. Gymnasium makes this object once and copies it at every step.

    Args:
        rows: int32 [N, longest + 1]; each row holds the length of a text and then its code points.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        row = self.rows[index]
        return row[1 : 1 + row[0]].tobytes().decode(_UTF32, "surrogatepass")

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)


# Gymnasium's functions for ``Text`` write indices into its list of characters, so they cannot write other characters.
# Here a row holds the length and then the code points.


@create_shared_memory.register(FreeText)
def _create(space: FreeText, n: int = 1, ctx: ModuleType = multiprocessing) -> Any:
    return ctx.Array("i", n * (space.max_length + 1))


@read_from_shared_memory.register(FreeText)
def _read(space: FreeText, shared_memory: Any, n: int = 1) -> SharedTexts:
    return SharedTexts(np.frombuffer(shared_memory.get_obj(), dtype=np.int32).reshape(n, space.max_length + 1))


@write_to_shared_memory.register(FreeText)
def _write(space: FreeText, index: int, values: str, shared_memory: Any) -> None:
    rows = np.frombuffer(shared_memory.get_obj(), dtype=np.int32).reshape(-1, space.max_length + 1)
    points = np.frombuffer(values.encode(_UTF32, "surrogatepass"), dtype=np.int32)
    rows[index, 0] = len(points)
    rows[index, 1 : 1 + len(points)] = points
