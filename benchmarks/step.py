"""What a training step of llmrl costs, part by part, and its update beside the least that the same tokens could cost.

python benchmarks/step.py                                          the embedded policy
python benchmarks/step.py --policy PATH --prompts 4 --micro-rows 4      a larger one
python benchmarks/step.py --profile                                and which operations take the time

The least is written in plain transformers and torch: the same rows in the same micro-batches, one forward pass
with the logits
of all tokens, log_softmax, gather, backward, clipping and AdamW.  Both updates run in turns, on the same rollouts.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import platform
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docstring_parser
import gymnasium
import torch
from overhead import timed
from tensordict import TensorDict

from llmrl import keys
from llmrl.envs.math import math_problems
from llmrl.envs.problems import Problem, ProblemOptions
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import TextVectorEnv, vector_of
from llmrl.rollouts.batch import Batch
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.trainer import Trainer
from llmrl.verifiers import Verdict

PARTS = ("generate", "grade", "score", "update", "rest")


@dataclass(kw_only=True)
class Workload:
    """What is trained; every field is an option of the command line."""

    policy: str = "llmrl/nano"
    """folder or hub id of the model, or llmrl/nano"""
    prompts: int = 16
    """prompts per step"""
    group: int = 8
    """responses to each prompt"""
    tokens: int = 160
    """limit of a response"""
    updates: int = 2
    """optimiser steps per step"""
    micro_rows: int = 16
    """responses in a micro-batch"""
    learning_rate: float = 2e-4
    """of AdamW, constant"""
    steps: int = 8
    """steps, the first of which warms up and is not counted"""
    threads: int = 2
    """threads of torch"""
    clock: str = "wall"
    """wall or cpu: CPU time of the process, for a machine that is busy with other work"""
    full_length: bool = False
    """no response ends before its limit, so that all have the same length"""
    no_rescore: bool = False
    """llmrl takes the sampler's log-probabilities as the old ones (--train.no-rescore)"""

    @property
    def rows(self) -> int:
        """Responses per step."""
        return self.prompts * self.group


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options of a :class:`Workload`."""
    options = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, text in _texts().items():
        default = getattr(Workload, name)
        if default is False:
            kind: dict[str, Any] = {"action": "store_true"}
        else:
            kind = {"type": type(default), "default": default}
            text += " (default: %(default)s)"
        options.add_argument(f"--{name.replace('_', '-')}", help=text, **kind)
    return options


def workload(options: argparse.Namespace) -> Workload:
    """What the options say; refuses what cannot be divided."""
    work = Workload(**{f.name: getattr(options, f.name) for f in dataclasses.fields(Workload)})
    if work.rows % (work.updates * work.micro_rows):
        raise SystemExit(
            f"{work.prompts} prompts x {work.group} responses cannot be divided into {work.updates} updates of "
            f"micro-batches of {work.micro_rows} rows. Give --micro-rows that divides {work.rows // work.updates}."
        )
    if work.clock not in ("wall", "cpu"):
        raise SystemExit(f"--clock must be wall or cpu, got {work.clock!r}.")
    if work.steps < 2:
        raise SystemExit(f"--steps must be at least 2, got {work.steps}: the first warms up.")
    return work


def _texts() -> dict[str, str]:
    """The string under each field."""
    found = docstring_parser.parse_from_object(Workload).params
    return {entry.arg_name: entry.description or "" for entry in found}


# The task: generated problems as prompts, and a reward that is quickly learned.


def digits(response: str) -> float:
    """Share of the characters that are digits.

    >>> digits("x = 42"), digits("")
    (0.3333333333333333, 0.0)
    """
    return sum(c.isdigit() for c in response) / max(len(response), 1)


def problem(index: int) -> str:
    """The text of a prompt."""
    return math_problems(ProblemOptions(source="generated", levels=(1, 2)))[index].problem


class _Prompts:
    size = None

    def __getitem__(self, index: int) -> Problem:
        return Problem(id=str(index), problem=problem(index), answer="")


def _grade(responses: Sequence[str], golds: Sequence[str]) -> list[Verdict]:
    return [Verdict(digits(response), "correct") for response in responses]


class DigitsEnv(TextEnv):
    """Rewards digits.

    Args:
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(_Prompts(), _grade, render_mode=render_mode)


gymnasium.register("benchmarks/Digits-v0", entry_point=DigitsEnv, vector_entry_point=vector_of(DigitsEnv))


def make_trainer(work: Workload) -> Trainer:
    """llmrl's trainer for GRPO without a reference, as `llmrl train` makes it."""
    flags = {
        "policy": work.policy,
        "policy.max-response-length": work.tokens,
        "train.prompts-per-step": work.prompts,
        "train.group-size": work.group,
        "train.updates-per-step": work.updates,
        "train.learning-rate": work.learning_rate,
        "train.warmup-steps": 0,
        "eval.problems": 0,
    }
    arguments = ["--algo", "grpo", "--algo.kl", "0", "--env", "benchmarks/Digits-v0"]
    for name, value in flags.items():
        arguments += [f"--{name}", str(value)]
    if work.no_rescore:
        arguments.append("--train.no-rescore")
    trainer, _ = build(parse(arguments))
    # A micro-batch of this many rows, however long their prompts.
    texts = [problem(i) for i in range(work.prompts * work.steps)]
    longest = max(map(len, trainer.policy.prompts.encode(texts))) + work.tokens
    trainer.config.train.micro_batch_tokens = trainer.memory.budget = work.micro_rows * longest
    if work.full_length:
        trainer.policy.end_ids = set()
    return trainer


def set_up(work: Workload) -> None:
    """Threads, seed and clock of this process."""
    torch.set_num_threads(work.threads)
    torch.manual_seed(0)
    if work.clock == "cpu":
        time.perf_counter = time.process_time  # the trainer's own figures follow


def llmrl_steps(trainer: Trainer, steps: int) -> list[dict[str, float]]:
    """Seconds of each part, sampled tokens and mean reward of every step."""
    spent: Counter[str] = Counter()
    step_of_env = TextVectorEnv.step
    TextVectorEnv.step = timed(step_of_env, "grade", spent)  # type: ignore[method-assign]
    out = []
    try:
        for _ in range(steps):
            spent.clear()
            metrics, rollouts = trainer.step()
            row = {name: metrics[f"time/{name}"] for name in ("generate", "score", "update")}
            row["grade"] = spent["grade"]
            row["generate"] -= row["grade"]
            row["step"] = metrics["time/step"]
            row["rest"] = row["step"] - sum(row[name] for name in PARTS if name != "rest")
            row["tokens"] = float(rollouts.data[keys.MASK].sum())
            row["reward"] = metrics["reward/mean"]
            out.append(row)
    finally:
        TextVectorEnv.step = step_of_env  # type: ignore[method-assign]
    return out


class Bare:
    """A forward pass, a backward pass and a step of AdamW, and nothing else."""

    def __init__(self, trainer: Trainer) -> None:
        self.model = copy.deepcopy(trainer.policy.model)
        self.train = trainer.config.train
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.train.learning_rate, weight_decay=0.0, fused=True
        )

    def update(self, data: TensorDict) -> None:
        """The optimiser steps of one training step."""
        order = torch.randperm(len(data))
        for rows in order.tensor_split(self.train.updates_per_step):
            batch = data[rows]
            total = float(batch[keys.MASK].sum())
            self.optimizer.zero_grad()
            for micro_batch in Batch.of(batch).micro_batches(self.train.micro_batch_tokens):
                part = micro_batch.data
                tokens, mask = part[keys.TOKENS], part[keys.MASK][:, 1:]
                logits = self.model(
                    input_ids=tokens, attention_mask=part[keys.ATTENTION].long(), use_cache=False
                ).logits[:, :-1]
                log_p = logits.log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
                ratio = (log_p - log_p.detach()).exp()
                loss = -(ratio * part[keys.ADVANTAGE][:, 1:])[mask].sum() / total
                loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.train.max_grad_norm)
            self.optimizer.step()


def beside_bare(trainer: Trainer, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of llmrl's update and of the bare one, on the same rollouts, in turns."""
    rollouts, metrics = trainer.gather()
    trainer.records = rollouts.records
    batch = trainer.before_update(rollouts, metrics)
    bare = Bare(trainer)
    own_seconds, bare_seconds = [], []
    sides: list[tuple[list[float], Callable[[], None]]] = [
        (own_seconds, lambda: trainer.update(Batch.of(batch.whole.copy(), batch.layout), {})),
        (bare_seconds, lambda: bare.update(batch.whole)),
    ]
    for _ in range(rounds + 1):
        for seconds, update in sides:
            began = time.perf_counter()
            update()
            seconds.append(time.perf_counter() - began)
    return own_seconds[1:], bare_seconds[1:]


def heading(work: Workload, more: str = "") -> str:
    """What was measured, on what: a sentence before a table."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    lengths = f"all of {work.tokens} tokens" if work.full_length else f"at most {work.tokens} tokens"
    name = work.policy if work.policy.startswith("llmrl/") else Path(work.policy).name
    threads = f"{work.threads} thread{'s' * (work.threads > 1)}"
    clock = ", CPU time" if work.clock == "cpu" else ""
    scoring = ", not rescored" if work.no_rescore else ""
    return (
        f"{name}, float32, {work.prompts} prompts x {work.group} responses ({lengths}), {work.updates} updates a step, "
        f"micro-batches of {work.micro_rows} rows, {threads}{clock}{scoring}{more}; "
        f"commit {commit.stdout.strip() or 'unknown'}, {time.strftime('%Y-%m-%d')}, "
        f"torch {torch.__version__.split('+')[0]}, {os.cpu_count()} CPU cores ({platform.machine()})."
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table.

    >>> print(table(["part", "seconds"], [["update", "1.5"]]))
    | part | seconds |
    | --- | --- |
    | update | 1.5 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print both tables."""
    options = parser(__doc__)
    options.add_argument("--profile", action="store_true", help="print torch's profile of one step")
    chosen = options.parse_args()
    work = workload(chosen)
    set_up(work)
    trainer = make_trainer(work)
    steps = llmrl_steps(trainer, work.steps)[1:]
    whole = statistics.median(step["step"] for step in steps)
    print(heading(work), end="\n\n")
    rows = []
    for name in (*PARTS, "step"):
        seconds = statistics.median(step[name] for step in steps)
        rows.append([name, f"{seconds:.2f}", f"{100 * seconds / whole:.0f} %"])
    print(table(["part of a step", "median, s", "share"], rows), end="\n\n")
    if chosen.profile:
        with torch.profiler.profile() as profile:
            trainer.step()
        print(profile.key_averages().table("self_cpu_time_total", row_limit=12), end="\n\n")
    own, bare = beside_bare(trainer, rounds=max(work.steps // 2, 2))
    ratios = [a / b for a, b in zip(own, bare, strict=True)]
    rows = [
        ["llmrl", f"{statistics.median(own):.2f}"],
        ["bare forward, backward, AdamW", f"{statistics.median(bare):.2f}"],
        ["ratio", f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"],
    ]
    print(table(["update of the same tokens", "median, s"], rows))


if __name__ == "__main__":
    main()
