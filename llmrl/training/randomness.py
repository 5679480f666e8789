"""Every random generator that a run may draw from: their states out, and back in.

The sampler's and the shuffler's own generators are the trainer's; these are the ones that code of
others may use without asking: Python's, NumPy's, torch's, and each environment's ``np_random``.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from llmrl.rollouts.collect import Environments


def seed_all(seed: int) -> None:
    """Seed the generators that belong to the process."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def state(environments: Environments) -> dict[str, Any]:
    """The states of all of them, made of numbers, texts, lists and tensors alone."""
    name, words, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (str(name), np.asarray(words).tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "environments": {
            rows: [_plain(env.unwrapped.np_random.bit_generator.state) for env in vector.envs]
            for rows, vector in environments.made().items()
        },
    }


def load(saved: dict[str, Any], environments: Environments) -> None:
    """Put the states back; environments that do not exist yet are made."""
    # First, since making an environment may itself draw from the others.
    for rows, states in saved["environments"].items():
        for env, one in zip(environments.of_size(rows).envs, states, strict=True):
            env.unwrapped.np_random.bit_generator.state = one
    random.setstate(saved["python"])
    np.random.set_state(saved["numpy"])
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] and torch.cuda.device_count() == len(saved["cuda"]):
        torch.cuda.set_rng_state_all(saved["cuda"])


def _plain(value: Any) -> Any:
    """A bit generator's state without arrays, which a checkpoint does not hold."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
