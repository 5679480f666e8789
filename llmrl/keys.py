"""The table of everything that travels in a TensorDict: name, shape, type, who writes it, who reads it.

N is the number of sequences (one row per episode), T their padded length: a left-padded prompt, then
the right-padded rest: what was sampled and, with several turns, the replies to it.  Names are TorchRL's where the
meaning is TorchRL's.
"""

from __future__ import annotations

from typing import NamedTuple

Key = str | tuple[str, ...]

TOKENS: Key = ("tokens", "full")
ATTENTION: Key = ("masks", "all_attention_mask")
MASK: Key = ("masks", "all_assistant_mask")
SAMPLER_LOG_PROB: Key = ("log_probs", "full")
GROUP = "group"
REWARD: Key = ("next", "reward")
TERMINATED: Key = ("next", "terminated")
TRUNCATED: Key = ("next", "truncated")
VALID = "valid"
PAST_REWARDS = "past_rewards"
ADVANTAGE = "advantage"
VALUE = "value"
OLD_VALUE = "old_value"
VALUE_TARGET = "value_target"
LOG_PROB = "log_prob"
OLD_LOG_PROB = "old_log_prob"
REF_LOG_PROB = "ref_log_prob"
ENTROPY = "entropy"
OLD_ENTROPY = "old_entropy"
MAX_ENTROPY = "max_entropy"
PARTITION = "partition"
WEIGHT = "weight"


class Entry(NamedTuple):
    """One row of the table."""

    key: Key
    shape: str
    dtype: str
    writer: str
    reader: str
    meaning: str


TABLE: tuple[Entry, ...] = (
    Entry(
        TOKENS,
        "[N, T]",
        "int64",
        "Policy.generate",
        "Policy.score",
        "prompt, then responses and replies",
    ),
    Entry(ATTENTION, "[N, T]", "bool", "Policy.generate", "Policy.score", "a real token, no padding"),
    Entry(
        MASK,
        "[N, T]",
        "bool",
        "Policy.generate",
        "every loss",
        "exactly the tokens the policy sampled, the end token included",
    ),
    Entry(
        SAMPLER_LOG_PROB,
        "[N, T]",
        "float32",
        "Policy.generate",
        "Policy.score's check; TIS and MIS weights",
        "log-probability under the distribution that was sampled from; 0 elsewhere",
    ),
    Entry(GROUP, "[N]", "int64", "rollout.collect", "credit", "which rows answer the same prompt"),
    Entry(REWARD, "[N, 1]", "float32", "rollout.collect", "credit", "sum of the episode's rewards"),
    Entry(TERMINATED, "[N, 1]", "bool", "rollout.collect", "credit", "the answer was graded"),
    Entry(TRUNCATED, "[N, 1]", "bool", "rollout.collect", "credit", "the episode was cut off"),
    Entry(
        VALID,
        "[N]",
        "bool",
        "rollout.collect",
        "credit",
        "the verifier gave a verdict (no timeout, no error); other rows get no advantage",
    ),
    Entry(
        PAST_REWARDS,
        "[N, 3]",
        "float64",
        "trainer",
        "SmoothGroupAdvantage",
        "of the same problem in earlier steps: how many, mean and deviation of its rewards",
    ),
    Entry(ADVANTAGE, "[N, T]", "float32", "credit", "PolicyLoss", "0 outside the mask"),
    Entry(
        VALUE,
        "[N, T]",
        "float32",
        "Critic.score",
        "GAE, ValueLoss",
        "expected return before each sampled token, with gradient in an update",
    ),
    Entry(OLD_VALUE, "[N, T]", "float32", "trainer", "ValueLoss", "the value before the update"),
    Entry(VALUE_TARGET, "[N, T]", "float32", "GAE", "ValueLoss", "the return to regress on"),
    Entry(
        LOG_PROB,
        "[N, T]",
        "float32",
        "Policy.score",
        "PolicyLoss",
        "log-probability of each sampled token at the sampling temperature, with gradient",
    ),
    Entry(OLD_LOG_PROB, "[N, T]", "float32", "trainer", "PolicyLoss", "the same before the update"),
    Entry(REF_LOG_PROB, "[N, T]", "float32", "trainer", "KLToReference", "the same of the reference"),
    Entry(
        ENTROPY,
        "[N, T]",
        "float32",
        "Policy.score",
        "EntropyRatioGate, EntropyBonus",
        "entropy in nats over the whole vocabulary, at the sampling temperature",
    ),
    Entry(
        OLD_ENTROPY,
        "[N, T]",
        "float32",
        "trainer",
        "EntropyRatioGate, EntropyPartition, EntropyAdaptiveClip",
        "the same before the update",
    ),
    Entry(
        MAX_ENTROPY,
        "[N, 1]",
        "float32",
        "Policy.score",
        "EntropyAdaptiveClip",
        "log of the vocabulary size, the entropy of the uniform distribution",
    ),
    Entry(
        PARTITION,
        "[N, T]",
        "int64",
        "Algorithm.weigh",
        "GroupRatio, EntropyAdaptiveClip, GroupMean",
        "which part of its sequence a token belongs to, 0, 1, ...; -1: not trained",
    ),
    Entry(
        WEIGHT,
        "[N, T]",
        "float32",
        "Algorithm.weigh",
        "every loss",
        "how much each token counts; sums to 1 over an optimiser batch",
    ),
)
