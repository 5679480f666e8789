"""Episodes of tokens: a prompt, then sampled responses and the replies to them.

An episode records which tokens the policy sampled. Tokens are only appended. Sampled tokens are never decoded and
encoded again, so the sampler's log-probabilities remain correct. :func:`pack` makes tensors of episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tensordict import TensorDict

from llmrl import keys
from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH, FINISH_REFUSED, Sample


@dataclass
class Episode:
    """The tokens of one row.

    >>> episode = Episode([7, 8])
    >>> episode.add(Sample([5, 1], [-0.5, -0.1], FINISH_END))
    >>> episode.append([9])
    >>> episode.context, episode.sampled
    ([7, 8, 5, 1, 9], [True, True, False])
    """

    prompt: list[int]
    """The tokens before the first response."""
    tokens: list[int] = field(default_factory=list)
    """All tokens after the prompt."""
    sampled: list[bool] = field(default_factory=list)
    """For each token of ``tokens``, whether the policy sampled it."""
    log_probs: list[float] = field(default_factory=list)
    """For each token of ``tokens``, its log-probability when it was sampled; 0 for tokens of replies."""
    finish_reason: int = FINISH_END
    """Finish reason of the last response; also ``FINISH_LENGTH`` if there was no room for another response."""

    @property
    def context(self) -> list[int]:
        """All tokens so far."""
        return self.prompt + self.tokens

    @property
    def refused(self) -> bool:
        """Mark the prompt as too long; the row stays empty."""
        return self.finish_reason == FINISH_REFUSED

    @property
    def cut(self) -> bool:
        """Mark the episode as cut off by the token limit."""
        return self.finish_reason == FINISH_LENGTH

    def add(self, response: Sample) -> None:
        """Append a sampled response."""
        self.tokens += response.tokens
        self.sampled += [True] * len(response.tokens)
        self.log_probs += response.log_probs
        self.finish_reason = response.finish_reason

    def append(self, ids: Sequence[int]) -> None:
        """Append tokens that the policy reads but did not sample."""
        self.tokens += ids
        self.sampled += [False] * len(ids)
        self.log_probs += [0.0] * len(ids)


def pack(episodes: Sequence[Episode], pad_id: int) -> TensorDict:
    """Episodes as rows: prompts are left-padded, the rest is right-padded, both to the longest.

    Args:
        episodes: N episodes; one with a refused prompt becomes a row of padding.
        pad_id: the padding token.

    Returns:
        A TensorDict [N] on the CPU with tokens, attention, mask and the sampler's log-probabilities [N, T] of
        :mod:`llmrl.keys`, and ``"finish_reason"`` [N] uint8.

    >>> rows = pack([Episode([7, 8]), Episode([5], tokens=[6], sampled=[True], log_probs=[-1.0])], pad_id=0)
    >>> rows["tokens", "full"].tolist()
    [[7, 8, 0], [0, 5, 6]]
    """
    prompts = [[] if episode.refused else episode.prompt for episode in episodes]
    left = max((len(prompt) for prompt in prompts), default=0)
    right = max((len(episode.tokens) for episode in episodes), default=0)
    tokens, attention, mask, log_probs = [], [], [], []
    for prompt, episode in zip(prompts, episodes, strict=True):
        before, after = left - len(prompt), right - len(episode.tokens)
        real = len(prompt) + len(episode.tokens)
        tokens.append([pad_id] * before + prompt + episode.tokens + [pad_id] * after)
        attention.append([False] * before + [True] * real + [False] * after)
        mask.append([False] * left + episode.sampled + [False] * after)
        log_probs.append([0.0] * left + episode.log_probs + [0.0] * after)
    size = (len(episodes), left + right)
    return TensorDict(
        {
            keys.TOKENS: torch.tensor(tokens, dtype=torch.long).reshape(size),
            keys.ATTENTION: torch.tensor(attention, dtype=torch.bool).reshape(size),
            keys.MASK: torch.tensor(mask, dtype=torch.bool).reshape(size),
            keys.SAMPLER_LOG_PROB: torch.tensor(log_probs, dtype=torch.float32).reshape(size),
            "finish_reason": torch.tensor([episode.finish_reason for episode in episodes], dtype=torch.uint8),
        },
        batch_size=[len(episodes)],
    )
