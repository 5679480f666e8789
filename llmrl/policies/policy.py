"""The policy: a language model as a TorchRL actor that generates, scores and hands over its weights.

Owns the layout of TensorDicts, and which positions are scored. Prompts are those of
:mod:`llmrl.policies.prompts`, the sampling loop is the sampler's, log-probabilities from hidden states are scoring's;
what counts as a good response is the environment's.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tensordict import NonTensorStack, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from llmrl import keys
from llmrl.policies import adapters
from llmrl.policies.actor import Actor
from llmrl.policies.adapters import LoraOptions
from llmrl.policies.episode import Episode, pack
from llmrl.policies.loading import (
    DTYPES,
    PolicyError,
    check_head,
    check_vocabulary,
    device_of,
    load,
    local_folder,
    mend_generation_settings,
)
from llmrl.policies.prompts import Prompts
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
from llmrl.policies.sampling.trial import LONG, attention_gap, changes, padded_gap, rounding_of, sampling_way
from llmrl.policies.saving import usual_mode
from llmrl.policies.scoring.forward import ForwardPass, hidden_before
from llmrl.policies.scoring.head import Head, score_tokens
from llmrl.policies.scoring.probing import TOLERANCE, checkpointed_gap, forward_pass_for
from llmrl.registry import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
TRIED_BYTES = 1 << 27  # of weights that are saved on trial

__all__ = ["LoraOptions", "Policy", "PolicyError", "PolicyOptions", "local_folder"]


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """What a policy does with its model.

    >>> PolicyOptions(instruction="Put the final answer in \\\\boxed{}.").temperature
    1.0
    """

    temperature: float = 1.0
    """Of sampling; scores are taken at the same temperature."""
    max_prompt_length: int = 1024
    """Longer prompts are refused, never cut; less where the model's own context leaves no room for a response behind
    such a prompt."""
    max_response_length: int = 256
    """Limit of all that follows the prompt: one response, or the responses and replies of an episode of several
    turns."""
    chat_template: str | None = "auto"
    """``"auto"``: the tokenizer's if it has one; None: ``prompt_template``; else the name of one of the tokenizer's
    templates, or the path of a Jinja file."""
    prompt_template: str = "{problem}"
    """What a prompt looks like without a chat template."""
    system_prompt: str | None = None
    """The message in front of the first problem; needs a chat template."""
    instruction: str | None = None
    """Written behind each problem, after an empty line, such as: Put the final answer in \\\\boxed{}."""
    template_arguments: Mapping[str, Any] | None = None
    """Given to the chat template, such as ``{"enable_thinking": False}``."""
    packing: bool = False
    """Score several responses in one row, without padding; a model that cannot keep them apart is refused."""
    share_prompts: bool = True
    """Score the responses to a prompt behind one pass over it, if the model can and where that saves enough; not
    together with packing or gradient checkpointing."""
    fast_cpu: bool = True
    """Sample on a CPU with repacked weights and an attention for one token at a time; the result is the same to
    rounding."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise PolicyError(f"temperature must be greater than 0, got {self.temperature}.")


class Policy(TensorDictModuleBase):
    """A causal language model and its tokenizer.

    As a module it is :meth:`score`: it reads tokens and masks and writes ``"log_prob"``, so that
    ``TensorDictSequential(policy, loss)`` composes. The model stays in evaluation mode, without dropout.

    Scoring reads the weights within :meth:`score` and :meth:`get_dist` alone, so a sharded policy has these two entry
    points.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        options: the fields of :class:`PolicyOptions`.
    """

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, **options: Any) -> None:
        super().__init__()
        self.in_keys = [keys.TOKENS, keys.ATTENTION, keys.MASK]
        self.out_keys = [keys.LOG_PROB]
        self.options = PolicyOptions(**options)
        self.prompts = Prompts(
            tokenizer,
            chat_template=self.options.chat_template,
            prompt_template=self.options.prompt_template,
            system_prompt=self.options.system_prompt,
            instruction=self.options.instruction,
            template_arguments=self.options.template_arguments,
        )
        self.model = model.eval()
        check_head(model)
        self.tokenizer = tokenizer
        self.temperature = self.options.temperature
        self.max_response_length = self.options.max_response_length
        self.max_prompt_length = _room(model, self.options.max_prompt_length, self.max_response_length)
        self.vocab_size = int(Head.of(model).weight.shape[0])
        self.end_ids = _end_ids(model, tokenizer)
        pad = tokenizer.pad_token_id
        self.pad_id = int(pad if pad is not None else min(self.end_ids, default=0))
        self.version = 0
        self.engine: Engine | None = None
        check_vocabulary(tokenizer, len(model.get_input_embeddings().weight))
        if not self.end_ids:
            log.warning(
                "Nothing can end a response: neither the tokenizer nor the model's generation settings name an end "
                "token. Every response has max_response_length (%s) tokens. Set tokenizer.eos_token.",
                self.max_response_length,
            )
        try:
            self.rounding = rounding_of(model, self.temperature)
            self._mend_attention()
        except RuntimeError as error:
            raise PolicyError(
                f"{self.name} cannot compute a sequence of {LONG} tokens: {error} Its settings do not fit together."
            ) from error
        if self.options.packing:
            _ = self.forward_pass  # a model that cannot is refused now

    @property
    def name(self) -> str:
        """The model's class and where it is from."""
        return f"{type(self.model).__name__} {self.model.config.name_or_path}".rstrip()

    @property
    def longest(self) -> int:
        """Tokens of a prompt and all that follows it, at most."""
        return self.max_prompt_length + self.max_response_length

    @cached_property
    def forward_pass(self) -> ForwardPass:
        """How responses pass through the model to be scored; tried when it is first asked for.

        Raises:
            PolicyError: the model cannot be scored exactly, or not as the options ask.
        """
        gap = padded_gap(self.model, self.longest)
        if not gap <= self.rounding.tolerance:
            raise PolicyError(
                f"{self.name}: a sequence's log-probabilities change with the sequences beside it, by {gap:.2g} nats "
                f"(rounding: {self.rounding.tolerance:.2g}). Its positions or its attention depend on the longest "
                f"sequence of a batch (lengths {changes(self.model.config)}). Give --policy.max-prompt-length and "
                "--policy.max-response-length that stay below such a length together, or another model."
            )
        if getattr(self.model, "is_gradient_checkpointing", False):
            self._try_checkpointing()
        return forward_pass_for(
            self.model.get_decoder(),
            self.name,
            packing=self.options.packing,
            share_prompts=self.options.share_prompts,
        )

    def _try_checkpointing(self) -> None:
        training = self.training
        why: str | None = None
        try:
            gap = checkpointed_gap(self.model.get_decoder(), self.train)
            if not gap <= TOLERANCE.get(self.dtype, 0.1):
                why = f"hidden states or gradients are off by {gap:.2g} of their length"
        except Exception as error:  # whatever a model that was never checkpointed makes of it
            why = f"{type(error).__name__}: {error}"
        finally:
            self.train(training)
        if why is not None:
            raise PolicyError(
                f"{self.name} cannot be trained with gradient checkpointing: {why}. Leave out "
                "--policy.gradient-checkpointing."
            )

    @cached_property
    def sampling_way(self) -> tuple[Way, bool]:
        """How the policy samples itself, without an engine; tried when it is first asked for.

        Raises:
            PolicyError: no way is exact.
        """
        return sampling_way(
            self.model,
            pad_id=self.pad_id,
            longest=self.longest,
            rounding=self.rounding,
            fast_cpu=self.options.fast_cpu,
        )

    def try_out(self) -> None:
        """Find out how the model is sampled and scored exactly; done at load, else when first used.

        Raises:
            PolicyError: it cannot be.
        """
        _ = self.sampling_way, self.forward_pass

    def _mend_attention(self) -> None:
        """Use transformers' own attention where the kernel drops something, such as a soft-cap."""
        used = self.model.config._attn_implementation
        if used == "eager":
            return
        try:
            gap = attention_gap(self.model, self.longest)
        except (ValueError, NotImplementedError):
            return  # a model with one kernel only
        if not gap <= self.rounding.tolerance:
            log.warning(
                "%s: attention %r drops something that the model asks for, log-probabilities are off by %.2g nats. "
                "'eager' is used instead.",
                self.name,
                used,
                gap,
            )
            self.model.set_attn_implementation("eager")

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
            PolicyError: there is no such model, or it cannot be used as asked.
        """
        if isinstance(dtype, str):
            if dtype not in DTYPES:
                raise PolicyError(f"dtype {dtype!r} is not known. {suggest(dtype, DTYPES)}")
            dtype = DTYPES[dtype]
        device = device_of(device)
        model: Any
        model, tokenizer = load(str(name), dtype=dtype, attn_implementation=attn_implementation)
        if lora is not None and adapters.has_adapters(model):
            raise PolicyError(f"The policy {str(name)!r} has adapters already: leave out the options of new ones.")
        if lora is not None:
            model = adapters.add_adapters(model, lora)
        if gradient_checkpointing:
            try:
                model.gradient_checkpointing_enable({"use_reentrant": False})
            except ValueError as error:
                raise PolicyError(f"{error} Leave out --policy.gradient-checkpointing.") from error
        mend_generation_settings(model)
        policy = cls(model.to(device), tokenizer, **options)
        policy.try_out()
        return policy

    def train(self, mode: bool = True) -> Policy:
        """As in torch, but the model stays in evaluation mode: no dropout and no other noise, in training too.

        Only layers that are checkpointed are told, as they would keep their activations otherwise.
        """
        super().train(mode)
        self.model.eval()
        for part in self.model.modules():
            if isinstance(part, GradientCheckpointingLayer):
                part.training = mode and part.gradient_checkpointing
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
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
            seeds: one for each prompt; a row's draws depend on its seed alone. None: drawn from torch's global
                generator.

        Returns:
            A TensorDict [N] with tokens, attention, mask and the sampler's log-probabilities [N, T]
            of :mod:`llmrl.keys`, the texts ``("text", "response")``, and ``"finish_reason"`` [N]
            uint8: 0, an end token was sampled; 1, the limit was reached; 2, the prompt is longer
            than ``max_prompt_length``, and the row is empty.
        """
        episodes = [Episode(ids) for ids in self._contexts(prompts)]
        texts = self.respond(episodes, options, seeds=seeds)
        out = pack(episodes, self.pad_id).to(self.device)
        if texts:
            out["text", "response"] = NonTensorStack(*texts)
        return out

    def begin(self, problems: Sequence[str]) -> list[Episode]:
        """An episode for each problem: its prompt, and no response yet."""
        return [Episode(ids) for ids in self.prompts.encode(problems)]

    def respond(
        self,
        episodes: Sequence[Episode],
        options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
        *,
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """Sample the next response of each episode, and append it there.

        Args:
            episodes: each needs room for a response; one whose prompt is too long is marked so.
            options: how to sample.
            seeds: one for each episode; see :meth:`generate`.

        Returns:
            The responses as text, without special tokens.
        """
        limit = self.max_response_length if options.max_new_tokens is None else options.max_new_tokens
        fits = [i for i, e in enumerate(episodes) if len(e.prompt) <= self.max_prompt_length]
        contexts = [episodes[i].context for i in fits]
        given = None if options.greedy else row_seeds(len(episodes), seeds)
        how: dict[str, Any] = {
            "max_new_tokens": [limit - len(episodes[i].tokens) for i in fits],
            "temperature": self.temperature if options.temperature is None else options.temperature,
            "greedy": options.greedy,
            "seeds": None if given is None else [given[i] for i in fits],
        }
        if self.engine is None:
            drawn = self._sampler().sample(contexts, **how)
        else:
            drawn = self.engine.sample(contexts, end_ids=self.end_ids, version=self.version, **how)
        samples = [Sample([], [], FINISH_REFUSED)] * len(episodes)
        for i, sample in zip(fits, drawn, strict=True):
            samples[i] = sample
        for episode, sample in zip(episodes, samples, strict=True):
            episode.add(sample)
        return self.tokenizer.batch_decode([s.tokens for s in samples], skip_special_tokens=True)

    def _sampler(self) -> Sampler:
        way, fast_cpu = self.sampling_way
        return Sampler(self.model, self.end_ids, self.pad_id, way=way, fast_cpu=fast_cpu)

    def append_reply(self, episode: Episode, said: Sequence[str]) -> bool:
        """Append the newest reply to an episode.

        Args:
            episode: its last response ended by itself, or nothing can follow.
            said: the problem and all replies so far.

        Returns:
            Whether there is room for the reply and another response; if not, the episode is cut.

        Raises:
            PolicyError: the chat template rewrites earlier turns.
        """
        if episode.finish_reason != FINISH_END:
            return False
        ids = self.prompts.reply(said, episode.tokens[-1])
        if len(episode.tokens) + len(ids) >= self.max_response_length:
            episode.finish_reason = FINISH_LENGTH
            return False
        episode.append(ids)
        return True

    def actor(self, options: SamplingOptions = SamplingOptions()) -> Actor:  # noqa: B008 (frozen)
        """This policy as a module that acts, for TorchRL's ``Collector`` and ``env.rollout``.

        Args:
            options: how to sample.
        """
        return Actor(self, options)

    def _contexts(self, prompts: Sequence[str] | TensorDictBase) -> list[list[int]]:
        if not isinstance(prompts, TensorDictBase):
            if isinstance(prompts, str):
                raise TypeError("generate takes a list of problems, got one str. Put it in a list.")
            return self.prompts.encode(list(prompts))
        found = prompts.keys(include_nested=True)
        if ("tokens", "prompt") in found:
            tokens, mask = prompts["tokens", "prompt"], prompts["masks", "prompt"].bool()
            return [ids[real].tolist() for ids, real in zip(tokens, mask, strict=True)]
        if ("text", "prompt") in found:
            return self.prompts.encode(list(prompts["text", "prompt"]))
        raise KeyError(
            "generate needs ('text', 'prompt'), or ('tokens', 'prompt') and ('masks', 'prompt'), in "
            f"its TensorDict; it holds {sorted(map(str, found))}."
        )

    # Scoring

    def score(
        self, tensordict: TensorDictBase, *, entropy: bool = False, layout: TensorDictBase | None = None
    ) -> TensorDictBase:
        """Teacher-forced log-probabilities of the sampled tokens, at the sampling temperature.

        Args:
            tensordict: tokens, attention and mask [N, T].
            entropy: whether to write ``"entropy"`` too, exact over the whole vocabulary.
            layout: the same tokens, attention and mask on the CPU, where they are known there: a GPU need not be
                waited for.

        Returns:
            A new TensorDict with ``"log_prob"`` [N, T], at each sampled token the log-probability given everything
            before it, 0 elsewhere, differentiable where gradients are enabled; ``"entropy"`` [N, T] in the same form;
            ``"max_entropy"`` [N, 1]. They are float32, or float64 where the weights are.
        """
        where, hidden, targets = self._hidden(tensordict, layout)
        head = Head.of(self.model)
        tokens = tensordict[keys.TOKENS]
        log_prob = tokens.new_zeros(tokens.shape, dtype=torch.promote_types(head.weight.dtype, torch.float32))
        out = tensordict.copy()
        out[keys.MAX_ENTROPY] = log_prob.new_full((len(tokens), 1), math.log(self.vocab_size))
        spread = None
        if hidden is not None:
            values, spread = score_tokens(hidden, targets, head, temperature=self.temperature, entropy=entropy)
            out[keys.LOG_PROB] = log_prob.index_put(where, values)
        else:
            out[keys.LOG_PROB] = log_prob
        if entropy:
            out[keys.ENTROPY] = log_prob if spread is None else log_prob.index_put(where, spread)
        return out

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """:meth:`score`."""
        return self.score(tensordict)

    def get_dist(self, tensordict: TensorDictBase, **kwargs: Any) -> Any:
        """The distributions as an object, for TorchRL's own losses; it holds all logits.

        Args:
            tensordict: tokens, attention and mask [N, T].
            kwargs: what TorchRL passes besides; nothing of it applies.

        Returns:
            TorchRL's ``LLMMaskedCategorical`` over [N, T]: tempered at sampled tokens, masked elsewhere.
        """
        from torchrl.modules.distributions import LLMMaskedCategorical

        where, hidden, _ = self._hidden(tensordict)
        tokens = tensordict[keys.TOKENS]
        logits = torch.zeros((*tokens.shape, self.vocab_size), device=tokens.device)
        if hidden is not None:
            logits = logits.index_put(where, Head.of(self.model).logits(hidden) / self.temperature)
        return LLMMaskedCategorical(logits=logits, mask=tensordict[keys.MASK])

    def _hidden(
        self, tensordict: TensorDictBase, layout: TensorDictBase | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None, Tensor]:
        """Hidden states [M, H] that the sampled tokens are predicted from; None where there are none.

        Returns:
            Rows and columns of the sampled tokens in the batch, the hidden states, the tokens [M].
        """
        device = tensordict[keys.TOKENS].device
        tokens, attention, mask = ((tensordict if layout is None else layout)[key].cpu() for key in self.in_keys)
        if (mask & ~attention).any():
            raise ValueError("A sampled token is hidden from attention: mask must imply attention.")
        rows = mask.any(1).nonzero().squeeze(1)
        if not len(rows):
            return (rows, rows), None, rows
        (row, column), hidden = hidden_before(
            self.model.get_decoder(), self.forward_pass, tokens[rows], attention[rows], mask[rows], device
        )
        where = (rows.to(device, non_blocking=True)[row], column)
        return where, hidden, tensordict[keys.TOKENS][where]

    # Weights

    def sync(self, version: int | None = None) -> int:
        """Hand the weights to the sampler; returns the new version, one more unless it is given.

        Without an engine the sampler reads the model's own weights, so that only the version changes.
        """
        self.version = self.version + 1 if version is None else version
        if self.engine is not None:
            self.engine.push(self.model, self.version)
        return self.version

    def pause(self) -> None:
        """Nothing is sampled until the next :meth:`sync`: an engine may free its memory."""
        if self.engine is not None:
            self.engine.pause()

    def close(self) -> None:
        """End the engine, if there is one; safe to call twice."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

    def try_saving(self) -> None:
        """Save into a folder that is removed again: what cannot be saved is known before the first step.

        Weights of more than :data:`TRIED_BYTES` are left out.

        Raises:
            PolicyError: it cannot be saved.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                if sum(p.nbytes for p in self.model.parameters()) <= TRIED_BYTES:
                    self.save(folder)
                else:
                    self.tokenizer.save_pretrained(folder)
                    self.model.config.save_pretrained(folder)
                    if self.model.generation_config is not None:
                        self.model.generation_config.save_pretrained(folder)
            except Exception as error:  # whatever a model or tokenizer makes of being saved
                raise PolicyError(
                    f"{self.name} cannot be saved, so a run would have no checkpoint: {type(error).__name__}: {error}"
                ) from error

    def describe(self) -> list[str]:
        """How the model is sampled, scored and trained, a line for each."""
        ends = [str(self.tokenizer.decode([i])) for i in sorted(self.end_ids)]
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

        With adapters, the weights are those with adapters merged in float32, and ``adapter`` inside the folder holds
        the adapters as they are; it can be loaded as a policy too.
        """
        folder = Path(folder)
        if adapters.has_adapters(self.model):
            adapters.save(self.model, folder, self.model.config.name_or_path)
            usual_mode(*(folder / adapters.FOLDER).glob("*.safetensors"))
        else:
            self.model.save_pretrained(folder)
        usual_mode(*folder.glob("*.safetensors"))
        self.tokenizer.save_pretrained(folder)
        return folder


def _room(model: Any, prompt: int, response: int) -> int:
    """The longest prompt that leaves room for a response in the model's context."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return prompt
    if response >= limit:
        raise PolicyError(
            f"max_response_length {response} leaves no room for a prompt: the model's context has "
            f"{limit} tokens. Give at most {limit // 2}."
        )
    return min(prompt, limit - response)


def _end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """All that may end a response: chat models have several, and name them in different places."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return {int(i) for i in ids}
