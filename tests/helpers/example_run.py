"""A run's folder made by hand: everything a report reads, small and known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from transformers import AutoTokenizer

from llmrl.policies.names import local_folder

NASTY = "</script ><img src=x onerror=\"document.title='broken'\"> <!--<script> & $x < 3$ \u2028 é"


def write_run(
    folder: Path,
    *,
    algo: str = "espo",
    seed: int = 0,
    steps: int = 3,
    level: float = 0.5,
    options: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    bare: bool = False,
) -> Path:
    """Settings, metrics and evaluations; ``level`` moves every curve; ``bare``: settings alone."""
    folder.mkdir(parents=True)
    config = {
        "algo": {"name": algo, **(options or {})},
        "env": {"id": "llmrl/MATH-v0"},
        "policy": {"path": "llmrl/nano"},
        "train": {"steps": steps, "learning_rate": 0.001, **(train or {})},
        "seed": seed,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if bare:
        return folder
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            row = {"step": step, "reward/accuracy": level + step / 100, "actor/entropy": level}
            file.write(json.dumps(row) + "\n")
    (folder / "eval").mkdir()
    # Problem 0 is of level 1 and always right; problem 1 is learnt; problem 2 stays wrong.
    for name, right in (("before", (1, 0, 0)), ("after", (1, 1, 0))):
        with (folder / "eval" / f"{name}.jsonl").open("w") as file:
            for problem, correct in enumerate(right):
                record = {
                    "problem_id": problem,
                    "greedy": True,
                    "level": 1 + (problem > 0),
                    "reward": 1,
                    "subject": "algebra",
                    "verdict": "correct" if correct else "wrong",
                }
                file.write(json.dumps(record) + "\n")
    return folder


def write_rollouts(run: Path, texts: list[str], *, step: int = 1, group: int = 2, tensors: bool = True) -> Path:
    """A file of responses in groups of ``group``, and its tensors; every second one is correct."""
    path = run / "rollouts" / f"step_{step:06d}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        for row, text in enumerate(texts):
            record = {
                "step": step,
                "group": row // group,
                "problem_id": row // group,
                "problem": f"Problem {row // group} {NASTY}",
                "response": text,
                "reward": float(row % 2 == 0),
                "verdict": "wrong" if row % 2 else "correct",
                "answer": "8",
                "extracted": "8",
                "advantage": 1.0 if row % 2 == 0 else -1.0,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    if tensors:
        save_file(tensors_of(texts), path.with_suffix(".safetensors"))
    return path


def tensors_of(texts: list[str]) -> dict[str, torch.Tensor]:
    """Tokens of nano behind a prompt of three; the new policy moved every fourth token far."""
    tokenizer = AutoTokenizer.from_pretrained(local_folder("llmrl/nano"))
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    n, width = len(ids), 3 + max(map(len, ids))
    tokens = torch.zeros(n, width, dtype=torch.int64)
    mask = torch.zeros(n, width, dtype=torch.bool)
    for row, found in enumerate(ids):
        tokens[row, 3 : 3 + len(found)] = torch.tensor(found)
        mask[row, 3 : 3 + len(found)] = True
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(n, width, generator=generator) - 0.1
    entropy = torch.rand(n, width, generator=generator)
    far = (torch.arange(width) % 4 == 3).expand(n, width)
    advantage = torch.where(torch.arange(n)[:, None] % 2 == 0, 1.0, -1.0) * mask
    return {
        "tokens.full": tokens,
        "masks.all_attention_mask": mask.clone(),
        "masks.all_assistant_mask": mask,
        "log_probs.full": old.clone(),
        "old_log_prob": old,
        "log_prob": old + torch.where(far, 0.5, 0.001),
        "old_entropy": entropy,
        "entropy": entropy * torch.where(far, 1.5, 1.0),
        "max_entropy": torch.full((n, 1), 6.0),
        "advantage": advantage,
        "group": torch.arange(n) // 2,
    }
