"""The entries of a batch (a TensorDict): name, shape, type, writer, readers and meaning of each.

N is the number of sequences (one row per episode), T their padded length: a left-padded prompt, then the right-padded
responses and, with several turns, the replies to them. An entry has TorchRL's name if it means the same there. Each
entry is declared once, by :func:`entry`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from tensordict import TensorDictBase
    from torch import Tensor

Key = str | tuple[str, ...]
Name = TypeVar("Name", bound=Key)


class Entry(NamedTuple):
    """One row of the table."""

    key: Key
    shape: str
    dtype: str
    writer: str
    reader: str
    meaning: str


_ENTRIES: dict[Key, Entry] = {}


def entry(key: Name, shape: str, dtype: str, *, writer: str, reader: str, meaning: str) -> Name:
    """Declare an entry of the batch; returns its key."""
    _ENTRIES[key] = Entry(key, shape, dtype, writer, reader, meaning)
    return key


TOKENS = entry(
    ("tokens", "full"),
    "[N, T]",
    "int64",
    writer="rollouts",
    reader="Policy.score, Critic.score",
    meaning="prompt, then responses and replies",
)
ATTENTION = entry(
    ("masks", "all_attention_mask"),
    "[N, T]",
    "bool",
    writer="rollouts",
    reader="Policy.score, Critic.score",
    meaning="true for tokens, false for padding",
)
MASK = entry(
    ("masks", "all_assistant_mask"),
    "[N, T]",
    "bool",
    writer="rollouts; OverlongFilter empties rows",
    reader="every loss, credit, Policy.score, Critic.score",
    meaning="true exactly for the tokens that the policy sampled, the end token included",
)
SAMPLER_LOG_PROB = entry(
    ("log_probs", "full"),
    "[N, T]",
    "float32",
    writer="rollouts",
    reader="Policy.score's check; TIS and MIS weights",
    meaning="log-probability of each sampled token under the sampler's distribution; 0 elsewhere",
)
GROUP = entry(
    "group",
    "[N]",
    "int64",
    writer="rollouts",
    reader="credit",
    meaning="group id; rows with the same id answer the same prompt",
)
REWARD = entry(
    ("next", "reward"),
    "[N, 1]",
    "float32",
    writer="rollouts",
    reader="PositiveNLL.prepare, PastRewards, replay and files; credit where 'shaped_reward' is absent",
    meaning="sum of the episode's rewards",
)
SHAPED_REWARD = entry(
    "shaped_reward",
    "[N, 1]",
    "float32",
    writer="trainer",
    reader="credit",
    meaning="the reward after shaping; if the entry is absent, credit reads 'next.reward'",
)
TOKEN_REWARD = entry(
    "token_reward",
    "[N, T]",
    "float64",
    writer="KLPenalty",
    reader="credit",
    meaning="reward of a single token, such as minus its KL penalty; the response's reward is not included",
)
KL_COEFFICIENT = entry(
    "kl_coefficient",
    "[N, 1]",
    "float64",
    writer="trainer; KLPenalty",
    reader="KLPenalty with a controller",
    meaning="weight of the KL penalty, reward per nat: this step's, after credit the next step's; equal in all rows",
)
TERMINATED = entry(
    ("next", "terminated"),
    "[N, 1]",
    "bool",
    writer="rollouts",
    reader="files of rollouts",
    meaning="the answer was graded",
)
TRUNCATED = entry(
    ("next", "truncated"),
    "[N, 1]",
    "bool",
    writer="rollouts",
    reader="OverlongFilter",
    meaning="the episode was cut off",
)
VALID = entry(
    "valid",
    "[N]",
    "bool",
    writer="rollouts",
    reader="credit",
    meaning="the verifier gave a verdict (no timeout, no error); other rows get no advantage",
)
PAST_REWARDS = entry(
    "past_rewards",
    "[N, 3]",
    "float64",
    writer="trainer",
    reader="SmoothGroupAdvantage",
    meaning="rewards of the same problem in earlier steps: number of steps, mean, standard deviation",
)
ADVANTAGE = entry(
    "advantage",
    "[N, T]",
    "float32",
    writer="credit",
    reader="PolicyLoss, CovarianceKL",
    meaning="advantage of each sampled token; 0 outside the mask",
)
VALUE = entry(
    "value",
    "[N, T]",
    "float32",
    writer="Critic.score",
    reader="GAE, ValueLoss",
    meaning="expected return before each sampled token, with gradient in an update",
)
OLD_VALUE = entry(
    "old_value", "[N, T]", "float32", writer="trainer", reader="ValueLoss", meaning="value before the update"
)
VALUE_TARGET = entry(
    "value_target",
    "[N, T]",
    "float32",
    writer="GAE",
    reader="ValueLoss",
    meaning="the return that the critic is trained to predict",
)
LOG_PROB = entry(
    "log_prob",
    "[N, T]",
    "float32",
    writer="Policy.score",
    reader="PolicyLoss, KLToReference, PositiveNLL, CovarianceKL",
    meaning="log-probability of each sampled token at the sampling temperature, with gradient",
)
OLD_LOG_PROB = entry(
    "old_log_prob",
    "[N, T]",
    "float32",
    writer="trainer",
    reader="PolicyLoss, KLToReference, KLPenalty, CovarianceKL, DynamicClip, TIS and MIS weights",
    meaning="log_prob before the update",
)
REF_LOG_PROB = entry(
    "ref_log_prob",
    "[N, T]",
    "float32",
    writer="trainer",
    reader="KLToReference, KLPenalty",
    meaning="log_prob under the reference",
)
ENTROPY = entry(
    "entropy",
    "[N, T]",
    "float32",
    writer="Policy.score",
    reader="EntropyRatioGate, EntropyBonus",
    meaning="entropy in nats of the distribution over the whole vocabulary, at the sampling temperature",
)
OLD_ENTROPY = entry(
    "old_entropy",
    "[N, T]",
    "float32",
    writer="trainer",
    reader="EntropyRatioGate, EntropySegments, BatchEntropySegments, EntropyThresholds, EntropyAdaptiveClip",
    meaning="entropy before the update",
)
MAX_ENTROPY = entry(
    "max_entropy",
    "[N, 1]",
    "float32",
    writer="Policy.score; trainer",
    reader="EntropyAdaptiveClip",
    meaning="log of the vocabulary size, the entropy of the uniform distribution",
)
SEGMENT = entry(
    "segment",
    "[N, T]",
    "int64",
    writer="Algorithm.weigh",
    reader="SegmentRatio, SegmentRatioOld, EntropyAdaptiveClip, SegmentMean",
    meaning="the segment of its response that a token belongs to, 0, 1, ...; -1: not trained",
)
WEIGHT = entry(
    "weight",
    "[N, T]",
    "float32",
    writer="Algorithm.weigh",
    reader="every loss but PositiveNLL",
    meaning="weight of each token in the loss; sums to 1 over an optimiser batch",
)
POLICY_WEIGHT = entry(
    "policy_weight",
    "[N, T]",
    "float32",
    writer="Algorithm.weigh",
    reader="PolicyLoss of a recipe with corrections",
    meaning="the weight times the corrections for the gap between sampler and trainer",
)
POSITIVE_WEIGHT = entry(
    "positive_weight",
    "[N, T]",
    "float32",
    writer="Algorithm.weigh",
    reader="PositiveNLL",
    meaning="1 / number of sampled tokens in the correct responses of the optimiser batch; 0 in other responses",
)


TABLE: tuple[Entry, ...] = tuple(_ENTRIES.values())


@runtime_checkable
class Reads(Protocol):
    """A component that names further entries that it reads."""

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """The entries."""


def reads(component: object) -> tuple[Key, ...]:
    """The further entries that a component names; none if it has no ``in_keys``, such as a plain function.

    >>> reads(print)
    ()
    """
    return tuple(component.in_keys) if isinstance(component, Reads) else ()


class MissingEntry(KeyError):
    """A loss reads an entry that the TensorDict does not have; the message says what writes it."""

    def __str__(self) -> str:
        return str(self.args[0])


def describe(key: Key) -> str:
    """The description of an entry in the table: shape, type, meaning, writer.

    >>> describe("value_target")
    '[N, T] float32, the return that the critic is trained to predict; written by GAE'
    """
    row = _ENTRIES.get(key)
    if row is None:
        return "an entry of your own, which you must write before the loss"
    return f"{row.shape} {row.dtype}, {row.meaning}; written by {row.writer}"


def missing(key: Key, given: Iterable[Key], name: Key | None = None) -> MissingEntry:
    """The error for an absent entry.

    Args:
        key: the key that was looked up.
        given: the keys that are there.
        name: its name in the table, if ``set_keys`` changed the key.
    """
    present = ", ".join(sorted(map(repr, given))) or "nothing"
    return MissingEntry(f"The loss reads {key!r}, which is missing. It is {describe(name or key)}. Given: {present}.")


def require_entry(td: TensorDictBase, key: Key, name: Key | None = None) -> Tensor:
    """An entry of a batch.

    Args:
        td: the batch.
        key: of the entry.
        name: its name in the table, if ``set_keys`` changed the key.

    Raises:
        MissingEntry: it is absent; the error says what it is and what writes it.
    """
    value = td.get(key, None)
    if value is None:
        raise missing(key, td.keys(True, True), name)
    return value


def check_mask(mask: Tensor, key: Key = MASK) -> None:
    """Raise unless ``mask`` is a bool tensor [N, T]."""
    if str(mask.dtype) != "torch.bool":
        raise TypeError(
            f"{key!r} must be a bool tensor, got {mask.dtype}. It is {describe(MASK)}. Convert it: mask.bool()."
        )
    if mask.ndim != 2:
        raise ValueError(f"{key!r} must have shape [N, T], got {list(mask.shape)}. It is {describe(MASK)}.")


def check_entry(x: Tensor, mask: Tensor, key: Key, name: Key | None = None) -> None:
    """Raise unless ``x`` holds floats (segments: int64) and has the shape of the table.

    ``[N, 1]`` is accepted for ``[N, T]``: one number for a whole response.
    """
    name = name or key
    rows, columns = mask.shape
    if name == SEGMENT:
        if str(x.dtype) != "torch.int64":
            raise TypeError(f"{key!r} must be int64, got {x.dtype}. It is {describe(name)}.")
    elif not x.dtype.is_floating_point:
        raise TypeError(
            f"{key!r} must be a tensor of floats, got {x.dtype}. It is {describe(name)}. Convert it: x.float()."
        )
    row = _ENTRIES.get(name)
    per_row = row is not None and row.shape == "[N, 1]"
    if tuple(x.shape) == (rows, 1) or (tuple(x.shape) == (rows, columns) and not per_row):
        return
    wanted = f"[N, 1] = [{rows}, 1]" if per_row else f"[N, T] = [{rows}, {columns}], as the mask has"
    raise ValueError(f"{key!r} must have shape {wanted}, got {list(x.shape)}. It is {describe(name)}.")
