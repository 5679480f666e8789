"""What a step costs on one or several GPUs: tokens and FLOP per second, memory, handing over weights, waiting.

torchrun --standalone --nproc-per-node 8 benchmarks/gpu.py --policy Qwen/Qwen2.5-7B-Instruct --option=--policy.dtype \
    --option=bfloat16 --budgets 4096 8192 16384 32768
python benchmarks/gpu.py                                               one process; without a GPU on the CPU

Prints a table with a row for each budget of micro-batches. Run it with different numbers of processes, with
``--option=--world.no-reshard``, ``--option=--world.shard --option=8``, ``--option=--train.ahead --option=1`` and
``--option=--policy.engine --option=http://...`` for the other rows of docs/many_gpus.md.

Model FLOP are 6 (update) and 2 (score) for each parameter and token read, and 12 and 4 x layers x width for each pair
of tokens that attention compares; recomputed activations are not counted. The share of waiting is the time in which a
process exchanges results with others, sampling's tail included, the mean over processes; gathers of weights within a
pass are not in it. On a CPU memory is that of the process, and the figures say nothing about GPUs.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()  # before torch is imported

import argparse  # noqa: E402
import contextlib  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from step import table  # noqa: E402  registers benchmarks/Digits-v0

from llmrl import keys  # noqa: E402
from llmrl.distributed.world import World, joined  # noqa: E402
from llmrl.training import run_state  # noqa: E402
from llmrl.training.build import build  # noqa: E402
from llmrl.training.command_line import parse  # noqa: E402
from llmrl.training.trainer import Trainer  # noqa: E402

COLUMNS = (
    "micro-batch tokens",
    "sampled/s",
    "scored/s",
    "trained/s",
    "score TFLOP/s",
    "update TFLOP/s",
    "GiB",
    "push s",
    "wait for batch s",
    "waiting %",
    "checkpoint s",
    "step s",
    "mismatch_kl",
)


def flops(trainer: Trainer, lengths: torch.Tensor) -> float:
    """Of one forward pass over rows of these lengths."""
    config = trainer.policy.model.config.get_text_config()
    size = sum(p.numel() for p in trainer.policy.model.parameters())
    pairs = float((lengths.double().square() / 2).sum())  # a token sees those before it
    return 2 * size * float(lengths.sum()) + 4 * config.num_hidden_layers * config.hidden_size * pairs


def memory(device: torch.device) -> float:
    """GiB at most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextlib.contextmanager
def waiting(world: World, spent: Counter[str]) -> Any:
    """Add the time of exchanges with other ranks."""

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(*args)
            finally:
                spent["waiting"] += time.perf_counter() - began

        return call

    names = () if world.size == 1 else ("_objects", "_reduce")
    for name in names:
        setattr(world, name, timed(getattr(world, name)))
    yield
    for name in names:
        delattr(world, name)


def measure(trainer: Trainer, world: World, budget: int, steps: int) -> list[str]:
    """A row of the table: medians over the steps behind the first; rates are of one process."""
    trainer.memory.budget = budget
    rows = []
    for _ in range(steps + 1):
        spent: Counter[str] = Counter()
        with waiting(world, spent):
            metrics, rollouts = trainer.step()
        lengths = rollouts.data[keys.ATTENTION].sum(1)
        once = flops(trainer, lengths) / world.size
        # Of the first update nothing is scored before it, where the algorithm allows that.
        parts = trainer.config.train.updates_per_step
        share = 1 - 1 / parts if trainer.old_scores.left_to_first_update else 1.0
        score, update = max(metrics["time/score"], 1e-9), metrics["time/update"]
        sampled, read = (float(rollouts.data[key].sum()) / world.size for key in (keys.MASK, keys.ATTENTION))
        rows.append(
            {
                "sampled/s": sampled / metrics["time/generate"],
                "scored/s": share * read / score,
                "trained/s": read / update,
                "score TFLOP/s": share * once / score / 1e12,
                "update TFLOP/s": 3 * once / update / 1e12,
                "push s": metrics["time/sync"],
                "wait for batch s": metrics.get("time/wait", 0.0),
                "waiting %": 100 * spent["waiting"] / metrics["time/step"],
                "step s": metrics["time/step"],
                "mismatch_kl": metrics["rollout/mismatch_kl"],
            }
        )
    found = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
    folder = world.from_main(lambda: tempfile.mkdtemp(prefix="llmrl-benchmark-"))
    began = time.perf_counter()
    run_state.save(trainer, Path(folder), None)
    found["checkpoint s"] = time.perf_counter() - began
    with world.together():
        if world.main:
            shutil.rmtree(folder)
    found["GiB"] = memory(trainer.policy.device)
    every = world.gather([found])
    found["GiB"] = max(row["GiB"] for row in every)
    found["waiting %"] = statistics.mean(row["waiting %"] for row in every)
    return [str(budget), *(f"{found[name]:.3g}" for name in COLUMNS[1:])]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="llmrl/nano")
    parser.add_argument("--algo", default="grpo")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=160, help="limit of a response")
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3, help="that count; one before them does not")
    parser.add_argument("--budgets", type=int, nargs="+", default=[4096, 16384], help="tokens of a micro-batch")
    parser.add_argument("--option", action="append", default=[], help="of llmrl train, such as --option=--algo.kl")
    chosen = parser.parse_args()
    config = parse(
        [
            *(
                "--algo",
                chosen.algo,
                "--policy",
                chosen.policy,
                "--env",
                "benchmarks/Digits-v0",
                "--eval.problems",
                "0",
            ),
            *("--policy.max-response-length", str(chosen.tokens), "--train.prompts-per-step", str(chosen.prompts)),
            *("--train.group-size", str(chosen.group), "--train.updates-per-step", str(chosen.updates)),
            *("--train.steps", str((chosen.steps + 1) * len(chosen.budgets) + 1), *chosen.option),
        ]
    )
    with joined(config.world, config.policy.device) as world:
        trainer, held_out = build(config, world=world)
        start = time.perf_counter() - BEGAN
        rows = [measure(trainer, world, budget, chosen.steps) for budget in chosen.budgets]
        device = trainer.policy.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
        for close in (trainer.environments.close, held_out.close, trainer.policy.close):
            close()
        if world.main:
            print(
                f"{chosen.policy}, {chosen.algo}, {trainer.policy.dtype}, {world.size} x {name}, "
                f"{chosen.prompts} x {chosen.group} responses of at most {chosen.tokens} tokens, {chosen.updates} "
                f"updates a step{''.join(f' {option}' for option in chosen.option)}; rates per process; "
                f"{start:.0f} s to start; commit {commit.stdout.strip()}, {time.strftime('%Y-%m-%d')}, torch "
                f"{torch.__version__}.\n"
            )
            print(table(COLUMNS, rows))


if __name__ == "__main__":
    main()
