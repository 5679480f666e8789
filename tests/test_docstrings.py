"""Formulas in docstrings stand on lines of their own, where no formatter joins them with a sentence or each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "llmrl"
FILES = sorted(file for folder in ("losses", "credit", "algorithms") for file in (PACKAGE / folder).glob("*.py"))

FORMULA = re.compile(r"^(log )?[A-Za-z]\w*(_\w+|,\w|\(\w+\))* (=|<-) \S")  # a name, a relation, something
RELATION = re.compile(r" (?:=|<-) ")
SENTENCE = re.compile(r"[A-Za-z]{2,}[,;]? [a-z']{2,}[,;]? [a-z']{2,}[,;]? [a-z']{2,}")  # four words in a row
WORDS = {"mean", "over", "sum", "of", "the", "segment", "response", "responses", "tokens", "segments", "old", "entropy"}


def docstrings(file: Path) -> Iterator[tuple[str, str]]:
    """Where each docstring stands, and its text."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield f"{file.relative_to(PACKAGE.parent)}, {getattr(node, 'name', 'the module')}", text


def faults(text: str) -> list[str]:
    """What is wrong with a docstring's formulas, a line each."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in dedent(paragraph).splitlines()]
        if lines and lines[0].startswith((">>>", "Args:", "Returns:", "Raises:")):
            continue
        indented = paragraph.startswith("    ")
        for line in lines:
            if indented and len(RELATION.findall(re.split(r",  +|;  +|   +", line)[0])) > 1:
                found.append(f"two formulas on a line: {line}")
            if re.search(r" [-+*/=]$", line) or (re.match(r"[-+*/=] [^ ]", line) and not line.startswith(("- ", "* "))):
                found.append(f"a formula broken at an operator: {line}")
        if any(FORMULA.match(line) for line in lines):
            found += [f"a formula and a sentence in one paragraph: {line}" for line in lines if _prose(line)]
    return found


def _prose(line: str) -> bool:
    match = SENTENCE.search(line)
    return match is not None and not set(match[0].replace(",", "").split()) <= WORDS


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_formulas_stand_on_lines_of_their_own(file: Path) -> None:
    assert [f"{where}: {fault}" for where, text in docstrings(file) for fault in faults(text)] == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Title.\n\n    s = exp(mean over the tokens)\n    eps = alpha H", 0),
        ("Title.\n\n    s = exp(a - b) eps = alpha H", 1),
        ("Title.\n\n    s = exp(a - b) +\n    alpha H", 1),
        ("Title.\n\nlog s_t = l_t - l_old,t: which is the ratio of the token", 1),
        ("Title.\n\nx = y + z\n\nWhich is the ratio of the token.", 0),
        ("Title.\n\nx = y + z\nWhich is the ratio of the token.", 1),
    ],
)
def test_a_joined_formula_is_found(text: str, count: int) -> None:
    assert len(faults(text)) == count
