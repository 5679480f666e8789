"""Compares values that were read from a file with values that the program itself would write.

A file that loads without running code may still hold anything: a text in place of a number, or a tensor of another
shape, with which torch reads memory that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

MOST = 2**63 - 1
"""Integers in a file may be 0 to this."""


@dataclass(frozen=True)
class Anything:
    """Any value: whoever uses it checks it."""


@dataclass(frozen=True)
class Maybe:
    """A value like another, or None."""

    like: Any


@dataclass(frozen=True)
class Each:
    """A list of values like one."""

    like: Any
    least: int = 0
    """Its smallest length."""


@dataclass(frozen=True)
class Table:
    """A table with any number of entries."""

    key: Any
    value: Any


@dataclass(frozen=True)
class Some:
    """A table with some of the entries of another one."""

    like: dict[Any, Any]


@dataclass(frozen=True)
class Known:
    """A table whose entries are like those of another one, where that has them; the others may be anything."""

    like: dict[Any, Any]


@dataclass(frozen=True)
class Within:
    """An integer of a range, both ends included."""

    least: int
    most: int


def refuse_unlike(given: Any, like: Any, place: str) -> None:
    """Raise unless a value has the form of another one.

    Tables have the same keys, lists the same length, tensors the same shape and kind; tensors of floats are finite.
    Integers are 0 or more.

    Args:
        given: numbers, texts, None and tensors in dicts, lists and tuples.
        like: a value of the right form, in which the classes of this module leave room.
        place: name of the value, for the message.

    Raises:
        ValueError: it has another form; the message says where and how.

    >>> refuse_unlike({"step": "x"}, {"step": 0}, "counters")
    Traceback (most recent call last):
    ValueError: counters.step is a str, expected an integer of 0 or more
    """
    for wrong in _differences(given, like, place):
        raise ValueError(wrong)


def is_unlike(given: Any, like: Any) -> bool:
    """Whether :func:`refuse_unlike` would raise.

    >>> is_unlike([1, 2], (0, 0)), is_unlike([1], (0, 0))
    (False, True)
    """
    return any(_differences(given, like, ""))


def _differences(given: Any, like: Any, place: str) -> Iterator[str]:
    match like:
        case Anything():
            return
        case Maybe():
            if given is not None:
                yield from _differences(given, like.like, place)
        case Table() | Some() | Known() | dict():
            yield from _of_table(given, like, place)
        case Each() | list() | tuple():
            yield from _of_list(given, like, place)
        case Tensor():
            same = isinstance(given, Tensor) and given.shape == like.shape
            if not same or given.is_floating_point() != like.is_floating_point():
                yield f"{place} is a {_kind(given)}, expected a {_kind(like)}"
            elif not given.isfinite().all():
                yield f"{place} has numbers that are not finite"
        case Within():
            if type(given) is not int or not like.least <= given <= like.most:
                found = given if type(given) is int else f"a {_kind(given)}"
                limits = f"of {like.least} or more" if like.most == MOST else f"from {like.least} to {like.most}"
                yield f"{place} is {found!s:.40}, expected an integer {limits}"
        case bool() | str() | None:
            if type(given) is not type(like):
                yield f"{place} is a {_kind(given)}, expected a {_kind(like)}"
        case int():
            yield from _differences(given, Within(0, MOST), place)
        case float():
            if type(given) not in (int, float):
                yield f"{place} is a {_kind(given)}, expected a number"


def _of_table(given: Any, like: Table | Some | Known | dict, place: str) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{place} is a {_kind(given)}, expected a table"
    elif isinstance(like, Table):
        for key, value in given.items():
            yield from _differences(key, like.key, f"a key of {place}")
            yield from _differences(value, like.value, f"{place}.{key}")
    else:
        known = like if isinstance(like, dict) else like.like
        if isinstance(like, dict) and (missing := [key for key in known if key not in given]):
            yield f"{place} has no {missing[0]}"
        for key, value in given.items():
            if key in known:
                yield from _differences(value, known[key], f"{place}.{key}")
            elif not isinstance(like, Known):
                yield f"{place} has the entry {key!s:.40}, which is unknown"


def _of_list(given: Any, like: Each | list | tuple, place: str) -> Iterator[str]:
    if not isinstance(given, list | tuple):
        yield f"{place} is a {_kind(given)}, expected a list"
        return
    if isinstance(like, Each):
        right, expected, items = len(given) >= like.least, f"at least {like.least}", [like.like] * len(given)
    else:
        right, expected, items = len(given) == len(like), f"{len(like)}", list(like)
    if not right:
        yield f"{place} is a {_kind(given)}, expected a list of {expected}"
        return
    for index, (one, other) in enumerate(zip(given, items, strict=True)):
        yield from _differences(one, other, f"{place}.{index}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, list | tuple):
        return f"list of {len(value)}"
    return type(value).__name__
