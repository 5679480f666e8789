"""The engines of a run: each samples some of the rows. An engine that fails is left out until it answers again.

Requests to one engine are in :mod:`llmrl.policies.sampling.servers`. A policy calls
:mod:`llmrl.policies.sampling.vllm`, which calls this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from llmrl.errors import EngineError
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.child import Child
from llmrl.policies.sampling.handover import HandOver
from llmrl.policies.sampling.loop import all_of
from llmrl.policies.sampling.servers import START_WITHIN, Barred, Held, Lost, Server, Stalled, Unreachable

ATTEMPTS = 3  # at one batch, by one engine
BACK_OFF = 0.5  # seconds before the second attempt; twice as long before each further one
ROWS = 1 << 13  # of one request
TOKENS = 1 << 24  # of the contexts and responses of one request: below the server's limits in every case
PATIENCE = 60.0  # seconds in which a server that is gone may come back, if no other is left
log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class ServerPool:
    """Several engines with the same weights.

    Args:
        servers: all engines.
        settings: the settings of each engine.
        weights: the weights of each engine.
        share: the number of this process and of all processes. With S servers, process r of N sends the weights to the
            servers r, r + N, ..., and samples from them. If there are none, it samples from server r mod S; if all of
            them are left out, from all others.
        child: the process of the only server, if this process starts it.

    ``restarts`` counts attempts that failed.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        settings: wire.Start,
        weights: HandOver,
        *,
        share: tuple[int, int] = (0, 1),
        child: Child | None = None,
    ) -> None:
        rank, number = share
        self.servers = list(servers)
        self.settings = settings
        self.weights = weights
        self.child = child
        self.restarts = 0
        self._own = self.servers[rank::number]
        self._near = self._own or [self.servers[rank % len(self.servers)]]
        self._stalled: set[Server] = set()  # they answer and hang

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.settings.run

    # Requests to all servers

    async def begin(self) -> None:
        """Start the servers of this process, give them the weights and sample a token from each: some fail only then.

        Raises:
            EngineError: one cannot be used.
        """
        trial = wire.Sampling(
            run=self.run,
            weights=self.weights.identity,
            contexts=[[0]],
            seeds=None,
            limits=[1],
            temperature=1.0,
            end_ids=[],
        )

        async def begin(server: Server) -> None:
            try:
                await self._begin(server, PATIENCE if server in self._own else START_WITHIN)
                await server.sample(trial, self.settings.vocab_size)
            except Lost as error:
                raise EngineError(f"{_failure(server, error)}.") from error

        async with self.weights.files():
            await all_of(begin(server) for server in self._near)

    async def sample(self, asked: wire.Sampling) -> wire.Sampled:
        """Distribute rows over the servers. The rows of a failed server are distributed over the others.

        Raises:
            EngineError: no server is left.
        """
        await all_of(self._take_back(server) for server in self._away())
        responses: dict[int, wire.Response] = {}
        cached: dict[int, int] = {}
        pending = list(range(len(asked.contexts)))
        while pending:
            servers = self._live()
            parts = deal(pending, asked.contexts, len(servers))
            answers = await all_of(
                self._sampled(server, asked, part) for server, part in zip(servers, parts, strict=False)
            )
            for rows, answer in (pair for pairs in answers for pair in pairs):
                responses |= dict(zip(rows, answer.responses, strict=True))
                cached |= dict(zip(rows, answer.cached, strict=True))
            pending = [row for row in pending if row not in responses]
        rows = range(len(asked.contexts))
        return wire.Sampled(
            weights=asked.weights, responses=[responses[i] for i in rows], cached=[cached[i] for i in rows]
        )

    async def push(self) -> None:
        """Give the servers of this process the weights.

        Raises:
            EngineError: none could take them.
        """
        async with self.weights.files():
            await all_of(self._take_back(server) for server in self._away() if server in self._own)
            await all_of(self._pushed(server) for server in self._own if server.away is None)
            self._live()

    async def pause(self) -> None:
        """Have the servers free their memory until the next weights."""

        async def pause(server: Server) -> None:
            try:
                await server.sleep(self.run)
            except Lost as error:  # sending the next weights finds out whether it works
                log.warning("The engine at %s did not free its memory: %s.", server, error)

        await all_of(pause(server) for server in self._live())

    async def leave(self) -> None:
        """Tell the servers that the run has ended."""

        async def leave(server: Server) -> None:
            with contextlib.suppress(Lost, EngineError):  # the server releases this run after a minute
                await server.leave(self.run)

        await all_of(leave(server) for server in self._own if server.away is None)

    async def beat(self) -> None:
        """Send a heartbeat as long as the run lasts. Failures are found by requests, not here."""

        async def hold(server: Server) -> None:
            with contextlib.suppress(Lost, EngineError):
                await server.hold(self.run)

        while True:
            await asyncio.sleep(wire.BEAT)
            await all_of(hold(server) for server in self.servers if server.away is None)

    # Requests to one server

    async def _sampled(
        self, server: Server, asked: wire.Sampling, rows: Sequence[int]
    ) -> list[tuple[Sequence[int], wire.Sampled]]:
        """The answers to rows, one request after the other; those before a failure."""
        answers: list[tuple[Sequence[int], wire.Sampled]] = []
        for part in requests(rows, [len(c) + n for c, n in zip(asked.contexts, asked.limits, strict=True)]):
            request = _rows(asked, part)
            answer = await self._insisting(server, partial(server.sample, request, self.settings.vocab_size))
            if answer is None:
                break
            answers.append((part, answer))
        return answers

    async def _pushed(self, server: Server) -> None:
        await self._insisting(server, lambda: self._hand_over(server))

    async def _insisting(self, server: Server, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """Send a request. After a failure send settings and weights again and repeat; None: the engine is left out."""
        for attempt in range(ATTEMPTS):
            try:
                return await ask()
            except Lost as error:
                failed: Lost | EngineError = error
            except Barred as error:
                failed = error
                break
            if isinstance(failed, Unreachable) and self._others(server):
                break
            if isinstance(failed, Stalled) and self.child is None:  # it would hang at the next request too
                failed = EngineError(f"{_failure(server, failed)}.")
                self._stalled.add(server)
                break
            log.warning("%s. It is told everything again, and the request repeated.", _failure(server, failed))
            self.restarts += 1
            await asyncio.sleep(BACK_OFF * 2**attempt)
            try:
                await self._begin(server, 0.0 if self._others(server) else PATIENCE)
            except Lost as error:  # counts as one more attempt
                failed = error
            except EngineError as error:
                failed = error
                break
        if isinstance(failed, EngineError) and not self._others(server):
            raise failed
        server.away = f"{failed}"
        if self._others(server):
            log.warning("%s. It is left out, and the others sample its rows.", _failure(server, failed))
        return None

    async def _take_back(self, server: Server) -> None:
        """Use a server that was left out again, if it answers."""
        if self.child is None and not await server.listens():
            return
        try:
            if server in self._stalled and not await server.hold(self.run):
                return
            self._stalled.discard(server)
            await self._begin(server, 0.0)
        except (Lost, EngineError) as error:
            server.away = f"{error}"
            return
        server.away = None
        log.warning("The engine at %s is back, and has the weights.", server)

    async def _begin(self, server: Server, patience: float) -> None:
        """Start an engine, and give it the current weights if it has others.

        Args:
            server: the engine.
            patience: seconds in which it may become reachable.
        """
        if self.child is not None:
            await asyncio.to_thread(self.child.start)
        deadline = time.monotonic() + patience
        alive = _Alive()
        while True:
            try:
                done = await server.start(self.settings)
                if done.weights == self.weights.identity or server in self._own:
                    break
                if time.monotonic() >= deadline:
                    raise Lost(f"it holds {done.weights or 'no weights'}, and another process has to change that")
            except Lost as error:
                if self.child is not None:
                    raise EngineError(f"The engine ended before it had begun: {self.child.last_words()}.") from error
                if not isinstance(error, Unreachable):
                    raise
                if time.monotonic() >= deadline:
                    raise Unreachable(f"{error}. {_how_to_start(server)}") from error
            except Held as error:  # perhaps by a killed run, which is released soon
                if not patience or alive(error.silent):
                    raise
            await asyncio.sleep(1)
        if done.weights != self.weights.identity:
            async with self.weights.files():
                await self._hand_over(server)

    async def _hand_over(self, server: Server) -> None:
        await server.hand_over(self.weights.folder, self.weights.digests, self.weights.identity)

    # Servers in use

    def _live(self) -> list[Server]:
        """The servers that are in use.

        Raises:
            EngineError: there is none.
        """
        live = [server for server in self._near if server.away is None]
        live = live or [server for server in self.servers if server.away is None]
        if not live:
            failures = "; ".join(f"{_failure(server, server.away)}" for server in self.servers)
            raise EngineError(f"No engine is left that samples, after {ATTEMPTS} attempts. {failures}.")
        return live

    def _away(self) -> list[Server]:
        return [server for server in self.servers if server.away is not None]

    def _others(self, server: Server) -> bool:
        return any(other is not server and other.away is None for other in self.servers)


class _Alive:
    """Finds out whether the run that holds an engine is still active while this one waits."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, silent: float) -> bool:
        now = time.monotonic()
        if self._first is None:
            log.warning("Another run holds the engine; waiting to see whether that run still gives signs of life.")
            self._first = now, silent
        began, before = self._first
        return silent < before + (now - began) - 2


def deal(rows: Sequence[int], contexts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Rows in at most ``count`` parts of nearly equal size; rows with equal contexts stay together.

    >>> deal([0, 1, 2, 3], [[7], [8], [7], [8]], 2)
    [[0, 2], [1, 3]]
    >>> deal([0], [[7]], 2)
    [[0]]
    """
    first: dict[tuple[int, ...], int] = {}
    order = sorted(rows, key=lambda row: (first.setdefault(tuple(contexts[row]), row), row))
    count = min(count, len(order))
    return [order[len(order) * i // count : len(order) * (i + 1) // count] for i in range(count)]


def requests(rows: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Rows in parts of at most ``ROWS`` rows and ``TOKENS`` tokens, in order; a longer row is a part of its own.

    Args:
        rows: their numbers.
        lengths: the most tokens of a context and its response, by number.

    >>> requests([0, 1, 2], [TOKENS // 2, TOKENS // 2, 1])
    [[0, 1], [2]]
    """
    parts: list[list[int]] = []
    size = 0
    for row in rows:
        if not parts or len(parts[-1]) == ROWS or size + lengths[row] > TOKENS:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += lengths[row]
    return parts


def _rows(asked: wire.Sampling, rows: Sequence[int]) -> wire.Sampling:
    """The request for some of the rows."""
    chosen = {
        "contexts": [asked.contexts[row] for row in rows],
        "limits": [asked.limits[row] for row in rows],
        "seeds": None if asked.seeds is None else [asked.seeds[row] for row in rows],
    }
    return asked.model_copy(update=chosen)


def _failure(server: Server, why: object) -> str:
    return f"The engine at {server} failed: {why}".rstrip(".")


def _how_to_start(server: Server) -> str:
    host, _, port = server.address.url.partition("://")[2].rpartition(":")
    return f"Start one there by: llmrl serve --host {host.strip('[]')} --port {port}"
