"""Checkpoints of a sharded model: each rank writes its shard, and any number of ranks can read them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from llmrl.distributed.ranks import Ranks
from llmrl.distributed.world import World


def write(tensors: dict[str, Tensor], folder: Path, world: World) -> None:
    """Write tensors under their names; every rank must call this.

    Raises:
        OSError: the disk is full or not writable on one of the ranks.
    """
    try:
        dcp.save(tensors, checkpoint_id=folder, process_group=_group(world), no_dist=world.size == 1)
    except CheckpointException as error:
        raise OSError(_reason(error)) from error


def read(tensors: dict[str, Tensor], folder: Path, world: World) -> None:
    """Fill tensors with the values written under their names, by any number of ranks; every rank must call this.

    Raises:
        OSError: a file cannot be read, or a name is missing.
    """
    try:
        with warnings.catch_warnings():
            # PyTorch warns of every read by one process, which is intended here.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            dcp.load(tensors, checkpoint_id=folder, process_group=_group(world), no_dist=world.size == 1)
    except CheckpointException as error:
        raise OSError(f"The weights in {folder} cannot be read: {_reason(error)}") from error


def _group(world: World) -> Any:
    return world.objects if isinstance(world, Ranks) else None


def _reason(error: CheckpointException) -> str:
    rank, (met, _) = next(iter(error.failures.items()))
    return f"rank {rank}: {type(met).__name__}: {met}"
