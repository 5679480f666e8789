"""Errors of the option parser about a wrong command line, in one sentence.

tyro frames what it says in boxes, and argparse prints its usage first. Here both become a sentence that names what was
given and what to do.
"""

from __future__ import annotations

import re

_FRAME = dict.fromkeys(map(ord, "╭╮╰╯│"), " ")


def one_sentence(said: str) -> str:
    """A complaint of tyro or argparse as one line.

    Args:
        said: what it printed.

    >>> one_sentence("Value error ----- Error parsing --seed: invalid literal for int() with base 10: 'a' -----")
    "--seed: expected a whole number, got 'a'."
    >>> one_sentence("Unrecognized options ----- Unrecognized options: train.steps=3 -----")
    "'train.steps=3' is not an option. Did you mean --train.steps 3?"
    >>> one_sentence("Unrecognized options ----- Unrecognized options: -steps, 3 -----")
    "'-steps' is not an option: options begin with two dashes. Did you mean --steps 3?"
    >>> one_sentence("Required options ----- Missing from llmrl push: OWNER/NAME The model's name. (required) -----")
    "llmrl push needs OWNER/NAME: The model's name."
    >>> one_sentence("usage: x [--algo ALGO] x: error: argument --algo: expected one argument")
    '--algo: expected one argument.'
    """
    flat = " ".join(said.translate(_FRAME).replace("─", "-").split())
    if match := re.search(r"error: argument (.*)", flat):  # argparse
        return f"{match[1]}."
    parts = [part.strip() for part in re.split(r"-{4,}", flat) if part.strip()]
    text = parts[1] if len(parts) > 1 else flat
    if match := re.match(r"Unrecognized options: (.*)", text):
        return _unrecognized(match[1].split(", "))
    if match := re.match(r"Missing from (.*?): (\S+) (.*)", text):
        return f"{match[1]} needs {match[2]}: {match[3].replace(' (required)', '').rstrip('.')}."
    text = text.removeprefix("Error parsing ").rstrip(".")
    text = re.sub(r"invalid literal for int\(\) with base 10: ", "expected a whole number, got ", text)
    text = re.sub(r"could not convert string to float: ", "expected a number, got ", text)
    about = next((part for part in parts if part.startswith("Argument helptext: ")), "")
    return f"{text}. {about.removeprefix('Argument helptext: ')}".strip()


def _unrecognized(words: list[str]) -> str:
    """Of words that belong to no option."""
    first, *rest = words
    name, equals, value = first.lstrip("-").partition("=")
    value = value if equals else next(iter(rest), "")
    meant = f"--{name} {value}".rstrip()
    if first.startswith("--"):
        return f"There is no option {first.partition('=')[0]}. --help lists the options."
    if first.startswith("-"):
        return f"{first!r} is not an option: options begin with two dashes. Did you mean {meant}?"
    if equals:
        return f"{first!r} is not an option. Did you mean {meant}?"
    return (
        f"{first!r} does not belong to an option. Write --NAME {first}, with a name from --help. A switch has no "
        "value; its opposite is --no-NAME."
    )
