"""Every option that the pages for newcomers name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llmrl
from llmrl.algorithms import algorithm, find_algorithm
from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.training.command_line import parse
from llmrl.training.options import env_class, options_of, paths_of, schema_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOT_OPTIONS = {"learn", "evaluate_policy"}
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


SETTING = re.compile(r"`(?:learn\()?-{0,2}([a-z][\w.]*)")


def rows(title: str) -> list[list[str]]:
    section = (DOCS / "coming_from.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]


def test_the_name_of_another_library_leads_to_the_option_in_its_row():
    """By a suggestion, or in the sentence for a name without an equal."""
    known = {f"--{name.replace('_', '-')}" for name in options()}
    tried = 0
    for row in [*rows("Settings"), *rows("Stable-Baselines3")]:
        ours = set(re.findall(r"`(--[\w.-]+)", row[-1]))
        for name in {name for cell in row[:-1] for name in SETTING.findall(cell)} - NOT_OPTIONS if ours else ():
            tried += 1
            assert ours & set(re.findall(r"--\w[\w.-]*\w", suggest(f"--{name}", known))), name
    assert tried > 60


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("temperature", "Did you mean '--policy.temperature'?"),
        ("seeds", "Did you mean '--seed'?"),
        ("reward_funcs", "Did you mean '--env.verifier'?"),
        ("train.top_p", "There is no top-p"),
        ("logging_steps", "Metrics are written after every step."),
        ("lr_scheduler", "There are "),
        ("lam", "Here it is --algo.lam, which this algorithm does not have."),
        ("algo.clip-low", "Here it is --algo.clip-low, which this algorithm does not have."),
    ],
)
def test_no_option_is_suggested_that_is_merely_spelt_alike(name, said):
    with pytest.raises(ConfigError) as error:
        parse(["--algo", "espo", f"--{name}", "1"])
    assert str(error.value).startswith(f"There is no option --{name}. {said}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_completion_length": 8}, "Did you mean policy_options={'max_response_length': ...}?"),
        ({"train_dataset": []}, "Did you mean 'env'?"),
        ({"reward_funcs": [len]}, "Did you mean 'reward'?"),
        ({"use_vllm": True}, "Did you mean policy_options={'engine': ...}?"),
        ({"top_k": 3}, "There is no top-p"),
    ],
)
def test_python_gives_the_argument(arguments, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        llmrl.train(**arguments)


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
