"""The trainer's client of one engine: requests with a time limit, and checks of the answers.

:func:`check` compares every answer with its request. There are two kinds of failure: after a :class:`Lost` another
attempt may succeed, after an :class:`EngineError` it cannot.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from llmrl.errors import EngineError, PolicyError
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.folders import FolderError, token_file

CONNECT_WITHIN = 10.0  # seconds
SHORT = 30.0  # seconds for a request that does nothing
START_WITHIN = 1800.0  # seconds in which vLLM must have started; compiling takes long
SAMPLE_WITHIN = 3600.0  # seconds that one batch may take
SLOWEST = 1 << 20  # bytes a second at which weights must travel, after the first ten minutes
BYTES_PER_TOKEN = 64  # of an answer, at most: an id and a number in JSON
BLOCK = 1 << 20

Kind = TypeVar("Kind", bound=wire.Message)


class Barred(EngineError):
    """The engine answers, and refuses this run."""


class Held(Barred):
    """The engine works for another run.

    Args:
        message: a sentence.
        silent: seconds since the last request of that run.
    """

    def __init__(self, message: str, silent: float) -> None:
        super().__init__(message)
        self.silent = silent


class Lost(Exception):
    """There was no valid answer; another attempt may succeed."""


class Unreachable(Lost):
    """No server listens at the address, or it does not answer."""


class Stalled(Lost):
    """The engine answers but no longer samples."""


class Forgotten(Lost):
    """The engine answers but does not hold this run's weights; settings and weights must be sent again."""


@dataclass(frozen=True)
class Address:
    """The address of an engine."""

    url: str
    """``http://HOST:PORT`` or ``https://HOST:PORT``."""
    socket: Path | None = None
    """The Unix socket, if it is the trainer's own engine."""

    def __str__(self) -> str:
        return self.url if self.socket is None else "this machine"


def addresses(text: str) -> list[Address]:
    """The addresses in a list with commas.

    >>> [str(address) for address in addresses("http://a:8000,https://b:8001")]
    ['http://a:8000', 'https://b:8001']

    Raises:
        PolicyError: a part is not an address, or an address is given twice.
    """
    found = []
    for url in text.split(","):
        parts = urllib.parse.urlsplit(url.strip())
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
        if parts.scheme not in ("http", "https") or not host or not port or extra:
            raise PolicyError(
                f"--policy.engine {wire.plain(text)}: an engine's address looks like http://HOST:PORT, as llmrl serve "
                "prints it; several are separated by commas."
            )
        name = f"[{host}]" if ":" in host else host
        found.append(Address(f"{parts.scheme}://{name}:{port}"))
    if len(set(found)) < len(found):
        raise PolicyError(f"--policy.engine {wire.plain(text)}: an address is given twice. Name every engine once.")
    return found


def token_for(address: Address) -> str:
    """The token of a server: ``LLMRL_TOKEN``, or the token in the file of a server of this account on this machine.

    Raises:
        EngineError: the variable holds no valid token.
    """
    given = os.environ.get(wire.TOKEN_VARIABLE, "")
    if given and not re.fullmatch(wire.TOKEN, given):
        raise EngineError(f"{wire.TOKEN_VARIABLE} must have at least 16 characters, without spaces. Set it again.")
    if given:
        return given
    parts = urllib.parse.urlsplit(address.url)
    if parts.hostname in ("localhost", "127.0.0.1", "::1") and parts.port is not None:
        try:
            return token_file(parts.port).read_text().strip()
        except (FolderError, OSError):
            return ""  # the server says that it wants one
    return ""


class Server:
    """Requests to one engine.

    Args:
        address: the address of the engine.
        token: the token of the engine; None: :func:`token_for` is called each time, because a restarted server may have
            made another.

    ``away`` is the reason that the engine is left out, or None. ``heard`` is the time of its last answer.
    """

    def __init__(self, address: Address, token: str | None = None) -> None:
        self.address = address
        self.token = token
        self.away: str | None = None
        self.heard = 0.0
        self._progress: tuple[int, float] = (0, 0.0)  # what the engine counted last, and since when
        self._tls = ssl.create_default_context() if address.url.startswith("https") else None

    def __str__(self) -> str:
        return str(self.address)

    async def start(self, settings: wire.Start) -> wire.Done:
        """Make the engine build its model; with unchanged settings nothing happens."""
        return await self._ask("/start", settings, wire.Done, START_WITHIN)

    async def hand_over(self, folder: Path, digests: list[str], identity: wire.Weights) -> None:
        """Make it load the weights in a folder. They are uploaded unless the engine reads the same folder."""
        size = 0
        if self.address.socket is None:
            for index, digest in enumerate(digests):
                file = folder / wire.part_name(index)
                size += file.stat().st_size
                await self._upload(file, index, digest, identity.run)
        load = wire.Load(weights=identity, parts=len(digests))
        done = await self._ask("/weights/load", load, wire.Done, START_WITHIN + size / SLOWEST, watched=True)
        if done.weights != identity:
            raise Lost(f"it says that it holds {done.weights or 'no weights'}, not {identity}")

    async def sample(self, sampling: wire.Sampling, vocab_size: int) -> wire.Sampled:
        """One response for each context, checked."""
        room = BYTES_PER_TOKEN * sum(sampling.limits) + 256 * len(sampling.contexts) + 4096
        self._progress = (self._progress[0], time.monotonic())
        answer = await self._ask("/sample", sampling, wire.Sampled, SAMPLE_WITHIN, room=room, watched=True)
        check(answer, sampling, vocab_size)
        return answer

    async def sleep(self, run: str) -> None:
        """Make it free its memory."""
        await self._ask("/sleep", wire.Of(run=run), wire.Done, SHORT * 10)

    async def hold(self, run: str) -> bool:
        """Send a heartbeat; returns whether the engine has sampled anything since the last one."""
        done = await self._ask("/hold", wire.Of(run=run), wire.Done, SHORT)
        moves = done.progress != self._progress[0]
        if moves:
            self._progress = (done.progress, time.monotonic())
        return moves

    async def leave(self, run: str) -> None:
        """Tell it that the run has ended."""
        await self._ask("/leave", wire.Of(run=run), wire.Done, CONNECT_WITHIN)

    async def listens(self) -> bool:
        """Whether the address accepts a connection within a second."""
        parts = urllib.parse.urlsplit(self.address.url)
        try:
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    # The line

    async def _upload(self, file: Path, index: int, digest: str, run: str) -> None:
        size = file.stat().st_size

        async def blocks() -> AsyncIterator[bytes]:
            with file.open("rb") as stream:
                while block := stream.read(BLOCK):
                    yield block

        headers = {
            "Content-Type": wire.SAFETENSORS,
            "Content-Length": str(size),
            wire.RUN_HEADER: run,
            wire.PART_HEADER: str(index),
            wire.DIGEST_HEADER: digest,
        }
        await self._post("/weights/part", blocks(), headers, wire.Done, START_WITHIN + size / SLOWEST)

    async def _ask(
        self,
        path: str,
        message: wire.Message,
        kind: type[Kind],
        within: float,
        *,
        room: int = 1 << 16,
        watched: bool = False,
    ) -> Kind:
        body = message.model_dump_json().encode()
        asking = self._post(path, body, {"Content-Type": wire.JSON}, kind, within, room)
        return await (self._watched(asking, kind is wire.Sampled) if watched else asking)

    async def _watched(self, asking: Coroutine[Any, Any, Kind], sampling: bool) -> Kind:
        """The answer; raises if the server stops answering, or samples no token for too long.

        :meth:`hold` records its heartbeat in the meantime.
        """
        self.heard = time.monotonic()
        task = asyncio.ensure_future(asking)
        try:
            while not task.done():
                await asyncio.wait([task], timeout=1.0)
                if not task.done() and time.monotonic() - self.heard > wire.SILENCE:
                    raise Unreachable(f"it has given no sign of life for {wire.SILENCE:.0f} s")
                if sampling and not task.done() and time.monotonic() - self._progress[1] > wire.STALLED:
                    raise Stalled(
                        f"it answers, and has sampled no token for {wire.STALLED:.0f} s: it hangs. Look at its log "
                        "and start it again"
                    )
            return task.result()
        finally:
            task.cancel()

    async def _post(
        self,
        path: str,
        body: bytes | AsyncIterator[bytes],
        headers: dict[str, str],
        kind: type[Kind],
        within: float,
        room: int = 1 << 16,
    ) -> Kind:
        try:
            async with asyncio.timeout(within):
                status, content_type, answer = await self._exchange(path, body, headers, room)
        except TimeoutError as error:
            raise Unreachable(f"it did not answer to {path} within {within:.0f} s") from error
        except httpx2.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Barred(
                    f"The certificate of the engine at {self} is not trusted. Set SSL_CERT_FILE to the file of its "
                    "authority."
                ) from error
            raise Unreachable(f"nothing answers ({_said(error)})") from error
        except httpx2.TimeoutException as error:
            raise Unreachable(f"it did not answer to {path} in time ({type(error).__name__})") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise Lost(f"the connection was closed ({_said(error)})") from error
        self.heard = time.monotonic()
        if content_type != wire.JSON:
            raise Lost(
                f"it answered with status {status} and {content_type or 'no type'}: another program listens there"
            )
        if status != 200:
            self._refused(status, answer)
        try:
            return wire.read(kind, answer)
        except wire.Malformed as error:
            raise Lost(f"its answer to {path} is invalid: {error}") from error

    async def _exchange(
        self, path: str, body: bytes | AsyncIterator[bytes], headers: dict[str, str], room: int
    ) -> tuple[int, str, bytes]:
        """Status, type and body of the answer; a body longer than ``room`` bytes is not read to its end."""
        uds = None if self.address.socket is None else str(self.address.socket)
        transport = httpx2.AsyncHTTPTransport(uds=uds, verify=self._tls or False, trust_env=False)
        limit = httpx2.Timeout(None, connect=CONNECT_WITHIN, write=60.0)
        # No proxy from the environment: weights are sent directly to the address.
        async with httpx2.AsyncClient(transport=transport, timeout=limit, trust_env=False) as client:
            token = token_for(self.address) if self.token is None else self.token
            given = {"Accept-Encoding": "identity", **headers}
            if token:
                given["Authorization"] = f"Bearer {token}"
            async with client.stream("POST", self.address.url + path, content=body, headers=given) as response:
                answer = bytearray()
                async for block in response.aiter_raw():
                    answer += block
                    if len(answer) > room:
                        raise Lost(f"its answer to {path} is longer than {room} bytes")
                content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                return response.status_code, wire.plain(content_type, 80), bytes(answer)

    def _refused(self, status: int, answer: bytes) -> None:
        try:
            refusal = wire.read(wire.Refusal, answer)
        except wire.Malformed as error:
            raise Lost(f"it answered with status {status} without a message ({error})") from error
        said = wire.plain(refusal.error, 2000)
        match refusal.kind:
            case "weights":
                raise Forgotten(said)
            case "busy" | "broken":
                raise Lost(said)
            case "token":
                raise Barred(f"The engine at {self} refuses access: {said}")
            case "held":
                raise Held(f"The engine at {self} is in use: {said}", refusal.silent or 0.0)
            case _:
                raise EngineError(said if self.address.socket else f"{said} (the engine at {self})")


def check(answer: wire.Sampled, asked: wire.Sampling, vocab_size: int) -> None:
    """Compare responses with the request.

    Raises:
        Lost: the engine cannot have sampled them from these weights; the message says which and why.
    """

    def refuse(what: str) -> None:
        raise Lost(f"its samples are invalid: {what}")

    if answer.weights != asked.weights:
        refuse(f"they are from {answer.weights}, not from {asked.weights}")
    rows = len(asked.contexts)
    if len(answer.responses) != rows or len(answer.cached) != rows:
        refuse(f"{len(answer.responses)} responses to {rows} contexts")
    ends = set(asked.end_ids)
    for row, (context, limit, response, cached) in enumerate(
        zip(asked.contexts, asked.limits, answer.responses, answer.cached, strict=True)
    ):
        tokens, log_probs = response.tokens, response.log_probs
        if len(tokens) > limit:
            refuse(f"row {row} has {len(tokens)} tokens where {limit} were allowed")
        if max(tokens) >= vocab_size:
            refuse(f"row {row} holds token {max(tokens)}, and the vocabulary has {vocab_size}")
        if len(log_probs) != len(tokens):
            refuse(f"row {row} has {len(tokens)} tokens and {len(log_probs)} log-probabilities")
        if max(log_probs) > wire.LOG_PROB_TOLERANCE:
            refuse(f"row {row} holds a log-probability of {max(log_probs):g}, above 0")
        if not ends.isdisjoint(tokens[:-1]):
            refuse(f"row {row} continues after an end token")
        if (response.finish == "end") != (tokens[-1] in ends):
            refuse(f"row {row} says that it finished by {response.finish!r}, and its last token says otherwise")
        if response.finish == "length" and len(tokens) < limit:
            refuse(f"row {row} stopped after {len(tokens)} of {limit} tokens, without an end token")
        if cached > len(context):
            refuse(f"row {row} had {cached} tokens read before, of a context of {len(context)}")


def _said(error: Exception) -> str:
    return wire.plain(str(error)) or type(error).__name__
