"""Hints why a run does not learn: one sentence with the likely cause and the option to look at.

This file defines which steps count as steps without learning, and the order in which causes are checked. A run gets one
hint; it is kept in the run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmrl.text import one_line
from llmrl.training.config import TrainConfig

FILE = "hints.txt"
"""Name of the file in the folder of a run; absent if there was no hint."""
BEGINNING = "Nothing was learned"
MOST = 20
"""The largest number of hints that are read of a run."""
LONGEST = 1000
"""The largest number of characters of a hint."""
PATIENCE = 3
"""Number of steps in a row without learning before a hint is given."""
ALMOST_ALL = 0.95
"""A cause explains a step if it applies to at least this share of responses."""

Metrics = Mapping[str, float]


@dataclass
class Hints:
    """Watches the metrics of the steps of one run."""

    folder: Path
    options: TrainConfig
    """Options of the run."""
    learns_from_equal: bool = False
    """Whether the algorithm also learns from groups whose rewards are all equal."""
    in_a_row: int = 0
    """Number of latest steps in a row without learning."""

    def watch(self, step: int, metrics: Metrics) -> str | None:
        """Look at the metrics of a step (1, 2, ...).

        Returns:
            A hint for the user, at most once in a run and its continuations; else None.
        """
        warming = step <= self.options.critic_warmup_steps
        self.in_a_row = self.in_a_row + 1 if not warming and learned_nothing(metrics, self.learns_from_equal) else 0
        if self.in_a_row < PATIENCE or any(hint.startswith(BEGINNING) for hint in kept(self.folder)):
            return None
        sentence = f"{BEGINNING} in steps {step - PATIENCE + 1} to {step}: {cause(metrics, self.options)}"
        keep(self.folder, sentence)
        return sentence


def keep(folder: Path, hint: str) -> None:
    """Append a hint to those of a run."""
    with (folder / FILE).open("a") as file:
        file.write(hint + "\n")


def kept(folder: Path) -> list[str]:
    """The hints of a run. The folder may come from anywhere, so their number and length are limited."""
    path = folder / FILE
    if not path.is_file():
        return []
    with path.open(errors="replace") as file:
        lines = file.read(MOST * LONGEST).splitlines()
    return [one_line(line, LONGEST) for line in lines[:MOST] if line.strip()]


def learned_nothing(metrics: Metrics, learns_from_equal: bool = False) -> bool:
    """Whether a step had no gradient, or only one that does not depend on rewards.

    >>> learned_nothing({"actor/grad_norm": 0.0, "actor/learning_rate": 1e-6})
    True
    """
    if not metrics.get("actor/grad_norm") or not metrics.get("actor/learning_rate"):
        return True
    # A KL term always has a gradient; so has a critic, which learns from equal rewards too.
    return metrics.get("groups/zero_std") == 1 and "critic/loss" not in metrics and not learns_from_equal


def cause(metrics: Metrics, options: TrainConfig) -> str:
    """The likely cause of a step without learning, and the option to look at."""

    def metric(name: str) -> float:
        return metrics.get(name, 0.0)

    if options.learning_rate == 0:
        return "the learning rate is 0. Give --train.learning-rate."
    if "reward/mean" not in metrics:
        return (
            "nothing was sampled, since every prompt is too long (prompt_length/dropped). Give a larger "
            "--policy.max-prompt-length, or shorter problems."
        )
    if metric("verifier/invalid") >= ALMOST_ALL:
        return (
            "the verifier gives no verdict on the responses (verifier/invalid). Try it on one with llmrl verify, and "
            "look at its time limit and at the gold answers."
        )
    if metric("response_length/truncated") >= ALMOST_ALL and metric("turns/mean") > 1:
        return (
            "the episodes are cut off at the limit (response_length/truncated) after several turns. Check that the "
            "environment ends them, or give a larger --policy.max-response-length."
        )
    if metric("response_length/truncated") >= ALMOST_ALL:
        return (
            "the responses are cut off at the limit (response_length/truncated), before they have an answer. Give a "
            "larger --policy.max-response-length, and check that the model has an end token."
        )
    if metric("verifier/no_answer") >= ALMOST_ALL:
        return (
            "no final answer is found in the responses (verifier/no_answer). Tell the model how to write it "
            "(--policy.instruction), or check --policy.chat-template."
        )
    if metric("groups/mixed") == 0:
        return (
            f"all responses in each group have the same reward (mean reward {metric('reward/mean'):.3g}), so no "
            "response is better than another. Give easier or harder problems (options of --env), or a larger "
            "--train.group-size."
        )
    if metric("actor/zero_grad_fraction") >= ALMOST_ALL or metrics.get("actor/gate_fraction", 1.0) <= 1 - ALMOST_ALL:
        return (
            "nearly every token is clipped or kept out by a gate (actor/zero_grad_fraction, actor/gate_fraction). "
            "Look at the bounds of --algo, and give fewer --train.updates-per-step."
        )
    return (
        "rewards differ within groups, and still there is no gradient. Look at the filters of --algo and at "
        "the advantages in the rollouts."
    )
