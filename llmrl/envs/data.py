"""A data set of your own as an environment: ``llmrl/Data-v0``.

The data are a file, a folder, a data set of the Hugging Face hub, or rows in memory. Reports call them by their own
name. Nothing is held out unless an option asks for it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.envs.benchmarks import BENCHMARKS
from llmrl.envs.files import ENDINGS, ListedProblems, Table, read_problems, select, split_words, tables_of
from llmrl.envs.hub import NAME, hub_files
from llmrl.envs.problems import BadGold, BadRows, ProblemOptions, digest
from llmrl.envs.tables import COMPRESSED, FORMATS, DataError, Row, files_in, is_data, of_columns
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.registry import suggest
from llmrl.verifiers.verdict import Verifier

Rows = Iterable[Mapping[str, Any]] | Mapping[str, Iterable[Mapping[str, Any]]]
"""Rows in memory: a list of dicts, a ``datasets.Dataset``, or a mapping of these by split."""

TRAIN = frozenset({"train", "training"})
TEST = frozenset({"test", "testing", "eval", "evaluation"})
VALIDATION = frozenset({"validation", "valid", "val", "dev"})
MAIN = ("main", "default")
"""Subsets that are used by default if a data set has several."""
GOLDS_TRIED = 5000
"""The largest number of gold answers that are checked if bad ones are kept."""
log = logging.getLogger(__name__)


class DataEnv(TextEnv):
    """The problems of a data set, one an episode.

    Columns are found by their usual names (docs/data.md), or given by option.

    Args:
        source: a file, a folder, or a data set of the hub such as openai/gsm8k; in Python also a list of dicts, a
            datasets.Dataset, or a dict of such with the keys train and test.
        split: ``train``, ``test`` or ``all``. Training problems are all that are not named test or validation. Test
            problems are those named test, else those named validation, else the held-out share, else all.
        test_share: hold out this share of the problems for testing, such as 0.1, by a hash of the problem; by default
            none.
        subset: the subset to use, if a data set of the hub has several, such as main.
        subjects: which subjects; all by default.
        levels: which difficulties; all by default.
        problem_column: the column that holds the problem, such as extra_info.question.
        answer_column: the column that holds the answer, such as reward_model.ground_truth.
        bad_gold: what to do with gold answers that cannot be parsed: keep, drop or error.
        bad_rows: what to do with rows that cannot be used: error, or drop them with a warning.
        name: name of the data in reports; by default that of the file, folder or data set.
        verifier: name of a verifier, or ``module:function``.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        source: str | Path | Rows = "",
        split: str = "train",
        test_share: float = 0.0,
        subset: str | None = None,
        subjects: tuple[str, ...] | None = None,
        levels: tuple[int, ...] | None = None,
        problem_column: str | None = None,
        answer_column: str | None = None,
        bad_gold: BadGold = "keep",
        bad_rows: BadRows = "error",
        name: str | None = None,
        verifier: str | Verifier = "math",
        render_mode: str | None = None,
    ) -> None:
        options = ProblemOptions(
            split=split,
            subjects=subjects,
            levels=levels,
            problem_column=problem_column,
            answer_column=answer_column,
            bad_gold=bad_gold,
            bad_rows=bad_rows,
            check=verifier == "math",
        )
        problems = open_data(source, options, test_share=test_share, subset=subset, name=name)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = problems.name

    def title(self, env_id: str) -> str:
        """The data set's own name."""
        return self.source_name


def open_data(
    source: str | Path | Rows,
    options: ProblemOptions,
    *,
    test_share: float = 0.0,
    subset: str | None = None,
    name: str | None = None,
) -> ListedProblems:
    """The problems of a data set, read once and shared by all environments with the same options.

    Args:
        source: as in :class:`DataEnv`; the others too.
        options: the choice of problems.
        test_share: the share that is held out.
        subset: subset of a data set of the hub.
        name: name of the data in reports.

    Raises:
        DataError: the data do not exist or cannot be used.
        HubError: the hub does not provide the data.
    """
    if not isinstance(test_share, (int, float)) or not 0 <= test_share < 1:
        raise DataError(
            f"test_share must be at least 0 and below 1, got {test_share!r}: it is a share of the problems."
        )
    if options.split not in (None, "train", "test", "all"):
        raise DataError(f"There is no split {options.split!r}. {suggest(str(options.split), ('train', 'test', 'all'))}")
    if not isinstance(source, (str, Path)):
        return _read(_Given(source), (), options, test_share, subset, name)
    text = str(source).strip()
    if not text:
        raise DataError("Say which data: source (or --data) is a file, a folder, or a data set of the hub.")
    return _read(text, _stamp(Path(text).expanduser()), options, test_share, subset, name)


@dataclass(frozen=True, eq=False)
class _Given:
    """Rows in memory; equal only if they are the same object."""

    rows: Rows

    def __hash__(self) -> int:
        return id(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Given) and other.rows is self.rows


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Sizes and times of the files at a path, so that a file that was corrected is read again."""
    files = files_in(path) if path.is_dir() else [path] if path.is_file() else []
    return tuple((str(file), (state := file.stat()).st_size, state.st_mtime_ns) for file in files)


@functools.lru_cache(maxsize=8)
def _read(
    source: str | _Given,
    stamp: tuple[tuple[str, int, int], ...],
    options: ProblemOptions,
    test_share: float,
    subset: str | None,
    name: str | None,
) -> ListedProblems:
    parts = _Parts.given(source.rows) if isinstance(source, _Given) else _Parts.found(source, subset, options.split)
    name = name or parts.name
    tables, title = parts.of(options.split or "train")
    asked = {"problem": options.problem_column, "answer": options.answer_column}
    found = read_problems(tables, asked, name, options.bad_rows)
    if not found:
        raise DataError(f"{title} holds no rows.")
    if test_share and options.split != "all" and not parts.test:
        found = [p for p in found if (digest(p.problem) < test_share * 2**64) == (options.split == "test")]
        title += f" (the {options.split} part; {test_share:g} is held out by a hash of the problem)"
        if not found:
            raise DataError(f"{title} is empty. Give another test_share.")
    from llmrl import verifiers

    check = verifiers.check_gold if options.check else None
    # If bad ones are kept, the check only makes a warning, so it must be fast.
    tried = GOLDS_TRIED if options.bad_gold == "keep" else None
    problems = ListedProblems(select(found, options.subjects, options.levels, title), name, title, check, tried)
    if (complaint := problems.resolve_bad_golds(options.bad_gold)) is not None:
        log.warning("%s: %s", problems, complaint)
    return problems


@dataclass(frozen=True)
class _Parts:
    """The tables of a data set by split; a table without a split in its name is for training."""

    name: str
    train: Sequence[tuple[str, Table]]
    """Each table with its short name."""
    test: Sequence[tuple[str, Table]]

    def of(self, split: str) -> tuple[list[Table], str]:
        """The tables of a split, and their names."""
        chosen = [*self.train, *self.test] if split == "all" else list(self.test if split == "test" else self.train)
        chosen = chosen or list(self.train or self.test)
        names = [short for short, _ in chosen]
        label = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return [table for _, table in chosen], label if label == self.name else f"{self.name}: {label}"

    @classmethod
    def given(cls, rows: Rows) -> _Parts:
        """Rows in memory."""
        if isinstance(rows, Mapping) and not _are_parts(rows) and (listed := of_columns(rows)) is not None:
            rows = listed
        if isinstance(rows, Mapping):
            words = {str(key): rows[key] for key in rows}
            tables = {key: _memory(f"the part {key!r}", part) for key, part in words.items()}
            return cls._divided("the given data", {key: (key, table) for key, table in tables.items()})
        return cls("the given data", [("the given data", _memory("the given data", rows))], [])

    @classmethod
    def found(cls, source: str, subset: str | None, split: str | None) -> _Parts:
        """A file, a folder or a data set of the hub."""
        path = Path(source).expanduser()
        if path.is_file():
            if not is_data(path):
                raise DataError(f"{path} must end in one of {ENDINGS}.")
            return cls(path.name, [(path.name, tables_of([path])[0])], [])
        if path.is_dir():
            files = files_in(path)
            if not files:
                raise DataError(f"The folder {path} holds no file that ends in {ENDINGS}.")
            return cls._files(path.resolve().name, {str(file.relative_to(path)): file for file in files}, subset)
        if not is_hub_name(source):
            folder = path.parent
            near = [other.name for other in folder.iterdir()] if folder.is_dir() else []
            raise DataError(
                f"There is no file or folder {source!r}. {suggest(path.name, near) if near else ''} A data set of the "
                "hub is called OWNER/NAME, such as openai/gsm8k."
            )
        return cls._hub(source, subset, split)

    @classmethod
    def _hub(cls, repo: str, subset: str | None, split: str | None) -> _Parts:
        known = next((b for b in BENCHMARKS.values() if b.repo.lower() == repo.lower()), None)
        hint = "Without the hub: download its files, and give their folder as source."
        if known is not None and subset is None:
            wanted = [part for name, part in known.splits.items() if split in (name, "all", None)]
            patterns = [pattern for part in wanted or known.splits.values() for pattern in part.hub]
        else:
            patterns = [f"*{ending}{packed}" for ending in FORMATS for packed in ("", *COMPRESSED)]
        files = [file for file in hub_files(repo, patterns, hint) if is_data(file)]
        base = Path(*_common(files))
        return cls._files(repo, {str(file.relative_to(base)): file for file in files}, subset)

    @classmethod
    def _files(cls, name: str, files: Mapping[str, Path], subset: str | None) -> _Parts:
        splits = TRAIN | TEST | VALIDATION | {"data"}
        subsets = sorted({Path(short).parts[0] for short in files if len(Path(short).parts) > 1} - splits)
        if subset is not None:
            files = {short: file for short, file in files.items() if subset in Path(short).parts[:-1]}
            if not files:
                raise DataError(f"{name} has no subset {subset!r}. {suggest(subset, subsets)}")
        elif len(subsets) > 1:
            main = next((one for one in MAIN if one in subsets), None)
            if main is None:
                raise DataError(f"{name} has the subsets {', '.join(subsets)}. Say which one with subset.")
            files = {short: file for short, file in files.items() if Path(short).parts[0] == main}
        tables = {short: (Path(short).name, tables_of([file])[0]) for short, file in files.items()}
        return cls._divided(name, tables)

    @classmethod
    def _divided(cls, name: str, tables: Mapping[str, tuple[str, Table]]) -> _Parts:
        """The tables by split, from the words of their names."""
        words = {key: split_words(key, TRAIN | TEST | VALIDATION) for key in tables}
        test = [table for key, table in tables.items() if words[key] & TEST]
        validation = [table for key, table in tables.items() if words[key] & VALIDATION]
        train = [table for key, table in tables.items() if not words[key] & (TEST | VALIDATION)]
        return cls(name, train, test or validation)


def is_hub_name(source: str) -> bool:
    """Whether a source that is not on this machine is a data set of the hub, not a file.

    >>> is_hub_name("openai/gsm8k"), is_hub_name("own/train.jsonl")
    (True, False)
    """
    return NAME.fullmatch(source) is not None and not source.lower().endswith((*FORMATS, *COMPRESSED))


def _common(files: Sequence[Path]) -> tuple[str, ...]:
    """The folders that all files share; in a snapshot of the hub, the folders up to its commit."""
    parts = files[0].parts
    place = next((i for i, part in enumerate(parts) if part == "snapshots"), len(parts) - 3)
    return parts[: place + 2]


def _are_parts(given: Mapping[str, Any]) -> bool:
    """Whether a mapping holds rows by split, and not cells by column."""
    return any(isinstance(part, list) and part and isinstance(part[0], Mapping) for part in given.values())


def _memory(label: str, given: Iterable[Mapping[str, Any]]) -> Table:
    def read(on_error: Callable[[DataError], None]) -> Iterator[Row]:
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise DataError(f"{label}: expected rows, such as a list of dicts, got {type(given).__name__}.")
        if isinstance(given, Iterator):
            raise DataError(
                f"{label}: a {type(given).__name__} can be read only once, and another environment reads the rows "
                "again. Give a list, such as list(rows)."
            )
        for number, row in enumerate(given, 1):
            if isinstance(row, Mapping):
                yield f"row {number}", row
            else:
                on_error(
                    DataError(
                        f"{label}, row {number}: expected a dict such as {{'problem': '...', 'answer': '...'}}, got "
                        f"{type(row).__name__}. For a data frame, give frame.to_dict('records')."
                    )
                )

    return label, read


DataEnv_vector = vector_of(DataEnv)
