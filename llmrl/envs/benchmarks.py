"""The public problem sets: where to find them, and the environment that asks their problems.

A set is looked up in the folder that the environment variable LLMRL_DATA names, then in the hub's cache, then on the
hub. The package contains none of them.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmrl.envs.files import FileProblems, ListedProblems, files_of_split
from llmrl.envs.hub import HubError, hub_files
from llmrl.envs.problems import BadGold, BadRows, ProblemOptions
from llmrl.envs.tables import SUFFIXES, DataError
from llmrl.envs.text import TextEnv
from llmrl.envs.vector import vector_of
from llmrl.errors import ConfigError
from llmrl.registry import UnknownName, suggest

PUBLIC = ("auto", "local", "hub")
"""Sources that give the whole set."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Split:
    """The location of one split of a data set."""

    size: int
    """Its number of problems."""
    local: tuple[str, ...]
    """Names of its file in LLMRL_DATA, without the suffix."""
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
        # The open-ended mathematics problems in English that have no image.
        splits=_only(674, ("olympiadbench", "olympiad_bench"), "*OE_TO_maths_en_COMP*"),
    ),
    "hmmt25": Benchmark(
        title="HMMT February 2025",
        repo="MathArena/hmmt_feb_2025",
        splits=_only(30, ("hmmt_feb_2025", "hmmt25"), "data/train-*"),
    ),
}
"""The sets by the name in the environment's id, in lower case."""


class BenchmarkEnv(TextEnv):
    """The problems of a public set, one an episode.

    Args:
        dataset: which set; the environment's id says it.
        source: ``auto`` (LLMRL_DATA, then the hub), ``local``, ``hub``, or the path of a file or folder.
        split: ``train`` or ``test``, for a file also ``all``; by default training problems if the
            set has them.
        subjects: which subjects; all by default.
        levels: which difficulties; all by default.
        problem_column: the column of the problem, if its name is unusual.
        answer_column: the column of the answer, if its name is unusual.
        bad_gold: what to do with gold answers that cannot be parsed: keep, drop or error.
        bad_rows: what to do with rows that cannot be used: error, or drop them with a warning.
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
        bad_rows: BadRows = "error",
        verifier: str = "math",
        render_mode: str | None = None,
    ) -> None:
        options = ProblemOptions(
            source=source,
            split=split,
            subjects=subjects,
            levels=levels,
            problem_column=problem_column,
            answer_column=answer_column,
            bad_gold=bad_gold,
            bad_rows=bad_rows,
            check=verifier == "math",
        )
        problems = open_benchmark(dataset, options)
        super().__init__(problems, verifier, render_mode=render_mode)
        self.source_name = problems.name

    @classmethod
    def resolve(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with ``local`` or ``hub`` in place of ``auto``."""
        if options.get("source", "auto") != "auto" or options.get("dataset") not in BENCHMARKS:
            return dict(options)
        splits = BENCHMARKS[options["dataset"]].splits.values()
        return {**options, "source": "local" if any(map(local_file, splits)) else "hub"}


@functools.lru_cache(maxsize=16)
def open_benchmark(dataset: str, options: ProblemOptions) -> ListedProblems:
    """The problems of a public set, read once and shared by all environments that ask for them.

    Args:
        dataset: a key of :data:`BENCHMARKS`.
        options: the choice of problems. If a set has one split, its file holds that split.

    Raises:
        LookupError: there is no such set.
        ValueError: an option has an invalid value.
        DataError: the files cannot be used.
        HubError: the hub does not provide the set.
    """
    if dataset not in BENCHMARKS:
        raise UnknownName(f"No benchmark is called {dataset!r}. {suggest(dataset, BENCHMARKS)}")
    benchmark = BENCHMARKS[dataset]
    split = _split(benchmark, options)
    path, files = _files(benchmark, split, options.source)
    from llmrl import verifiers

    problems = FileProblems(
        path,
        split if len(benchmark.splits) > 1 else "all",
        subjects=options.subjects,
        levels=options.levels,
        problem_column=options.problem_column,
        answer_column=options.answer_column,
        check_gold=verifiers.check_gold if options.check else None,
        name=benchmark.repo if path == Path(benchmark.repo) else path.name,
        files=files,
        bad_rows=options.bad_rows,
    )
    _check_size(benchmark, split, options, problems)
    if (complaint := problems.resolve_bad_golds(options.bad_gold)) is not None:
        log.warning("%s: %s", problems, complaint)
    return problems


def _split(benchmark: Benchmark, options: ProblemOptions) -> str:
    split = next(iter(benchmark.splits)) if options.split is None else options.split
    if split not in benchmark.splits and (options.source in PUBLIC or split != "all"):
        one = len(benchmark.splits) == 1
        raise ConfigError(
            f"{benchmark.title} has "
            + ("test problems alone" if one else "the splits " + ", ".join(benchmark.splits))
            + f", got split={split!r}. The split 'all' takes a file or folder as source."
        )
    return split


def _files(benchmark: Benchmark, split: str, source: str) -> tuple[Path, list[Path] | None]:
    """The name of the source, and its files; None: the files of the split at that path."""
    if source in PUBLIC:
        return _public_files(benchmark, benchmark.splits[split], source)
    if source == "generated":
        raise ConfigError(
            f"{benchmark.title} has no generated problems. Give source='auto', 'local', 'hub', or the path of a "
            "file or folder."
        )
    return _path(source), None


def _check_size(benchmark: Benchmark, split: str, options: ProblemOptions, problems: ListedProblems) -> None:
    """Warn if a public set does not have the expected number of problems."""
    if options.source in PUBLIC and not (options.subjects or options.levels):
        size = benchmark.splits[split].size
        if len(problems) != size:
            log.warning("%s %s should have %d problems, but has %s.", benchmark.title, split, size, problems)


def _public_files(benchmark: Benchmark, where: Split, source: str) -> tuple[Path, list[Path]]:
    """The files of a split and the name of their source: in LLMRL_DATA, or on the hub."""
    local = None if source == "hub" else local_file(where)
    if local is not None:
        return local, files_of_split(local, "all")[0]
    if source == "local":
        raise DataError(
            f"{benchmark.title} is not in LLMRL_DATA. {_hint(benchmark, where).removeprefix('Without the hub: ')}"
        )
    return Path(benchmark.repo), hub_files(benchmark.repo, where.hub, _hint(benchmark, where))


def local_file(where: Split) -> Path | None:
    """The file or folder of a split in LLMRL_DATA; None if it is not there."""
    folder = os.environ.get("LLMRL_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise DataError(f"LLMRL_DATA names {folder!r}, which is not a folder. Correct or unset it.")
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
        raise ConfigError(
            f"There is no source {source!r}. {suggest(source, ('auto', 'generated', 'local', 'hub'))} "
            "Or give the path of a file or folder."
        )
    return path


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
