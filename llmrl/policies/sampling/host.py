"""vLLM with the trainer's settings and weights, sampling from contexts.

It runs in a separate process, in one thread. :mod:`llmrl.policies.sampling.service` checks the form of requests. This
module checks their contents for the model.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from llmrl.errors import DIVERGED
from llmrl.policies.sampling.wire import Load, Response, Sampled, Sampling, Start, Weights, part_name, plain

# vLLM reads these when it is imported. The engine lives in this very process, as weights are handed
# to it in memory; it binds no threads to cores, as the trainer needs them too.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
}
CPU_BLOCK = 32  # tokens that prefixes are shared by; vLLM's own 128 is longer than many prompts
BATCH_TOKENS = 8192

Problem = Literal["input", "token", "weights", "held", "busy"]


class Refused(Exception):
    """The request cannot be fulfilled; the message is for its sender.

    Args:
        kind: as in :class:`llmrl.policies.sampling.wire.Refusal`.
        message: a sentence.
        status: status code of HTTP.
        silent: with ``held``: seconds since the last request of the other run.
    """

    def __init__(self, kind: Problem, message: str, status: int = 422, silent: float | None = None) -> None:
        super().__init__(message)
        self.silent = silent
        self.kind = kind
        self.status = status


def unknown_weights(message: str) -> Refused:
    """The trainer must send settings and weights again."""
    return Refused("weights", message, 409)


class Host:
    """The engine with its settings and weights.

    Methods whose names begin with an underscore call vLLM; tests replace them.
    """

    def __init__(self) -> None:
        self.engine: Any = None
        self.settings: Start | None = None
        self.weights: Weights | None = None
        self.progress = 0
        """Number of sampled rounds of tokens; read from other threads."""
        self._shapes: dict[str, tuple[str, list[int]]] | None = None
        self._asleep = False

    def start(self, settings: Start) -> None:
        """Build the engine with random weights; with equal settings only the run changes."""
        if self.settings is not None:
            if settings.model_copy(update={"run": self.settings.run}) != self.settings:
                raise Refused(
                    "input", "This engine already serves a model with other settings. Stop it and start it again."
                )
            return
        self.weights = None
        self.engine = self._build(settings)
        self.settings = settings

    def load(self, request: Load, folder: Path) -> None:
        """Load the weights from the files of a folder, in place.

        Files that are damaged, or that hold other tensors than the last time, are refused, and the engine keeps its
        weights.
        """
        settings = self._started()
        files = [folder / part_name(index) for index in range(request.parts)]
        shapes = _shapes(files)
        if self._shapes is not None and shapes != self._shapes:
            raise Refused("input", "These weights have other names, shapes or types than those before them.")
        self.weights = None
        self._take(settings, files)
        self._shapes = shapes
        self.weights = request.weights

    def sample(self, request: Sampling) -> Sampled:
        """One response for each context."""
        settings = self._started()
        if self.weights != request.weights:
            held = "no weights" if self.weights is None else f"the weights of {self.weights}"
            raise unknown_weights(f"The engine holds {held}, not those of {request.weights}.")
        _check(request, settings)
        answer = self._sample(request, settings)
        if not all(math.isfinite(value) for response in answer.responses for value in response.log_probs):
            raise Refused(
                "input",
                f"The weights of {request.weights} {DIVERGED}",
            )
        return answer

    def sleep(self) -> None:
        """Free the memory of weights and cache until the next :meth:`load`."""
        self._started()
        self.weights = None
        self._doze()
        self._asleep = True

    def forget(self) -> None:
        """Discard the weights, because another run uses the engine."""
        self.weights = None

    def _started(self) -> Start:
        if self.settings is None:
            raise unknown_weights("The engine has not been started.")
        return self.settings

    # Calls of vLLM

    def _build(self, settings: Start) -> Any:
        try:
            import vllm
            from vllm.platforms import current_platform
        except (ImportError, OSError, RuntimeError) as error:
            raise Refused("input", f"vLLM cannot be imported: {reason(error)}.{_advice(error)}") from error
        if settings.sleep and current_platform.is_cpu():
            raise Refused("input", "Sleeping needs a GPU: vLLM cannot free its memory on a CPU.")
        options: dict[str, Any] = {}
        if current_platform.is_cpu():
            # On a CPU, seeds do not work with prompts that are read in parts (vLLM 0.32).
            options = {
                "enforce_eager": True,
                "block_size": CPU_BLOCK,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(settings.max_length, BATCH_TOKENS),
            }
        folder = tempfile.mkdtemp(prefix="llmrl-config-")
        try:
            Path(folder, "config.json").write_text(json.dumps(settings.config))
            llm = vllm.LLM(
                model=folder,
                load_format="dummy",
                skip_tokenizer_init=True,
                generation_config="vllm",
                dtype=settings.dtype,
                max_model_len=settings.max_length,
                max_num_seqs=settings.max_rows,
                kv_cache_memory_bytes=settings.cache_bytes,
                enable_sleep_mode=settings.sleep,
                enable_prefix_caching=True,
                logprobs_mode="processed_logprobs",  # after the temperature: what was sampled from
                **options,
            )
            llm.llm_engine.step = self._counted(llm.llm_engine.step)
            return llm
        except Exception as error:  # vLLM's errors have no common base class here
            traceback.print_exc()
            raise Refused("input", f"vLLM cannot serve this model: {reason(error)}.") from error
        finally:
            shutil.rmtree(folder)

    def _counted(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """A round of vLLM's own loop, counted because vLLM has no other sign of progress."""

        def counted() -> Any:
            done = step()
            self.progress += 1
            return done

        return counted

    def _take(self, settings: Start, files: list[Path]) -> None:
        llm = self.engine
        if self._asleep:
            llm.wake_up(tags=["weights"])

        def take(worker: Any) -> None:
            left_out = () if hasattr(worker.get_model(), "lm_head") else ("lm_head.weight",)
            worker.reload_weights(weights_iterator=_tensors(files, left_out))

        llm.collective_rpc(take)
        if self._asleep:  # the cache comes last, when the tensors above are no longer needed twice
            llm.wake_up(tags=["kv_cache"])
            self._asleep = False
        llm.reset_prefix_cache()

    def _sample(self, request: Sampling, settings: Start) -> Sampled:
        from vllm import SamplingParams

        seeds = request.seeds
        params = [
            SamplingParams(
                temperature=0.0 if seeds is None else request.temperature,
                seed=None if seeds is None else seeds[row],
                max_tokens=limit,
                stop_token_ids=request.end_ids,
                ignore_eos=True,  # only the policy's end tokens end a response
                logprobs=0,  # the sampled token's alone
                detokenize=False,
            )
            for row, limit in enumerate(request.limits)
        ]
        # The result of a call must not depend on earlier calls, so prefixes are shared only within a call.
        self.engine.reset_prefix_cache()
        prompts = [{"prompt_token_ids": context} for context in request.contexts]
        outputs = self.engine.generate(prompts, params, use_tqdm=False)
        responses = []
        for output in outputs:
            tokens = list(output.outputs[0].token_ids)
            log_probs = [entry[token].logprob for token, entry in zip(tokens, output.outputs[0].logprobs, strict=True)]
            finish: Literal["end", "length"] = "end" if tokens[-1] in request.end_ids else "length"
            responses.append(Response.model_construct(tokens=tokens, log_probs=log_probs, finish=finish))
        return Sampled.model_construct(
            weights=request.weights,
            responses=responses,
            cached=[output.num_cached_tokens or 0 for output in outputs],
        )

    def _doze(self) -> None:
        self.engine.sleep(level=2)


def reason(error: BaseException) -> str:
    """The sentence of an error that gives the reason.

    >>> reason(ValueError("1 error for X\\n  Value error, No such model. Known: A, B [type=value_error, x]"))
    'No such model'
    """
    text = str(error).strip()
    inner = re.search(r"Value error, (.+?) \[type=", text, re.DOTALL)
    first = re.split(r"(?<=[.!?])\s|\n", inner.group(1) if inner else text)[0]
    return plain(first).rstrip(". ") or type(error).__name__


def _advice(error: BaseException) -> str:
    if "torchvision" in str(error) or "torchcodec" in str(error):
        return (
            " torchvision, torchaudio and torchcodec here are made for another torch, and llmrl does "
            "not need them: pip uninstall torchvision torchaudio torchcodec"
        )
    return ""


def _check(request: Sampling, settings: Start) -> None:
    """Refuse contexts that this model cannot continue; vLLM itself would fail, or even end the process."""
    rows = len(request.contexts)
    for name, values in (("limits", request.limits), ("seeds", request.seeds)):
        if values is not None and len(values) != rows:
            raise Refused("input", f"There are {rows} contexts and {len(values)} {name}.")
    vocabulary = settings.vocab_size
    for row, (context, limit) in enumerate(zip(request.contexts, request.limits, strict=True)):
        if len(context) + limit > settings.max_length:
            raise Refused(
                "input",
                f"Row {row}: a context of {len(context)} and a response of {limit} tokens are longer than "
                f"{settings.max_length} together.",
            )
        if max(context) >= vocabulary:
            raise Refused("input", f"Row {row}: token {max(context)} is outside the vocabulary of {vocabulary}.")
    if max(request.end_ids, default=0) >= vocabulary:
        raise Refused("input", f"End token {max(request.end_ids)} is outside the vocabulary of {vocabulary}.")


def _shapes(files: list[Path]) -> dict[str, tuple[str, list[int]]]:
    """Name, type and shape of every tensor, from the headers of the files."""
    from safetensors import SafetensorError, safe_open

    shapes: dict[str, tuple[str, list[int]]] = {}
    try:
        for file in files:
            with safe_open(file, framework="pt") as part:
                for name in part.keys():  # noqa: SIM118  no mapping
                    piece = part.get_slice(name)
                    shapes[name] = (piece.get_dtype(), piece.get_shape())
    except (SafetensorError, OSError) as error:
        raise Refused("input", f"The weights cannot be read: {reason(error)}.") from error
    return shapes


def _tensors(files: list[Path], left_out: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for file in files:
        with safe_open(file, framework="pt") as part:
            for name in part.keys():  # noqa: SIM118  no mapping
                if name not in left_out:
                    yield name, part.get_tensor(name)
