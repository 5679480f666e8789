"""Competition mathematics in seven subjects and five levels: ``llmrl/MATH-v0``.

Hendrycks' MATH where it can be had, otherwise generated problems of the same subjects and levels.
"""

from __future__ import annotations

import functools
import logging

from llmrl.envs.benchmarks import BENCHMARKS, BadGold, local_file, open_benchmark
from llmrl.envs.files import MissingPackage
from llmrl.envs.generated import GeneratedProblems
from llmrl.envs.hub import HubError
from llmrl.envs.problems import Problems
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of

log = logging.getLogger(__name__)


class MathEnv(TextEnv):
    """Competition mathematics, one problem an episode.

    Args:
        source: ``auto``: MATH from the folder LLMRL_DATA or the hub, else generated; ``generated``;
            ``hub``; or the path of a file or folder.
        split: ``train`` or ``test``, which never overlap; of a file also ``all``.
        subjects: which of the seven, such as ``algebra number_theory``; all by default.
        levels: which difficulties, 1 to 5; all by default.
        seed: another seed gives other generated problems.
        problem_column: the column that holds the problem, where a file calls it something unusual.
        answer_column: the column that holds the answer, likewise.
        bad_gold: what to do with gold answers that cannot be parsed: keep, drop or error.
        verifier: name of a verifier, or ``module:function``.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        *,
        source: str = "auto",
        split: str = "train",
        subjects: tuple[str, ...] | None = None,
        levels: tuple[int, ...] | None = None,
        seed: int = 0,
        problem_column: str | None = None,
        answer_column: str | None = None,
        bad_gold: BadGold = "keep",
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        problems = math_problems(
            source,
            split,
            None if subjects is None else tuple(subjects),
            None if levels is None else tuple(levels),
            seed,
            problem_column,
            answer_column,
            bad_gold,
            check=verifier == "math",
        )
        super().__init__(problems, verifier, render_mode=render_mode)


@functools.lru_cache(maxsize=16)
def math_problems(
    source: str = "auto",
    split: str = "train",
    subjects: tuple[str, ...] | None = None,
    levels: tuple[int, ...] | None = None,
    seed: int = 0,
    problem_column: str | None = None,
    answer_column: str | None = None,
    bad_gold: BadGold = "keep",
    check: bool = True,
) -> Problems:
    """The problems of one choice, shared by all environments that make it."""
    if source != "generated" and not (source == "auto" and not _math_is_here()):
        return open_benchmark(
            "math",
            source=source,
            split=split,
            subjects=subjects,
            levels=levels,
            problem_column=problem_column,
            answer_column=answer_column,
            bad_gold=bad_gold,
            check=check,
        )
    return GeneratedProblems(split, subjects, levels, seed)


@functools.cache
def _math_is_here() -> bool:
    """Whether MATH can be had; asked once, and the answer no is said once."""
    if local_file(BENCHMARKS["math"].splits["train"]) is not None:
        return True
    try:
        open_benchmark("math", source="hub", split="train", check=False)
    except (HubError, MissingPackage) as error:
        log.warning(
            "llmrl/MATH-v0 plays generated problems: %s source='generated' chooses them without asking.",
            error,
        )
        return False
    return True


MathEnv_vector = vector_of(MathEnv)
