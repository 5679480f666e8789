"""From a row of a data set to a problem: which column holds which part, and the text of its value."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from llmrl.envs.problems import Problem
from llmrl.envs.spaces import MAX_LENGTH
from llmrl.envs.tables import DataError
from llmrl.registry import suggest

COLUMNS: dict[str, tuple[str, ...]] = {
    "problem": (
        *("problem", "question", "prompt", "messages", "conversations", "conversation"),
        *("query", "instruction", "input"),
    ),
    "answer": (
        *("answer", "final_answer", "expected_answer", "ground_truth", "gold", "gold_answer", "correct_answer"),
        *("reference_answer", "reward_model.ground_truth", "target", "label", "output", "completion", "response"),
    ),
    "solution": ("solution", "rationale", "reasoning"),
    "subject": ("subject", "type", "subfield", "problem_type"),
    "level": ("level", "difficulty"),
    "id": ("id", "unique_id", "problem_id", "problem_idx", "uuid", "extra_info.index"),
}
"""Usual names of the columns of each part, the likeliest first; case does not matter. A name with a dot is a field
of a column of objects."""
WORKED = ("target", "label", "output", "completion", "response")
"""Columns that may hold a worked solution instead of an answer."""
_NESTED = {name.partition(".")[0] for names in COLUMNS.values() for name in names if "." in name}
MISSING = frozenset({"nan", "null", "<na>"})
"""Texts that programs write for a missing value."""


class Columns:
    """Finds the columns of rows that have the same names.

    Args:
        asked: the columns that the user named, for ``problem``, ``answer`` and others; None: find them by name.
    """

    def __init__(self, asked: Mapping[str, str | None]) -> None:
        self.asked = asked
        self._known: dict[tuple[str, ...], dict[str, str | None]] = {}

    def problem(self, row: Mapping[str, Any], place: str, source: str) -> Problem:
        """A problem from a row.

        Args:
            row: its columns.
            place: the place of the row, for errors.
            source: the ``source`` of the problem.

        Raises:
            DataError: a part is missing or empty, or it cannot be asked or graded.
        """
        names = self.names(row, place)

        def text(part: str) -> str:
            name = names[part]
            if name is None:
                return ""
            where, value = f"{place}, column {name!r}", _unpacked(cell(row, name))
            if is_conversation(value):  # such as the completion of a data set of conversations
                return "\n\n".join(_content(m.get("content", m.get("value")), where) for m in value).strip()
            return as_text(value, where).strip()

        problem, solution = self._asked(row, names, place)
        if not problem:
            raise _missing(place, "problem", names["problem"], row)
        if len(problem) > MAX_LENGTH:
            raise DataError(
                f"{place}, column {names['problem']!r}: the problem has {len(problem):,} characters, and at most "
                f"{MAX_LENGTH:,} can be asked."
            )
        answer, worked = text("answer"), text("solution") or solution
        if answer.lower() in MISSING:
            answer = ""
        if "####" in answer:  # GSM8K keeps the worked solution and the answer together
            worked, answer = _behind_hashes(answer)
        elif names["answer"] is not None and names["answer"].lower() in WORKED and (box := last_box(answer)):
            worked, answer = answer, box
        if not answer and worked:
            answer = last_box(worked) or (_behind_hashes(worked)[1] if "####" in worked else "")
        if not answer and solution and names["answer"] is None:
            answer = solution  # the reply of a conversation, which is short where it is the answer alone
        if not answer:
            raise _missing(place, "answer", names["answer"], row)
        level = re.search(r"\d{1,9}", text("level"))
        return Problem(
            id=text("id"),
            problem=problem,
            answer=answer,
            solution=worked or None,
            subject=slug(text("subject")) or None,
            level=int(level[0]) if level else None,
            source=source,
        )

    def _asked(self, row: Mapping[str, Any], names: Mapping[str, str | None], place: str) -> tuple[str, str]:
        """The text of the problem, and the reply if it is a conversation."""
        name = names["problem"]
        if name is None:
            return "", ""
        value = _unpacked(cell(row, name))
        where = f"{place}, column {name!r}"
        if is_conversation(value):
            return asked_in(value, where)
        problem = as_text(value, where).strip()
        more = next((key for key in row if key.lower() == "input"), None)
        if name.lower() == "instruction" and more is not None:
            problem = f"{problem}\n\n{as_text(row[more], f'{place}, column {more!r}')}".strip()
        return problem, ""

    def names(self, row: Mapping[str, Any], place: str) -> dict[str, str | None]:
        """The name of the column of each part; None if no column is known to hold it.

        Raises:
            DataError: a column that the user named does not exist.
        """
        key = tuple(row)
        if key in self._known:
            return self._known[key]
        lower = {str(name).lower(): str(name) for name in row}
        names: dict[str, str | None] = {}
        for part, known in COLUMNS.items():
            wanted = self.asked.get(part)
            if wanted is not None:
                if not has(row, wanted):
                    raise DataError(f"{place}: there is no column {wanted!r}. {suggest(wanted, map(str, row))}")
                names[part] = wanted
                continue
            names[part] = None
            for name in known:
                head, dot, rest = name.partition(".")
                if head in lower and (not dot or has(row, f"{lower[head]}.{rest}")):
                    if part != "problem" and lower[head] == names["problem"]:
                        continue
                    names[part] = lower[head] + dot + rest
                    break
        if names["answer"] is not None or not _NESTED & lower.keys():  # otherwise another row may have the field
            self._known[key] = names
        return names


def has(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a column, or a field of one: ``reward_model.ground_truth``."""
    if name in row:
        return True
    head, dot, rest = name.partition(".")
    inner = _unpacked(row.get(head)) if dot else None
    return isinstance(inner, Mapping) and has(inner, rest)


def cell(row: Mapping[str, Any], name: str) -> Any:
    """The value of a column, or of a field of one; None if the row does not have it."""
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    inner = _unpacked(row.get(head)) if dot else None
    return cell(inner, rest) if isinstance(inner, Mapping) else None


def _unpacked(value: Any) -> Any:
    """The value, or the list or object if it is a text that holds one as JSON."""
    if isinstance(value, str) and value[:1] in "[{" and value[:2] in ("[{", '{"'):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages: ``role`` and ``content``, or ``from`` and ``value``."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(
            isinstance(m, Mapping) and ({"role", "content"} <= m.keys() or {"from", "value"} <= m.keys()) for m in value
        )
    )


_SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant"}


def asked_in(messages: Sequence[Mapping[str, Any]], place: str) -> tuple[str, str]:
    """The question of a conversation, and the reply to it; '' without a reply.

    The text of a system message is put before the question.

    Raises:
        DataError: there is no question, or more than one.
    """
    said: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for message in messages:
        role = str(message.get("role", message.get("from"))).lower()
        role = "system" if role == "developer" else _SPEAKERS.get(role, role)
        if role not in said:
            raise DataError(f"{place}: a message has the role {role!r}. {suggest(role, said)}")
        said[role].append(_content(message.get("content", message.get("value")), place).strip())
    if len(said["user"]) != 1:
        raise DataError(
            f"{place}: expected a conversation with one question, got {len(said['user'])} messages of the user. "
            "An environment of several turns can play it (docs/turns.md)."
        )
    return "\n\n".join([*filter(None, said["system"]), *said["user"]]), "\n\n".join(said["assistant"])


def _content(value: Any, place: str) -> str:
    """The text of a message; the message may have several parts."""
    if isinstance(value, (list, tuple)):
        parts = []
        for part in value:
            if not isinstance(part, Mapping) or part.get("type", "text") != "text":
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise DataError(f"{place}: a message holds {kind!r}; only text can be asked.")
            parts.append(as_text(part.get("text"), place))
        return "".join(parts)
    return as_text(value, place)


def _behind_hashes(text: str) -> tuple[str, str]:
    """The worked solution and the answer of GSM8K's notation."""
    solution, _, answer = (part.strip() for part in text.rpartition("####"))
    return re.sub(r"<<.*?>>", "", solution), answer


def _missing(place: str, part: str, column: str | None, row: Mapping[str, Any]) -> DataError:
    if column is not None:
        return DataError(f"{place}, column {column!r}: the {part} is empty.")
    names = COLUMNS[part]
    box = " and no solution has a \\boxed{} answer" if part == "answer" else ""
    return DataError(
        f"{place}: no column is called {', '.join(names[:-1])} or {names[-1]}{box}. "
        f"Name it with {part}_column. {suggest(names[0], map(str, row))}"
    )


def as_text(value: Any, place: str) -> str:
    """A value as text; numbers exactly.

    Raises:
        DataError: it is neither text nor a finite number, or the text is not valid Unicode.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: character {error.start + 1} is half of a surrogate pair, not valid text. Correct it."
            ) from error
        return value
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (Integral, Real, Decimal)):
        return _number(value, place)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{place}: not valid UTF-8 ({error.reason}).") from error
    if isinstance(value, (list, tuple)):
        if any(isinstance(item, (list, tuple)) for item in value):
            raise DataError(f"{place}: expected text, got a list of lists.")
        return ", ".join(as_text(item, place) for item in value)
    raise DataError(f"{place}: expected text, got {type(value).__name__}.")


def _number(value: Any, place: str) -> str:
    if isinstance(value, Integral):
        try:
            return str(int(value))
        except ValueError as error:
            raise DataError(f"{place}: the number has too many digits. Write it as text.") from error
    if not math.isfinite(value):
        raise DataError(
            f"{place}: {value} is not a number that an answer could be. Correct it, or leave the cell empty."
        )
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    text = format(exact, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def last_box(text: str) -> str | None:
    r"""The content of the last ``\boxed{}`` of a solution.

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
    """A subject as a plain name: its words in lower case, in any script.

    >>> slug("Counting & Probability"), slug("Géométrie (bases)"), slug("数学")
    ('counting_and_probability', 'géométrie_bases', '数学')
    """
    text = unicodedata.normalize("NFC", subject.lower().replace("&", " and "))
    # letters, marks and digits; \w would break words at the vowel signs of Indian scripts
    return "_".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split())
