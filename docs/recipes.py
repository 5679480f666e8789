"""The options of a recipe as its function declares and explains them: name, default, meaning."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

from llmrl.algorithms.algorithm import find_algorithm


class Option(NamedTuple):
    """One option."""

    name: str
    default: Any
    meaning: str


def about(name: str) -> str:
    """The docstring of the recipe's function, without its options."""
    return (inspect.getdoc(find_algorithm(name)) or "").partition("Args:\n")[0].strip()


def options(name: str) -> list[Option]:
    """All options of an algorithm, in the order of its function."""
    function = find_algorithm(name)
    explained = (inspect.getdoc(function) or "").partition("Args:\n")[2]
    meanings = re.findall(r"^ {4}(\w+): ((?:.+(?:\n {5,}.+)*))", explained, re.MULTILINE)
    given = {key: " ".join(text.split()) for key, text in meanings}
    parameters = inspect.signature(function).parameters
    return [Option(key, parameter.default, given[key]) for key, parameter in parameters.items()]


def table(name: str) -> str:
    """The options as a table in Markdown."""
    rows = [
        f"| `{option.name}` | `{getattr(option.default, '__name__', option.default)}` "
        f"| {option.meaning.replace('|', chr(92) + '|')} |"
        for option in options(name)
    ]
    return "\n".join(["| option | default | meaning |", "| --- | --- | --- |", *rows])
