"""Errors of the option parser about a wrong command line, in one sentence.

tyro frames what it says in boxes, and argparse prints its usage first. Here both become a sentence that names what was
given and what to do.
"""

from __future__ import annotations

import re

_KINDS = {
    "{None}": "None",
    "INT": "a whole number",
    "FLOAT": "a number",
    "STR": "a text",
    "{[INT [INT ...]]}": "whole numbers with spaces between them",
    "{[FLOAT [FLOAT ...]]}": "numbers with spaces between them",
}
"""Types of options as tyro writes them, and in words."""
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
    >>> one_sentence("Unrecognized options ----- Unrecognized options: --sampels, 3 ----- Perhaps you meant: "
    ...              "--samples INT")
    'There is no option --sampels. Did you mean --samples? --help lists the options.'
    >>> one_sentence("Missing argument ----- Missing value for argument '--train.steps'. Expected 1 values.")
    '--train.steps needs a value.'
    >>> one_sentence("Invalid choice ----- invalid choice 'bf16' for argument '--dtype'. Expected one of "
    ...              "('float32', 'bfloat16').")
    "--dtype: expected float32 or bfloat16, got 'bf16'."
    >>> one_sentence("Value error ----- Error parsing --env.levels: no type matching {None}|{[INT [INT ...]]} could be "
    ...              "instantiated from ['1-2']. Got errors: ...")
    "--env.levels: expected whole numbers with spaces between them or None, got '1-2'."
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
        return _unrecognized(match[1].split(", "), flat)
    if match := re.match(r"Missing from (.*?): (.*)", text):
        needed = [part.strip().partition(" ") for part in match[2].split("(required)") if part.strip()]
        names, meanings = (" ".join(part[i] for part in needed) for i in (0, 2))
        return f"{match[1]} needs {names}: {meanings.rstrip('.')}."
    if match := re.match(r"Missing value for argument '(.*)'. Expected (\d+) values", text):
        return f"{match[1]} needs {'a value' if match[2] == '1' else match[2] + ' values'}."
    if match := re.match(r"invalid choice (.*) for argument '(.*)'. Expected one of \((.*)\)", text):
        choices = [choice.strip("'") for choice in match[3].rstrip(",").split(", ")]
        return f"{match[2]}: expected {' or '.join(choices)}, got {match[1]}."
    if match := re.match(r"Error parsing (\S+): no type matching (.*) could be instantiated from \[(.*?)\]\.", text):
        kinds = sorted(match[2].split("|"), key="{None}".__eq__)
        expected = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
        return f"{match[1]}: expected {expected}, got {match[3]}."
    text = text.removeprefix("Error parsing ").rstrip(".")
    text = re.sub(r"invalid literal for int\(\) with base 10: ", "expected a whole number, got ", text)
    text = re.sub(r"could not convert string to float: ", "expected a number, got ", text)
    return f"{text}."


def _unrecognized(words: list[str], said: str) -> str:
    """Of words that belong to no option; what was said may name similar ones."""
    first, *rest = words
    name, equals, value = first.lstrip("-").partition("=")
    value = value if equals else next(iter(rest), "")
    meant = f"--{name} {value}".rstrip()
    if first.startswith("--"):
        flag = first.partition("=")[0]
        near = re.search(rf"(?:Perhaps you meant|Arguments similar to {re.escape(flag)}): (--\S+)", said)
        advice = "" if near is None else f"Did you mean {near[1]}? "
        return f"There is no option {flag}. {advice}--help lists the options."
    if first.startswith("-"):
        return f"{first!r} is not an option: options begin with two dashes. Did you mean {meant}?"
    if equals:
        return f"{first!r} is not an option. Did you mean {meant}?"
    return (
        f"{first!r} does not belong to an option. Write --NAME {first}, with a name from --help. A switch has no "
        "value; its opposite is --no-NAME."
    )
