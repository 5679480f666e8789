"""Algorithms as they are written in a command: several names, options in brackets, and the types of options.

The names themselves are looked up by :func:`llmrl.algorithms.find_algorithm`.
"""

from __future__ import annotations

import contextlib
import numbers
import re
from collections.abc import Iterable
from typing import Any

from llmrl.errors import ConfigError
from llmrl.text import one_line, parse_yaml

_SPEC = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<options>.*)\])?")
_COMMA = re.compile(r",(?![^\[]*\])")  # not one within the brackets of a list


def split_names(texts: Iterable[str]) -> list[str]:
    """The algorithms in texts that separate them by commas or spaces.

    >>> split_names(["dapo,gspo", "espo[alpha=1e-3, partition=[0.5,0.8]] grpo[kl=0]"])
    ['dapo', 'gspo', 'espo[alpha=1e-3, partition=[0.5,0.8]]', 'grpo[kl=0]']
    """
    names, depth = [""], 0
    for sign in ",".join(texts):
        depth += (sign == "[") - (sign == "]")
        if depth <= 0 and (sign == "," or sign.isspace()):
            names.append("")
        else:
            names[-1] += sign
    return [name for name in names if name]


def split_options(spec: str) -> tuple[str, dict[str, Any]]:
    """The name of an algorithm and the options that stand in brackets after it.

    >>> split_options("erc+dapo[low=0.9, high=1e1]"), split_options("dapo")
    (('erc+dapo', {'low': 0.9, 'high': 10.0}), ('dapo', {}))

    Raises:
        ConfigError: it is not of this form, or a value cannot be read.
    """
    found = _SPEC.fullmatch(spec.strip())
    if found is None:
        raise ConfigError(
            f"{spec!r} is no algorithm. Write a name, or a name with options: erc+dapo[low=0.9,high=1.1]."
        )
    options = {}
    for part in filter(None, _COMMA.split(found["options"] or "")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{part!r} in {spec!r} is not an option. Write name=value, such as low=0.9.")
        try:
            options[name.strip()] = _value(parse_yaml(value))
        except ValueError as error:
            raise ConfigError(f"{one_line(part)!r} in {one_line(spec)!r} has no value of YAML: {error}") from error
    return found["name"].strip(), options


def _value(read: Any) -> Any:
    """An option from YAML: a tuple for a list, and a number for 1e-3, which YAML 1.1 takes for a word."""
    if isinstance(read, list):
        return tuple(map(_value, read))
    if isinstance(read, str):
        with contextlib.suppress(ValueError):
            return float(read)
    return read


_PLAIN: dict[str, tuple[str, type]] = {
    "float": ("a number", numbers.Real),
    "int": ("a whole number", numbers.Integral),
    "bool": ("True or False", bool),
    "str": ("a text", str),
    "None": ("None", type(None)),
}


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def wanted(value: Any, hint: Any) -> str | None:
    """The expected type of an option in words; None if the value fits, or if the type is not a plain one.

    >>> wanted("wide", float), wanted(1, "float | None"), wanted(True, int)
    ('a number', None, 'a whole number')
    """
    text = hint.__name__ if isinstance(hint, type) else str(hint)
    names = [name.strip() for name in text.split("|")]
    if any(name not in _PLAIN for name in names) or any(_is(value, _PLAIN[name][1]) for name in names):
        return None
    return " or ".join(_PLAIN[name][0] for name in names)
