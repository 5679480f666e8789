"""The public problem sets: where each is found, and the environment that asks its problems.

A set is looked for in the folder that the environment variable LLMRL_DATA names, then in the hub's
cache, then on the hub.  None of them comes with the package.
"""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmrl.envs.files import SUFFIXES, DataError, FileProblems, files_of_split
from llmrl.envs.hub import HubError, hub_files
from llmrl.envs.problems import Problems
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.registry import suggest

BadGold = Literal["keep", "drop", "error"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where one split of a set is."""

    size: int
    """How many problems it has."""
    local: tuple[str, ...]
    """Names that its file may have in LLMRL_DATA, without the suffix."""
    hub: tuple[str, ...]
    """Its files in the data set on the hub."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A public set of problems."""

    title: str
    repo: str
    """The data set on the hub."""
    splits: dict[str, Split]


def _only(size: int, local: tuple[str, ...], hub: str) -> dict[str, Split]:
    return {"test": Split(size=size, local=local, hub=(hub,))}


BENCHMARKS: dict[str, Benchmark] = {
    "math": Benchmark(
        title="MATH",
        repo="EleutherAI/hendrycks_math",
        splits={
            "train": Split(size=7500, local=("math_train", "MATH/train"), hub=("*/train-*",)),
            "test": Split(size=5000, local=("math_test", "MATH/test"), hub=("*/test-*",)),
        },
    ),
    "math500": Benchmark(
        title="MATH-500",
        repo="HuggingFaceH4/MATH-500",
        splits=_only(500, ("math500", "math_500"), "test*"),
    ),
    "gsm8k": Benchmark(
        title="GSM8K",
        repo="openai/gsm8k",
        splits={
            "train": Split(size=7473, local=("gsm8k_train",), hub=("main/train-*",)),
            "test": Split(size=1319, local=("gsm8k_test",), hub=("main/test-*",)),
        },
    ),
    "aime24": Benchmark(
        title="AIME 2024",
        repo="HuggingFaceH4/aime_2024",
        splits=_only(30, ("aime2024", "aime24"), "data/train-*"),
    ),
    "aime25": Benchmark(
        title="AIME 2025",
        repo="math-ai/aime25",
        splits=_only(30, ("aime2025", "aime25"), "test*"),
    ),
    "amc23": Benchmark(
        title="AMC 2023",
        repo="math-ai/amc23",
        splits=_only(40, ("amc2023", "amc23"), "*test*"),
    ),
    "minerva": Benchmark(
        title="Minerva Math",
        repo="math-ai/minervamath",
        splits=_only(272, ("minerva_math", "minerva"), "*test*"),
    ),
    "olympiadbench": Benchmark(
        title="OlympiadBench",
        repo="Hothan/OlympiadBench",
        splits=_only(674, ("olympiadbench", "olympiad_bench"), "*OE_TO_maths_en_COMP*"),
    ),
    "hmmt25": Benchmark(
        title="HMMT February 2025",
        repo="MathArena/hmmt_feb_2025",
        splits=_only(30, ("hmmt_feb_2025", "hmmt25"), "data/train-*"),
    ),
}
"""OlympiadBench: the open-ended mathematics in English, text alone."""


class BenchmarkEnv(TextEnv):
    """The problems of a public set, one an episode.

    Args:
        dataset: which set; the environment's id says it.
        source: ``auto`` (LLMRL_DATA, then the hub), ``hub``, or the path of a file or folder.
        split: ``train`` or ``test``, of a file also ``all``; by default training problems where the
            set has them.
        subjects: which subjects; all by default.
        levels: which difficulties; all by default.
        problem_column: the column that holds the problem, where a file calls it something unusual.
        answer_column: the column that holds the answer, likewise.
        bad_gold: what to do with gold answers that cannot be parsed: keep, drop or error.
        verifier: name of a verifier, or ``module:function``.
        render_mode: ``human`` or ``ansi``.
    """

    def __init__(
        self,
        dataset: str,
        *,
        source: str = "auto",
        split: str | None = None,
        subjects: tuple[str, ...] | None = None,
        levels: tuple[int, ...] | None = None,
        problem_column: str | None = None,
        answer_column: str | None = None,
        bad_gold: BadGold = "keep",
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        problems = open_benchmark(
            dataset,
            source=source,
            split=split,
            subjects=_frozen(subjects),
            levels=_frozen(levels),
            problem_column=problem_column,
            answer_column=answer_column,
            bad_gold=bad_gold,
            check=verifier == "math",
        )
        super().__init__(problems, verifier, render_mode=render_mode)


@functools.lru_cache(maxsize=16)
def open_benchmark(
    dataset: str,
    *,
    source: str = "auto",
    split: str | None = None,
    subjects: tuple[str, ...] | None = None,
    levels: tuple[int, ...] | None = None,
    problem_column: str | None = None,
    answer_column: str | None = None,
    bad_gold: BadGold = "keep",
    check: bool = True,
) -> Problems:
    """The problems of a public set, read once and shared by all environments that ask for them.

    Args:
        dataset: a key of :data:`BENCHMARKS`.
        check: whether to try every gold answer on the mathematical verifier.

    The others are as in :class:`BenchmarkEnv`.  A file of a set with one split holds that split.
    """
    if dataset not in BENCHMARKS:
        raise LookupError(f"No benchmark is called {dataset!r}. {suggest(dataset, BENCHMARKS)}")
    if bad_gold not in ("keep", "drop", "error"):
        raise ValueError(f"bad_gold must be keep, drop or error, got {bad_gold!r}.")
    benchmark = BENCHMARKS[dataset]
    public = source in ("auto", "hub")
    split = next(iter(benchmark.splits)) if split is None else split
    if split not in benchmark.splits and (public or split != "all"):
        one = len(benchmark.splits) == 1
        raise ValueError(
            f"{benchmark.title} has "
            + ("test problems alone" if one else "the splits " + ", ".join(benchmark.splits))
            + f", got split={split!r}. The split 'all' takes a file or folder as source."
        )
    files: list[Path] | None = None
    if public:
        path, files = _public_files(benchmark, benchmark.splits[split], here=source == "auto")
    else:
        if source == "generated":
            raise ValueError(
                f"{benchmark.title} has no generated problems. Give source='auto', 'hub', or the path of a "
                "file or folder."
            )
        path = _path(source)
    from llmrl import verifiers

    problems = FileProblems(
        path,
        split if len(benchmark.splits) > 1 else "all",
        subjects=subjects,
        levels=levels,
        problem_column=problem_column,
        answer_column=answer_column,
        check_gold=verifiers.check_gold if check else None,
        name=benchmark.repo if path == Path(benchmark.repo) else path.name,
        files=files,
    )
    if public and not (subjects or levels):
        size = benchmark.splits[split].size
        if len(problems) != size:
            log.warning(
                "%s %s has %d problems, but there are %s.",
                *(benchmark.title, split, size, problems),
            )
    if (complaint := problems.resolve_bad_golds(bad_gold)) is not None:
        log.warning("%s: %s", problems, complaint)
    return problems


def _public_files(benchmark: Benchmark, where: Split, here: bool) -> tuple[Path, list[Path]]:
    """A split's files and what to call their source.

    Args:
        benchmark: the set.
        where: the split.
        here: look into LLMRL_DATA before the hub.
    """
    local = local_file(where) if here else None
    if local is not None:
        return local, files_of_split(local, "all")[0]
    return Path(benchmark.repo), hub_files(benchmark.repo, where.hub, _hint(benchmark, where))


def local_file(where: Split) -> Path | None:
    """The file or folder of a split in LLMRL_DATA; None if it is not there."""
    folder = os.environ.get("LLMRL_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise DataError(f"LLMRL_DATA names {folder!r}, which is no folder. Correct or unset it.")
    candidates = [Path(folder, stem + suffix) for stem in where.local for suffix in ("", *SUFFIXES)]
    return next((path for path in candidates if path.exists()), None)


def _hint(benchmark: Benchmark, where: Split) -> str:
    return (
        f"Without the hub: put its problems into a file {where.local[0]}.jsonl (or .jsonl.gz, "
        ".json, .parquet), with columns such as problem and answer, in the folder that LLMRL_DATA "
        "names, or give the file as source."
    )


def _path(source: str) -> Path:
    path = Path(source).expanduser()
    if not path.exists() and "/" not in source and "." not in source:
        raise ValueError(
            f"There is no source {source!r}. {suggest(source, ('auto', 'generated', 'hub'))} "
            "Or give the path of a file or folder."
        )
    return path


def _frozen(values: tuple | list | None) -> tuple | None:
    return None if values is None else tuple(values)


BenchmarkEnv_vector = vector_of(BenchmarkEnv)

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkEnv",
    "BenchmarkEnv_vector",
    "HubError",
    "Split",
    "open_benchmark",
]
