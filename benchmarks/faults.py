"""The fault matrix: what can go wrong, at every moment of a run, and what was seen.

Each cell is a run of a tiny model in a process of its own, in which one thing goes wrong at one moment. Afterwards the
same command goes on, undisturbed, and its last weights are compared bitwise with those of a run in which nothing went
wrong. Needs Linux, root and a C compiler: each run has a small file system of its own.

    python benchmarks/faults.py --results build/faults.jsonl --output build/faults.md
    python benchmarks/faults.py --faults SIGTERM "disk full" --moments update
    python benchmarks/faults.py --fresh --moments update   each run in a process that imports everything itself
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "helpers")]

import failing  # noqa: E402
import noisy  # noqa: E402, F401  registers tests/Noisy-v0
import trivial  # noqa: E402, F401  registers tests/SayA-v0
from fault_rows import FAULTS, Fault  # noqa: E402
from forked import HANGS, Child, Results, import_what_is_used, run  # noqa: E402
from tiny import tiny_folder  # noqa: E402

from llmrl.commands import eval as evaluation  # noqa: E402
from llmrl.commands.cli import main as llmrl  # noqa: E402
from llmrl.envs.vector import TextVectorEnv  # noqa: E402
from llmrl.evaluation import Evaluation  # noqa: E402
from llmrl.policies.policy import Policy  # noqa: E402
from llmrl.training import checkpoint, session  # noqa: E402
from llmrl.training.learner import Learner  # noqa: E402
from llmrl.training.metrics_file import read_metrics  # noqa: E402

STEPS = 4
ROOM = 24
"""MiB of the file system of a cell."""
CALLS: dict[str, tuple[Any, str]] = {
    "start": (session, "build"),
    "sampling": (Policy, "respond"),
    "grading": (TextVectorEnv, "step"),
    "update": (Learner, "update"),
    "checkpoint": (checkpoint, "_write_state"),
    "evaluation": (session, "evaluate"),
    "end": (Evaluation, "write"),
}
"""What is called at a moment: the fault comes before it."""


def arguments(model: Path, output: Path) -> list[str]:
    """The command line of a run."""
    return [
        *("train", "--policy", str(model), "--env", "tests/Noisy-v0", "--algo", "grpo", "--output", str(output)),
        *("--policy.max-response-length", "4", "--train.prompts-per-step", "2", "--train.group-size", "4"),
        *("--train.updates-per-step", "2", "--train.learning-rate", "1e-2", "--train.warmup-steps", "1"),
        *("--train.steps", str(STEPS), "--eval.problems", "2", "--eval.samples", "0", "--checkpoint.every", "1"),
        *("--threads", "1", "--checkpoint.rollouts-every", "0"),
    ]


def evaluate(model: Path, output: Path) -> list[str]:
    """The command line of an evaluation in batches."""
    asked = ("--problems", "3", "--samples", "2", "--batch", "3", "--max-response-length", "3")
    return ["eval", "--policy", str(model), "--env", "tests/SayA-v0", *asked, "--output", str(output)]


@dataclass(frozen=True)
class Base:
    """What is disturbed."""

    command: Callable[[Path, Path], list[str]]
    again: tuple[str, ...]
    """What is added to go on."""
    counts: dict[str, int]
    """Which call of a moment's function the fault comes before; other moments do not occur."""
    begun: int = 0
    """Steps that an earlier run has made before."""


LATER = {"start": 1, "sampling": 4, "grading": 4, "update": 3, "checkpoint": 2, "evaluation": 1, "end": 2}
BASES = {
    "train": Base(arguments, ("--resume", "auto"), LATER),
    "resume": Base(
        lambda model, folder: [*arguments(model, folder), "--resume", "auto"], (), dict.fromkeys(CALLS, 1), begun=2
    ),
    "eval": Base(evaluate, (), {"start": 1, "sampling": 2, "grading": 2}),
}


def break_at(owner: Any, name: str, wanted: int, act: Callable[[], object]) -> None:
    """Have something happen before a call."""
    function, calls = getattr(owner, name), 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == wanted:
            act()
        return function(*args, **kwargs)

    setattr(owner, name, broken)


def weights(folder: Path) -> dict[str, torch.Tensor] | None:
    """The last weights of a run; None if there are none."""
    file = folder / "latest" / "model.safetensors"
    return load_file(file) if file.is_file() else None


def equal(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor] | None) -> bool:
    """Bitwise."""
    return one is not None and other is not None and all(torch.equal(one[name], other[name]) for name in one)


def answers(folder: Path) -> dict[str, str]:
    """The responses of an evaluation, by file."""
    return {path.name: path.read_text() for path in folder.glob("*.jsonl")}


@dataclass(frozen=True)
class Cell:
    """One fault at one moment.

    Args:
        fault: what goes wrong.
        moment: when.
        model: the policy.
        place: an empty folder, or a file system.
        good: folders of what was not disturbed, by base.
        fresh: whether the process of the run imports everything itself.
    """

    fault: Fault
    moment: str
    model: Path
    place: Path
    good: dict[str, Path]
    fresh: bool = False

    def find(self) -> dict[str, Any]:
        """Whether the promise was kept, and what was seen."""
        fault, base, folder = self.fault, BASES[self.fault.base], self.place / "run"
        if base.begun:
            shutil.copytree(self.good["begun"] / "run", folder, symlinks=True)
        command = base.command(self.model, folder)
        program = [__file__, "--process", *self._names()] if self.fresh else None
        child = Child(command, self.place.parent / "log", lambda: self._prepare(folder), program)
        wrong = self._beside(child, folder)
        status = child.wait()
        fault.mend(folder)
        wrong += self._told(status, child.said)
        moved = Path(f"{folder}-moved")
        if moved.exists():
            shutil.rmtree(folder, ignore_errors=True)
            moved.rename(folder)
        if not fault.damages and any(checkpoint.damages(path) for path in checkpoint.list_checkpoints(folder)):
            wrong.append("a damaged checkpoint")
        seen, more = self._go_on([*command, *base.again], folder)
        return {"kept": not wrong + more, "seen": "; ".join([f"{status}, {seen}", *wrong, *more])}

    def _names(self) -> list[str]:
        (name,) = (name for name, fault in FAULTS.items() if fault is self.fault)
        return [name, self.moment, str(self.model), str(self.place)]

    def be(self) -> int:
        """Be the process of the disturbed run; its status."""
        folder = self.place / "run"
        self._prepare(folder)
        return llmrl(BASES[self.fault.base].command(self.model, folder))

    def _prepare(self, folder: Path) -> None:
        def act() -> None:
            (self.place.parent / "reached").touch()
            self.fault.act(folder)
            while self.fault.beside is not None and not (self.place.parent / "go").exists():
                time.sleep(0.01)

        owner, name = (evaluation, "_load") if self._first_of_evaluation() else CALLS[self.moment]
        break_at(owner, name, BASES[self.fault.base].counts[self.moment], act)

    def _first_of_evaluation(self) -> bool:
        return self.fault.base == "eval" and self.moment == "start"

    def _beside(self, child: Child, folder: Path) -> list[str]:
        """Another process gives its command at that moment, while the first one waits; what is wrong with that."""
        if self.fault.beside is None:
            return []
        while not (self.place.parent / "reached").exists() and not child.ended():
            time.sleep(0.01)
        second = Child(self.fault.beside(self.model, folder), self.place.parent / "log-beside")
        status = second.wait()
        (self.place.parent / "go").touch()
        refused = status == 2 and "is in use" in second.said
        return [] if refused else [f"the second ended with {status}: {second.said.strip()[-200:]}"]

    def _told(self, status: int, said: str) -> list[str]:
        fault, wrong = self.fault, []
        if not (self.place.parent / "reached").exists():
            wrong.append("the moment did not come")
        if status not in fault.statuses:
            wrong.append("hangs" if status == HANGS else f"status {status}")
        if "Traceback" in said and not fault.trace:
            wrong.append(f"a traceback: {said.strip().splitlines()[-1][:200]}")
        if status not in (0, 3) and fault.tells and not fault.trace and "error: " not in said:
            wrong.append("no sentence")
        return wrong

    def _go_on(self, command: list[str], folder: Path) -> tuple[str, list[str]]:
        """The same command again, undisturbed: what was seen, and what is wrong with it."""
        log = self.place.parent / "log-again"
        status = run(command, log)
        if status != 0:
            return "does not go on", [f"going on ends with {status}: {log.read_text(errors='replace').strip()[-300:]}"]
        if self.fault.base == "eval":
            same = answers(folder) == answers(self.good["eval"] / "run")
            return ("goes on to the same", []) if same else ("goes on", ["other responses"])
        steps = [row["step"] for row in read_metrics(folder / "metrics.jsonl")]
        twice = steps != sorted(set(steps))
        wrong = [f"metrics of steps {steps}"] if twice or len(steps) < STEPS - self.fault.loses else []
        if equal(weights(folder), weights(self.good["train"] / "run")):
            return "goes on bitwise", wrong
        return "goes on", [*wrong, *([] if self.fault.alters else ["other weights"])]


def write(found: dict[str, dict[str, dict[str, Any]]], moments: list[str]) -> str:
    """The table."""
    cells = [entry for row in found.values() for entry in row.values()]
    commits = ", ".join(sorted({entry["commit"] for entry in cells}))
    dates = ", ".join(sorted({entry["date"] for entry in cells}))
    lines = [
        f"{sum(entry['kept'] for entry in cells)} of {len(cells)} cells keep the promise of their row.",
        f"`python benchmarks/faults.py`, commit {commits}, {dates}.",
        "",
        "| fault | promised | " + " | ".join(moments) + " |",
        "| --- | --- |" + " --- |" * len(moments),
    ]
    for name, row in found.items():
        shown = [
            "" if (entry := row.get(moment)) is None else entry["seen"].replace("|", "/").replace("\n", " ")
            for moment in moments
        ]
        marked = [
            f"**{text}**" if moment in row and not row[moment]["kept"] else text
            for moment, text in zip(moments, shown, strict=True)
        ]
        lines.append(f"| {name} | {FAULTS[name].promise} | {' | '.join(marked)} |")
    return "\n".join(lines) + "\n"


def prepare(place: Path, model: Path) -> dict[str, Path]:
    """Undisturbed runs to compare with, by base, and one that was stopped half-way."""
    good = {}
    for name, command in {
        "train": arguments(model, place / "train" / "run"),
        "eval": evaluate(model, place / "eval" / "run"),
        "begun": [*arguments(model, place / "begun" / "run"), "--train.steps", str(BASES["resume"].begun)],
    }.items():
        good[name] = place / name
        good[name].mkdir()
        status = run(command, place / "log")
        assert status == 0, (place / "log").read_text()
    return good


def main() -> int:
    """Run the cells; status 1 if a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS), metavar="FAULT")
    parser.add_argument("--moments", nargs="*", default=list(CALLS), choices=list(CALLS), metavar="MOMENT")
    parser.add_argument("--results", type=Path, help="a line of JSON a cell; cells that are there are not run again")
    parser.add_argument("--output", type=Path, help="the table in Markdown")
    parser.add_argument("--fresh", action="store_true", help="the process of a run imports everything itself")
    parser.add_argument("--process", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process is not None:  # the process of one cell
        name, moment, model, place = options.process
        return Cell(FAULTS[name], moment, Path(model), Path(place), {}).be()
    results = Results(options.results)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        failing.preload(root)
        model = tiny_folder(root / "model", sharpness=1.0, num_hidden_layers=1)
        import_what_is_used([arguments(model, root / "first"), evaluate(model, root / "second")], root)
        good = prepare(root, model)
        for name in options.faults:
            fault = FAULTS[name]
            for moment in options.moments:
                if moment not in BASES[fault.base].counts:
                    continue
                cell = partial(on_its_own_disk, fault, moment, model, root, good, options.fresh)
                entry = results.get(f"{name}, {moment}", cell)
                found.setdefault(name, {})[moment] = entry
                print(f"{'kept  ' if entry['kept'] else 'BROKEN'} {name}, {moment}: {entry['seen']}", flush=True)
    if options.output is not None:
        options.output.write_text(write(found, options.moments))
    return int(not all(entry["kept"] for row in found.values() for entry in row.values()))


def on_its_own_disk(
    fault: Fault, moment: str, model: Path, root: Path, good: dict[str, Path], fresh: bool
) -> dict[str, Any]:
    """A cell in a small file system of its own, which is gone afterwards."""
    around = root / "cell"
    place = around / "disk"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}m", "tmpfs", str(place)], check=True)
    try:
        return Cell(fault, moment, model, place, good, fresh).find()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        shutil.rmtree(around)


if __name__ == "__main__":
    sys.exit(main())
