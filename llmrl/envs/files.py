"""Problems from files: JSON Lines, JSON or Parquet, with the columns that real sets use.

Which split a file belongs to is read off its name; where names say nothing, one problem in ten,
chosen by its text, is a test problem.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llmrl.envs.problems import SPLITS, Problem, split_of
from llmrl.errors import UserError
from llmrl.registry import suggest

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
COLUMNS: dict[str, tuple[str, ...]] = {
    "problem": ("problem", "question", "prompt"),
    "answer": ("answer", "final_answer", "expected_answer"),
    "solution": ("solution",),
    "subject": ("subject", "type", "subfield", "problem_type"),
    "level": ("level",),
    "id": ("id", "unique_id", "problem_idx", "source"),
}
"""Names under which data sets keep each thing, the likeliest first; case does not matter."""


class DataError(UserError, ValueError):
    """A file of problems cannot be read; the message names file, row and column."""


class MissingPackage(DataError):
    """Reading a file takes a package that is not installed."""


class FileProblems:
    """The problems of one or several files.

    Args:
        path: a file, or a folder of files.
        split: ``train``, ``test``, or ``all``.  Files with the word train or test in their name (or
            beside one that differs by that word alone) hold that split; of other files one problem
            in ten is a test problem, by a hash of its text.
        subjects: only these, such as ``algebra``.
        levels: only these difficulties.
        problem_column: the column of the problem, where its name is unusual.
        answer_column: the column of the answer, where its name is unusual.  Without such a column
            the last box of the solution counts.
        check_gold: says what is wrong with a gold answer, or None.
        name: what to call the source; the file's name by default.
        files: use these files and no others of ``path``.

    Attributes:
        bad_golds: (id, answer, complaint) of every problem that ``check_gold`` found wrong.
    """

    def __init__(
        self,
        path: str | Path,
        split: str = "all",
        *,
        subjects: Sequence[str] | None = None,
        levels: Sequence[int] | None = None,
        problem_column: str | None = None,
        answer_column: str | None = None,
        check_gold: Callable[[str], str | None] | None = None,
        name: str | None = None,
        files: Sequence[Path] | None = None,
    ) -> None:
        path = Path(path).expanduser()
        divide = False
        if files is None:
            files, divide = files_of_split(path, split)
        asked = {"problem": problem_column, "answer": answer_column}
        found: list[Problem] = []
        for file in files:
            for place, row in rows(file):
                problem = read_row(row, f"{file}, {place}", asked, name or path.name)
                if not divide or split_of(problem.problem) == split:
                    found.append(problem)
        if not found:
            raise DataError(f"{path} holds no problem of the split {split!r}.")
        self._problems = select(found, subjects, levels, str(path))
        self.bad_golds: list[tuple[str, str, str]] = []
        if check_gold is not None:
            for problem in self._problems:
                if (complaint := check_gold(problem.answer)) is not None:
                    self.bad_golds.append((problem.id, problem.answer, complaint))
        names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
        self._text = f"{len(self)} problems of {names}" + (
            f" (the {split} part, by a hash of the problem)" if divide else ""
        )

    def __str__(self) -> str:
        return self._text

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(f"There is no problem {index}: there are {len(self)}, from 0 on.")
        return self._problems[index]

    def resolve_bad_golds(self, action: Literal["keep", "drop", "error"]) -> str | None:
        """Deal with gold answers that cannot be parsed.

        Args:
            action: ``keep`` them, whose responses then get no verdict; ``drop`` their problems; or
                raise an ``error``.

        Returns:
            A sentence that lists them, None if there are none.
        """
        if not self.bad_golds:
            return None
        shown = "; ".join(f"{i}: {answer!r} ({why})" for i, answer, why in self.bad_golds[:10])
        more = f"; and {len(self.bad_golds) - 10} more" if len(self.bad_golds) > 10 else ""
        text = f"{len(self.bad_golds)} of {len(self)} gold answers cannot be parsed: {shown}{more}."
        if action == "error":
            raise DataError(f"{text} Correct them, or choose bad_gold='drop' or 'keep'.")
        if action == "drop":
            bad = {problem_id for problem_id, _, _ in self.bad_golds}
            self._problems = [p for p in self._problems if p.id not in bad]
            return f"{text} Their problems are left out."
        return f"{text} They are kept; responses to them get no verdict."


def files_of_split(path: Path, split: str) -> tuple[list[Path], bool]:
    """The files that hold a split, and whether their problems must still be divided.

    Args:
        path: a file or a folder.
        split: ``train``, ``test`` or ``all``.
    """
    if split not in (*SPLITS, "all"):
        raise ValueError(f"There is no split {split!r}. {suggest(split, (*SPLITS, 'all'))}")
    if path.is_dir():
        known = sorted(p for p in path.rglob("*") if p.name.lower().endswith(SUFFIXES))
        if not known:
            raise DataError(f"The folder {path} holds no file that ends in {', '.join(SUFFIXES)}.")
    elif path.is_file():
        if not path.name.lower().endswith(SUFFIXES):
            raise DataError(f"{path} must end in one of {', '.join(SUFFIXES)}.")
        known = [path]
    else:
        near = suggest(path.name, (p.name for p in _listing(path.parent)))
        raise DataError(f"There is no file or folder {str(path)!r}. {near}")
    if split == "all":
        return known, False
    if path.is_file():
        twins = [path.with_name(_swap(path.name, word)) for word in SPLITS]
        known = sorted({path, *(twin for twin in twins if twin.is_file())})
    base = path if path.is_dir() else path.parent
    named = {word: [p for p in known if word in _words(str(p.relative_to(base)))] for word in SPLITS}
    if named["train"] and named["test"]:
        return named[split], False
    if named["test"]:
        if split == "test":
            return named["test"], False
        raise DataError(
            f"{path} is named as test data, so it gives no training problems. Rename it, or choose "
            "split='all' to use every problem for what you like."
        )
    return named["train"] or known, True


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _swap(name: str, word: str) -> str:
    return re.sub(r"(?<![a-zA-Z])(train|test)(?![a-zA-Z])", word, name)


def _listing(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir()) if folder.is_dir() else []


def rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row with the words that say where it is: ``line 3``."""
    name = file.name.lower()
    if name.endswith(".parquet"):
        yield from _parquet_rows(file)
    elif name.endswith(".json"):
        yield from _json_rows(file)
    else:
        yield from _json_lines(file)


def _json_lines(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield f"line {number}", _parse(line, file, number)
        except (gzip.BadGzipFile, EOFError) as error:
            raise DataError(f"{file}, after line {number}: broken gzip file: {error}") from error


def _parse(line: bytes, file: Path, number: int) -> Mapping[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{file}, line {number}, byte {error.start + 1}: not valid UTF-8 ({error.reason}).") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {number}, column {error.colno}: {error.msg}.") from error
    if not isinstance(row, dict):
        raise DataError(
            f"{file}, line {number}: expected an object such as "
            f'{{"problem": "...", "answer": "..."}}, got {type(row).__name__}.'
        )
    return row


def _json_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}, column {error.colno}: {error.msg}.") from error
    for number, row in enumerate(content if isinstance(content, list) else [content], 1):
        if not isinstance(row, dict):
            raise DataError(f"{file}, row {number}: expected an object, got {type(row).__name__}.")
        yield f"row {number}", row


def _parquet_rows(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError as error:
        raise MissingPackage(
            f"Reading {file} takes pyarrow: pip install 'llmrl[parquet]', or convert it to JSON Lines."
        ) from error
    try:
        with parquet.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except ArrowInvalid as error:
        raise DataError(f"{file} is no Parquet file: {error}") from error


def read_row(row: Mapping[str, Any], place: str, asked: Mapping[str, str | None], source: str) -> Problem:
    """A problem from the columns of a row.

    Args:
        row: its columns.
        place: where it is, for errors.
        asked: the columns that the user named, for ``problem`` and ``answer``.
        source: what the problem says it comes from.
    """
    lower = {key.lower(): key for key in row}

    def column(part: str) -> str | None:
        wanted = asked.get(part)
        if wanted is not None:
            if wanted not in row:
                raise DataError(f"{place}: there is no column {wanted!r}. {suggest(wanted, row)}")
            return wanted
        return next((lower[name] for name in COLUMNS[part] if name in lower), None)

    def text(part: str) -> str:
        name = column(part)
        return "" if name is None else _as_text(row[name], f"{place}, column {name!r}").strip()

    problem, answer, solution = text("problem"), text("answer"), text("solution")
    if not problem:
        raise _missing(place, "problem", column("problem"), row)
    if "####" in answer:  # GSM8K keeps the worked solution and the answer together
        solution, _, answer = (part.strip() for part in answer.rpartition("####"))
        solution = re.sub(r"<<.*?>>", "", solution)
    answer = answer or last_box(solution) or ""
    if not answer:
        raise _missing(place, "answer", column("answer"), row)
    level = re.search(r"\d+", text("level"))
    return Problem(
        id=text("id") or place,
        problem=problem,
        answer=answer,
        solution=solution or None,
        subject=slug(text("subject")) or None,
        level=int(level[0]) if level else None,
        source=source,
    )


def _missing(place: str, part: str, column: str | None, row: Mapping[str, Any]) -> DataError:
    if column is not None:
        return DataError(f"{place}, column {column!r}: the {part} is empty.")
    names = COLUMNS[part]
    box = " and no solution has a \\boxed{} answer" if part == "answer" else ""
    return DataError(
        f"{place}: no column is called {', '.join(names[:-1])} or {names[-1]}{box}. "
        f"Say which it is with {part}_column. {suggest(names[0], row)}"
    )


def _as_text(value: Any, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(int(value)) if float(value).is_integer() else str(value)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, Mapping) and "content" in item for item in value):
            return str(value[-1]["content"])  # a conversation: its last message asks
        return ", ".join(_as_text(item, place) for item in value)
    raise DataError(f"{place}: expected text, got {type(value).__name__}.")


def last_box(text: str) -> str | None:
    r"""What stands in the last ``\boxed{}`` of a solution.

    >>> last_box(r"So $x = \boxed{\frac{1}{2}}$."), last_box("none")
    ('\\frac{1}{2}', None)
    """
    start = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    if start < 0:
        bare = re.findall(r"\\boxed\s+([^\s$.]+)", text)
        return bare[-1] if bare else None
    begin = text.index("{", start) + 1
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip()
    return None


def slug(subject: str) -> str:
    """A subject as a plain name.

    >>> slug("Counting & Probability")
    'counting_and_probability'
    """
    return "_".join(re.findall(r"[a-z0-9]+", subject.lower().replace("&", " and ")))


def select(
    problems: list[Problem],
    subjects: Sequence[str] | None,
    levels: Sequence[int] | None,
    where: str,
) -> list[Problem]:
    """The problems of the chosen subjects and levels; an error if that leaves none."""
    if subjects:
        present = {p.subject for p in problems if p.subject}
        for subject in subjects:
            if slug(subject) not in present:
                raise ValueError(f"{where} has no subject {subject!r}. {suggest(subject, present)}")
        wanted = {slug(subject) for subject in subjects}
        problems = [p for p in problems if p.subject in wanted]
    if levels:
        there = sorted({p.level for p in problems if p.level is not None})
        problems = [p for p in problems if p.level in levels]
        if not problems:
            raise ValueError(f"{where} has no problem of levels {list(levels)}, only {there}.")
    return problems
