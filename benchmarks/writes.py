"""Every write fails in turn, as the tests of SQLite do it: nothing is lost, one sentence, and the same command goes on.

A write is opening a file to write, writing, flushing, truncating, renaming, making a folder or a link, removing. Each
command is run in a process of its own in which the first write below its output fails, then the second, and so on: once
with a disk that stays full from then on, on which only removing works, and once with one error alone (EIO and EACCES in
turn). Afterwards every checkpoint must be whole and the same command, undisturbed, must give what it gives where
nothing failed.

    python benchmarks/writes.py --results build/writes.jsonl  all writes of all commands
    python benchmarks/writes.py --commands train --every 9    every ninth
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "helpers")]

import failing  # noqa: E402
import noisy  # noqa: E402, F401  registers tests/Noisy-v0
import trivial  # noqa: E402, F401  registers tests/SayA-v0
from faults import arguments, equal, evaluate, weights  # noqa: E402
from forked import HANGS, Results, import_what_is_used, run  # noqa: E402
from tiny import tiny_folder  # noqa: E402

from llmrl.training import checkpoint  # noqa: E402


@dataclass(frozen=True)
class Case:
    """A command whose writes fail."""

    command: Callable[[Path], list[str]]
    """Its arguments, given the folder that it writes to."""
    again: tuple[str, ...]
    """What is added to go on."""
    same: Callable[[Path, Path], bool]
    """Whether two such folders hold the same results."""


def train(model: Path) -> Case:
    """A run of two steps with everything that a run writes."""
    more = ("--train.steps", "2", "--checkpoint.rollouts-every", "1", "--checkpoint.keep-best", "reward/accuracy")
    return Case(lambda folder: [*arguments(model, folder / "run"), *more], ("--resume", "auto"), same_run)


def same_run(one: Path, other: Path) -> bool:
    """Weights bitwise, every step once, evaluations and rollouts as they were."""
    one, other = one / "run", other / "run"
    steps = [json.loads(line)["step"] for line in (one / "metrics.jsonl").read_text().splitlines()]
    texts = [path.relative_to(other) for path in other.glob("*/*.jsonl")]
    return (
        equal(weights(one), weights(other))
        and steps == [1, 2]
        and all((one / path).read_text() == (other / path).read_text() for path in texts)
    )


def evaluation(model: Path) -> Case:
    """Responses to three problems, in batches."""
    return Case(lambda folder: evaluate(model, folder / "eval"), (), same_files)


def compare(place: Path, model: Path) -> Case:
    """The numbers of two evaluations as JSON."""
    made = place / "evaluations"
    made.mkdir()
    command = evaluation(model).command(made)
    assert run(command, place / "log") == 0, (place / "log").read_text()
    one = str(made / "eval")
    return Case(lambda folder: ["compare", one, one, "--output", str(folder / "compared.json")], (), same_files)


def report(place: Path, model: Path) -> Case:
    """The page of a run."""
    made = place / "reported"
    made.mkdir()
    assert run(train(model).command(made), place / "log") == 0, (place / "log").read_text()
    return Case(
        lambda folder: ["report", str(made / "run"), "--algo", "", "--output", str(folder / "page.html")],
        (),
        lambda one, other: (one / "page.html").stat().st_size == (other / "page.html").stat().st_size,
    )


def study(model: Path) -> Case:
    """Two algorithms on a small task."""
    options = ["--algos", "dapo", "gspo", "--tasks", "hack", "--seeds", "1", "--rollouts", "2", "--rerun-shipped"]
    return Case(lambda folder: ["study", *options, "--output", str(folder / "study")], (), same_names)


def same_files(one: Path, other: Path) -> bool:
    """Equal texts under equal names."""
    return same_names(one, other) and all(
        path.read_text() == (one / path.relative_to(other)).read_text() for path in other.rglob("*.json*")
    )


def same_names(one: Path, other: Path) -> bool:
    """Equal names, but for locks."""

    def names(folder: Path) -> set[Path]:
        return {path.relative_to(folder) for path in folder.rglob("*") if not path.name.startswith(".")}

    return names(one) == names(other)


def cell(
    case: Case, writes: failing.Writes, place: Path, good: Path, which: int, error: str, forever: bool
) -> dict[str, Any]:
    """Run a command whose write ``which`` fails, and again: what failed, and what went wrong, empty for nothing."""
    folder = place / "cell"
    folder.mkdir()
    command, log = case.command(folder), place / "log"
    status = run(command, log, lambda: writes.arm(folder, which, error, forever))
    said = log.read_text(errors="replace")
    wrong = []
    if status not in (0, 1, 2):
        wrong.append("hangs" if status == HANGS else f"status {status}")
    if "Traceback" in said:
        wrong.append(f"a traceback: {said.strip().splitlines()[-1]}")
    if status != 0 and sum(line.startswith("error: ") for line in said.splitlines()) != 1:
        wrong.append(f"no sentence: {said.strip()[-200:]}")
    wrong += [f"{path.name} is damaged" for path in folder.glob("*/checkpoint-*") if checkpoint.damages(path)]
    status = run([*command, *case.again], log)
    if status != 0:
        wrong.append(f"going on ends with {status}: {log.read_text(errors='replace').strip()[-300:]}")
    elif not case.same(folder, good):
        wrong.append("going on gives something else")
    shutil.rmtree(folder)
    return {"failed": writes.first, "wrong": "; ".join(wrong)}


def main() -> int:
    """Fail every write; status 1 if one lost something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("train", "eval", "compare", "report", "study")
    parser.add_argument("--commands", nargs="*", default=names, choices=names)
    parser.add_argument("--every", type=int, default=1, help="every so many writes")
    parser.add_argument("--results", type=Path, help="a line of JSON a write; what is there is not tried again")
    options = parser.parse_args()
    results, broken = Results(options.results), 0
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        failing.preload(place)
        writes = failing.Writes()
        model = tiny_folder(place / "model", sharpness=1.0, num_hidden_layers=1)
        (place / "first").mkdir()
        used = (train(model), evaluation(model), study(model))
        import_what_is_used([case.command(place / "first") for case in used], place)
        make = {
            "train": lambda: train(model),
            "eval": lambda: evaluation(model),
            "compare": lambda: compare(place, model),
            "report": lambda: report(place, model),
            "study": lambda: study(model),
        }
        print("| command | writes | failed | nothing lost, a sentence, goes on |")
        print("| --- | --- | --- | --- |")
        for name in options.commands:
            case, good = make[name](), place / f"good-{name}"
            good.mkdir()
            status = run(case.command(good), place / "log", lambda: writes.arm(good))  # noqa: B023
            assert status == 0, (place / "log").read_text()
            total, tried, kept = writes.count, 0, 0
            for forever in (True, False):
                for which in range(1, total + 1, options.every):
                    error = "ENOSPC" if forever else ("EIO", "EACCES")[which % 2]
                    found = results.get(
                        f"{name}, write {which} of {total}, {error}",
                        lambda: cell(case, writes, place, good, which, error, forever),  # noqa: B023
                    )
                    tried += 1
                    kept += not found["wrong"]
                    if found["wrong"]:
                        broken += 1
                        print(f"BROKEN {found['key']}, {found['failed']}: {found['wrong']}", file=sys.stderr)
            print(f"| {name} | {total} | {tried} | {kept} |", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
