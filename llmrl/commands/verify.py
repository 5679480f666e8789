"""``llmrl verify``: grade a file of responses, compare two graders on it, or check its gold answers.

The verifier grades the answers; this module reads rows, counts verdicts and shows them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro
from rich.progress import track
from rich.table import Table
from rich.text import Text

from llmrl.envs.columns import COLUMNS, WORKED, Columns, cell, has, last_box
from llmrl.envs.files import files_of_split
from llmrl.envs.tables import DataError, rows
from llmrl.evaluation.estimators import wilson
from llmrl.registry import suggest
from llmrl.terminal import Terminal
from llmrl.text import counted, one_line, real_path
from llmrl.verifiers import STATUSES, Verdict, Verifier, check_gold, verifier

ID_COLUMNS = ("problem_id", "id", "unique_id", "problem_idx")
SHOWN = 40
"""Rows of a table in the terminal; the file has all rows."""
WIDTH = 48
"""Characters of an answer in a table."""


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Grade a file of responses against the gold answers in the same rows.

    PATH is a file of JSON Lines (also .gz, .json, .parquet, or a folder of such files), one row per response, or a run,
    whose rollouts are graded. A row is such as
        {"id": "7", "answer": "\\\\frac12", "response": "So it is \\\\boxed{0.5}."}

    A table counts the verdicts, with 95 % intervals, and the file of --output gets one line per row.

    For example:
        llmrl verify runs/espo-0/rollouts/step_000010.jsonl       grade the responses of a run
        llmrl verify PATH --audit math_verify                     list rows on which another grader disagrees
        llmrl verify PATH --audit my_module:my_grader             the same with a function of your own
        llmrl verify PATH --golds                                 list gold answers that cannot be parsed

    Exit status:
        0    no problem was found
        1    a row got no verdict, two graders disagree, or a gold answer cannot be parsed
        2    the file or an option cannot be used
    """

    file: tyro.conf.Positional[Path]
    """File or folder of the rows."""
    gold: str | None = None
    """Column of the gold answers; by default one of those in docs/data.md, such as answer or ground_truth, or the last
    box of solution."""
    response: str = "response"
    """Column of the responses."""
    verifier: str = "math"
    """The grader: a registered name, or module:function."""
    audit: str | None = None
    """A second grader; rows on which the two disagree are shown and written."""
    output: Path = Path("graded.jsonl")
    """File for the verdicts, one line per row in the order of the input."""
    disagreements: Path = Path("disagreements.jsonl")
    """File for the rows on which the graders disagree."""
    golds: bool = False
    """Grade nothing; list the gold answers that cannot be parsed."""
    batch: int = 256
    """Number of rows that a verifier gets in one call."""


class Case(NamedTuple):
    """One response to grade."""

    id: str
    gold: str
    response: str


def parse(arguments: list[str], prog: str) -> VerifyOptions:
    """The options of a command line."""
    return tyro.cli(VerifyOptions, args=arguments, prog=prog)


def run(options: VerifyOptions) -> int:
    """Grade or check; returns the exit status that :class:`VerifyOptions` explains.

    Raises:
        DataError: a file cannot be read or a grader not be used.
    """
    return _golds(options) if options.golds else _grade(options)


def _grade(options: VerifyOptions) -> int:
    _check(options)
    first = verifier(options.verifier)
    second = None if options.audit is None else (options.audit, verifier(options.audit))
    columns = Columns({"answer": options.gold})
    table = [
        Case(name, _gold(row, columns, place), _text(row, options.response, place))
        for name, place, row in _places(options.file)
    ]
    if not table:
        raise DataError(f"{options.file} holds no rows.")
    verdicts = grade(table, first, options.verifier, options.batch)
    _write(options.output, (_line(row, v) for row, v in zip(table, verdicts, strict=True)))
    console = Terminal()
    console.print(summary(verdicts))
    console.say(f"The verdicts are in {options.output}.")
    status = int(not all(verdict.valid for verdict in verdicts))
    if second is not None:
        name, grader = second
        others = grade(table, grader, name, options.batch)
        status |= _audit(options, name, table, verdicts, others, console)
    return status


def _check(options: VerifyOptions) -> None:
    if options.batch < 1:
        raise DataError(f"--batch must be at least 1, got {options.batch}.")
    for flag, path in (("output", options.output), ("disagreements", options.disagreements)):
        if real_path(path) == real_path(options.file):
            raise DataError(f"--{flag} {path} would overwrite the file that is graded.")
        if path == getattr(VerifyOptions, flag) and path.is_symlink():  # in a folder from elsewhere; nobody named it
            raise DataError(f"{path} is a link, which would be written through. Give --{flag}.")


def grade(table: Sequence[Case], grader: Verifier, name: str, batch: int = 256) -> list[Verdict]:
    """One verdict per row. On a terminal a progress bar shows.

    Raises:
        DataError: the grader did not return one verdict per response.
    """
    console = Terminal(stderr=True)
    verdicts: list[Verdict] = []
    for begin in track(range(0, len(table), batch), f"{name}:", console=console, disable=not console.is_terminal):
        part = table[begin : begin + batch]
        got = grader([row.response for row in part], [row.gold for row in part])
        if len(got) != len(part):
            raise DataError(
                f"The verifier {name!r} returned {len(got)} verdicts for {len(part)} responses. It must return "
                "one for each, in their order."
            )
        verdicts += got
    return verdicts


def summary(verdicts: Sequence[Verdict]) -> Table:
    """A table of the verdicts: their number, their share of all rows, and its interval."""
    mean = sum(verdict.score for verdict in verdicts) / len(verdicts)
    table = Table("verdict", title=f"{counted(len(verdicts), 'row')}, mean score {mean:.4g}", title_justify="left")
    for name in ("rows", "share", "95 % interval"):
        table.add_column(name, justify="right")
    counts = Counter(verdict.status for verdict in verdicts)
    for status in STATUSES:
        if count := counts[status]:  # type: ignore[index]
            low, high = wilson(count, len(verdicts))
            table.add_row(
                status,
                str(count),
                f"{100 * count / len(verdicts):.2f} %",
                f"[{100 * low:.2f}, {100 * high:.2f}]",
                style=None if status in ("correct", "wrong", "no_answer") else "yellow",
            )
    return table


def _audit(
    options: VerifyOptions,
    auditor: str,
    table: Sequence[Case],
    verdicts: Sequence[Verdict],
    others: Sequence[Verdict],
    console: Terminal,
) -> int:
    """Show and write the rows whose reward or validity differs; returns the exit status."""
    differing = [
        (row, one, other)
        for row, one, other in zip(table, verdicts, others, strict=True)
        if (one.score, one.valid) != (other.score, other.valid)
    ]
    low, high = wilson(len(table) - len(differing), len(table))
    console.print(
        f"{options.verifier} and {auditor} agree on {len(table) - len(differing)} of {len(table)} rows, 95 % "
        f"interval [{100 * low:.2f}, {100 * high:.2f}] %.",
        highlight=False,
    )
    _write(
        options.disagreements,
        (
            {
                "id": row.id,
                "gold": row.gold,
                "response": row.response,
                options.verifier: _plain(one),
                auditor: _plain(other),
            }
            for row, one, other in differing
        ),
    )
    if not differing:
        return 0
    shown = Table("id", "gold", title="disagreements", title_justify="left")
    for name in (options.verifier, auditor):
        shown.add_column(f"{name}: verdict")
        shown.add_column("extracted")
    for row, one, other in differing[:SHOWN]:
        cells = (row.id, row.gold, *_cells(one), *_cells(other))
        shown.add_row(*(Text(one_line(cell, WIDTH)) for cell in cells))
    console.print(shown)
    console.say(f"{options.disagreements} holds all {len(differing)} of them.")
    return 1


def _golds(options: VerifyOptions) -> int:
    total, bad = 0, []
    columns = Columns({"answer": options.gold})
    for name, place, row in _places(options.file):
        total += 1
        gold = _gold(row, columns, place)
        if (reason := check_gold(gold)) is not None:
            bad.append((name, gold, reason))
    console = Terminal()
    if bad:
        table = Table("id", "gold answer", "why", title="gold answers that cannot be parsed")
        for cells in bad:
            table.add_row(*(Text(one_line(cell, WIDTH)) for cell in cells))
        console.print(table)
    console.print(f"{len(bad)} of {total} gold answers cannot be parsed.", highlight=False)
    return int(bool(bad))


def _places(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Every row of the files with its id and its place in the file."""
    saved = path / "rollouts"
    for file in files_of_split(saved if saved.is_dir() else path, "all")[0]:
        for place, row in rows(file):
            where = f"{file}, {place}"
            name = next((row[column] for column in ID_COLUMNS if column in row), place)
            yield str(name), where, row


def _gold(row: Mapping[str, Any], columns: Columns, place: str) -> str:
    column = columns.names(row, place)["answer"]
    if column in WORKED and columns.asked["answer"] is None:
        column = None
    if column is None and isinstance(solution := row.get("solution"), str):
        return last_box(solution) or ""
    # GSM8K keeps the working and the answer in one column.
    return _text(row, column or COLUMNS["answer"][0], place).rpartition("####")[2].strip()


def _text(row: Mapping[str, Any], column: str, place: str) -> str:
    if not has(row, column):
        raise DataError(f"{place}: there is no column {column!r}. {suggest(column, row)}")
    value = cell(row, column)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{place}, column {column!r}: expected text, got {type(value).__name__}.")
    return value


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "verdict": verdict.status,
        "score": verdict.score,
        "extracted": verdict.extracted,
        "rule": verdict.rule,
        "detail": verdict.detail,
    }


def _line(row: Case, verdict: Verdict) -> dict[str, Any]:
    return {"id": row.id, "gold": row.gold, **_plain(verdict)}


def _cells(verdict: Verdict) -> tuple[str, str]:
    return verdict.status, verdict.extracted or ""


def _write(path: Path, lines: Iterator[dict[str, Any]]) -> None:
    """JSON Lines in ASCII, so that a lone surrogate in a response can be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
