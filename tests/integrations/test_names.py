"""The names of other libraries on the page for those who come from them, looked up in the files of their releases.

Only files are read: nothing of the libraries is imported, so an installation without dependencies is enough.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "coming_from.md").read_text()


def rows(section: str) -> list[list[str]]:
    """The cells of a section's tables, without the headings."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines[2:] if len(line) > 1]


def names(section: str, column: int) -> set[str]:
    """What stands in code spans in a column."""
    return {name for row in rows(section) for name in re.findall(r"`([^`]+)`", row[column])}


def folder(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package}")
    return Path(found.origin).parent


def parameters(path: Path, owner: str, function: str = "__init__") -> set[str]:
    """The arguments of a method, or of a function where ``owner`` is empty."""
    tree = ast.parse(path.read_text())
    bodies = (
        [tree.body] if not owner else [n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner]
    )
    (found,) = [n for body in bodies for n in body if isinstance(n, ast.FunctionDef) and n.name == function]
    return {argument.arg for argument in (*found.args.args, *found.args.kwonlyargs)}


def fields(path: Path, owner: str) -> set[str]:
    """The annotated fields of a class."""
    (found,) = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and n.name == owner]
    return {n.target.id for n in found.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


def test_names_of_trl():
    trl = folder("trl")
    known = fields(trl / "trainer" / "grpo_config.py", "GRPOConfig")
    known |= fields(folder("transformers") / "training_args.py", "TrainingArguments")
    known |= parameters(trl / "trainer" / "grpo_trainer.py", "GRPOTrainer")
    rewards = (trl / "rewards" / "__init__.py").read_text()
    text = (trl / "trainer" / "grpo_config.py").read_text()
    for name in names("Settings", 1) | names("Losses and advantages", 1):
        option, _, value = name.partition("=")
        assert option in known or option in rewards, name
        assert not value or value in text, name


def test_names_of_verl():
    verl = folder("verl")
    tree = yaml.safe_load((verl / "trainer" / "config" / "_generated_ppo_trainer.yaml").read_text())
    paths = set()

    def walk(branch, before):
        for key, value in branch.items():
            paths.add(f"{before}{key}")
            if isinstance(value, dict):
                walk(value, f"{before}{key}.")

    walk(tree, "")
    core = (verl / "trainer" / "ppo" / "core_algos.py").read_text()
    managers = "".join(path.read_text() for path in (verl / "experimental" / "reward_loop").rglob("*.py"))
    for name in names("Settings", 2) | names("Losses and advantages", 2):
        option, _, value = name.partition("=")
        if option.startswith("verl."):
            assert (verl.parent / option.replace(".", "/")).is_dir(), name
        elif option.startswith("reward_kwargs."):  # read with a default, so no configuration names it
            assert f'"{option.partition(".")[2]}"' in managers, name
        elif not any(path == option or path.endswith(f".{option}") for path in paths):
            assert f'"{option}"' in core, name
        assert not value or f'"{value}"' in core or value == "vllm", name


def test_names_of_openrlhf():
    text = (folder("openrlhf") / "cli" / "train_ppo_ray.py").read_text()
    known = set(re.findall(r'"(--[\w.]+)"', text))
    known |= {f"--actor{rest}" for rest in re.findall(r'f"--\{prefix\}([\w.]+)"', text)}
    missing = {name for name in names("Settings", 3) if name not in known}
    assert missing == set()


def test_names_of_stable_baselines3():
    package = folder("stable_baselines3")
    known = parameters(package / "ppo" / "ppo.py", "PPO")
    known |= parameters(package / "ppo" / "ppo.py", "PPO", "learn")
    known |= {"PPO", "learn", "env", "n_envs"}
    for path in (package / "common").rglob("*.py"):
        known |= set(re.findall(r"^(?:class|    def|def) (\w+)", path.read_text(), re.MULTILINE))
    known |= set(re.findall(r"\b(\w+Policy)\b", (package / "ppo" / "__init__.py").read_text()))
    for name in names("Stable-Baselines3", 0):
        for word in re.findall(r"[A-Za-z_]\w+", name):
            assert word in known, name
