"""Problems from the Hugging Face hub: the files of a data set, fetched once and kept in its cache.

A hub that does not answer within seconds is an error that says what to do without it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from llmrl.envs.tables import is_data
from llmrl.errors import UserError

PATIENCE = 4.0
"""Seconds that the hub has to answer at all."""


class HubError(UserError, OSError):
    """The hub does not answer, or lacks what was asked for."""


def hub_files(repo: str, patterns: Sequence[str], hint: str) -> list[Path]:
    """The files of a data set on this machine, downloaded if they are not there yet.

    Args:
        repo: such as ``openai/gsm8k``.
        patterns: which files, with ``*``.
        hint: what to do without the hub; the end of the error's message.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # of whichever HTTP client the hub's library uses

    def fetch(**options: Any) -> list[Path]:
        folder = Path(snapshot_download(repo, repo_type="dataset", allow_patterns=list(patterns), **options))
        return sorted(
            file
            for file in folder.rglob("*")
            if is_data(file) and any(fnmatch(file.relative_to(folder).as_posix(), p) for p in patterns)
        )

    try:
        if files := fetch(local_files_only=True):
            return files
    except OSError:
        pass  # not here, or not all of it
    try:
        _answers(repo)
        files = fetch(etag_timeout=PATIENCE)
    except (OSError, HTTPError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(
            f"The data set {repo} is not on this machine, and the hub gives none: {reason} {hint}"
        ) from error
    if not files:
        raise HubError(f"The data set {repo} has no file like {', '.join(patterns)}. {hint}")
    return files


def _answers(repo: str) -> None:
    """Ask the hub about a data set; raise when it says no, or nothing for :data:`PATIENCE` seconds.

    In a thread, because looking up a host name has no time limit of its own.
    """
    from huggingface_hub import HfApi

    outcome: list[BaseException | None] = []

    def ask() -> None:
        try:
            HfApi().dataset_info(repo, timeout=PATIENCE)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="llmrl-hub")
    thread.start()
    thread.join(PATIENCE)
    if not outcome:
        raise TimeoutError(f"no answer within {PATIENCE:g} seconds.")
    if outcome[0] is not None:
        raise outcome[0]
