"""The protocol between a trainer and an engine: messages, limits, the identity of weights.

Both ends check every message against these classes. The engine's end is :mod:`llmrl.policies.sampling.service`, the
trainer's :mod:`llmrl.policies.sampling.servers`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

JSON = "application/json"
SAFETENSORS = "application/octet-stream"
TOKEN_VARIABLE = "LLMRL_TOKEN"
TOKEN = r"[!-~]{16,}"
RUN_HEADER, PART_HEADER, DIGEST_HEADER = "LLMRL-Run", "LLMRL-Part", "LLMRL-Digest"

MAX_TOKENS = 1 << 24  # of one context and its response
MAX_ROWS = 1 << 16  # responses of one request
MAX_PARTS = 1 << 16  # files that the weights come in
MAX_TEMPERATURE = 1e4
LOG_PROB_TOLERANCE = 1e-3  # nats above 0 that rounding in bfloat16 may leave
SILENCE = 60.0  # seconds after which a run or an engine that says nothing counts as gone
BEAT = 15.0  # seconds between two signs of life of a run
STALLED = 300.0  # seconds without a new token after which an engine that answers counts as hanging

RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Length = Annotated[int, Field(ge=1, le=MAX_TOKENS)]


class Message(BaseModel):
    """A message with exactly these fields and types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Weights(Message):
    """The identity of weights: equal identities mean the same weights of the same run."""

    run: RunId
    """Random name from the trainer, different for each run."""
    step: Annotated[int, Field(ge=0)]
    """The policy's version of the weights."""
    digest: Digest
    """:func:`digest_of_parts` of the files of the weights."""

    def __str__(self) -> str:
        return f"step {self.step} of run {self.run} ({self.digest[:8]})"


class Start(Message):
    """The settings that an engine needs before it can load weights."""

    run: RunId
    config: dict[str, Any]
    """The model's configuration, as in its ``config.json``."""
    dtype: Literal["float32", "bfloat16", "float16"]
    vocab_size: Annotated[int, Field(ge=1, lt=1 << 31)]
    max_length: Length
    """Maximum number of tokens of a context and its response together."""
    max_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    """Number of responses sampled at the same time; the others wait."""
    cache_bytes: Annotated[int, Field(ge=1, lt=1 << 50)]
    """Memory for keys and values, in bytes."""
    sleep: bool
    """Whether the engine must be able to free its memory."""


class Load(Message):
    """A request to load the weights from files."""

    weights: Weights
    parts: Annotated[int, Field(ge=1, le=MAX_PARTS)]


class Sampling(Message):
    """A request for one response to each context."""

    run: RunId
    weights: Weights
    """The identity of the weights; an engine with other weights refuses."""
    contexts: Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MAX_ROWS)]
    seeds: list[Annotated[int, Field(ge=0, lt=1 << 63)]] | None
    """One for each row; None: the likeliest tokens."""
    limits: list[Length]
    """Maximum number of tokens of each response."""
    temperature: Annotated[float, Field(gt=0, le=MAX_TEMPERATURE, allow_inf_nan=False)]
    end_ids: Annotated[list[TokenId], Field(max_length=4096)]


class Response(Message):
    """One response."""

    tokens: Annotated[list[TokenId], Field(min_length=1)]
    log_probs: list[Annotated[float, Field(allow_inf_nan=False)]]
    """Log-probability of each token in the distribution that it was drawn from."""
    finish: Literal["end", "length"]


class Sampled(Message):
    """The responses, in the order of the contexts."""

    weights: Weights
    responses: list[Response]
    cached: list[Annotated[int, Field(ge=0)]]
    """Number of tokens of each context that were computed before."""


class Of(Message):
    """A request with only the name of the run: to hold the engine, to release it, to let it sleep."""

    run: RunId


class Done(Message):
    """The answer to a request that was fulfilled."""

    weights: Weights | None
    """The identity of the engine's weights now."""
    progress: Annotated[int, Field(ge=0)] = 0
    """Number of rounds of tokens since the engine started; if it hangs, it answers but this number does not grow."""


class Refusal(Message):
    """The answer to a request that was refused."""

    error: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """A sentence for the user."""
    kind: Literal["input", "token", "weights", "held", "busy", "broken"]
    """``weights``: send settings and weights again; ``held``: another run has this engine; ``busy``: try again later;
    ``broken``: the engine failed and ends."""
    silent: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """With ``held``: seconds since the last request of the other run."""


Kind = TypeVar("Kind", bound=Message)


class Malformed(ValueError):
    """An invalid message; the text names the field and the reason, without its value."""


def read(kind: type[Kind], body: bytes) -> Kind:
    """A message from JSON.

    Raises:
        Malformed: the text is not JSON, or not this message.

    >>> read(Of, b'{"run": "a"}')
    Of(run='a')
    >>> read(Of, b'{"run": 1}')
    Traceback (most recent call last):
    ...
    llmrl.policies.sampling.wire.Malformed: run: Input should be a valid string
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Malformed(plain(f"{where}: {first['msg']}" if where else first["msg"])) from error


def plain(text: str, limit: int = 300) -> str:
    """An untrusted text as one printable line: shortened, without control characters.

    >>> plain("a\\x1b[31m\\nb")
    'a?[31m b'
    """
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text[: 4 * limit])
    line = " ".join(shown.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def part_name(index: int) -> str:
    """The name of the file that holds one part of the weights."""
    return f"part-{index:05d}.safetensors"


def digest_of_file(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of_parts(digests: list[str]) -> str:
    """SHA-256 over those of the parts, in their order."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
