"""Kill a run at random points, resume it, and compare it bitwise with the run that was never killed.

    python benchmarks/kill_and_resume.py --kills 20
    python benchmarks/kill_and_resume.py --kills 20 --more --checkpoint.background
    python benchmarks/kill_and_resume.py --kills 20 --more --train.ahead=1
    python benchmarks/kill_and_resume.py --kills 20 --ranks 2

Each run is a process of its own, killed by SIGKILL at a time drawn uniformly between its first checkpoint and its
end, and resumed once. Of several ranks one is killed, and the others must end by themselves. Compared are the weights,
the optimiser and every random generator's state of the last checkpoint, metrics.jsonl without times, and every file
of rollouts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llmrl.policies.policy import local_folder
from llmrl.training import checkpoint, session
from llmrl.training.command_line import parse
from llmrl.training.metrics_file import read_metrics

# A checkpoint after every step, so that many kills fall into the writing of one.
SETTINGS = {
    "threads": 1,
    "env.source": "generated",
    "eval.problems": 0,
    "policy.max-response-length": 32,
    "train.prompts-per-step": 2,
    "train.group-size": 4,
    "train.updates-per-step": 2,
    "checkpoint.every": 1,
    "checkpoint.rollouts-every": 1,
}
WITHOUT_IT = 120
"""Seconds in which the other ranks must have noticed that one is gone."""
UNTIMED = ("time/", "perf/tokens_per_second")


def tiny_policy(folder: Path) -> Path:
    """A random model of two small layers with the embedded policy's tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(local_folder("llmrl/nano"))
    shape = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **ends))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train(arguments: list[str], log: Path, rank: dict[str, str]) -> None:
    """A run, or one rank of it, in a process of its own."""
    os.environ.update(rank)
    torch.set_num_threads(1)
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    session.train(parse(arguments))


def ranks_of(count: int) -> list[dict[str, str]]:
    """What a launcher sets in the environment of each rank."""
    if count == 1:
        return [{}]
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [{**place, **sizes, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def in_process(
    arguments: list[str], folder: Path, ranks: int, kill_after: float | None = None, victim: int = 0
) -> float | None:
    """Train in a child process, or one for each rank.

    Args:
        folder: of the run.
        kill_after: seconds from the first checkpoint on.
        victim: the rank that is killed.

    Returns:
        Seconds from the first checkpoint to the end; None if it was killed before.
    """
    # Forked, so that no child spends seconds on importing what is there already.
    fork = multiprocessing.get_context("fork").Process
    logs = [folder.with_name(f"{folder.name}-{rank}.log") for rank in range(ranks)]
    children = [fork(target=train, args=(arguments, *both)) for both in zip(logs, ranks_of(ranks), strict=True)]
    for child in children:
        child.start()
    while children[0].is_alive() and not (folder / "latest").exists():
        time.sleep(0.002)
    began = time.perf_counter()
    children[victim].join(kill_after)
    killed = children[victim].is_alive()
    if killed:
        children[victim].kill()
    for child in children:
        child.join(WITHOUT_IT)
        if child.is_alive():
            child.kill()
            raise RuntimeError(f"A rank went on for {WITHOUT_IT} s: {logs}")
    if killed:
        return None
    if any(child.exitcode != 0 for child in children):
        raise RuntimeError(f"The run ended otherwise: {[log.read_text()[-2000:] for log in logs]}")
    return time.perf_counter() - began


def same(first: Any, second: Any) -> bool:
    """Bitwise equality, of tensors within dictionaries and lists too."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def compare(whole: Path, other: Path) -> dict[str, bool]:
    """What of two runs is equal."""
    names = sorted(path.name for path in (whole / "rollouts").iterdir())
    model = "latest/model.safetensors"
    states = []
    for folder in (whole, other):
        state = checkpoint.load_state(folder / "latest")
        del state["metrics_position"]  # numbers of seconds have more or fewer digits
        states.append(state)
    metrics = [
        [
            {name: x for name, x in row.items() if not name.startswith(UNTIMED)}
            for row in read_metrics(folder / "metrics.jsonl")
        ]
        for folder in (whole, other)
    ]
    shards = [
        {path.name: path.read_bytes() for path in (folder / "latest" / checkpoint.SHARDS).glob("*.distcp")}
        for folder in (whole, other)
    ]
    return {
        "weights": (whole / model).read_bytes() == (other / model).read_bytes(),
        "state": same(*states) and shards[0] == shards[1],
        "metrics": metrics[0] == metrics[1],
        "rollouts": names == sorted(path.name for path in (other / "rollouts").iterdir())
        and all((whole / "rollouts" / n).read_bytes() == (other / "rollouts" / n).read_bytes() for n in names),
    }


def main() -> int:
    """Print the table; 1 if any run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--algo", default="espo")
    parser.add_argument("--policy", help="by default a tiny random one")
    parser.add_argument("--seed", type=int, default=0, help="of the times of the kills")
    parser.add_argument("--ranks", type=int, default=1, help="processes that train one model")
    parser.add_argument("--more", nargs=argparse.REMAINDER, default=[], help="further options of llmrl train")
    options = parser.parse_args()
    times, failed = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        policy = options.policy or tiny_policy(root / "policy")

        def arguments(folder: Path, *more: str) -> list[str]:
            own = {
                "algo": options.algo,
                "policy": policy,
                "train.steps": options.steps,
                "output": folder,
            }
            flags = {**SETTINGS, **own}.items()
            return [*(f"--{name}={value}" for name, value in flags), *options.more, *more]

        def go(folder: Path, *more: str, kill_after: float | None = None, victim: int = 0) -> float | None:
            return in_process(arguments(folder, *more), folder, options.ranks, kill_after, victim)

        length = go(root / "whole")
        assert length is not None
        name = options.policy or "a tiny random policy"
        what = f"{options.algo}, {name}, {options.steps} steps, {options.ranks} ranks {' '.join(options.more)}"
        print(f"{what}, {length:.1f} s from the first checkpoint on\n")
        print(
            "| kill | after, s | metrics of step | newest checkpoint | being written "
            "| weights | state | metrics | rollouts |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for kill in range(1, options.kills + 1):
            folder = root / f"killed-{kill}"
            moment = times.uniform(0, length)
            victim = times.randrange(options.ranks)
            while go(folder, "--force", kill_after=moment, victim=victim) is not None:
                shutil.rmtree(folder)  # it had finished: begin again, and kill sooner
                length = moment
                moment = times.uniform(0, length)
            found = checkpoint.list_checkpoints(folder)
            half = [path.name for path in folder.glob(".writing-*")]
            file = folder / "metrics.jsonl"
            lines = file.read_bytes().count(b"\n") if file.is_file() else 0
            go(folder, "--resume", "auto")
            equal = compare(root / "whole", folder)
            failed += not all(equal.values())
            newest = checkpoint.step_of(found[-1])
            cells = " | ".join("same" if ok else "DIFFERENT" for ok in equal.values())
            print(f"| {kill} | {moment:.2f} | {lines} | {newest} | {'yes' if half else ''} | {cells} |", flush=True)
    print(f"\n{failed} of {options.kills} differ")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
