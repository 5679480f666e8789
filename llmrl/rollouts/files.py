"""Rollouts on disk: a line of text per response, and next to it the tensors that were trained on.

``rollouts/step_000012.jsonl`` is for people, ``rollouts/step_000012.safetensors`` for programs; the rows of both
are in the same order. A tensor has the name of its entry in :mod:`llmrl.keys`, nested names joined by a dot:
``tokens.full``, ``old_log_prob``. The table there explains the entries.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from tensordict import TensorDict
from torch import Tensor

from llmrl import keys
from llmrl.errors import UserError
from llmrl.keys import Key
from llmrl.likeness import refuse_unlike
from llmrl.policies.saving import write_tensors
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.records import FORM, Record
from llmrl.text import DamagedFile, json_line, one_line, parse_line, read_json_lines

NEEDED: tuple[Key, ...] = (keys.TOKENS, keys.ATTENTION, keys.MASK, keys.GROUP)
"""The entries that all rollouts have."""
_ABOUT = "rollouts"  # the one text entry of the file of tensors


class RolloutsError(UserError, ValueError):
    """Saved rollouts cannot be found or read; the message names the file and says what to do."""


def write_rollouts(folder: Path, step: int, rollouts: Rollouts) -> Path:
    """Write the two files of one step.

    Args:
        folder: the folder of the files of all steps, such as ``runs/espo-0/rollouts``; made if it is missing.
        step: number of the step, part of the file names.
        rollouts: rollouts that ``Trainer.step`` returned, or any batch with as many records as rows.

    Returns:
        The path of the text file; the tensors are next to it, with the ending ``.safetensors``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:06d}.jsonl"
    flat = rollouts.data.flatten_keys(".")
    # Entries may be views of each other; the format refuses views.
    tensors = {str(name): value.detach().cpu().clone() for name, value in flat.items()}
    # One metadata entry: the format writes several in any order, and equal runs should write equal files.
    about = {_ABOUT: json.dumps({"step": step, "dropped_prompts": rollouts.dropped_prompts})}
    write_tensors(tensors, path.with_suffix(".safetensors"), metadata=about)
    with path.open("w") as file:
        for record in rollouts.records:
            file.write(json_line({"step": step, **record}))
    return path


def find_rollouts(path: str | Path) -> Path:
    """The ``.jsonl`` file of the rollouts at a path.

    Args:
        path: either file of a step, or a folder of steps or of a run; a folder stands for its newest step.

    Raises:
        RolloutsError: there are no rollouts, or one of the two files is missing.
    """
    path = Path(path)
    if path.is_dir():
        found = _steps(path) or _steps(path / "rollouts")
        if not found:
            raise RolloutsError(
                f"The folder {path} holds no rollouts (no step_*.jsonl in it or in its rollouts/). Give "
                "the folder of a run, such as runs/espo-0; --checkpoint.rollouts-every says how often "
                "a run writes them."
            )
        path = found[-1]
    elif not path.exists() and path.suffix not in (".jsonl", ".safetensors"):
        raise RolloutsError(f"{path} does not exist. Give a run, a folder of steps, or a file of a step.")
    elif path.suffix not in (".jsonl", ".safetensors"):
        raise RolloutsError(
            f"{path} does not hold rollouts: expected a step_*.jsonl, a step_*.safetensors, or the folder of a run."
        )
    elif not path.is_file():
        there = ", ".join(p.name for p in _steps(path.parent)) or "no rollouts"
        raise RolloutsError(f"There is no file {path}. In {path.parent}: {there}.")
    text, tensors = path.with_suffix(".jsonl"), path.with_suffix(".safetensors")
    for file, other, what in ((text, tensors, "texts"), (tensors, text, "tensors")):
        if not file.is_file():
            raise RolloutsError(
                f"{file}, which holds the {what} of {other.name}, is missing. Put it back next to the "
                "other, or give a step that has both files."
            )
    return text


def read_rollouts(path: str | Path) -> Rollouts:
    """Read rollouts that :func:`write_rollouts` wrote; the tensors are on the CPU.

    Args:
        path: either file of a step, or a folder of steps or of a run; a folder stands for its newest step.

    Returns:
        Tensors and records, row by row; each record also has its ``"step"``.

    Raises:
        RolloutsError: a file is missing or damaged, or the two files are not of the same rollouts.
    """
    text = find_rollouts(path)
    file = text.with_suffix(".safetensors")
    records = _records(text)
    try:
        with safe_open(file, framework="pt") as opened:
            about = parse_line((opened.metadata() or {}).get(_ABOUT, "{}").encode())
            flat = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RolloutsError(
            f"{file} cannot be read ({error}). It is damaged, perhaps cut short: give another step."
        ) from error
    refuse_missing_tensors(str(file), flat, NEEDED)
    refuse_wrong_tensors(str(file), flat)
    if about is None:
        raise RolloutsError(f"{file} does not say of which step it is: its entry {_ABOUT!r} is no JSON object.")
    rows = len(flat[keys.GROUP])
    _check_pair(text, file, records, flat[keys.GROUP].tolist(), about)
    try:
        data = TensorDict(flat, batch_size=[rows]).unflatten_keys(".")
    except KeyError as error:
        raise RolloutsError(f"{file}: {one_line(str(error))} Give another step.") from error
    return Rollouts(data, records, about.get("dropped_prompts", 0))


def refuse_missing_tensors(place: str, flat: Mapping[str, Tensor], needed: Sequence[Key]) -> None:
    """Raise RolloutsError unless there is a tensor for every needed entry."""
    for name in map(_flat, needed):
        if not isinstance(flat.get(name), Tensor):
            raise RolloutsError(
                f"{place} has no entry {name!r}, so it holds no rollouts. It has: "
                f"{', '.join(map(str, sorted(flat))) or 'nothing'}."
            )


def _flat(key: Key) -> str:
    return key if isinstance(key, str) else ".".join(key)


def refuse_wrong_tensors(place: str, flat: Mapping[str, Tensor], rows: int | None = None) -> None:
    """Raise unless every entry of the table has its shape and kind of numbers, and others a row for each response.

    Args:
        place: where they are from, for the message.
        flat: tensors by name, nested names joined by a dot; the token ids are among them.
        rows: number of responses; None: that of the token ids.

    Raises:
        RolloutsError: an entry has another form, or a token id is below 0.
    """
    named = {_flat(entry.key): entry for entry in keys.TABLE}
    shape = flat[".".join(keys.TOKENS)].shape
    sizes = {"[N, T]": shape, "[N]": shape[:1], "[N, 1]": (*shape[:1], 1)}
    for name, tensor in flat.items():
        row = named.get(name)
        if not isinstance(tensor, Tensor):
            raise RolloutsError(f"{place}: {one_line(name)!r} is no tensor.")
        kind = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
        same_size = tensor.shape == sizes[row.shape] if row is not None and row.shape in sizes else True
        same_rows = tensor.shape[:1] == shape[:1] and rows in (None, *shape[:1])
        same_kind = row is None or row.dtype.startswith(kind)
        if len(shape) != 2 or not same_rows or not same_size or not same_kind:
            expected = "a row for each response" if row is None else keys.describe(row.key)
            raise RolloutsError(
                f"{place}: {one_line(name)!r} is {list(tensor.shape)} {kind}; with [N, T] = {list(shape)} expected "
                f"{expected}. Give another step."
            )
    if shape.numel() and int(flat[".".join(keys.TOKENS)].min()) < 0:
        raise RolloutsError(f"{place} has token ids below 0. Give another step.")


def _check_pair(text: Path, file: Path, records: list[Record], groups: list[int], about: dict[str, int]) -> None:
    """Raise unless both files have the same rows, groups and step: files of two runs may have the same name."""
    advice = "Put back the file that belongs to the other, or give another step."
    if len(records) != len(groups):
        raise RolloutsError(
            f"{text} has {len(records)} lines and {file.name} {len(groups)} rows: they are not of the "
            f"same rollouts. {advice}"
        )
    step = about.get("step")
    for row, (record, group) in enumerate(zip(records, groups, strict=True)):
        same = record.get("group") == group and (step is None or record.get("step") == step)
        if not same:
            raise RolloutsError(
                f"{text} line {row + 1} is of step {record.get('step')} and group "
                f"{record.get('group')}, {file.name} of step {step} and group {group}: they are not of "
                f"the same rollouts. {advice}"
            )


def _records(text: Path) -> list[Record]:
    try:
        records = read_json_lines(text)
    except DamagedFile as error:
        raise RolloutsError(str(error)) from error
    for number, record in enumerate(records, 1):
        try:
            refuse_unlike(record, FORM, "it")
        except ValueError as error:
            raise RolloutsError(f"{text}, line {number} is no record: {one_line(str(error))}.") from error
    return records


def _steps(folder: Path) -> list[Path]:
    """The text files of a folder, oldest step first."""
    return sorted(folder.glob("step_*.jsonl"), key=lambda p: (len(p.name), p.name))
