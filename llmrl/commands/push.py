"""``llmrl push RUN REPO_ID``: upload a checkpoint with its card to the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llmrl.terminal import Terminal
from llmrl.training.push import push


@dataclass(kw_only=True)
class PushOptions:
    """Upload a checkpoint to the Hugging Face hub: weights, tokenizer and a card, never the trainer's state.

    The card comes from the files of the run: base model, algorithm, data, settings, scores with intervals, versions.
    The token comes from 'hf auth login' or from HF_TOKEN. HF_ENDPOINT sets another hub.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|CHECKPOINT")]
    """A checkpoint, or a run, whose newest checkpoint is uploaded."""
    repo_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """Name of the model on the hub; the repository is created if it does not exist."""
    private: bool = False
    """Make the repository private."""
    license: str | None = None
    """Licence of the weights in the hub's terms, such as apache-2.0; by default that of the base model's card."""
    tags: tuple[str, ...] = ()
    """Tags of the card, in addition to those of llmrl."""
    dry_run: bool = False
    """Show the files and the card, and upload nothing."""


def parse(arguments: list[str], prog: str) -> PushOptions:
    """The options of a command line."""
    return tyro.cli(PushOptions, args=arguments, prog=prog)


def run(options: PushOptions) -> int:
    """Upload, or with ``--dry-run`` show the files and the card.

    Raises:
        UserError: there is nothing to upload, there is no token, or the hub refuses the upload.
    """
    done = push(
        options.source,
        options.repo_id,
        private=options.private,
        license=options.license,
        tags=options.tags,
        dry_run=options.dry_run,
    )
    console = Terminal()
    if options.dry_run:
        console.say(done.card)
    for name, size in done.files.items():
        console.say(f"{size:>14,}  {name}")
    console.say(f"Dry run: nothing was uploaded to {done.url}." if options.dry_run else f"model: {done.url}")
    return 0
