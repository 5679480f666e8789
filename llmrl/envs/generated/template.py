"""Problem templates, functions that draw one problem of a kind, and the table of all templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

SUBJECTS = (
    "prealgebra",
    "algebra",
    "number_theory",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "precalculus",
)
LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One drawn problem, before it has an id."""

    problem: str
    """The statement, LaTeX between dollar signs as in MATH."""
    answer: str
    """The exact final answer in LaTeX, without a box and without dollar signs."""
    steps: tuple[str, ...]
    """The worked solution, one sentence per step, without the final boxed sentence."""
    referee: Callable[[], bool]
    """Recomputes the answer from the parameters with sympy, in another way than the template, and returns
    whether ``answer`` is right. It imports sympy only when it is called."""


class Template(NamedTuple):
    """A registered template."""

    name: str
    subject: str
    levels: tuple[int, ...]
    draw: Callable[[np.random.Generator, int], Draft]

    def key(self, draft: Draft) -> str:
        """The key of a problem: its template, numbers and answer, without its words.

        Two problems with the same key are the same mathematics in other words or another order.
        """
        return " ".join((self.name, *sorted(NUMBER.findall(draft.problem)), draft.answer))


NUMBER = re.compile(r"\d+(?:\.\d+)?")
TEMPLATES: dict[str, Template] = {}


def template(
    subject: str, levels: tuple[int, ...]
) -> Callable[[Callable[[np.random.Generator, int], Draft]], Callable[[np.random.Generator, int], Draft]]:
    """Register a function ``draw(rng, level) -> Draft`` under its own name.

    Args:
        subject: one of :data:`SUBJECTS`.
        levels: the difficulties, 1 to 5, that the template can draw.
    """
    if subject not in SUBJECTS:
        raise ValueError(f"subject must be one of {SUBJECTS}, got {subject!r}.")
    if not set(levels) <= set(LEVELS):
        raise ValueError(f"levels must be among {LEVELS}, got {levels!r}.")

    def decorate(
        draw: Callable[[np.random.Generator, int], Draft],
    ) -> Callable[[np.random.Generator, int], Draft]:
        name = f"{subject}/{draw.__name__}"
        if name in TEMPLATES:
            raise ValueError(f"Two templates are called {name!r}.")
        TEMPLATES[name] = Template(name, subject, tuple(levels), draw)
        return draw

    return decorate
