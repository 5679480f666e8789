"""A stand-in for vLLM behind the real server: it answers every context with its own tokens."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from llmrl.policies.sampling import serve, service, wire
from llmrl.policies.sampling.host import Host
from llmrl.policies.sampling.sampler import Sampler

TOKEN = "the-token-of-the-tests"


class StandIn(Host):
    """Answers every context with its own first tokens, and remembers what it was given."""

    def __init__(self, fails: int = 0) -> None:
        """The first ``fails`` times it is asked for samples it is as a new process: it knows nothing."""
        super().__init__()
        self.tensors: dict[str, Any] = {}
        self.requests: list[wire.Sampling] = []
        self.naps = 0
        self.fails = fails

    def sample(self, request):
        if self.fails and len(request.contexts) > 1:  # not the trial at the start
            self.fails -= 1
            self.settings = self.weights = self._shapes = None
            self.tensors = {}
        return super().sample(request)

    def _build(self, settings):
        return object()

    def _take(self, settings, files):
        self.tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}

    def _sample(self, request, settings):
        if request.contexts != [[0]]:
            self.requests.append(request)
        responses = [
            response(context, limit, request.end_ids)
            for context, limit in zip(request.contexts, request.limits, strict=True)
        ]
        return wire.Sampled(weights=request.weights, responses=responses, cached=[0] * len(responses))

    def _doze(self):
        self.naps += 1


class ModelHost(Host):
    """Samples from the weights that it was handed, by llmrl's own loop in the place of vLLM."""

    def __init__(self, watch: Callable[[int], None] = lambda count: None) -> None:
        """``watch`` is told of each request for samples, the first one behind the trial being 1."""
        super().__init__()
        self.count = 0
        self.watch = watch

    def _build(self, settings):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings.config)).eval()

    def _take(self, settings, files):
        self.engine.load_state_dict({name: tensor for file in files for name, tensor in load_file(file).items()})

    def _sample(self, request, settings):
        if request.contexts != [[0]]:
            self.count += 1
            self.watch(self.count)
        samples = Sampler(self.engine, request.end_ids, 0).sample(
            request.contexts,
            max_new_tokens=request.limits,
            temperature=request.temperature,
            greedy=request.seeds is None,
            seeds=request.seeds,
        )
        responses = [
            wire.Response(tokens=s.tokens, log_probs=s.log_probs, finish=("end", "length")[s.finish_reason])
            for s in samples
        ]
        return wire.Sampled(weights=request.weights, responses=responses, cached=[0] * len(responses))


def response(context: list[int], limit: int, end_ids: list[int]) -> wire.Response:
    """The context again and again, up to the limit or an end token."""
    tokens = (context * (limit // len(context) + 1))[:limit]
    end = next((i for i, token in enumerate(tokens) if token in end_ids), None)
    finish = "length" if end is None else "end"
    tokens = tokens if end is None else tokens[: end + 1]
    return wire.Response(tokens=tokens, log_probs=[-1.0] * len(tokens), finish=finish)


class Running:
    """The real server around a host, in a thread; ``stop`` ends it as a crash would, ``start`` runs it there again."""

    def __init__(self, host: Host, folder: Path, port: int = 0, **options: Any) -> None:
        self.host = host
        self.folder = folder
        self.port = port
        self.options = {"token": TOKEN, "names": ["localhost"], **options}
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = listener.getsockname()[1]
        self.service = service.Service(self.host, folder=self.folder, broken=self._end, **self.options)
        self._server = serve.server(self.service)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def _end(self) -> None:
        self._server.should_exit = self._server.force_exit = True

    def fall(self) -> None:
        """End within a request, which then gets no answer."""
        self._end()
        self._thread.join(20)
        raise ConnectionResetError

    def stop(self) -> None:
        self._end()
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.service.close()


@contextlib.contextmanager
def running(host: Host, folder: Path, **options: Any) -> Iterator[Running]:
    """A server that ends with the block."""
    server = Running(host, folder, **options)
    try:
        yield server
    finally:
        server.stop()
