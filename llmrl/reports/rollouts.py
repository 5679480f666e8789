"""Rollouts of a run for a page: a few responses of a few steps, token by token.

``rollouts/step_000010.jsonl`` has one record a line. ``step_000010.safetensors`` next to it, if there is one, has
tensors in the same order of rows, with the names of :mod:`llmrl.keys`, whose parts are joined by a dot. Text files are
read once, line by line. Of the tensors only the rows on the page are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.errors import PolicyError
from llmrl.keys import MissingEntry
from llmrl.likeness import is_unlike
from llmrl.policies.foreign import failing_as, text_of
from llmrl.policies.names import local_folder
from llmrl.reports.runs import Run
from llmrl.reports.tokens import trust_region
from llmrl.rollouts.files import RolloutsError, refuse_wrong_tensors
from llmrl.rollouts.records import FORM
from llmrl.text import one_line, parse_line, read_lines
from llmrl.training.checkpoint import list_checkpoints

AS_TRAINED = "as trained"
"""The page's name for the algorithm of the run, with the run's own options."""
BATCH = 256
"""Number of rows per call of an algorithm; weights are relative to these rows."""
_RECORD = (
    "group",
    "problem_id",
    "problem",
    "verdict",
    "reward",
    "advantage",
    "answer",
    "extracted",
    "finish_reason",
    "subject",
    "level",
    "detail",
)
_ENTRIES = {
    "log_prob": keys.LOG_PROB,
    "old_log_prob": keys.OLD_LOG_PROB,
    "sampler_log_prob": keys.SAMPLER_LOG_PROB,
    "entropy": keys.ENTROPY,
    "old_entropy": keys.OLD_ENTROPY,
    "token_advantage": keys.ADVANTAGE,
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The share of a run's rollouts that a page shows."""

    steps: int = 12
    """Number of steps, evenly spaced, including the first and the last."""
    per_step: int = 24
    """Number of responses of each step, in whole groups, evenly spaced."""
    max_tokens: int = 2000
    """Maximum number of tokens; of a longer response the beginning is shown."""


@dataclass
class Shown:
    """The part of a run that the page shows; :func:`shown_rollouts` fills it."""

    steps: list[dict[str, int]] = field(default_factory=list)
    """For each step, the number of responses in its file, and the number shown."""
    texts: dict[int, str] = field(default_factory=dict)
    """Every token that occurs."""
    notes: list[str] = field(default_factory=list)
    """Notes on data that could not be shown."""

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def spread(count: int, limit: int) -> list[int]:
    """``limit`` numbers of ``range(count)``, evenly spaced, including both ends.

    >>> spread(10, 4), spread(3, 9), spread(5, 1)
    ([0, 3, 6, 9], [0, 1, 2], [0])
    """
    if count <= limit:
        return list(range(count))
    return [i * (count - 1) // max(limit - 1, 1) for i in range(limit)]


def choose_rows(groups: Sequence[Hashable], limit: int) -> list[int]:
    """At most ``limit`` rows, in order: whole groups, evenly spaced, and at least a part of the first group.

    >>> choose_rows([0, 0, 1, 1, 2, 2], 4)
    [0, 1, 4, 5]
    """
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    members = list(rows.values())
    largest = max(map(len, members), default=1)
    chosen = [row for i in spread(len(members), max(limit // largest, 1)) for row in members[i]]
    return sorted(chosen[:limit])


def recipes_for(run: Run, names: Sequence[str], shown: Shown, allow_code: bool = False) -> dict[str, Algorithm]:
    """The run's own algorithm with its options, then the others with their defaults.

    Args:
        run: a run, whose files may come from anywhere.
        names: the other algorithms.
        shown: gets a note if the run's own algorithm is missing.
        allow_code: import the module that the run's config.yaml names.

    Raises:
        UnknownName: there is no algorithm with this name.
    """
    limit = run.settings.get("policy.max_response_length")

    def made(name: str, **options: Any) -> Algorithm:
        recipe = algorithm(name, **options)
        return recipe.resolve(limit) if isinstance(limit, int) and limit > 0 else recipe

    others = {name: made(name) for name in names}
    options = {k: v for k, v in run.config["algo"].items() if k != "name"}
    if ":" in run.algorithm and not allow_code:
        shown.note(
            f"the run's config.yaml names code of its own, {one_line(run.algorithm)}, which is not imported: "
            "give --allow-code if you trust it"
        )
        return others
    try:
        own = made(run.algorithm, **options)
    except (LookupError, TypeError, ValueError, ImportError) as error:
        shown.note(f"the run's algorithm cannot be made from its config.yaml: {error}")
        return others
    return {AS_TRAINED: own, **{n: r for n, r in others.items() if str(r) != str(own)}}


def shown_rollouts(
    run: Run, recipes: Mapping[str, Algorithm], choice: Choice, shown: Shown
) -> Iterator[dict[str, Any]]:
    """Yield the chosen responses, one at a time, as plain data for the page."""
    tokenizer: Any = None
    without: list[str] = []
    steps = sorted(run.rollouts)
    for step in (steps[i] for i in spread(len(steps), choice.steps)):
        path = run.rollouts[step]
        offsets, groups = _scan(path, shown)
        rows = choose_rows(groups, choice.per_step)
        shown.steps.append({"step": step, "total": len(groups), "shown": len(rows)})
        tensors = path.with_suffix(".safetensors")
        if not tensors.is_file():
            without.append(str(step))
        with path.open("rb") as file:
            for begin in range(0, len(rows), BATCH):
                part = rows[begin : begin + BATCH]
                numbers: list[dict[str, Any]] = [{} for _ in part]
                if tensors.is_file():
                    data = read_rows(tensors, part, len(groups), shown)
                    if data is not None:
                        numbers = _numbers(data, recipes, choice, shown)
                for row, extra in zip(part, numbers, strict=True):
                    file.seek(offsets[row])
                    record = parse_line(file.readline())
                    assert record is not None, "the scan read this line before"
                    entry = {"step": step, "row": row}
                    entry |= {name: _plain(record[name]) for name in _RECORD if name in record}
                    if "tokens" in extra:
                        tokenizer = tokenizer or load_tokenizer(run, shown)
                        for token in extra["tokens"]:
                            if token not in shown.texts:
                                shown.texts[token] = token_text(tokenizer, token)
                    else:
                        entry["response"] = record.get("response", "")
                    yield entry | extra
    if without:
        shown.note(
            f"the rollouts of step {', '.join(without)} have no .safetensors file: their text is shown without the "
            "numbers of its tokens"
        )


def _scan(path: Path, shown: Shown) -> tuple[list[int], list[Hashable]]:
    """The offset of each line, and its group."""
    offsets: list[int] = []
    groups: list[Hashable] = []
    position = 0
    for number, line in enumerate(read_lines(path), 1):
        record = parse_line(line)
        # Rows are counted by lines, so no line may be skipped.
        if record is None or is_unlike(record, FORM):
            wrong = "is incomplete" if record is None else "is no record"
            shown.note(f"{path.name}: read up to line {number}, which {wrong}")
            break
        offsets.append(position)
        groups.append(record.get("group", len(groups)))
        position += len(line)
    return offsets, groups


def read_rows(path: Path, rows: Sequence[int], total: int, shown: Shown) -> TensorDict | None:
    """Some rows of a file of tensors; None, and a note, if it does not fit its records.

    Args:
        rows: in rising order.
        total: the expected number of rows of the file.
    """
    known = {_flat(entry.key): entry.key for entry in keys.TABLE}
    found: dict[keys.Key, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  not a mapping
                view = file.get_slice(name)
                if name not in known or not view.get_shape():
                    continue
                if view.get_shape()[0] < total:
                    shown.note(f"{path.name} has {view.get_shape()[0]} rows for {total} records: not used")
                    return None
                found[known[name]] = torch.cat([view[a:b] for a, b in _ranges(rows)])
    except SafetensorError as error:
        shown.note(f"{path.name} cannot be read, perhaps because it is being written: {error}")
        return None
    lacking = [_flat(key) for key in (keys.TOKENS, keys.MASK) if key not in found]
    if lacking:
        shown.note(f"{path.name} has no {' and no '.join(lacking)}: not used")
        return None
    try:
        refuse_wrong_tensors(path.name, {_flat(key): x for key, x in found.items()}, len(rows))
    except RolloutsError as error:
        shown.note(f"not used: {error}")
        return None
    data = TensorDict({}, batch_size=[len(rows)])
    for key, x in found.items():
        data[key] = x.float() if x.is_floating_point() else x
    for key in (keys.MASK, keys.ATTENTION):
        if key in found:
            data[key] = found[key].bool()
    return data


def _flat(key: keys.Key) -> str:
    return key if isinstance(key, str) else ".".join(key)


def _ranges(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rising rows as ranges without gaps.

    >>> list(_ranges([0, 1, 2, 7]))
    [(0, 3), (7, 8)]
    """
    begin = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield rows[begin], rows[i - 1] + 1
            begin = i


def _numbers(data: TensorDict, recipes: Mapping[str, Algorithm], choice: Choice, shown: Shown) -> list[dict[str, Any]]:
    """For each row the numbers of its tokens, from the first sampled token to the last."""
    mask = data[keys.MASK]
    regions = {}
    for name, recipe in recipes.items():
        try:
            regions[name] = trust_region(recipe, data)
        except MissingEntry as error:
            shown.note(f"{name} is not computed: {error}")
    entries = {name: data[key] for name, key in _ENTRIES.items() if key in data.keys(True, True)}
    result = []
    for row in range(len(data)):
        columns = mask[row].nonzero()[:, 0]
        first = int(columns[0]) if len(columns) else 0
        last = int(columns[-1]) + 1 if len(columns) else 0
        span = slice(first, min(last, first + choice.max_tokens))
        out: dict[str, Any] = {"tokens": data[keys.TOKENS][row, span].tolist()}
        out["cut"] = last - span.stop
        out["sampled"] = short(mask[row, span].int())
        for name, x in entries.items():
            out[name] = short(x.expand_as(mask)[row, span])
        out["algorithms"] = {
            name: {field: short(x[row, span]) for field, x in region._asdict().items() if x is not None}
            for name, region in regions.items()
        }
        result.append(out)
    return result


def short(x: Tensor) -> Any:
    """Numbers with four digits, or a single one if all are equal; None for a number that is not finite.

    >>> short(torch.tensor([0.123456, 2.0])), short(torch.tensor([3, 3]))
    ([0.1235, 2.0], 3)
    """
    values = x.tolist()
    if x.is_floating_point():
        values = [float(f"{v:.4g}") if math.isfinite(v) else None for v in values]
    return values[0] if values and all(v == values[0] for v in values) else values


def _plain(value: Any) -> Any:
    """A value of a record, if JSON can hold it; None for numbers that are not finite."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return value


def load_tokenizer(run: Run, shown: Shown) -> Any:
    """The tokenizer of the run's newest checkpoint or of its policy; None, and a note, without one."""
    from transformers import AutoTokenizer

    checkpoints = list_checkpoints(run.folder)
    try:
        with failing_as("the tokenizer cannot be loaded, so tokens are shown as numbers"):
            folder = checkpoints[-1] if checkpoints else local_folder(str(run.config.get("policy", {}).get("path", "")))
            if folder is None:  # a name on the hub: a run's file may not open an address
                shown.note("the run has no checkpoint to take its tokenizer from, so tokens are shown as numbers")
                return None
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except PolicyError as error:
        shown.note(one_line(str(error)))
        return None


def token_text(tokenizer: Any, token: int) -> str:
    """The text of a token, with its leading space."""
    if tokenizer is None:
        return f"<{token}>"
    try:
        text = text_of(tokenizer, [token])
    except PolicyError:  # it has no such token, or fails
        return f"<{token}>"
    piece = tokenizer.convert_ids_to_tokens(token)
    # A SentencePiece decoder drops the space before the first word.
    if isinstance(piece, str) and piece.startswith("▁") and not text.startswith(" "):
        return " " + text
    return text


def json_text(value: Any) -> str:
    """JSON that is safe inside ``<script type="application/json">``.

    >>> json_text("</script><img onerror>")
    '"\\\\u003c/script\\\\u003e\\\\u003cimg onerror\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
