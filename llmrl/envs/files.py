"""Problems from files: which rows are read or left out, and which split each file belongs to.

The name of a file says which split it belongs to. If the names do not say it, a hash of its text makes one problem
in ten a test problem.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from llmrl.envs.columns import Columns, slug
from llmrl.envs.problems import SPLITS, BadGold, BadRows, Problem, split_of
from llmrl.envs.tables import COMPRESSED, FORMATS, SUFFIXES, DataError, Row, files_in, rows
from llmrl.errors import ConfigError
from llmrl.registry import suggest
from llmrl.text import counted

ENDINGS = f"{', '.join(FORMATS)}, each also with {' or '.join(COMPRESSED)}"
SHOWN = 5
"""A message names at most this many rows that cannot be used."""
HOPELESS = 1000
"""Reading stops after this many rows if none of them can be used."""
log = logging.getLogger(__name__)


class ListedProblems:
    """Problems in memory.

    Args:
        problems: all of them.
        name: short name of the source.
        title: number of problems, and their files.
        check_gold: gold answer -> what is wrong with it, or None.
        tried: number of gold answers that are checked, evenly spaced; None: all.

    Attributes:
        bad_golds: (id, answer, complaint) of every problem that ``check_gold`` found wrong.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        name: str,
        title: str,
        check_gold: Callable[[str], str | None] | None = None,
        tried: int | None = None,
    ) -> None:
        self._problems = list(problems)
        self.name = name
        self._title = title
        self._tried = self._problems
        self.bad_golds: list[tuple[str, str, str]] = []
        if check_gold is not None:
            step = 1 if tried is None else max(1, -(-len(self._problems) // tried))
            self._tried = self._problems[::step]
            for problem in self._tried:
                if (complaint := check_gold(problem.answer)) is not None:
                    self.bad_golds.append((problem.id, problem.answer, complaint))

    def __str__(self) -> str:
        return f"{counted(len(self), 'problem')} of {self._title}"

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def size(self) -> int:
        """The number of problems."""
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(f"There is no problem {index}: there are {len(self)} problems, numbered from 0.")
        return self._problems[index]

    def resolve_bad_golds(self, action: BadGold) -> str | None:
        """Keep or drop the gold answers that cannot be parsed, or raise an error.

        Args:
            action: ``keep`` them, and their responses get no verdict; ``drop`` their problems; or raise an
                ``error``.

        Returns:
            A sentence that lists them; None if all can be parsed.
        """
        if not self.bad_golds:
            return None
        shown = "; ".join(f"{i}: {_cut(answer)} ({why})" for i, answer, why in self.bad_golds[:10])
        more = f"; and {len(self.bad_golds) - 10} more" if len(self.bad_golds) > 10 else ""
        some = "" if len(self._tried) == len(self) else f", of which {len(self._tried)} were tried,"
        text = f"{len(self.bad_golds)} of {len(self)} gold answers{some} cannot be parsed: {shown}{more}."
        if action == "error":
            raise DataError(f"{text} Correct them, or choose bad_gold='drop' or 'keep'.")
        if action == "drop":
            bad = {problem_id for problem_id, _, _ in self.bad_golds}
            self._problems = [p for p in self._problems if p.id not in bad]
            return f"{text} Their problems are left out."
        return f"{text} They are kept; responses to them get no verdict."


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


class FileProblems(ListedProblems):
    """The problems of one or several files.

    Args:
        path: a file, or a folder of files.
        split: ``train``, ``test``, or ``all``. A file with the word train or test in its name holds that split,
            and so does a file beside one with the same name and such a word. In other files one problem in ten is
            a test problem, by a hash of its text.
        subjects: only these, such as ``algebra``.
        levels: only these difficulties.
        problem_column: the column of the problem, if its name is unusual.
        answer_column: the column of the answer, if its name is unusual. If there is no such column,
            the last box of the solution counts.
        check_gold: gold answer -> what is wrong with it, or None.
        name: name of the source; by default the file's name.
        files: use only these files of ``path``.
        bad_rows: what to do with rows that cannot be used: ``error``, or ``drop`` them with a warning.
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
        bad_rows: BadRows = "error",
    ) -> None:
        path = Path(path).expanduser()
        divide = False
        if files is None:
            files, divide = files_of_split(path, split)
        name = name or path.name
        asked = {"problem": problem_column, "answer": answer_column}
        found = read_problems(tables_of(files), asked, name, bad_rows)
        if divide:
            found = [problem for problem in found if split_of(problem.problem) == split]
        if not found:
            raise DataError(f"{path} holds no problem of the split {split!r}.")
        part = f" (the {split} part, by a hash of the problem)" if divide else ""
        super().__init__(select(found, subjects, levels, str(path)), name, names_of(files) + part, check_gold)


Table = tuple[str, Callable[[Callable[[DataError], None]], Iterator[Row]]]
"""The name of the table in errors, and the function that reads its rows."""


def tables_of(files: Iterable[Path]) -> list[Table]:
    """Files as tables."""

    def table(file: Path) -> Table:
        return str(file), lambda on_error: rows(file, on_error)

    return [table(file) for file in files]


def names_of(files: Sequence[Path]) -> str:
    """The names of the first few files."""
    return ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")


def read_problems(
    tables: Iterable[Table], asked: dict[str, str | None], source: str, bad_rows: BadRows = "error"
) -> list[Problem]:
    """The problems of tables, each with its own id.

    The column of ids is used if every id is different; otherwise an id is made from file and row.

    Args:
        tables: the tables, read in this order.
        asked: the columns that the user named.
        source: the ``source`` of the problems.
        bad_rows: what to do with rows that cannot be used: ``error``, or ``drop`` them with a warning.

    Raises:
        DataError: rows cannot be used and must not be dropped, or no row is left.
    """
    columns = Columns(asked)
    found: list[Problem] = []
    places: list[str] = []
    errors: list[DataError] = []
    for label, read in tables:
        for place, row in read(errors.append):
            where = f"{label}, {place}"
            try:
                found.append(columns.problem(row, where, source))
                places.append(where)
            except DataError as error:
                errors.append(error)
            if not found and len(errors) >= HOPELESS:
                raise errors[0]
    if errors and (bad_rows == "error" or not found):
        raise _unusable(errors, len(found))
    if errors:
        shown = " ".join(map(str, errors[:SHOWN]))
        log.warning("%s: %d of %d rows are left out. %s", source, len(errors), len(errors) + len(found), shown)
    ids = {problem.id for problem in found}
    if "" in ids or len(ids) < len(found):
        return [replace(problem, id=place) for problem, place in zip(found, places, strict=True)]
    return found


def _unusable(errors: Sequence[DataError], good: int) -> DataError:
    """One error for several rows."""
    text = str(errors[0])
    if len(errors) > 1:
        further = " ".join(map(str, errors[1:SHOWN])) if good else ""
        text = f"{text} {further}".strip() + f" In total, {len(errors)} of {len(errors) + good} rows cannot be used."
    if good:
        text += " Correct them, or leave them out with bad_rows=drop."
    return type(errors[0])(text)


def files_of_split(path: Path, split: str) -> tuple[list[Path], bool]:
    """The files of a split, and whether their problems must still be divided into train and test.

    Args:
        path: a file or a folder.
        split: ``train``, ``test`` or ``all``.
    """
    if split not in (*SPLITS, "all"):
        raise ConfigError(f"There is no split {split!r}. {suggest(split, (*SPLITS, 'all'))}")
    if path.is_dir():
        known = files_in(path)
        if not known:
            raise DataError(f"The folder {path} holds no file that ends in {ENDINGS}.")
    elif path.is_file():
        if not path.name.lower().endswith(SUFFIXES):
            raise DataError(f"{path} must end in one of {ENDINGS}.")
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
    named = {word: [p for p in known if word in split_words(str(p.relative_to(base)), SPLITS)] for word in SPLITS}
    if named["train"] and named["test"]:
        return named[split], False
    if named["test"]:
        if split == "test":
            return named["test"], False
        raise DataError(
            f"{path} is named as test data, so it gives no training problems. Rename it, or choose "
            "split='all' to use every problem."
        )
    return named["train"] or known, True


def split_words(path: str, splits: Collection[str]) -> set[str]:
    """The splits that a file's own name has; if it has none, those that its path has.

    >>> split_words("train_test_split/train.jsonl", ("train", "test")), split_words("test/1.jsonl", ("train", "test"))
    ({'train'}, {'test'})
    """
    for text in (Path(path).name, path):
        if found := set(re.split(r"[^a-z]+", text.lower())) & set(splits):
            return found
    return set()


def _swap(name: str, word: str) -> str:
    return re.sub(r"(?<![a-zA-Z])(train|test)(?![a-zA-Z])", word, name)


def _listing(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir()) if folder.is_dir() else []


def select(
    problems: list[Problem],
    subjects: Sequence[str] | None,
    levels: Sequence[int] | None,
    where: str,
) -> list[Problem]:
    """The problems of the chosen subjects and levels; an error if there are none."""
    if subjects:
        present = {p.subject for p in problems if p.subject}
        for subject in subjects:
            if slug(subject) not in present:
                raise ConfigError(f"{where} has no subject {subject!r}. {suggest(subject, present)}")
        wanted = {slug(subject) for subject in subjects}
        problems = [p for p in problems if p.subject in wanted]
    if levels:
        there = sorted({p.level for p in problems if p.level is not None})
        problems = [p for p in problems if p.level in levels]
        if not there:
            raise ConfigError(
                f"{where} has no levels: no column level or difficulty holds a number. Leave out levels, got "
                f"{list(levels)}, or write the difficulties as whole numbers."
            )
        if not problems:
            raise ConfigError(f"{where} has no problem of levels {list(levels)}, only {there}.")
    return problems
