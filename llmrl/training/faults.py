"""Faults that need not end training: too little memory, a bad batch, an environment that raises errors.

This file recognises each fault, keeps files to investigate it, and lets training continue. The trainer decides when to
stop.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from tensordict import TensorDict

from llmrl.distributed.world import World
from llmrl.errors import UserError
from llmrl.policies.saving import write_tensors
from llmrl.policies.scoring.forward import ForwardPass
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.records import Record
from llmrl.text import json_line

T = TypeVar("T")

MAX_DUMPS = 20
"""The largest number of saved bad batches in a run; they are large, and the first ones tell most."""
# The CPU's allocator has no exception type of its own; its text depends on the platform.
_CPU_ALLOCATOR = ("not enough memory", "can't allocate memory")


class TrainingError(UserError, RuntimeError):
    """Training cannot continue; the message says why, and which files are intact."""

    exit_status = 1


class TooLarge(Exception):
    """A micro-batch did not fit into memory."""

    def __init__(self, rows: int, length: int) -> None:
        super().__init__(f"{rows} rows of {length} tokens did not fit into memory")
        self.rows = rows
        self.length = length


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to ..."))
    True
    >>> is_out_of_memory(RuntimeError("size mismatch"))
    False
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_ALLOCATOR)


@contextmanager
def sized(batch: Batch, forward_pass: ForwardPass) -> Iterator[None]:
    """Work on one micro-batch: running out of memory becomes :class:`TooLarge`, with its size."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        rows, length = batch.extent(forward_pass)
        raise TooLarge(rows, length) from error


class Memory:
    """The largest number of tokens of a micro-batch; it shrinks each time a micro-batch does not fit into memory.

    Args:
        budget: tokens to begin with, padding included.
        note: called with a sentence after every change.
        world: the ranks with the same budget. With several ranks, the others wait inside the failed pass, so it cannot
            be repeated.
    """

    def __init__(self, budget: int, note: Callable[[str], object], world: World | None = None) -> None:
        self.budget = budget
        self.note = note
        self.world = world or World()

    def fit(self, work: Callable[[int], T]) -> T:
        """Run ``work(budget)``; if memory runs out, run it again with half the budget, until it fits.

        Args:
            work: cuts its rows into micro-batches of the budget, and raises :class:`TooLarge` if one does not
                fit. It must be repeatable: a new call first undoes the work of the failed one.

        Raises:
            TrainingError: a single row does not fit.
        """
        before = self.budget
        while True:
            try:
                done = work(self.budget)
                break
            except TooLarge as error:
                if error.rows == 1:
                    raise TrainingError(
                        f"A single response does not fit into memory: {error.length} tokens, prompt "
                        "included. Give a smaller --policy.max-response-length or --policy.max-prompt-length, "
                        "--policy.gradient-checkpointing, or --policy.dtype bfloat16."
                    ) from error
                less = error.rows // 2 * error.length
                if self.world.size > 1:
                    raise TrainingError(
                        f"A micro-batch of {error.rows} rows of {error.length} tokens did not fit into memory, and "
                        "several processes cannot do it again with a smaller one. Give the same command with --output "
                        f"(the folder of this run), --resume auto and --train.micro-batch-tokens {less}, which changes "
                        "numbers by rounding at most (by more with clip_cov and kl_cov, which rank the tokens of a "
                        "micro-batch)."
                    ) from error
                self.budget = less
            # Outside the except block, because the error holds the frames, and they hold the tensors.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if self.budget != before:
            self.note(
                f"A micro-batch did not fit into memory: from now on they have at most {self.budget} tokens "
                f"instead of {before} (--train.micro-batch-tokens). The work was repeated with them."
            )
        return done


def dump(folder: Path, step: int, data: TensorDict, records: Sequence[Record]) -> Path | None:
    """Write ``step_000012.safetensors`` and ``.jsonl``: a batch to replay, and its texts.

    Args:
        data: the input of the loss; see :func:`load_batch`.
        records: one record per row.

    Returns:
        The path of the first file; None if the limit was reached and nothing was written.

    Raises:
        OSError: the files could not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("step_*.safetensors"))) + 1
    if number > MAX_DUMPS:
        return None
    stem = f"step_{step:06d}"
    same = len(list(folder.glob(f"{stem}[._]*safetensors")))
    path = folder / (f"{stem}.safetensors" if not same else f"{stem}_{same + 1}.safetensors")
    flat = data.flatten_keys(".")
    write_tensors({name: flat[name].contiguous().cpu() for name in flat.keys()}, path)  # noqa: SIM118
    write_records(path.with_suffix(".jsonl"), step, records)
    return path


def load_batch(path: Path) -> TensorDict:
    """Read a batch that :func:`dump` wrote, with entries of :mod:`llmrl.keys`; score it, then call the loss."""
    tensors = load_file(path)
    rows = len(next(iter(tensors.values())))
    return TensorDict(tensors, batch_size=[rows]).unflatten_keys(".")


def write_records(path: Path, step: int, records: Sequence[Record]) -> None:
    """Append one line per record to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for record in records:
            file.write(json_line({"step": step, **record}))


def split_faults(rollouts: Rollouts) -> tuple[Rollouts, list[Record]]:
    """Leave out every group in which an environment raised an error.

    A group with missing rows would have another baseline than complete groups.

    Returns:
        The complete groups, and the records of the rows with an error.
    """
    broken = [record for record in rollouts.records if record.get("fault")]
    if not broken:
        return rollouts, []
    groups = {record["group"] for record in broken}
    whole = torch.tensor([record["group"] not in groups for record in rollouts.records])
    return rollouts.select(whole), broken


def last_line(fault: str) -> str:
    """The last line of a traceback.

    >>> last_line("Traceback (most recent call last):\\n  ...\\nValueError: no")
    'ValueError: no'
    """
    return fault.splitlines()[-1]


def place(fault: str) -> str:
    """The place in the code where a traceback ends.

    >>> place('Traceback (most recent call last):\\n  File "mine/shop.py", line 3, in step\\nValueError: no')
    'shop.py, line 3'
    """
    found = re.findall(r'^ *File "([^"]*)", line (\d+)', fault, re.MULTILINE)
    return f"{Path(found[-1][0]).name}, line {found[-1][1]}" if found else "no line is known"
