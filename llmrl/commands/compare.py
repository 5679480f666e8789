"""``llmrl compare``: two evaluations on the same problems, with paired intervals."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llmrl.errors import ConfigError
from llmrl.evaluation.outcomes import Evaluation
from llmrl.evaluation.pairs import DifferentProblems, compare
from llmrl.evaluation.tables import show_comparison
from llmrl.terminal import Terminal
from llmrl.text import DamagedFile, read_json


@dataclass
class CompareOptions:
    """Compare two evaluations problem by problem: differences with paired 95 % intervals.

    An evaluation is a folder of llmrl eval, a run (its evaluation after training), or a .jsonl of one environment such
    as runs/espo-0/eval/before.jsonl. A positive difference means that the second evaluation is better.
    """

    first: Annotated[Path, tyro.conf.Positional]
    """The first evaluation."""
    second: Annotated[Path, tyro.conf.Positional]
    """The second evaluation; differences are second minus first."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write the numbers to this JSON file."""


def parse(arguments: list[str], prog: str) -> CompareOptions:
    """The options of a command line."""
    return tyro.cli(CompareOptions, args=arguments, prog=prog)


def run(options: CompareOptions, console: Terminal | None = None) -> int:
    """Compare the two evaluations and show the tables.

    Raises:
        ConfigError: there is nothing to compare, or the problems are not the same.
    """
    paths = [_file_of(path) for path in (options.first, options.second)]
    first, second = map(_read, paths)
    if all(path.is_file() for path in paths):  # whatever their names
        title = ", ".join(
            path.stem if path.is_file() else path.resolve().name for path in (options.first, options.second)
        )
        first, second = ({title: part} for part in (*first.values(), *second.values()))
    common = [name for name in first if name in second]
    if not common:
        raise ConfigError(
            f"{options.first} and {options.second} have no environment in common: {', '.join(first)} and "
            f"{', '.join(second)}."
        )
    results = {}
    for name in common:
        try:
            results[name] = compare(first[name], second[name])
        except DifferentProblems as error:
            raise ConfigError(f"{name}: {error}") from error
        show_comparison(console or Terminal(), name, results[name])
    if options.output is not None:
        content = {name: result.to_dict() for name, result in results.items()}
        options.output.write_text(json.dumps(content, indent=2) + "\n")
    return 0


def _file_of(path: Path) -> Path:
    """The responses after training of a run, or those of a summary; another path stays as it is."""
    after, responses = path / "eval" / "after.jsonl", path.with_suffix(".jsonl")
    if after.is_file():
        return after
    return responses if path.suffix == ".json" and responses.is_file() else path


def _read(path: Path) -> dict[str, Evaluation]:
    """The finished evaluations at a path, by environment."""
    if path.is_file():
        return {path.stem: Evaluation.read(path)}
    results = path / "results.json"
    if not results.is_file():
        what = "holds no finished evaluation" if path.is_dir() else "does not exist"
        raise ConfigError(f"{path} {what}: give a folder of llmrl eval, a run, or a .jsonl.")
    try:
        finished = {env_id: str(summary["responses"]) for env_id, summary in read_json(results)["environments"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise DamagedFile(f"{results} does not hold the results of llmrl eval.") from error
    for env_id, name in finished.items():
        if Path(name).name != name:  # a file of another folder
            raise DamagedFile(f"{results}: the responses of {env_id} are not in the same folder: {name}")
    return {env_id: Evaluation.read(path / name) for env_id, name in finished.items()}
