"""Accuracy of a policy on generated test problems, for each subject and level: the table of nano's card.

python benchmarks/nano_accuracy.py --policy llmrl/nano --problems 1050
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from llmrl.envs.generated.template import LEVELS, SUBJECTS
from llmrl.evaluation import evaluate
from llmrl.policies.policy import Policy
from llmrl.rollouts.environments import Environments


@dataclass
class Options:
    """Greedy accuracy per subject and level."""

    policy: str = "llmrl/nano"
    """Folder or name."""
    problems: int = 1050
    """How many, over all cells."""


def main(options: Options) -> None:
    """Evaluate and print a Markdown table."""
    policy = Policy.from_pretrained(options.policy, max_response_length=160)
    environments = Environments("llmrl/MATH-v0", {"source": "generated", "split": "test"})
    result = evaluate(policy, environments, options.problems, samples=0)
    cells = result.by("subject", "level")
    rows = [
        f"| subject | {' | '.join(f'level {level}' for level in LEVELS)} |",
        "| --- |" + " --- |" * len(LEVELS),
    ]
    for subject in SUBJECTS:
        shown = [f"{100 * cells[subject, level].mean:.0f}" if (subject, level) in cells else "-" for level in LEVELS]
        rows.append(f"| {subject.replace('_', ' ')} | {' | '.join(shown)} |")
    levels = {key[0]: value for key, value in result.by("level").items()}
    rows.append("| all | " + " | ".join(f"{100 * levels[level].mean:.1f}" for level in LEVELS) + " |")
    print("\n".join(rows))
    print(f"\nall: greedy {result.greedy}, {options.problems} problems")


if __name__ == "__main__":
    main(tyro.cli(Options))
