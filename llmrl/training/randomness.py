"""The random generators of the process: save and restore their states.

These are the generators that any code may use: Python's, NumPy's and torch's. The generator of the order of rows
belongs to the trainer. Responses, environments and losses draw from their own seeds.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from llmrl.likeness import Each, Maybe, Within
from llmrl.rollouts.environments import Environments

MOST_ENVIRONMENTS = 2**20
"""A checkpoint may ask for as many."""


def seed_all(seed: int) -> None:
    """Seed the generators that belong to the process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generators() -> dict[str, Any]:
    """The states of the process's generators, as numbers, texts, lists and tensors."""
    name, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (str(name), np.asarray(words).tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def put_back(saved: dict[str, Any]) -> None:
    """Set the process's generators to the states that :func:`generators` returned."""
    random.setstate(saved["python"])
    np.random.set_state(saved["numpy"])
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and torch.cuda.device_count() == len(saved["cuda"]):
        torch.cuda.set_rng_state_all(saved["cuda"])


def state(environments: Environments) -> dict[str, Any]:
    """The states of the generators, and the number of environments made so far."""
    return {**generators(), "environments": environments.made}


def form() -> dict[str, Any]:
    """The form of what :func:`state` returns, for :func:`llmrl.likeness.refuse_unlike`."""
    word, place = Within(0, 2**32 - 1), Within(0, 624)
    return {
        "python": (3, (*[word] * 624, place), Maybe(0.0)),
        "numpy": ("MT19937", [word] * 624, place, Within(0, 1), 0.0),
        "torch": torch.get_rng_state(),
        "cuda": Each(torch.empty(16, dtype=torch.uint8)),
        "environments": Within(0, MOST_ENVIRONMENTS),
    }


def load(saved: dict[str, Any], environments: Environments) -> None:
    """Restore the states; environments that do not exist yet are made."""
    # First, since making an environment may draw from the other generators.
    environments.of_size(max(saved["environments"], 1))
    put_back(saved)
