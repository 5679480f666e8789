"""Upload a checkpoint to the Hugging Face hub: weights, tokenizer and card, never the state of the trainer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from llmrl.errors import ConfigError, UserError
from llmrl.policies import adapters
from llmrl.policies.names import on_hub
from llmrl.text import one_line, read_json, real_path
from llmrl.training import card, checkpoint
from llmrl.training.files import MARKER


class PushError(UserError, OSError):
    """The hub did not take the files; the message says why."""

    exit_status = 1


@dataclass(frozen=True)
class Pushed:
    """The files that were uploaded, or that a dry run would upload."""

    url: str
    """Of the repository."""
    checkpoint: Path
    files: dict[str, int]
    """By name, with their bytes."""
    card: str
    """``README.md``."""


def push(
    source: str | PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    license: str | None = None,
    tags: Sequence[str] = (),
    dry_run: bool = False,
) -> Pushed:
    """Upload a checkpoint of a run as a model of the hub, in one commit.

    The files are those that the checkpoint's list of sums names, without the trainer's, and a new card. The token is
    that of ``hf auth login`` or of the environment variable HF_TOKEN.

    Args:
        source: a checkpoint; or a run or what :func:`llmrl.train` returned, whose newest checkpoint is meant.
        repo_id: ``OWNER/NAME``; made if it is missing.
        private: make the repository private.
        license: of the weights, as the hub calls it, such as ``"apache-2.0"``; None: that of the base model's card.
        tags: tags of the card, in addition to those of llmrl.
        dry_run: say what would be uploaded, and do nothing.

    Raises:
        ConfigError: there is no such checkpoint, it holds no model, there is no token, or the name, the licence or a
            tag cannot be one.
        DamagedCheckpoint: its files are not those that were written.
        PushError: the hub refuses, or does not answer.

    >>> push("runs/none", "me/model")
    Traceback (most recent call last):
    llmrl.errors.ConfigError: runs/none is neither a run nor a checkpoint. Give a folder such as runs/espo-0.
    """
    saved = _checkpoint(Path(source))
    _check_name(repo_id)
    if wrong := checkpoint.damages(saved):
        raise checkpoint.DamagedCheckpoint(f"{saved} is damaged ({'; '.join(wrong)}) and is not uploaded.")
    if not dry_run and get_token() is None:
        raise ConfigError(
            "There is no token for the Hugging Face hub. Log in with 'hf auth login', or set HF_TOKEN; or give "
            "--dry-run."
        )
    text = card.model_card(saved.parent, saved, repo_id, license=license, tags=tags, ask_hub=not dry_run)
    contents: dict[str, bytes | Path] = {name: _content(saved / name) for name in sorted(_names(saved))}
    contents[card.FILE] = text.encode()
    sizes = {name: c.stat().st_size if isinstance(c, Path) else len(c) for name, c in contents.items()}
    api = HfApi()
    done = Pushed(f"{api.endpoint}/{repo_id}", saved, sizes, text)
    if dry_run:
        return done
    try:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ConfigError(f"{repo_id} exists and is public, and --private is given. Give another name.")
        added = [CommitOperationAdd(name, content) for name, content in contents.items()]
        api.create_commit(repo_id, added, commit_message=f"{saved.name} of {saved.parent.name}, by llmrl")
    except UserError:
        raise
    except Exception as error:  # the hub's library can raise any error for an answer that it does not expect
        reason = one_line(str(error), 400) if isinstance(error, OSError) else one_line(repr(error), 400)
        raise PushError(f"The hub did not take {repo_id}: {reason}") from error
    return done


def _checkpoint(source: Path) -> Path:
    """The checkpoint that is meant, by the name it has in the folder of its run."""
    saved = source / "latest" if (source / MARKER).is_file() else source
    if saved == source / "latest" and not saved.exists():
        raise ConfigError(f"{source} has no checkpoint yet.")
    saved = real_path(saved)
    if not (saved / checkpoint.SUMS).is_file() or not (saved.parent / "config.yaml").is_file():
        raise ConfigError(f"{source} is neither a run nor a checkpoint. Give a folder such as runs/espo-0.")
    if not checkpoint.is_name(saved.name):
        raise ConfigError(
            f"{source} does not have the name of a checkpoint, which holds its step. Call it such as checkpoint-000100."
        )
    if not (saved / "config.json").is_file():
        raise ConfigError(
            f"{source} holds its weights in parts that only training reads. Train with --checkpoint.export-every, or "
            "give the last checkpoint of the run."
        )
    return saved


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"{one_line(repo_id)!r} cannot name a model of the hub. Give OWNER/NAME.") from error
    if repo_id.count("/") != 1:
        raise ConfigError(f"{one_line(repo_id)!r} cannot name a model of the hub. Give OWNER/NAME.")


def _names(saved: Path) -> list[str]:
    """The files of the model among those of a checkpoint, which may come from anywhere.

    Raises:
        DamagedCheckpoint: a name leads out of it.
    """
    names = checkpoint.listed(saved)
    for name in names:
        if not real_path(saved / name).is_relative_to(saved):
            raise checkpoint.DamagedCheckpoint(f"{saved} names a file outside of it: {one_line(name)}. Not uploaded.")
    return [name for name in names if name not in (card.FILE, checkpoint.SUMS) and not checkpoint.is_state(name)]


def _content(file: Path) -> bytes | Path:
    """A file as it is uploaded: the adapters' settings without a path of this machine."""
    if file.parts[-2:] != (adapters.FOLDER, adapters.SETTINGS):
        return file
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise checkpoint.DamagedCheckpoint(f"{file} does not hold the settings of adapters. Not uploaded.")
    base = str(settings.get("base_model_name_or_path") or "")
    settings["base_model_name_or_path"] = base if on_hub(base) else None
    return json.dumps(settings, indent=2).encode()
