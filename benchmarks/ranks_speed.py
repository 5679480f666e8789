"""What a second process buys: time of a step with one and two processes, what the machine allows, and where they wait.

python benchmarks/ranks_speed.py                                     the embedded policy
python benchmarks/ranks_speed.py --random-135m                       a model of SmolLM2-135M's sizes with random weights
python benchmarks/ranks_speed.py --server-python PATH/bin/python     and one step ahead beside `llmrl serve` of that
                                                                     environment, which has vLLM

Each measurement is a process (or two) of its own, in turns, --rounds times; every step counts but the first. Two
independent processes, each with half of the prompts, show what memory and cache of the machine
allow: no exchange is faster than none. CPU seconds are of the process that uses most; they mean something on a
machine that is busy with other work too. Waiting is the time that a process is blocked in exchanges with the other,
the transfer included: ``torch.distributed``'s own ``Work.wait``, by the part of the step it falls into.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from random_model import random_model
from step import table  # registers benchmarks/Digits-v0

from llmrl import keys
from llmrl.distributed.world import joined
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.trainer import Trainer

PARTS = ("generate", "score", "update", "sync")
GOALS = {"two/one": 0.60, "two/threads": 1.15}
PAIRS = [("two", "one"), ("two", "threads"), ("halves", "one"), ("two", "halves"), ("ahead", "serial")]
# One process of a measurement


@contextlib.contextmanager
def watched(trainer: Trainer, waited: Counter[str]) -> Iterator[None]:
    """Add the time in which this process is blocked by exchanges to the part of the step that it falls into."""
    part = ["generate"]
    clock = trainer.timed

    @contextlib.contextmanager
    def named(name: str) -> Iterator[None]:
        with clock(name):
            part.append(name)
            yield
            part.pop()

    trainer.timed = named  # type: ignore[method-assign]
    if trainer.world.size == 1:
        yield
        return
    from torch.distributed import Work  # noqa: TID251  watched, not used

    wait = Work.wait

    @functools.wraps(wait)
    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return wait(*arguments, **options)
        finally:
            waited[part[-1]] += time.perf_counter() - began
            waited["exchanges"] += 1

    Work.wait = timed
    yield
    Work.wait = wait


def work(arguments: list[str], steps: int) -> None:
    """Train; rank 0 prints one line of JSON with a row for each step that counts."""
    config = parse(arguments)
    torch.set_num_threads(config.threads or 1)
    with joined(config.world, config.policy.device) as world:
        trainer, held_out = build(config, world=world)
        waited: Counter[str] = Counter()
        rows = []
        with watched(trainer, waited):
            for _ in range(steps + 1):
                waited.clear()
                began = time.process_time()
                metrics, rollouts = trainer.step()
                spent = time.process_time() - began
                row = {name: metrics.get(f"time/{name}", 0.0) for name in ("step", "wait", *PARTS)}
                row |= {f"waited/{name}": waited[name] for name in PARTS}
                row |= {"CPU": spent, "exchanges": waited["exchanges"]}
                row["tokens"] = float(rollouts.data[keys.MASK].sum())
                rows.append(row)
        every = world.gather([rows[1:]])
        for close in (trainer.environments.close, held_out.close, trainer.policy.close):
            close()
        if world.main:
            print("RESULT " + json.dumps(every), flush=True)


# All of them


Steps = list[list[dict[str, float]]]
"""For each process its steps."""


def measure(arguments: list[str], steps: int, ranks: int, threads: int, apart: bool) -> Steps:
    """Train with some ranks, or with as many independent processes."""
    if apart:
        with ThreadPoolExecutor(ranks) as pool:
            alone = [pool.submit(measure, arguments, steps, 1, threads, False) for _ in range(ranks)]
            return [one.result()[0] for one in alone]
    own = [str(Path(__file__)), "--work", json.dumps([*arguments, "--threads", str(threads)]), "--steps", str(steps)]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    source = str(Path(__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": source}
    done = subprocess.run([sys.executable, *start, *own], env=environment, capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not found:
        raise SystemExit(f"A measurement failed:\n{done.stdout}{done.stderr}")
    result: Steps = json.loads(found[0].removeprefix("RESULT "))
    return result


@contextlib.contextmanager
def served(python: str) -> Iterator[str]:
    """The address of ``llmrl serve`` in another environment, on one thread."""
    with tempfile.NamedTemporaryFile("w+") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(
            [python, "-m", "llmrl", "serve", "--port", "0"], env=environment, stdout=log, stderr=log
        )
        try:
            while "http://" not in (said := Path(log.name).read_text()):
                if process.poll() is not None:
                    raise SystemExit(f"llmrl serve ended:\n{said}")
                time.sleep(0.2)
            yield "http://" + said.split("http://")[1].split(";")[0]
        finally:
            process.terminate()
            process.wait(60)


@dataclass(frozen=True)
class Way:
    """A way to do a step."""

    name: str
    arguments: list[str]
    """Of ``llmrl train``."""
    ranks: int
    threads: int
    """Of each."""
    apart: bool = False
    """Each process is alone in its world."""


def median(runs: list[Steps], name: str) -> float:
    """Of a column over all steps of all rounds, of the process that has most."""
    every = [[row[name] for run in runs for row in run[rank]] for rank in range(len(runs[0]))]
    return max(map(statistics.median, every))


def words(options: dict[str, Any]) -> list[str]:
    """Options as they stand on a command line."""
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="llmrl/nano")
    parser.add_argument("--random-135m", action="store_true", help="in place of --policy; with a smaller step")
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--tokens", type=int, help="limit of a response")
    parser.add_argument("--budget", type=int, help="tokens of a micro-batch")
    parser.add_argument("--steps", type=int, help="that count, of each round; one before them does not")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=["one", "two", "threads", "halves", "serial", "ahead"])
    parser.add_argument("--server-python", help="of an environment with llmrl and vLLM")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        work(json.loads(chosen.work), chosen.steps)
        return
    large = chosen.random_135m
    prompts, group = chosen.prompts or (8 if large else 16), chosen.group or (4 if large else 8)
    tokens, steps = chosen.tokens or (48 if large else 160), chosen.steps or (2 if large else 5)
    with tempfile.TemporaryDirectory() as folder:
        policy = str(random_model(Path(folder))) if large else chosen.policy
        options = {
            "algo": "grpo",
            "algo.kl": 0,
            "policy": policy,
            "env": "benchmarks/Digits-v0",
            "policy.max-response-length": tokens,
            "policy.device": "cpu",
            "train.prompts-per-step": prompts,
            "train.group-size": group,
            "train.updates-per-step": 2,
            "train.micro-batch-tokens": chosen.budget or (512 if large else 4096),
            "train.steps": 10 * steps,
            "eval.problems": 0,
        }
        arguments = words(options)
        half = words({**options, "train.prompts-per-step": prompts // 2})
        ways = {
            "one": Way("1 process, 1 thread", arguments, 1, 1),
            "two": Way("2 processes, 1 thread each", arguments, 2, 1),
            "threads": Way("1 process, 2 threads", arguments, 1, 2),
            "halves": Way("2 independent processes, half of the prompts each", half, 2, 1, apart=True),
        }
        with contextlib.ExitStack() as stack:
            if chosen.server_python:
                beside = [*arguments, "--policy.engine", stack.enter_context(served(chosen.server_python))]
                ways["serial"] = Way("1 process, 1 thread, a server beside", beside, 1, 1)
                ways["ahead"] = Way("the same, --train.ahead 1", [*beside, "--train.ahead", "1"], 1, 1)
            ways = {name: way for name, way in ways.items() if name in chosen.ways}
            runs: dict[str, list[Steps]] = {name: [] for name in ways}
            for _ in range(chosen.rounds):
                for name, way in ways.items():
                    runs[name].append(measure(way.arguments, steps, way.ranks, way.threads, way.apart))
    report(chosen, ways, runs, f"{prompts} x {group} responses of at most {tokens} tokens")


def report(chosen: argparse.Namespace, ways: dict[str, Way], runs: dict[str, list[Steps]], size: str) -> None:
    """Print what came of it."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    name = "135M, random weights" if chosen.random_135m else chosen.policy
    print(
        f"{name}, grpo, float32, {size}, 2 updates; {os.cpu_count()} CPU cores, load {os.getloadavg()[0]:.1f}; commit "
        f"{commit}, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}. Medians of {chosen.rounds} rounds.\n"
    )
    columns = ("step", *PARTS, "wait", "CPU", "tokens", "exchanges")
    rows = [[ways[way].name, *(f"{median(runs[way], name):.3g}" for name in columns)] for way in ways]
    plain = ("tokens", "exchanges")
    print(table(["", *(name if name in plain else f"{name} s" for name in columns)], rows), "\n")
    found = []
    for one, other in PAIRS:
        if one not in ways or other not in ways:
            continue
        each = [median([a], "step") / median([b], "step") for a, b in zip(runs[one], runs[other], strict=True)]
        goal = GOALS.get(f"{one}/{other}")
        found.append(
            [
                f"{ways[one].name} / {ways[other].name}",
                *(f"{median(runs[one], name) / median(runs[other], name):.2f}" for name in ("step", "CPU")),
                ", ".join(f"{ratio:.2f}" for ratio in each),
                "" if goal is None else f"{goal:.2f}",
            ]
        )
    print(table(["", "time per step", "CPU seconds", "time of each round", "at most"], found), "\n")
    waits = []
    for rank in range(2 if "two" in ways else 0):
        mine = [[run[rank]] for run in runs["two"]]
        for part in PARTS:
            spent, waited = median(mine, part), median(mine, f"waited/{part}")
            waits.append(
                [str(rank), part, f"{spent:.3g}", f"{waited:.3g}", f"{100 * waited / median(mine, 'step'):.1f}"]
            )
    print(table(["rank", "part", "s", "of these blocked by exchanges", "% of the step"], waits))


if __name__ == "__main__":
    main()
