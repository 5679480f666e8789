"""The requests of an engine: access, limits of size and time, and refusals.

Requests are JSON, weights are safetensors files; :mod:`llmrl.policies.sampling.wire` has the messages. The engine works
in one thread, one request at a time. Reading and refusing requests and heartbeats continue in the meantime.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import json
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from llmrl.policies.sampling import wire
from llmrl.policies.sampling.host import Host, Refused, reason, unknown_weights

BODY_LIMIT = 256 << 20  # bytes of a request in JSON
PART_LIMIT = 16 << 30  # bytes of one file of weights; a single tensor is never cut
BODY_WITHIN = 60.0  # seconds in which the body of a request must have come
SLOWEST = 1 << 20  # bytes a second at which weights must come in, after the first minute
MAX_WAITING = 64  # requests that wait for the engine

Kind = TypeVar("Kind", bound=wire.Message)
Result = TypeVar("Result")


class Holder:
    """The run that uses the engine: one at a time, until it leaves or sends nothing for a minute."""

    def __init__(self, forget: Callable[[], None]) -> None:
        self.run: str | None = None
        self._forget = forget
        self._heard = time.monotonic()
        self._working = 0

    @contextlib.contextmanager
    def working_for(self, run: str) -> Iterator[None]:
        """Refuse a run other than the current one; a request also counts as a heartbeat."""
        self._claim(run)
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._heard = time.monotonic()

    def leave(self, run: str) -> None:
        """Release the engine at the end of the run; another run has no effect."""
        if run == self.run:
            self.run = None

    def _claim(self, run: str) -> None:
        silent = time.monotonic() - self._heard
        if self.run != run:
            if self.run is not None and (self._working or silent < wire.SILENCE):
                raise Refused(
                    "held",
                    f"This engine works for run {self.run}, whose last request was {silent:.0f} s ago. Use a separate "
                    f"engine for each run. A run that was killed is released after {wire.SILENCE:.0f} s.",
                    409,
                    silent,
                )
            self._forget()
            self.run = run
        self._heard = time.monotonic()


class Service:
    """The requests that an engine answers.

    Args:
        host: the engine.
        token: the token that a request must have.
        names: host names that requests may use; numeric addresses are always allowed.
        folder: the folder of the weights.
        uploads: whether weights come in the body of requests; False: the trainer writes them to the folder.
        broken: called when the engine has failed, after the answer to the request.
    """

    def __init__(
        self,
        host: Host,
        *,
        token: str,
        folder: Path,
        names: Collection[str] = (),
        uploads: bool = True,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        self.host = host
        self.holder = Holder(host.forget)
        self._token = token.encode()
        self._names = {name.lower() for name in names}
        self._folder = folder
        self._uploads = uploads
        self._broken = broken
        self._digests: list[str] = []
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    def application(self) -> Starlette:
        """An ASGI application."""
        routes = {
            "/start": self._start,
            "/weights/part": self._part,
            "/weights/load": self._load,
            "/sample": self._sample,
            "/sleep": self._sleep,
            "/hold": self._hold,
            "/leave": self._leave,
        }
        application = Starlette(
            routes=[
                Route("/health", _health, methods=["GET"]),
                *(Route(path, self._guarded(act), methods=["POST"]) for path, act in routes.items()),
            ],
            exception_handlers={HTTPException: _no_such_path},
        )
        application.router.redirect_slashes = False
        return application

    def close(self) -> None:
        """End the engine's thread after its pending requests."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # Requests

    async def _start(self, request: Request) -> wire.Message:
        settings = await _message(request, wire.Start)
        with self.holder.working_for(settings.run):
            await self._in_turn(lambda: self.host.start(settings))
        return self._done()

    async def _part(self, request: Request) -> wire.Message:
        if not self._uploads:
            raise Refused("input", "This engine reads the weights from its trainer's folder.", 404)
        run = wire.read(wire.Of, json.dumps({"run": request.headers.get(wire.RUN_HEADER, "")}).encode()).run
        with self.holder.working_for(run):
            await self._receive(request)
        return self._done()

    async def _load(self, request: Request) -> wire.Message:
        load = await _message(request, wire.Load)
        with self.holder.working_for(load.weights.run):
            if self._uploads:
                came = wire.digest_of_parts(self._digests)
                if len(self._digests) != load.parts or came != load.weights.digest:
                    raise unknown_weights("These are not the uploaded weights. Send them again.")
            await self._in_turn(lambda: self.host.load(load, self._folder))
            if self._uploads:
                self._clear()
        return self._done()

    async def _sample(self, request: Request) -> wire.Message:
        sampling = await _message(request, wire.Sampling)
        with self.holder.working_for(sampling.run):
            return await self._in_turn(lambda: self.host.sample(sampling))

    async def _sleep(self, request: Request) -> wire.Message:
        asked = await _message(request, wire.Of)
        with self.holder.working_for(asked.run):
            await self._in_turn(self.host.sleep)
        return self._done()

    async def _hold(self, request: Request) -> wire.Message:
        asked = await _message(request, wire.Of)
        if self.holder.run != asked.run:
            raise unknown_weights("The engine does not work for this run.")
        with self.holder.working_for(asked.run):
            return self._done()

    async def _leave(self, request: Request) -> wire.Message:
        self.holder.leave((await _message(request, wire.Of)).run)
        return self._done()

    def _done(self) -> wire.Done:
        return wire.Done(weights=self.host.weights, progress=self.host.progress)

    async def _in_turn(self, work: Callable[[], Result]) -> Result:
        """Call the engine, after all earlier requests."""
        if self._waiting >= MAX_WAITING:
            raise Refused("busy", f"{MAX_WAITING} requests are waiting for this engine. Try again later.", 503)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    # Uploaded weights

    async def _receive(self, request: Request) -> None:
        """Store one part of the weights; part 0 starts new weights."""
        length = _length(request, PART_LIMIT, wire.SAFETENSORS)
        number = request.headers.get(wire.PART_HEADER, "")
        index = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else -1
        if index == 0:
            self._clear()
        if index != len(self._digests):
            raise unknown_weights(f"Part {len(self._digests)} of the weights was expected. Send them again.")
        file = self._folder / wire.part_name(index)
        came, digest = 0, hashlib.sha256()
        try:
            async with _within(BODY_WITHIN + length / SLOWEST):
                with file.open("wb") as stream:
                    async for block in request.stream():
                        came += len(block)
                        if came > length:
                            raise Refused("input", f"The body has more than the announced {length} bytes.", 400)
                        digest.update(block)
                        stream.write(block)
        except OSError as error:
            raise Refused("input", f"The weights cannot be kept: {reason(error)}.", 507) from error
        if came != length or digest.hexdigest() != request.headers.get(wire.DIGEST_HEADER):
            raise Refused("busy", "A part of the weights is damaged. Send it again.", 400)
        self._digests.append(digest.hexdigest())

    def _clear(self) -> None:
        for index in range(len(self._digests) + 1):
            (self._folder / wire.part_name(index)).unlink(missing_ok=True)
        self._digests = []

    # Access

    def _guarded(self, act: Callable[[Request], Awaitable[wire.Message]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                self._let_in(request)
                return _response(200, await act(request))
            except Refused as refusal:
                return _refusal(refusal.status, refusal.kind, str(refusal), refusal.silent)
            except wire.Malformed as error:
                return _refusal(400, "input", str(error))
            except ClientDisconnect:
                return _refusal(400, "input", "The request was cut off.")
            except Exception as error:  # vLLM's errors have no common base class
                traceback.print_exc()
                response = _refusal(500, "broken", reason(error))
                # An engine that failed half-way cannot be trusted with another batch.
                response.background = BackgroundTask(self._broken)
                return response

        return answer

    def _let_in(self, request: Request) -> None:
        """Refuse browsers, foreign host names and requests without the token, before the body is read."""
        headers = request.headers
        if "origin" in headers or "sec-fetch-site" in headers:
            raise Refused("token", "Requests from web pages are refused.", 403)
        if not _known(headers.get("host", ""), self._names):
            raise Refused(
                "token",
                f"This engine is not called {wire.plain(headers.get('host', ''), 80)!r}. Use its numeric "
                "address, or start it with --name.",
                403,
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            raise Refused(
                "token", f"The token is missing or wrong. Set {wire.TOKEN_VARIABLE} to the server's token.", 401
            )


async def _health(request: Request) -> Response:
    return Response('{"status": "ok"}', media_type=wire.JSON, headers={"Connection": "close"})


async def _no_such_path(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    asked = wire.plain(f"{request.method} {request.url.path}", 80)
    return _refusal(status, "input", f"This engine has no endpoint {asked}.")


def _response(status: int, message: wire.Message) -> Response:
    # One request per connection, so a client cannot keep one open by sending the next request slowly.
    return Response(message.model_dump_json(), status, media_type=wire.JSON, headers={"Connection": "close"})


def _refusal(status: int, kind: Any, message: str, silent: float | None = None) -> Response:
    return _response(status, wire.Refusal(error=wire.plain(message, 2000) or "It failed.", kind=kind, silent=silent))


def _known(host: str, names: set[str]) -> bool:
    """Whether a Host header names this server.

    If a web page of another site points its own name at this server, its requests have that name, never a numeric
    address.
    """
    name = host.lower().strip()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _length(request: Request, limit: int, content_type: str) -> int:
    """The announced length of a body, if it has this type and is not too long."""
    headers = request.headers
    given = headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != content_type:
        raise Refused("input", f"The body must be {content_type}, not {wire.plain(given, 80) or 'untyped'}.", 415)
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refused("input", "The length of the body must be announced (Content-Length).", 411)
    if len(length) > 18 or int(length) > limit:
        raise Refused("input", f"A body may have {limit} bytes, not {length[:20]}.", 413)
    return int(length)


async def _message(request: Request, kind: type[Kind]) -> Kind:
    length = _length(request, BODY_LIMIT, wire.JSON)
    body = bytearray()
    async with _within(BODY_WITHIN):
        async for block in request.stream():
            body += block
            if len(body) > length:
                raise Refused("input", f"The body has more than the announced {length} bytes.", 400)
    # Large ones are read outside the event loop, which must answer other requests.
    return await asyncio.get_running_loop().run_in_executor(None, wire.read, kind, bytes(body))


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Refused("busy", f"The body did not arrive within {seconds:.0f} seconds.", 408) from error
