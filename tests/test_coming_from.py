"""Every option that the pages for newcomers name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmrl.algorithms import algorithm, find_algorithm
from llmrl.registry import suggest
from llmrl.training.options import env_class, options_of, paths_of, schema_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
BESIDE = {"data", "dry_run"}
"""Options of ``llmrl train`` that are not settings of a run: a short form, and one that is."""
OPTION = re.compile(r"(?<![\w-])--([a-z][\w.-]*)")


def options() -> set[str]:
    """What ``llmrl train`` takes with the algorithms of the pages, in one spelling."""
    environment = options_of("env", env_class("llmrl/Data-v0"), "llmrl/Data-v0", skip=("split", "render_mode"))
    names = set(BESIDE)
    for name in ("ppo", "grpo", "dapo", "tis+dapo"):
        names |= paths_of(schema_of(options_of("algo", find_algorithm(name), name), environment))
    return {{"policy.path": "policy", "env.id": "env", "algo.name": "algo"}.get(name, name) for name in names}


def named(text: str, column: int | None = None) -> set[str]:
    """Options that a text names; of tables only those of one column, the others being of other libraries."""
    lines = text.splitlines()
    if column is not None:
        lines = [line if not line.startswith("|") else line.split(" | ")[column] for line in lines]
    found = {match.rstrip(".").replace("-", "_") for line in lines for match in OPTION.findall(line)}
    return {re.sub(r"\.no_", ".", name) for name in found}


@pytest.mark.parametrize(("page", "column"), [("faq.md", None), ("coming_from.md", -1)])
def test_options_exist(page, column):
    found, known = named((DOCS / page).read_text(), column), options()
    assert len(found) > 10
    assert {name: suggest(name, known) for name in found - known} == {}


def test_an_option_that_is_not_there_is_found():
    assert named("| `--n_samples` | `--train.grup-size` |\nand `--train.no-rescore`.", -1) - options() == {
        "train.grup_size"
    }


def test_algorithms_exist():
    section = (DOCS / "coming_from.md").read_text().split("## Losses and advantages")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ")[-1] for line in section.splitlines() if line.startswith("| ")][2:]
    names = [name for row in rows for name in re.findall(r"`([a-z_+]+)`", row)]
    assert len(names) > 10
    for name in names:
        assert algorithm(name).name == name
