"""Checkpoints: one folder per checkpoint, complete or absent, and ``latest``, a link to the newest.

A folder is a Hugging Face model with tokenizer, plus ``trainer.pt`` with everything else that the run
needs to go on.  It is written under another name, flushed to disk and renamed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_NAME = re.compile(r"checkpoint-(\d+)")


def save(
    folder: Path, step: int, save_model: Callable[[Path], object], state: dict[str, Any], keep: int
) -> Path:
    """Write ``folder/checkpoint-STEP``, point ``latest`` at it and remove all but the last ``keep``.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints and ``latest`` are untouched.
    """
    target = folder / f"checkpoint-{step:06d}"
    aside = folder / f".writing-{target.name}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        save_model(aside)
        torch.save(state, aside / "trainer.pt")
        for file in aside.rglob("*"):
            if file.is_file():
                _flush(file)
        _flush(aside)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise OSError(
            f"Checkpoint {target} could not be written ({error}). Earlier checkpoints are intact: free "
            "some space or give another --output, then use --resume."
        ) from error
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    link = folder / ".latest"
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
    os.replace(link, folder / "latest")
    _flush(folder)
    for old in list_checkpoints(folder)[: -max(keep, 1)]:
        shutil.rmtree(old)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def find(output: Path, resume: str) -> Path:
    """The checkpoint that ``--resume`` means: ``auto`` is the newest of ``output``.

    Raises:
        FileNotFoundError: there is none.
    """
    if resume == "auto":
        found = list_checkpoints(output)
        if not found:
            raise FileNotFoundError(
                f"--resume auto: there is no checkpoint in {output}. Leave --resume out to start anew."
            )
        return found[-1]
    path = Path(resume)
    if not (path / "trainer.pt").is_file():
        raise FileNotFoundError(
            f"--resume {resume}: not a checkpoint (no trainer.pt in it). Give a folder such as "
            "runs/espo-0/checkpoint-000100, or auto."
        )
    return path.resolve()


def load_state(checkpoint: Path) -> dict[str, Any]:
    """What ``trainer.pt`` of a checkpoint holds."""
    state: dict[str, Any] = torch.load(
        checkpoint / "trainer.pt", map_location="cpu", weights_only=True
    )
    return state


def _flush(path: Path) -> None:
    """Make the kernel write a file, or the list of names of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
