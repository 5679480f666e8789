r"""Foreign text, from a model, a data set or a file: made safe to show, and read as JSON or YAML."""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from llmrl.errors import UserError

KEPT = "\n\t"
# Cf holds bidirectional and zero-width characters, which hide or reorder text; two of them, the joiners, are
# needed to write some scripts.
JOINERS = "\u200c\u200d"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
LARGEST = 1 << 26
"""Maximum number of bytes of a line, and of a file that is read as one value; llmrl writes none as large."""
LARGEST_YAML = 1 << 20
"""Maximum number of characters of a YAML text, which is read slowly; settings have a few thousand."""


def visible(text: str, limit: int | None = None) -> str:
    r"""A text without characters that a terminal would act on or hide.

    Control characters (escape sequences among them), bidirectional and invisible characters, lone surrogates and
    private characters are replaced by their escapes. Line breaks and tabs stay.

    Args:
        text: a text of unknown origin.
        limit: number of characters after which the text is cut, with a note of the full length.

    >>> print(visible("5\u202e\x1b[2J\ud800"))
    5\u202e\x1b[2J\ud800
    >>> visible("x" * 50, limit=10)
    'xxxxxxxxxx... (50 characters)'
    """
    total = len(text)
    if limit is not None and total > limit:
        text = text[:limit]
    if not text.isprintable():
        text = "".join(sign if _harmless(sign) else ascii(sign)[1:-1] for sign in text)
    return f"{text}... ({total} characters)" if limit is not None and total > limit else text


def one_line(text: str, limit: int = 200) -> str:
    r""":func:`visible` on one short line, for tables and messages.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return visible(text, limit).replace("\n", "\\n").replace("\t", "\\t")


def counted(count: int, noun: str) -> str:
    """A number and its noun, in the plural unless the number is 1.

    >>> counted(1, "problem"), counted(1319, "problem")
    ('1 problem', '1319 problems')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def without_addresses(text: str) -> str:
    """An object's text without addresses in memory, which differ in every process.

    >>> without_addresses("<function f at 0x7f00>")
    '<function f>'
    """
    return _ADDRESS.sub("", text)


class DamagedFile(UserError, ValueError):
    """A file is damaged; the message names it and says what is wrong."""


def real_path(path: Path) -> Path:
    """A path without links; a loop of links stays as it is, where ``Path.resolve`` would raise RuntimeError."""
    return Path(os.path.realpath(path))


def read_whole(path: Path) -> bytes:
    """The content of a file that is read as one value.

    Raises:
        DamagedFile: it is no regular file, or larger than any that llmrl writes.
    """
    with _opened(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise DamagedFile(f"{path} is larger than {LARGEST >> 20} MiB, so it is none that llmrl wrote.")
    return content


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, one at a time.

    Raises:
        DamagedFile: it is no regular file, or has a line longer than any that llmrl writes.
    """
    with _opened(path) as file:
        while line := file.readline(LARGEST + 1):
            if len(line) > LARGEST:
                raise DamagedFile(f"{path} has a line of more than {LARGEST >> 20} MiB, so llmrl did not write it.")
            yield line


def _opened(path: Path) -> IO[bytes]:
    """A file for reading; opening a pipe would wait for its other end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DamagedFile(f"{path} is a folder, a pipe or a device, where a file is expected.")
    return os.fdopen(descriptor, "rb")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DamagedFile: it is cut off, not text, nested too deeply, too large, or has a number of thousands of digits.
    """
    return _parsed(read_whole(path), str(path))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file with one JSON object per line.

    Raises:
        DamagedFile: a line is not a JSON object; the message says which line.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        row = _parsed(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise DamagedFile(f"{path}, line {number} holds no JSON object: {one_line(str(row), 40)}")
        rows.append(row)
    return rows


def parse_line(line: bytes) -> dict[str, Any] | None:
    """The object on a line; None if there is none, as on a line that is being written."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, or cut inside a character
        return None
    return value if isinstance(value, dict) else None


def json_line(value: Any) -> str:
    r"""A value as a line of JSON, with readable characters; in ASCII if a text has a lone surrogate, which UTF-8
    refuses.

    >>> print(json_line({"x": "\u00e9"}), json_line("half \ud800"), end="")
    {"x": "é"}
     "half \ud800"
    """
    text = json.dumps(value, ensure_ascii=False)
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        text = json.dumps(value)
    return text + "\n"


def parse_yaml(text: str) -> Any:
    """The value of a YAML text, without tags and aliases.

    Tags make objects, some of which fail in ways of their own; with aliases a few lines expand to gigabytes.

    Raises:
        ValueError: the text is no such YAML; the message says why, on one line.

    >>> parse_yaml("a: [1, x]")
    {'a': [1, 'x']}
    >>> parse_yaml("!!int x")
    Traceback (most recent call last):
    ValueError: tags such as !!int are not read; write the value alone
    """
    if len(text) > LARGEST_YAML:
        raise ValueError(f"it has more than {LARGEST_YAML} characters")
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(one_line(" ".join(str(error).split()))) from error


class _PlainLoader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases such as *{event.anchor} are not read; write the value out")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise yaml.YAMLError(f"tags such as {tag} are not read; write the value alone")
        return super().compose_node(parent, index)


def _parsed(data: bytes, place: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{place} cannot be read as JSON: {one_line(str(error))}.") from error


def _harmless(sign: str) -> bool:
    if sign in KEPT or sign in JOINERS:
        return True
    return unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
