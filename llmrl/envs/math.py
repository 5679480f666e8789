"""Competition mathematics in seven subjects and five levels: ``llmrl/MATH-v0``.

Hendrycks' MATH if it can be found or downloaded, otherwise generated problems of the same subjects and levels.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping
from typing import Any

from llmrl.envs.benchmarks import BENCHMARKS, local_file, open_benchmark
from llmrl.envs.files import ListedProblems
from llmrl.envs.generated import GeneratedProblems
from llmrl.envs.hub import HubError
from llmrl.envs.problems import BadGold, BadRows, ProblemOptions
from llmrl.envs.tables import MissingPackage
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of

log = logging.getLogger(__name__)


class MathEnv(TextEnv):
    """Competition mathematics, one problem an episode.

    Args:
        source: ``auto``: MATH from the folder LLMRL_DATA or the hub, else generated; ``generated``;
            ``local`` or ``hub``: MATH from one of these; or the path of a file or folder.
        split: ``train`` or ``test``, which never overlap; for a file also ``all``.
        subjects: which of the seven, such as ``algebra number_theory``; all by default.
        levels: which difficulties, 1 to 5; all by default.
        seed: another seed gives other generated problems.
        problem_column: the column of the problem, if its name is unusual.
        answer_column: the column of the answer, if its name is unusual.
        bad_gold: what to do with gold answers that cannot be parsed: keep, drop or error.
        bad_rows: what to do with rows that cannot be used: error, or drop them with a warning.
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
        bad_rows: BadRows = "error",
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        options = ProblemOptions(
            source=source,
            split=split,
            subjects=subjects,
            levels=levels,
            seed=seed,
            problem_column=problem_column,
            answer_column=answer_column,
            bad_gold=bad_gold,
            bad_rows=bad_rows,
            check=verifier == "math",
        )
        problems = math_problems(options)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = problems.name

    @classmethod
    def resolve(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with ``local``, ``hub`` or ``generated`` in place of ``auto``."""
        return resolve_math(options)


@functools.lru_cache(maxsize=16)
def math_problems(options: ProblemOptions) -> ListedProblems | GeneratedProblems:
    """The problems of a choice of options, shared by all environments with the same options."""
    source = math_source() if options.source == "auto" else options.source
    if source == "generated":
        return GeneratedProblems(options.split or "train", options.subjects, options.levels, options.seed)
    return open_benchmark("math", dataclasses.replace(options, source=source))


def resolve_math(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an environment that asks MATH, with the actual source in place of ``auto``."""
    return {**options, "source": math_source()} if options.get("source", "auto") == "auto" else dict(options)


@functools.cache
def math_source() -> str:
    """The source of MATH: ``local`` or ``hub``; if neither has it, ``generated``, with a warning the first time."""
    if local_file(BENCHMARKS["math"].splits["train"]) is not None:
        return "local"
    try:
        open_benchmark("math", ProblemOptions(source="hub", split="train", check=False))
    except (HubError, MissingPackage) as error:
        log.warning(
            "llmrl/MATH-v0 plays generated problems: %s Give source='generated' to choose them without this warning.",
            error,
        )
        return "generated"
    return "hub"


MathEnv_vector = vector_of(MathEnv)
