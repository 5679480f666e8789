"""The record of a run: its settings, and what they were used on, session by session.

``config.yaml`` holds the settings that are used. ``environment.json`` holds versions, hardware, command line, data and
algorithm of each session.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from llmrl.envs.hub import commit_of
from llmrl.errors import ConfigError
from llmrl.policies.names import on_hub
from llmrl.text import read_json
from llmrl.training.config import Config
from llmrl.training.data import Data
from llmrl.training.files import MARKER
from llmrl.training.folder import timestamp

PACKAGES = ("llmrl", "torch", "transformers", "tensordict", "torchrl", "gymnasium", "numpy", "vllm", "peft")


def write_record(folder: Path, config: Config, start: Path | None, data: Data, algorithm: str) -> None:
    """``config.yaml`` with the settings that are used, ``environment.json`` with what they were used on.

    Args:
        folder: of the run.
        config: the resolved settings.
        start: the checkpoint that the run is resumed from.
        data: what is asked.
        algorithm: as it prints itself: what the names in the settings mean in this version.
    """
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_dict(), sort_keys=False))
    record = folder / "environment.json"
    before = sessions_of(record) if record.is_file() else []
    name = config.policy.path
    now = {
        **environment(),
        "algorithm": algorithm,
        "origins": config.origins,
        "base": {
            "hub": on_hub(name),
            "commit": commit_of(name, "model") if on_hub(name) else None,
        },
        "data": asdict(data),
        "resumed_from": None if start is None else str(start),
    }
    record.write_text(json.dumps({"sessions": [*before, now]}, indent=2) + "\n")
    if not (folder / MARKER).exists():
        (folder / MARKER).write_text(json.dumps({"format": 1, "started": now["date"]}) + "\n")


def sessions_of(record: Path) -> list[Any]:
    """The record of a run's sessions in ``environment.json``.

    Raises:
        ConfigError: it is not such a file.
    """
    content = read_json(record)
    sessions = content.get("sessions") if isinstance(content, dict) else None
    if not isinstance(sessions, list):
        raise ConfigError(f"{record} does not hold the record of a run. Move it away, then give the command again.")
    return sessions


def environment() -> dict[str, Any]:
    """Versions, hardware, command line and date of this process."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "date": timestamp(),
        "command": sys.argv,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "cpus": os.cpu_count(),
        "gpus": gpus,
    }


def _commit() -> str | None:
    """The commit of llmrl's own source folder; None where it is installed without one."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
