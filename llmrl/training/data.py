"""The record of a run's data: a digest of the problems, and the commits of data sets of the hub."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.envs.files import ListedProblems
from llmrl.envs.hub import commit_of
from llmrl.envs.tables import visible_files
from llmrl.envs.text import TextEnv
from llmrl.rollouts.environments import Environments

MOST = 100_000
"""At most this many problems enter the digest; of more, this many evenly spaced ones."""


@dataclass(frozen=True)
class Data:
    """The data of a run, as ``environment.json`` records them."""

    digest: str | None
    """Digest of the files that the options name, and of the problems and answers if they are a list, from any files and
    columns; None if problems are generated when they are asked."""
    commits: dict[str, str] = field(default_factory=dict)
    """Commit of each data set of the hub, by its name."""

    @classmethod
    def of(cls, environments: Environments) -> Data:
        """The record for environments."""
        digest = hashlib.sha256()
        found = _add_files(digest, environments.options)
        sources: set[str] = set()
        env = environments.of_size(1).envs[0].unwrapped
        if isinstance(env, TextEnv) and isinstance(env.problems, ListedProblems):
            found, size = True, len(env.problems)
            digest.update(f"{size} problems".encode())
            for index in range(size) if size <= MOST else range(0, size, -(-size // MOST)):
                problem = env.problems[index]
                digest.update(repr((problem.problem, problem.answer)).encode())
                sources.add(problem.source)
        commits = {source: commit for source in sorted(sources) if (commit := commit_of(source)) is not None}
        return cls(digest.hexdigest()[:16] if found else None, commits)


def _add_files(digest: Any, options: dict[str, Any]) -> bool:
    """Add the files that an environment's options name; returns whether they name any."""
    found = False
    for name, value in sorted(options.items()):
        path = (
            Path(value) if isinstance(value, (str, Path)) and str(value).strip() else None
        )  # "" is the current folder
        if path is None or not _exists(path):
            continue
        for file in visible_files(path) if path.is_dir() else [path]:
            if file.is_file():
                found = True
                digest.update(f"{name} {file.name} ".encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or a null byte: no path
        return False
