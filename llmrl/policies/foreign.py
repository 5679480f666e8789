"""Calls of libraries on the files of a model's folder, which may come from anywhere and cause any error in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llmrl.errors import PolicyError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PANIC = "PanicException"
"""Name of the exception that a panic of Rust becomes; its class is no ``Exception``, and cannot be imported."""
_TOKENIZER = ("The policy's tokenizer fails", "Give the tokenizer that the model was trained with.")


@contextlib.contextmanager
def failing_as(text: str, advice: str = "") -> Iterator[None]:
    """Raise PolicyError for whatever error a library raises in this block.

    Args:
        text: what failed.
        advice: a sentence that follows the reason.

    >>> with failing_as("The tokenizer cannot be loaded", "Save it again."):
    ...     raise KeyError("vocab")
    Traceback (most recent call last):
    llmrl.errors.PolicyError: The tokenizer cannot be loaded: 'vocab'. Save it again.
    """
    try:
        yield
    except (PolicyError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise PolicyError(f"{text}: {reason}. {advice}".rstrip()) from error


def ids_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """The token ids of each text; ``special``: with the tokens that the tokenizer puts around a text."""
    with failing_as(*_TOKENIZER):
        return tokenizer(list(texts), add_special_tokens=special)["input_ids"]


def text_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, special: bool = True) -> str:
    """The text of token ids; ``special``: with special tokens."""
    with failing_as(*_TOKENIZER):
        return str(tokenizer.decode(list(ids), skip_special_tokens=not special))
