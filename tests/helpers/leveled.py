"""tests/Levels-v0: twelve problems of three levels."""

from __future__ import annotations

import gymnasium

from llmrl.envs.problems import Problem
from llmrl.envs.text import TextEnv
from llmrl.verifiers import Verdict


def first_letter(responses: list[str], golds: list[str]) -> list[Verdict]:
    """Right if the response begins with a letter of the gold answer, or that is ``any``."""
    marks = [g == "any" or r[:1] in set(g) for r, g in zip(responses, golds, strict=True)]
    return [Verdict(float(m), "correct" if m else "wrong", extracted="x") for m in marks]


class Shelf:
    """Twelve problems of three levels: always right, right half the time or so, never."""

    size = 12

    def __getitem__(self, index: int) -> Problem:
        some = "".join(map(chr, range(128)))
        gold = ("any", some, "\x00")[index % 3]
        text = "long " * 20 if index == 0 else f"problem {index}"
        return Problem(id=str(index), problem=text, answer=gold, level=index % 3 + 1)


class Levels(TextEnv):
    def __init__(self, split: str = "train", render_mode: str | None = None) -> None:
        super().__init__(Shelf(), first_letter, render_mode=render_mode)


if "tests/Levels-v0" not in gymnasium.registry:
    gymnasium.register("tests/Levels-v0", entry_point=Levels)
