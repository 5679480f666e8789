"""The texts that llmrl/nano learned from: training problems, each answered in one of three styles.

A *careful* response writes every step, a *sloppy* one skips from the first step to an answer, a *terse*
one only guesses.  All three end in the true answer, but what a reader can learn from them differs: a
small model cannot compute an answer that it has not worked out, so its careful responses are nearly
always right and its guesses often wrong.  The mixture decides which of them becomes its habit, and
leaves reinforcement learning something to find.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np

from llmrl.envs.generated import draw_problem
from llmrl.envs.generated.template import TEMPLATES, Draft


class Mixture(NamedTuple):
    """How often each style is drawn; the three sum to 1."""

    careful: float
    sloppy: float
    terse: float


def respond(draft: Draft, style: str) -> str:
    """A response to the problem in one style.

    >>> draft = Draft(problem="What is $2+3+4$?", answer="9",
    ...               steps=("First $2+3=5$.", "Then $5+4=9$."), referee=lambda: True)
    >>> for style in ("careful", "sloppy", "terse"):
    ...     print(respond(draft, style))
    First $2+3=5$. Then $5+4=9$. The answer is $\\boxed{9}$.
    First $2+3=5$. So the answer is $\\boxed{9}$.
    I guess $\\boxed{9}$.
    """
    if style == "careful":
        return " ".join((*draft.steps, f"The answer is $\\boxed{{{draft.answer}}}$."))
    if style == "sloppy":
        return f"{draft.steps[0]} So the answer is $\\boxed{{{draft.answer}}}$."
    return f"I guess $\\boxed{{{draft.answer}}}$."


def examples(
    rng: np.random.Generator,
    mixture: Mixture,
    level_weights: dict[int, float],
    careful_subjects: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Endless (problem, response) pairs of the training split, balanced over subjects and templates.

    Args:
        rng: where they are drawn from.
        mixture: shares of the styles.
        level_weights: how often each level is drawn.
        careful_subjects: in these, careful and terse change places in the mixture.
    """
    by_cell: dict[tuple[str, int], list[str]] = {}
    for template in TEMPLATES.values():
        for level in template.levels:
            by_cell.setdefault((template.subject, level), []).append(template.name)
    subjects = sorted({subject for subject, _ in by_cell})
    levels = np.array(sorted(level_weights))
    probabilities = np.array([level_weights[level] for level in levels], dtype=float)
    probabilities /= probabilities.sum()
    while True:
        subject = subjects[rng.integers(len(subjects))]
        level = int(rng.choice(levels, p=probabilities))
        names = by_cell[subject, level]
        draft = draw_problem(TEMPLATES[names[rng.integers(len(names))]], level, "train", rng)
        shares = mixture[::-1] if subject in careful_subjects else mixture
        style = ("careful", "sloppy", "terse")[rng.choice(3, p=np.array(shares))]
        yield draft.problem, respond(draft, style)
