"""The licence of a model that is uploaded: the one that its user names, else that of the base model's card.

A card of the hub names it in its front matter as ``license``, and where that is ``other`` as ``license_name`` and
``license_link``. The card may come from anywhere: what is not an identifier or a link is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache

from llmrl.errors import ConfigError
from llmrl.policies.names import local_folder
from llmrl.text import LARGEST_YAML, one_line, parse_yaml

CARD = "README.md"
_ID = re.compile(r"[a-z0-9][a-z0-9.+_-]{0,60}")
_LINK = re.compile(r"https://[^\s<>\"'`|]{1,300}|[\w.-]{1,60}")
"""An address, or a file of the base model's repository."""


@dataclass(frozen=True)
class License:
    """A licence, and who says so."""

    license: str
    """As the hub calls it: apache-2.0, mit, llama3.2, other ..."""
    said_by: str
    """For the text of the card."""
    license_name: str | None = None
    license_link: str | None = None

    @classmethod
    def named(cls, license: str) -> License:
        """The one that a user names.

        Raises:
            ConfigError: the hub cannot call a licence that.

        >>> License.named("apache-2.0").license
        'apache-2.0'
        >>> License.named("Apache 2")
        Traceback (most recent call last):
        llmrl.errors.ConfigError: 'Apache 2' is not a licence of the hub. Give its identifier there, such as apache-2.0.
        """
        if _ID.fullmatch(license) is None:
            raise ConfigError(
                f"{one_line(license)!r} is not a licence of the hub. Give its identifier there, such as apache-2.0."
            )
        return cls(license, "whoever uploaded these weights")


def license_of_base(name: str, commit: str | None = None, *, ask_hub: bool) -> License | None:
    """The licence in the card of a base model; None if there is no card, or it names no licence.

    Args:
        name: a folder, or an id of the hub.
        commit: of the hub's model.
        ask_hub: download the card of a model of the hub; False: look for it among what was downloaded before.
    """
    folder = local_folder(name)
    if folder is not None:
        card: Path | None = folder / CARD
    else:
        card = _card_on_hub(name, commit, ask_hub)
    if card is None or not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        front = _front_matter(file.read(LARGEST_YAML))
    found = front.get("license")
    if not isinstance(found, str) or _ID.fullmatch(found) is None:
        return None
    title, link = front.get("license_name"), front.get("license_link")
    return License(
        found,
        "the base model's card",
        title if isinstance(title, str) and _ID.fullmatch(title.lower()) else None,
        link if isinstance(link, str) and _LINK.fullmatch(link) else None,
    )


def _card_on_hub(name: str, commit: str | None, ask_hub: bool) -> Path | None:
    try:
        if ask_hub:
            return Path(HfApi().hf_hub_download(name, CARD, revision=commit))
        found = try_to_load_from_cache(name, CARD, revision=commit)
    except Exception:  # no card, or it cannot be had, for whatever reason: no licence is stated
        return None
    return Path(found) if isinstance(found, str) else None


def _front_matter(text: str) -> Mapping[str, Any]:
    """The YAML at the head of a card; empty where there is none that can be read."""
    match = re.match(r"---\r?\n(.*?)\r?\n---\s*(\r?\n|$)", text, re.DOTALL)
    if match is None:
        return {}
    try:
        front = parse_yaml(match[1])
    except ValueError:
        return {}
    return front if isinstance(front, Mapping) else {}
