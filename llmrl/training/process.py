"""Settings of the whole process that a call from Python changes and restores, and its threads."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
from transformers.utils import logging as transformers_logging

from llmrl.training import randomness


@contextmanager
def borrowed(threads: int | None = None) -> Iterator[None]:
    """Restore threads, progress bars and random generators of the process at the end of a block.

    Args:
        threads: number of CPU threads of torch within the block; None: unchanged.

    >>> before = torch.get_num_threads(), torch.get_rng_state()
    >>> with borrowed(threads=1):
    ...     _ = torch.rand(3)
    >>> before[0] == torch.get_num_threads(), torch.equal(before[1], torch.get_rng_state())
    (True, True)
    """
    before, drawn = torch.get_num_threads(), randomness.generators()
    bars, downloads = transformers_logging.is_progress_bar_enabled(), not are_progress_bars_disabled()
    if threads is not None:
        torch.set_num_threads(threads)
    with warnings.catch_warnings(action="ignore"):  # if HF_HUB_DISABLE_PROGRESS_BARS is set, it decides
        transformers_logging.disable_progress_bar()  # its progress bar would disturb ours
    try:
        yield
    finally:
        with warnings.catch_warnings(action="ignore"):
            if bars:
                transformers_logging.enable_progress_bar()  # this also disables the bars of downloads
            if not downloads:
                disable_progress_bars()
        randomness.put_back(drawn)
        torch.set_num_threads(before)


def started_thread(name: str) -> ThreadPoolExecutor:
    """A thread that runs already: where no memory is left for a new one, Python would wait for its start for ever."""
    thread = ThreadPoolExecutor(1, name)
    thread.submit(int).result()
    return thread
