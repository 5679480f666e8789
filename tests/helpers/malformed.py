"""Messages that are none: each differs from a good one in a way that must be noticed. Seeded, and without an end."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

NONSENSE: list[Any] = [
    None,
    True,
    -1,
    0.5,
    1e308,
    10**30,
    "",
    "1",
    "\x00",
    "\u202e",
    "a" * 5000,
    [[]],
    [None],
    {"a": 1},
]


def nonsense(random_: random.Random) -> Any:
    """A value that no field of ours may have."""
    return random_.choice(NONSENSE)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inner: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        for key in value:
            inner += places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            inner += places(value[index], (*path, index))
    return [path, *inner] if path else inner


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value at a path."""
    copied = copy.deepcopy(value)
    holder = copied
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = new
    return copied


def without(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy without what is at a path."""
    copied = copy.deepcopy(value)
    holder = copied
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return copied


def broken_json(random_: random.Random, good: Any) -> bytes:
    """A body that is no message, whatever the message is about."""
    text = json.dumps(good).encode()
    ways: list[Callable[[], bytes]] = [
        lambda: text[: random_.randrange(len(text) - 1)],
        lambda: text + random_.choice([b"}", b"x", b"\xff", b"{}"]),
        lambda: random_.randbytes(random_.randrange(200)),
        lambda: b"[" * random_.choice([10, 1000, 100_000]),
        lambda: b'{"a":' * 50_000,
        lambda: json.dumps(nonsense(random_)).encode(),
        lambda: json.dumps({**good, random_.choice(["x", "__class__", ""]): 1}).encode(),
        lambda: json.dumps(without(good, (random_.choice(list(good)),))).encode(),
        lambda: text.decode().encode("utf-16"),
        lambda: b"\x1f\x8b" + text,
        lambda: b"<html><h1>502 Bad Gateway</h1></html>",
        lambda: b"",
    ]
    return random_.choice(ways)()
