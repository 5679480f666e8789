"""The policy: a language model as a TorchRL actor that samples, scores and sends its weights to engines.

This module defines the input and output tensors. Options, prompts, loading, sampling, scoring and export have separate
modules. The environment grades the responses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from tensordict import NonTensorStack, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from llmrl import keys
from llmrl.distributed.world import World, blocks_of
from llmrl.errors import DIVERGED, EngineError, PolicyError
from llmrl.policies import adapters
from llmrl.policies.actor import Actor
from llmrl.policies.adapters import LoraOptions
from llmrl.policies.checks import check_head, check_ids, check_kinds, check_vocabulary, check_weights
from llmrl.policies.episode import Episode, pack
from llmrl.policies.exactness import exact_forward_pass, name_of, set_training, settle_attention
from llmrl.policies.export import save, try_saving
from llmrl.policies.foreign import text_of
from llmrl.policies.limits import end_ids, pad_id, room_for_prompt, warn_of_turn_end
from llmrl.policies.loading import load_for_training
from llmrl.policies.names import local_folder
from llmrl.policies.options import PolicyOptions
from llmrl.policies.prompts import Prompts
from llmrl.policies.sampling.copy import CopyEngine
from llmrl.policies.sampling.engine import (
    FINISH_END,
    FINISH_LENGTH,
    FINISH_REFUSED,
    Engine,
    Sample,
    SamplingOptions,
    row_seeds,
)
from llmrl.policies.sampling.sampler import Sampler
from llmrl.policies.sampling.states import Way
from llmrl.policies.sampling.trial import sampling_way
from llmrl.policies.scoring.forward import ForwardPass
from llmrl.policies.scoring.head import Head
from llmrl.policies.scoring.scorer import Scorer
from llmrl.policies.scoring.sharing import gather_for_cache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LoraOptions", "Policy", "PolicyError", "PolicyOptions", "local_folder"]

T = TypeVar("T")


class Policy(TensorDictModuleBase):
    """A causal language model and its tokenizer.

    The forward method is :meth:`score`: it reads tokens and masks and writes ``"log_prob"``, so
    ``TensorDictSequential(policy, loss)`` works. The model stays in evaluation mode, without dropout.

    Only :meth:`score`, :meth:`get_dist` and :meth:`distributions` read the weights, each within :meth:`with_weights`.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        options: the fields of :class:`PolicyOptions`.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, **options: Any) -> None:
        super().__init__()
        check_kinds(model, tokenizer)
        self.in_keys = [keys.TOKENS, keys.ATTENTION, keys.MASK]
        self.out_keys = [keys.LOG_PROB]
        self.options = PolicyOptions(**options)
        self.prompts = Prompts.of(tokenizer, self.options)
        self.model = model.eval()
        adapters.check_adapters(model)
        check_weights(model)
        check_head(model)
        self.embedded = len(model.get_input_embeddings().weight)
        check_vocabulary(tokenizer, self.embedded)
        check_ids(tokenizer, self.prompts.encode(["1 + 1"])[0], self.embedded)
        self.tokenizer = tokenizer
        self.temperature = self.options.temperature
        self.max_response_length = self.options.max_response_length
        self.max_prompt_length = room_for_prompt(model, self.options.max_prompt_length, self.max_response_length)
        self.vocab_size = int(Head.of(model).weight.shape[0])
        self.end_ids = end_ids(model, tokenizer, self.vocab_size, self.max_response_length)
        warn_of_turn_end(tokenizer, self.prompts.turn_end(), self.end_ids)
        self.pad_id = pad_id(tokenizer, self.end_ids, self.embedded)
        self.version = 0
        self.engine: Engine | None = None
        self.whole: CopyEngine | None = None
        self.rounding = settle_attention(model, self.longest, self.temperature)
        if self.options.packing:
            _ = self.forward_pass  # refuses a model without it at once

    @property
    def name(self) -> str:
        """The model's class and its name or folder."""
        return name_of(self.model)

    @property
    def longest(self) -> int:
        """Maximum number of tokens of a prompt and everything after it."""
        return self.max_prompt_length + self.max_response_length

    @cached_property
    def forward_pass(self) -> ForwardPass:
        """The forward pass for scoring; it is tested at its first use.

        Raises:
            PolicyError: the model cannot be scored exactly, or not with these options.
        """
        return exact_forward_pass(self.model, self.options, longest=self.longest, rounding=self.rounding)

    @cached_property
    def sampling_way(self) -> tuple[Way, bool]:
        """The way of sampling without an engine; it is tested at its first use.

        The second value says whether the fast products and attention for CPUs are used.

        Raises:
            PolicyError: no way of sampling is exact.
        """
        fast, longest = self.options.fast_cpu, self.longest
        return sampling_way(self.model, pad_id=self.pad_id, longest=longest, rounding=self.rounding, fast_cpu=fast)

    def try_out(self) -> None:
        """Test how the model can be sampled and scored exactly. :meth:`from_pretrained` calls this.

        Raises:
            PolicyError: the model cannot be sampled or scored exactly.
        """
        _ = self.sampling_way, self.forward_pass

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device | None = None,
        lora: LoraOptions | None = None,
        attn_implementation: str | None = None,
        gradient_checkpointing: bool = False,
        **options: Any,
    ) -> Policy:
        """Load a checkpoint.

        Args:
            name: a folder, an id of the Hugging Face hub, or ``llmrl/nano``, which is embedded.
            dtype: type of the weights.
            device: by default a GPU if there is one.
            lora: train low-rank adapters only.
            attn_implementation: as in transformers; None leaves the choice to it.
            gradient_checkpointing: recompute activations in the backward pass.
            options: the fields of :class:`PolicyOptions`.

        Raises:
            PolicyError: there is no such model, or it cannot be used with these arguments.
        """
        model, tokenizer = load_for_training(
            str(name),
            dtype=dtype,
            device=device,
            lora=lora,
            attn_implementation=attn_implementation,
            gradient_checkpointing=gradient_checkpointing,
        )
        policy = cls(model, tokenizer, **options)
        policy.try_out()
        return policy

    def train(self, mode: bool = True) -> Policy:
        """As in torch, but the model stays in evaluation mode, so training has no dropout and no other noise.

        Only layers with gradient checkpointing change, because they would keep their activations otherwise.
        """
        super().train(mode)
        set_training(self.model, mode)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return self.model.dtype

    # Acting

    def generate(
        self,
        prompts: Sequence[str] | TensorDictBase,
        options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
        *,
        seeds: Sequence[int] | None = None,
    ) -> TensorDict:
        """Sample one response for each prompt; equal prompts are computed once.

        Args:
            prompts: N problems; or a TensorDict with ``("text", "prompt")``, or with
                ``("tokens", "prompt")`` and ``("masks", "prompt")`` [N, P].
            options: how to sample.
            seeds: one for each prompt; the samples of a row depend only on its seed. None: drawn from torch's global
                generator.

        Returns:
            A TensorDict [N] with tokens, attention, mask and the sampler's log-probabilities [N, T]
            of :mod:`llmrl.keys`, the texts ``("text", "response")``, and ``"finish_reason"`` [N]
            uint8: 0, an end token was sampled; 1, the limit was reached; 2, the prompt is longer
            than ``max_prompt_length``, and the row is empty.
        """
        episodes = [Episode(ids) for ids in self.prompts.contexts(prompts)]
        texts = self.respond(episodes, options, seeds=seeds)
        out = pack(episodes, self.pad_id).to(self.device)
        if texts:
            out["text", "response"] = NonTensorStack(*texts)
        return out

    def begin(self, problems: Sequence[str]) -> list[Episode]:
        """An episode for each problem, with its prompt and no response yet."""
        return [Episode(ids) for ids in self.prompts.encode(problems)]

    def respond(
        self,
        episodes: Sequence[Episode],
        options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
        *,
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """Sample the next response of each episode and append it to the episode.

        Args:
            episodes: each must have room for a response. One with too long a prompt is marked as refused.
            options: how to sample.
            seeds: one for each episode; see :meth:`generate`.

        Returns:
            The responses as text, without special tokens.
        """
        limit = self._limit(options)
        fits = [i for i, e in enumerate(episodes) if len(e.prompt) <= self.max_prompt_length]
        contexts = [episodes[i].context for i in fits]
        for context in contexts:
            check_ids(self.tokenizer, context, self.embedded)
        given = None if options.greedy else row_seeds(len(episodes), seeds)
        how: dict[str, Any] = {
            "max_new_tokens": [limit - len(episodes[i].tokens) for i in fits],
            "temperature": self.temperature if options.temperature is None else options.temperature,
            "greedy": options.greedy,
            "seeds": None if given is None else [given[i] for i in fits],
        }
        if self.engine is None:
            drawn = self._sampler(self.model).sample(contexts, **how)
            if not all(math.isfinite(value) for sample in drawn for value in sample.log_probs):
                raise EngineError(f"The policy's weights {DIVERGED}")
        else:
            drawn = self.engine.sample(contexts, end_ids=self.end_ids, version=self.version, **how)
        samples = [Sample([], [], FINISH_REFUSED)] * len(episodes)
        for i, sample in zip(fits, drawn, strict=True):
            samples[i] = sample
        for episode, sample in zip(episodes, samples, strict=True):
            episode.add(sample)
        return [text_of(self.tokenizer, s.tokens, special=False) for s in samples]

    def _sampler(self, model: Any) -> Sampler:
        way, fast_cpu = self.sampling_way
        return Sampler(model, self.end_ids, self.pad_id, way=way, fast_cpu=fast_cpu)

    def _limit(self, options: SamplingOptions) -> int:
        """Maximum number of tokens after the prompt."""
        return self.max_response_length if options.max_new_tokens is None else options.max_new_tokens

    def append_reply(
        self,
        episode: Episode,
        said: Sequence[str],
        options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    ) -> bool:
        """Append the newest reply to an episode.

        Args:
            episode: an episode whose last response ended with an end token; otherwise nothing can follow.
            said: the problem and all replies so far.
            options: how the next response is sampled, with its limit.

        Returns:
            Whether there is room for the reply and another response; if not, the episode is cut off.

        Raises:
            PolicyError: the chat template rewrites earlier turns.
        """
        if episode.finish_reason != FINISH_END:
            return False
        ids = self.prompts.reply(said, episode.tokens[-1])
        if len(episode.tokens) + len(ids) >= self._limit(options):
            episode.finish_reason = FINISH_LENGTH
            return False
        episode.append(ids)
        return True

    def actor(self, options: SamplingOptions = SamplingOptions()) -> Actor:  # noqa: B008 (frozen)
        """This policy as an actor module for TorchRL's ``Collector`` and ``env.rollout``.

        Args:
            options: how to sample.
        """
        return Actor(self, options)

    # Scoring

    @property
    def scorer(self) -> Scorer:
        """The scorer of the model's weights; for a sharded policy use it within :meth:`with_weights`."""
        return Scorer(self.model, self.forward_pass, self.temperature)

    def score(
        self, tensordict: TensorDictBase, *, entropy: bool = False, layout: TensorDictBase | None = None
    ) -> TensorDictBase:
        """Teacher-forced log-probabilities of the sampled tokens, at the sampling temperature.

        Args:
            tensordict: tokens, attention and mask [N, T].
            entropy: whether to write ``"entropy"`` too, exact over the whole vocabulary.
            layout: tokens, attention and mask of the same rows on the CPU, if available; then nothing waits for a GPU.

        Returns:
            A new TensorDict. ``"log_prob"`` [N, T] is the log-probability of each sampled token given all tokens before
            it, and 0 elsewhere; it is differentiable if gradients are enabled. ``"entropy"`` [N, T] has the same form.
            ``"max_entropy"`` is [N, 1]. All are float32, or float64 for float64 weights.
        """
        given, tokens = tensordict if layout is None else layout, tensordict[keys.TOKENS]
        log_prob, spread = self.with_weights(lambda: self.scorer.scores(given, tokens, entropy))
        out = tensordict.copy()
        out[keys.LOG_PROB] = log_prob
        out[keys.MAX_ENTROPY] = log_prob.new_full((len(log_prob), 1), math.log(self.vocab_size))
        if entropy:
            out[keys.ENTROPY] = spread
        return out

    def with_weights(self, work: Callable[[], T]) -> T:
        """Call ``work`` while the weights of a sharded policy are gathered.

        Every rank must call this the same number of times. ``work`` returns a tensor or a tuple of tensors.
        """
        return work()

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """:meth:`score`."""
        return self.score(tensordict)

    def get_dist(self, tensordict: TensorDictBase, **kwargs: Any) -> Any:
        """The distributions as an object for TorchRL's own losses. It holds all logits.

        Args:
            tensordict: tokens, attention and mask [N, T].
            kwargs: further arguments of TorchRL, which are ignored.

        Returns:
            TorchRL's ``LLMMaskedCategorical`` over [N, T]: tempered, and masked where nothing was sampled.
        """
        from torchrl.modules.distributions import LLMMaskedCategorical

        logits = self.with_weights(lambda: self.scorer.logits(tensordict, tensordict[keys.TOKENS]))
        return LLMMaskedCategorical(logits=logits, mask=tensordict[keys.MASK])

    @torch.no_grad()
    def distributions(self, layout: TensorDictBase) -> Tensor:
        """Log-probabilities of the whole vocabulary before each sampled token, at the sampling temperature.

        Args:
            layout: tokens, attention and mask [N, T], with M sampled tokens.

        Returns:
            [M, V] float32, or float64 for float64 weights, row by row; without gradient.

        >>> policy = Policy.from_pretrained("llmrl/nano")
        >>> rollout = policy.generate(["What is 2 + 2?"])
        >>> policy.distributions(rollout).exp().sum(-1).round().unique().tolist()
        [1.0]
        """
        return self.with_weights(lambda: self.scorer.distributions(layout))

    # Weights

    def shard(self, world: World, *, sample: bool = True) -> None:
        """Shard the weights over the ranks. Every rank must call this before it makes an optimiser.

        Args:
            world: the ranks; does nothing if each has a whole copy.
            sample: whether the policy also samples; it then keeps a whole copy of its weights.
        """
        if world.shards == 1:
            return
        self.try_out()  # on the whole model
        if sample:
            self.whole = self.sample_from_copy(world)
        blocks = blocks_of(self.model)
        world.shard(self, blocks, ["with_weights"])
        gather_for_cache(blocks, world.unshard)

    def sample_from_copy(self, world: World) -> CopyEngine:
        """Sample from a whole copy of the weights, which only :meth:`sync` changes; returns the engine with the copy.

        Args:
            world: the ranks over which the weights are sharded, now or later.
        """
        engine = self.engine = CopyEngine(self.model, self._sampler, self.version, world)
        return engine

    def sync(self, version: int | None = None) -> int:
        """Give the weights to the sampler; returns the new version, by default one higher.

        Without an engine the sampler reads the model's own weights, so only the version changes.
        """
        self.version = self.version + 1 if version is None else version
        if self.engine is not None:
            self.engine.push(self.model, self.version)
        return self.version

    def pause(self) -> None:
        """Let an engine free its memory until the next :meth:`sync`; nothing is sampled before."""
        if self.engine is not None:
            self.engine.pause()

    def close(self) -> None:
        """End the engine, if there is one; safe to call twice."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def try_saving(self) -> None:
        """Save into a temporary folder; see :func:`llmrl.policies.export.try_saving`.

        Raises:
            PolicyError: the policy cannot be saved, or its class cannot be found again.
        """
        try_saving(self.model, self.tokenizer, self.name, self.save)

    def describe(self) -> list[str]:
        """Lines that describe how the model is sampled, scored and trained."""
        ends = [text_of(self.tokenizer, [i]) for i in sorted(self.end_ids)]
        way, fast_cpu = self.sampling_way
        sampling = f"{way.value}{', products and attention for one token on a CPU' if fast_cpu else ''}"
        lines = [
            f"limits     prompt {self.max_prompt_length} tokens, response {self.max_response_length}; ended by "
            f"{', '.join(map(repr, ends)) or 'nothing'}",
            f"sampling   {sampling if self.engine is None else type(self.engine).__name__}; attention "
            f"{self.model.config._attn_implementation}",
            f"scoring    {type(self.forward_pass).__name__.lower()}; log-probabilities move by "
            f"{self.rounding.typical:.1e} nats when each layer rounds differently",
        ]
        if adapters.has_adapters(self.model):
            lines.append(f"adapters   {adapters.adapted(self.model)}")
        return lines

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

        :func:`llmrl.policies.export.save` describes the files for a model with adapters; their folder can be loaded as
        a policy too. For a sharded policy the weights of the latest :meth:`sync` are written; one rank is enough.
        """
        return save(self._whole_model, self.tokenizer, Path(folder))

    def snapshot(self) -> Callable[[str | Path], Path]:
        """A function that later writes the checkpoint that :meth:`save` would write now, in any thread."""
        model, tokenizer = copy.deepcopy(self._whole_model), self._tokenizer_for_threads
        return lambda folder: save(model, tokenizer, Path(folder))

    @property
    def _whole_model(self) -> Any:
        return self.model if self.whole is None else self.whole.model

    @cached_property
    def _tokenizer_for_threads(self) -> PreTrainedTokenizerBase:
        """A tokenizer cannot be saved while another thread encodes with it."""
        return copy.deepcopy(self.tokenizer)
