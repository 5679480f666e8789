"""The page on lm-evaluation-harness, run by the real harness; its accuracy is llmrl's own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import llmrl
from llmrl.policies.names import local_folder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations" / "lm_eval.md"
PROBLEMS = 24


@pytest.mark.lm_eval
@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed: pip install lm-eval==0.4.13"
)
@pytest.mark.filterwarnings("default")
def test_the_harness_finds_the_accuracy_that_llmrl_finds(tmp_path):
    rows = []
    env = gymnasium.make("llmrl/MATH-v0", source="generated", split="test", levels=(1, 2))
    for seed in range(PROBLEMS):
        env.reset(seed=seed)
        problem = env.unwrapped.problem
        rows.append({"problem": problem.problem, "answer": problem.answer})
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = PAGE.read_text()
    for name, block in re.findall(r"```\w+\n# (task/\S+)\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
    command = next(block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "--include_path" in block)
    words = shlex.split(command.replace("\\\n", " ").replace("runs/espo-0/latest", str(local_folder("llmrl/nano"))))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", *words[1:]],
        cwd=tmp_path,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = (tmp_path / "results").rglob("results_*.json")
    found = json.loads(file.read_text())["results"]["llmrl_problems"]["acc,none"]
    policy = llmrl.Policy.from_pretrained("llmrl/nano", max_response_length=160)
    ours = llmrl.evaluate(policy, rows, problems=None, samples=0).greedy.mean
    assert 0 < ours < 1
    assert found == pytest.approx(ours)
