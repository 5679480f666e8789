"""``llmrl push RUN REPO_ID``: a checkpoint as a model of the Hugging Face hub, with its card."""

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

    The card is made from the files of the run: base model, algorithm, data, settings, scores with intervals, versions.
    The token is that of 'hf auth login' or of HF_TOKEN; HF_ENDPOINT names another hub.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|CHECKPOINT")]
    """A run, whose newest checkpoint is meant, or one of its checkpoints."""
    repo_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")]
    """What the hub is to call the model; made if it is missing."""
    private: bool = False
    """Make the repository private."""
    license: str | None = None
    """Licence of the weights, as the hub calls it, such as apache-2.0; by default that of the base model's card, if it
    names one."""
    tags: tuple[str, ...] = ()
    """Tags of the card, beside those of llmrl."""
    dry_run: bool = False
    """Show the files and the card, and upload nothing."""


def parse(arguments: list[str], prog: str) -> PushOptions:
    """The options of a command line."""
    return tyro.cli(PushOptions, args=arguments, prog=prog)


def run(options: PushOptions) -> int:
    """Upload, or with ``--dry-run`` show what would be.

    Raises:
        UserError: there is nothing to upload, no token, or the hub does not take it.
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
