"""Rows of files: JSON Lines, JSON, CSV, TSV and Parquet, each also compressed with gzip or Zstandard.

A row is a mapping from column names to values. If something cannot be read, the error names the file and the place.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from llmrl.errors import UserError

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSED = (".gz", ".zst")
SUFFIXES = tuple(ending + packed for ending in FORMATS for packed in ("", *COMPRESSED))
NO_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""Files next to the tables of a data set that hold no rows."""

LONGEST_LINE = 1 << 26
"""Maximum number of bytes of a line of JSON."""
ALWAYS_READ, MOST_EXPANDED = 1 << 28, 100
"""A file that is read as a whole may have this many bytes, or be this many times larger than its space on the disk."""

Row = tuple[str, Mapping[str, Any]]
"""The place of a row in words, such as ``line 3``, and its columns."""


class DataError(UserError, ValueError):
    """Data cannot be read; the message names file, row and column."""


class MissingPackage(DataError):
    """Reading a file needs a package that is not installed."""


def refuse(error: DataError) -> NoReturn:
    """Raise the error; the default treatment of a row that cannot be read."""
    raise error


def rows(file: Path, on_error: Callable[[DataError], None] = refuse) -> Iterator[Row]:
    """Every row of a file, with its place in words.

    Args:
        file: the file; its name says the format.
        on_error: called with the error of a single row; if it returns, reading continues with the next row.

    Raises:
        DataError: the file does not have the format of its name, or is broken.
    """
    ending = _format(file)
    readers = {".json": _json_rows, ".csv": _text_table, ".tsv": _text_table, ".parquet": _parquet_rows}
    yield from readers.get(ending, _json_lines)(file, on_error)


def is_data(file: Path) -> bool:
    """Whether a file has the name of a table."""
    return file.name.lower().endswith(SUFFIXES) and file.name not in NO_DATA


def files_in(folder: Path) -> list[Path]:
    """The tables in a folder and its subfolders, sorted, without hidden ones."""
    return [file for file in visible_files(folder) if is_data(file)]


def visible_files(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders, sorted, without hidden ones such as ``.ipynb_checkpoints/*``."""

    def hidden(file: Path) -> bool:
        return any(part.startswith(".") for part in file.relative_to(folder).parts)

    return sorted(file for file in folder.rglob("*") if not hidden(file) and file.is_file())


def _format(file: Path) -> str:
    name = file.name.lower()
    for packed in COMPRESSED:
        name = name.removesuffix(packed)
    return next(ending for ending in FORMATS if name.endswith(ending))


def _opened(file: Path) -> IO[bytes]:
    if file.suffix.lower() == ".gz":
        return gzip.open(file)  # type: ignore[return-value]
    if file.suffix.lower() == ".zst":
        try:
            import pyarrow
        except ImportError as error:
            raise MissingPackage(
                f"Reading {file} needs pyarrow: pip install 'llmrl[parquet]', or decompress it."
            ) from error
        return io.BufferedReader(pyarrow.input_stream(str(file), compression="zstd"))
    return file.open("rb")


_BROKEN = (gzip.BadGzipFile, EOFError, zlib.error, OSError)
"""The exceptions that a broken compressed file raises."""


def _broken(file: Path, where: str, error: Exception) -> DataError:
    kind = {".gz": "broken gzip file", ".zst": "broken Zstandard file"}.get(file.suffix.lower(), "cannot be read")
    return DataError(f"{file}, {where}: {kind}: {error}")


def _json_lines(file: Path, on_error: Callable[[DataError], None]) -> Iterator[Row]:
    number = 0
    with _opened(file) as lines:
        while True:
            try:
                line = lines.readline(LONGEST_LINE + 1)
            except _BROKEN as error:
                raise _broken(file, f"after line {number}", error) from error
            if len(line) > LONGEST_LINE:
                raise DataError(f"{file}, line {number + 1}: it is longer than {LONGEST_LINE >> 20} MiB.")
            if not line:
                return
            number += 1
            if line.strip():
                try:
                    row = _object(line, number == 1, f"{file}, line {number}")
                except DataError as error:
                    on_error(error)
                else:
                    yield f"line {number}", row


def _object(line: bytes, first: bool, place: str) -> Mapping[str, Any]:
    try:
        row = _loads(line.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{place}, byte {error.start + 1}: not valid UTF-8 ({error.reason}).") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{place}, column {error.colno}: {error.msg}.") from error
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    if not isinstance(row, dict):
        raise DataError(
            f'{place}: expected an object such as {{"problem": "...", "answer": "..."}}, got {type(row).__name__}.'
        )
    return row


def _loads(text: str) -> Any:
    """Parse JSON; whole numbers of thousands of digits stay texts, and NaN is refused.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or holds NaN or an infinite number.
    """
    try:
        try:
            return _DECODER.decode(text)
        except ValueError as error:
            if isinstance(error, (json.JSONDecodeError, _NotANumber)):
                raise
            return _PATIENT.decode(text)  # Python refuses to parse numbers with that many digits
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply to be read.") from error


class _NotANumber(ValueError):
    """NaN, or a number that is too large: no answer can be one."""


def _integer(digits: str) -> int | str:
    return digits if len(digits) > 4000 else int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _NotANumber(f"the number {digits} is too large. Write it as text.")
    return value


def _no_number(name: str) -> NoReturn:
    raise _NotANumber(f"{name} is not a number. Write null for a missing value.")


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_no_number)
_PATIENT = json.JSONDecoder(parse_int=_integer, parse_float=_float, parse_constant=_no_number)


def _whole(file: Path) -> bytes:
    """The content of a file, decompressed.

    Raises:
        DataError: it cannot be read, or is so much larger than its space on the disk that it is not made of problems.
    """
    limit = max(ALWAYS_READ, MOST_EXPANDED * 512 * file.stat().st_blocks)
    pieces: list[bytes] = []
    try:
        with _opened(file) as stream:
            while piece := stream.read(1 << 24):
                pieces.append(piece)
                limit -= len(piece)
                if limit < 0:
                    raise DataError(f"{file} expands to more than {MOST_EXPANDED} times its space on the disk.")
    except _BROKEN as error:
        raise _broken(file, "in reading it", error) from error
    return b"".join(pieces)


def _json_rows(file: Path, on_error: Callable[[DataError], None]) -> Iterator[Row]:
    content = _whole(file)
    try:
        tree = _loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}, line {line}: not valid UTF-8 ({error.reason}).") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:  # the file has another name, but its format is JSON Lines
            yield from _json_lines(file, on_error)
            return
        raise DataError(f"{file}, line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error
    for number, row in enumerate(_listed(tree, file), 1):
        if isinstance(row, dict):
            yield f"row {number}", row
        else:
            on_error(DataError(f"{file}, row {number}: expected an object, got {type(row).__name__}."))


def _listed(tree: Any, file: Path) -> list[Any]:
    """The rows of a JSON file: a list of them, an object with one list of them, columns, or a single row."""
    if isinstance(tree, list):
        return tree
    if not isinstance(tree, dict):
        return [tree]
    lists = [value for value in tree.values() if isinstance(value, list)]
    tables = [
        value for value in lists if value and isinstance(value[0], dict) and not {"role", "from"} & value[0].keys()
    ]
    if len(tables) == 1:
        return tables[0]  # such as {"version": "1.0", "data": [...]}
    if len(tables) == len(tree):
        raise DataError(
            f"{file} holds the tables {', '.join(sorted(map(str, tree)))}. Save each as a file in one folder, such as "
            "train.json and test.json, and give the folder."
        )
    by_columns = None if tables else of_columns(tree)
    return [tree] if by_columns is None else by_columns


def of_columns(columns: Mapping[Any, Any]) -> list[dict[Any, Any]] | None:
    """The rows of several columns, lists of the same length; None if these are no columns.

    >>> of_columns({"problem": ["1 + 1", "1 + 2"], "answer": ["2", "3"]})
    [{'problem': '1 + 1', 'answer': '2'}, {'problem': '1 + 2', 'answer': '3'}]
    """
    lists = [value for value in columns.values() if isinstance(value, list)]
    if len(lists) < len(columns) or len(lists) < 2 or len({len(value) for value in lists}) > 1:
        return None
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*lists, strict=True)]


def _text_table(file: Path, on_error: Callable[[DataError], None]) -> Iterator[Row]:
    content = _whole(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{file}, line {line}: not valid UTF-8 ({error.reason}). Save it as UTF-8.") from error
    head = text.partition("\n")[0]
    delimiter = "\t" if _format(file) == ".tsv" else ";" if ";" in head and "," not in head else ","
    csv.field_size_limit(
        max(csv.field_size_limit(), LONGEST_LINE)
    )  # by default 131,072 characters, less than a problem
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        begin = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{file}, line {begin}: {error}.") from error
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [name.strip() for name in cells]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise DataError(f"{file}, line {begin}: several columns are called {twice[0]!r}. Rename them.")
        elif len(cells) != len(names):
            on_error(
                DataError(
                    f"{file}, line {begin}: it has {len(cells)} cells, but the first line names {len(names)} columns. "
                    "Put quotation marks around a cell that holds the separator."
                )
            )
        else:
            yield f"line {begin}", dict(zip(names, cells, strict=True))


def _parquet_rows(file: Path, on_error: Callable[[DataError], None]) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingPackage(
            f"Reading {file} needs pyarrow: pip install 'llmrl[parquet]', or convert it to JSON Lines."
        ) from error
    packed = file.suffix.lower() in COMPRESSED
    try:
        with parquet.ParquetFile(io.BytesIO(_whole(file)) if packed else file) as table:
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (ArrowException, OSError) as error:
        raise DataError(f"{file} is not a Parquet file: {error}") from error
