"""Episodes as they grow: a prompt, then responses that were sampled and replies that were read.

Owns which token is whose, and how a reply is written behind a response.  Tokens are only ever added:
what was sampled is never turned into text and back, so the sampler's log-probabilities stay true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmrl.policies.loading import PolicyError
from llmrl.policies.sampling.sampler import FINISH_END, FINISH_LENGTH, FINISH_REFUSED, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAND_IN = "<think>\nfirst\n</think>\n\nthen"
"""Stands for a response in a rendered history: templates that rewrite responses change this one too."""


@dataclass
class Episode:
    """The tokens of one row.

    >>> episode = Episode([7, 8])
    >>> episode.add(Sample([5, 1], [-0.5, -0.1], FINISH_END))
    >>> episode.read([9])
    >>> episode.context, episode.sampled
    ([7, 8, 5, 1, 9], [True, True, False])
    """

    prompt: list[int]
    """What was read before the first response."""
    tokens: list[int] = field(default_factory=list)
    """All that follows the prompt."""
    sampled: list[bool] = field(default_factory=list)
    """For each of those, whether the policy sampled it."""
    log_probs: list[float] = field(default_factory=list)
    """For each of those, its log-probability when it was sampled; 0 where it was read."""
    finish_reason: int = FINISH_END
    """Of the last response; ``FINISH_LENGTH`` too where no room was left for another one."""

    @property
    def context(self) -> list[int]:
        """All tokens so far."""
        return self.prompt + self.tokens

    @property
    def refused(self) -> bool:
        """The prompt is too long: the row stays empty."""
        return self.finish_reason == FINISH_REFUSED

    @property
    def cut(self) -> bool:
        """Tokens ran out before the end."""
        return self.finish_reason == FINISH_LENGTH

    def add(self, response: Sample) -> None:
        """Append what was sampled."""
        self.tokens += response.tokens
        self.sampled += [True] * len(response.tokens)
        self.log_probs += response.log_probs
        self.finish_reason = response.finish_reason

    def read(self, ids: Sequence[int]) -> None:
        """Append what the policy reads but did not say."""
        self.tokens += ids
        self.sampled += [False] * len(ids)
        self.log_probs += [0.0] * len(ids)


def written_behind(before: str, whole: str) -> str:
    """What a template writes between a response and the next one.

    Args:
        before: the rendered history in front of the response.
        whole: the rendered history with :data:`STAND_IN` as the response, and the reply to it.

    Raises:
        PolicyError: the second does not begin with the first and the response.

    >>> written_behind("Q: 2+2 A: ", f"Q: 2+2 A: {STAND_IN}<end>Q: 3+3 A: ")
    '<end>Q: 3+3 A: '
    """
    begin = before + STAND_IN
    if not whole.startswith(begin):
        raise PolicyError(
            "The chat template rewrites what came before: with a reply behind it, the history that "
            f"the model has read and written as {_end_of(begin)!r} is rendered as "
            f"{_end_of(whole)!r}. An episode of several turns is one row that only grows. Give "
            "--policy.chat-template a Jinja file that leaves earlier turns as they were (reasoning "
            "in <think> included)."
        )
    return whole[len(begin) :]


def continuation(tokenizer: PreTrainedTokenizerBase, text: str, end: int) -> list[int]:
    """The ids of ``text`` behind a response that closed with the token ``end``.

    Templates close a response themselves: that token is there already and is not written again.
    """
    close = str(tokenizer.decode([end]))
    if end in tokenizer.added_tokens_decoder:  # else it may be how the reply's own words begin
        blank, found, rest = text.partition(close)
        text = rest if found and not blank.strip() else text
    # Read behind the end token, as some tokenizers treat the beginning of a text in a way of its own.
    ids = tokenizer(close + text, add_special_tokens=False)["input_ids"]
    if end in ids[:2]:
        return ids[ids.index(end) + 1 :]
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _end_of(text: str, length: int = 240) -> str:
    return text if len(text) <= length else "..." + text[-length:]
