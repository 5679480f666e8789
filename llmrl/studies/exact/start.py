"""The policies of the exact tasks, and the start points that ship with llmrl.

    python -m llmrl.studies.exact.start

fits them and writes ``starts-v1.safetensors``. A run reads the file and never fits, because rounding differs between
machines and all results of a version must start from the same numbers.
"""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from llmrl.errors import UserError
from llmrl.studies.exact.machine import Machine
from llmrl.studies.exact.task import ExactTask, mean_success
from llmrl.studies.exact.tasks import EXACT

FILE = "starts-v1.safetensors"
DIGEST = "ea92b3d0490c39971bf8dd5e9a09206accb617290b465e6e5fe48fa050a0e852"
"""SHA-256 of the file."""
_MOST_STEPS = 3000


class WrongStart(UserError):
    """The file of start points is not the one of this version."""


def new_policy(task: ExactTask) -> nn.Module:
    """A policy [., F] -> logits [., V] with torch's initial weights."""
    inputs, tokens = task.machine.features.shape[1], task.machine.after.shape[1]
    if not task.hidden:
        return nn.Linear(inputs, tokens)
    return nn.Sequential(nn.Linear(inputs, task.hidden), nn.Tanh(), nn.Linear(task.hidden, tokens))


def start_policy(task: ExactTask) -> nn.Module:
    """The start policy of every run of a task; for a task of your own it is fitted at the first use.

    Raises:
        WrongStart: the file of start points has been changed.
    """
    policy = new_policy(task)
    if EXACT.get(task.name) is task:
        begin = f"{task.name}."
        weights = {name.removeprefix(begin): x for name, x in _shipped().items() if name.startswith(begin)}
    else:
        weights = fit(task).state_dict()
    policy.load_state_dict(weights)
    return policy


@functools.cache
def _shipped() -> dict[str, Tensor]:
    content = resources.files("llmrl.studies.exact").joinpath(FILE).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != DIGEST:
        raise WrongStart(
            f"{FILE} has the SHA-256 {digest}, expected {DIGEST}: results from it could not be compared with any "
            "others. Install llmrl again."
        )
    return load(content)


def success_of(machine: Machine, policy: nn.Module) -> float:
    """The exact probability of success."""
    with torch.no_grad():
        probs = policy(machine.features).double().softmax(-1)
    return mean_success(machine, machine.reach(probs)[1])


def fit(task: ExactTask) -> nn.Module:
    """Imitate the task's teacher until success reaches the task's start, or for 3,000 steps of Adam."""
    machine = task.machine
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = new_policy(task)
    taught = machine.teacher.sum(1) > 0
    features, target = machine.features[taught], machine.teacher[taught]
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(_MOST_STEPS):
        if success_of(machine, policy) >= task.start:
            break
        loss = nn.functional.cross_entropy(policy(features), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy


def main() -> None:
    """Fit every start point and write the file next to this module."""
    weights: dict[str, Tensor] = {}
    for task in EXACT.values():
        policy = fit(task)
        print(
            f"{task.name}: {sum(x.numel() for x in policy.parameters())} weights, "
            f"{task.machine.decisions} states, success {success_of(task.machine, policy):.4f}"
        )
        weights |= {f"{task.name}.{name}": x.contiguous() for name, x in policy.state_dict().items()}
    content = save(weights)
    (Path(__file__).parent / FILE).write_bytes(content)
    print(f"SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
