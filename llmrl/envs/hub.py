"""Problems from the Hugging Face hub: the files of a data set, downloaded once and kept in the hub's cache.

If the hub does not answer within seconds, the error says what to do without it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import threading
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from llmrl.envs.tables import files_in
from llmrl.errors import UserError
from llmrl.text import DamagedFile, read_json

log = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""The form of the name of a data set: ``OWNER/NAME``."""

PATIENCE = 4.0
"""Seconds within which the hub must answer."""


class HubError(UserError, OSError):
    """The hub does not answer, or does not have the data."""


def hub_files(repo: str, patterns: Sequence[str], hint: str) -> list[Path]:
    """The paths of a data set's files on this machine; they are downloaded if they are missing.

    Args:
        repo: such as ``openai/gsm8k``.
        patterns: which files, with ``*``.
        hint: what to do without the hub, the last sentence of the error message.
    """
    from huggingface_hub import snapshot_download

    def fetch(**options: Any) -> list[Path]:
        folder = Path(snapshot_download(repo, repo_type="dataset", allow_patterns=list(patterns), **options))
        return [
            file for file in files_in(folder) if any(fnmatch(file.relative_to(folder).as_posix(), p) for p in patterns)
        ]

    here: list[Path] = []
    try:
        here = fetch(local_files_only=True)
        if here and _whole(here, patterns):
            return here
    except OSError:
        pass  # no files here, or not all
    try:
        _answers(repo)
        files = fetch(etag_timeout=PATIENCE)
        _note_whole(files, patterns)
    except Exception as error:  # the hub's library can raise any error for an answer that it does not expect
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if here:
            log.warning(
                "The hub cannot be asked whether these are all files of %s (%s), so those here are used: %s.",
                repo,
                reason,
                ", ".join(file.name for file in here),
            )
            return here
        raise HubError(
            f"The data set {repo} is not on this machine, and the hub does not provide it: {reason}. {hint}"
        ) from error
    if not files:
        raise HubError(f"The data set {repo} has no file like {', '.join(patterns)}. {hint}")
    return files


def commit_of(repo: str, kind: Literal["dataset", "model"] = "dataset") -> str | None:
    """The commit of the files of a data set or a model on this machine; None if there are no files."""
    if not NAME.fullmatch(repo):
        return None
    from huggingface_hub import snapshot_download

    try:
        # No file is requested, so it does not matter which files are here.
        return Path(snapshot_download(repo, repo_type=kind, local_files_only=True, allow_patterns=[""])).name
    except OSError:
        return None


def _record(files: Sequence[Path], patterns: Sequence[str]) -> Path:
    """The path of the list of downloaded files of one commit, next to the hub's own folders."""
    snapshot = _snapshot(files[0])
    wanted = hashlib.sha256("\n".join(sorted(patterns)).encode()).hexdigest()[:12]
    return snapshot.parents[1] / "llmrl" / f"{snapshot.name}-{wanted}.json"


def _snapshot(file: Path) -> Path:
    return next(folder for folder in file.parents if folder.parent.name == "snapshots")


def _names(files: Sequence[Path]) -> list[str]:
    return sorted(file.relative_to(_snapshot(file)).as_posix() for file in files)


def _note_whole(files: Sequence[Path], patterns: Sequence[str]) -> None:
    """Record that these are all the files; if the record cannot be written, the hub is asked again next time."""
    if files:
        record = _record(files, patterns)
        with contextlib.suppress(OSError):
            record.parent.mkdir(exist_ok=True)
            record.write_text(json.dumps(_names(files)))


def _whole(files: Sequence[Path], patterns: Sequence[str]) -> bool:
    """Whether these are all files that the commit had when they were downloaded."""
    record = _record(files, patterns)
    try:
        return record.is_file() and read_json(record) == _names(files)
    except DamagedFile:
        return False


def _answers(repo: str) -> None:
    """Ask the hub about a data set; raise if it refuses, or does not answer for :data:`PATIENCE` seconds.

    The call runs in a thread, because the look-up of a host name has no time limit.
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
