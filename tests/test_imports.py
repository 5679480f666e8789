"""The import contract of pyproject.toml, and that it notices."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("importlinter", reason="import-linter is in the extra llmrl[dev]")


def lint(root):
    """The contract's report on a tree, and whether it holds."""
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as run; run()"]
    done = subprocess.run(
        [*command, "--no-cache", "--config", "pyproject.toml"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "HOME": str(root)},
        capture_output=True,
        text=True,
    )
    return done.returncode == 0, done.stdout + done.stderr


def test_every_import_points_down():
    kept, report = lint(ROOT)
    assert kept, report


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("losses/clip.py", "import llmrl.training.trainer"),
        ("training/trainer.py", "from llmrl.commands import cli"),
        ("verifiers/pool.py", "import torch"),
        ("credit/__init__.py", "def f():\n    from llmrl.algorithms import espo"),
    ],
)
def test_a_planted_violation_is_noticed(tmp_path, file, line):
    shutil.copytree(ROOT / "llmrl", tmp_path / "llmrl", ignore=shutil.ignore_patterns("__pycache__", "checkpoint"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    path = tmp_path / "llmrl" / file
    path.write_text(path.read_text() + f"\n{line}\n")
    kept, report = lint(tmp_path)
    assert not kept
    assert "BROKEN" in report
