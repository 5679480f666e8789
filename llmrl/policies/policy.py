"""The policy: a language model as a TorchRL actor that generates, scores and hands over its weights.

Owns prompts and templates, the layout of TensorDicts, and which positions are scored.  The sampling
loop is the sampler's; log-probabilities from hidden states are scoring's; what counts as a good
response is the environment's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tensordict import NonTensorStack, TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import Tensor

from llmrl import keys
from llmrl.policies.episode import STAND_IN, Episode, continuation, written_behind
from llmrl.policies.loading import (
    DTYPES,
    LoraOptions,
    PolicyError,
    add_lora,
    check_head,
    disable_dropout,
    load,
    local_folder,
    merged,
)
from llmrl.policies.sampling.sampler import (
    FINISH_END,
    FINISH_LENGTH,
    FINISH_REFUSED,
    Engine,
    Sample,
    Sampler,
)
from llmrl.policies.saving import usual_mode
from llmrl.policies.scoring.forward import Reader, Sequences, hidden_before
from llmrl.policies.scoring.head import Head, score_tokens
from llmrl.policies.scoring.probing import reader_for
from llmrl.registry import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["LoraOptions", "Policy", "PolicyError", "local_folder"]


class Policy(TensorDictModuleBase):
    """A causal language model and its tokenizer.

    As a module it is :meth:`score`: it reads tokens and masks and writes ``"log_prob"``, so that
    ``TensorDictSequential(policy, loss)`` composes.  Dropout is switched off for good.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        temperature: of sampling; scores are taken at the same temperature.
        max_prompt_length: longer prompts are refused, never cut; less where the model's own context
            leaves no room for a response behind such a prompt.
        max_response_length: limit of all that follows the prompt: one response, or the responses and
            replies of an episode of several turns.
        chat_template: ``"auto"``: the tokenizer's if it has one; None: ``prompt_template``; else the
            path of a Jinja file.
        prompt_template: what a prompt looks like without a chat template.
        packing: score several responses in one row, without padding; a model that cannot keep them
            apart is refused.
        share_prompts: score the responses to a prompt behind one reading of it, if the model can and where
            that saves enough; not together with packing or gradient checkpointing.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        temperature: float = 1.0,
        max_prompt_length: int = 1024,
        max_response_length: int = 256,
        chat_template: str | None = "auto",
        prompt_template: str = "{problem}",
        packing: bool = False,
        share_prompts: bool = True,
    ) -> None:
        super().__init__()
        self.in_keys = [keys.TOKENS, keys.ATTENTION, keys.MASK]
        self.out_keys = [keys.LOG_PROB]
        if not temperature > 0:
            raise PolicyError(f"temperature must be greater than 0, got {temperature}.")
        if "{problem}" not in prompt_template:
            raise PolicyError(f"prompt_template must contain {{problem}}, got {prompt_template!r}.")
        disable_dropout(model)
        check_head(model)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.max_response_length = max_response_length
        self.max_prompt_length = _room(model, max_prompt_length, max_response_length)
        self.prompt_template = prompt_template
        self.chat_template = _chat_template(tokenizer, chat_template)
        self.vocab_size = int(Head.of(model).weight.shape[0])
        self.end_ids = _end_ids(model, tokenizer)
        pad = tokenizer.pad_token_id
        self.pad_id = int(pad if pad is not None else min(self.end_ids, default=0))
        self.version = 0
        self.engine: Engine | None = None
        self._ways = {"packing": packing, "share_prompts": share_prompts}
        if packing:
            _ = self.reader  # a model that cannot is refused now

    @cached_property
    def reader(self) -> Reader:
        """How responses are read to be scored; tried out when it is first asked for, which sampling does not."""
        name = f"{type(self.model).__name__} {self.model.config.name_or_path}".rstrip()
        return reader_for(self.model.get_decoder(), name, **self._ways)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: str | torch.dtype = "float32",
        device: str | torch.device | None = None,
        temperature: float = 1.0,
        max_prompt_length: int = 1024,
        max_response_length: int = 256,
        chat_template: str | None = "auto",
        prompt_template: str = "{problem}",
        packing: bool = False,
        share_prompts: bool = True,
        lora: LoraOptions | None = None,
        attn_implementation: str | None = None,
        gradient_checkpointing: bool = False,
    ) -> Policy:
        """Load a checkpoint.

        Args:
            name: a folder, an id of the Hugging Face hub, or ``llmrl/nano``, which is embedded.
            dtype: type of the weights.
            device: by default a GPU if there is one.
            lora: train low-rank adapters only.
            attn_implementation: as in transformers; None leaves the choice to it.
            gradient_checkpointing: recompute activations in the backward pass.

        The others are those of the class.

        Raises:
            PolicyError: there is no such model, or it cannot be used as asked.
        """
        if isinstance(dtype, str):
            if dtype not in DTYPES:
                raise PolicyError(f"dtype {dtype!r} is not known. {suggest(dtype, DTYPES)}")
            dtype = DTYPES[dtype]
        model: Any
        model, tokenizer = load(str(name), dtype=dtype, attn_implementation=attn_implementation)
        if lora is not None:
            model = add_lora(model, lora)
        if gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(
            model.to(device),
            tokenizer,
            temperature=temperature,
            max_prompt_length=max_prompt_length,
            max_response_length=max_response_length,
            chat_template=chat_template,
            prompt_template=prompt_template,
            packing=packing,
            share_prompts=share_prompts,
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.model.dtype

    # Prompts

    def render(self, problem: str, *replies: str) -> str:
        """The prompt as text, special tokens visible.

        Args:
            problem: what is asked.
            replies: what is said later on; a stand-in takes the place of the responses between.
        """
        if self.chat_template is None:
            turns = [self.prompt_template.replace("{problem}", text) for text in (problem, *replies)]
            return STAND_IN.join(turns)
        messages = [{"role": "user", "content": problem}]
        for reply in replies:
            messages += [
                {"role": "assistant", "content": STAND_IN},
                {"role": "user", "content": reply},
            ]
        return self.tokenizer.apply_chat_template(  # type: ignore[return-value]
            messages,
            chat_template=self.chat_template,
            add_generation_prompt=True,
            tokenize=False,
        )

    def encode(self, problems: Sequence[str]) -> list[list[int]]:
        """The ids of each rendered prompt; nothing is cut, whatever the length."""
        if not problems:
            return []
        # A chat template writes the special tokens itself.
        rendered = [self.render(problem) for problem in problems]
        special = self.chat_template is None
        contexts = self.tokenizer(rendered, add_special_tokens=special)["input_ids"]
        end = self.tokenizer.eos_token_id
        if special and end is not None:  # some tokenizers close every text: no response could begin
            bare = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
            contexts = [
                ids[:-1] if ids and ids[-1] == end and plain[-1:] != [end] else ids
                for ids, plain in zip(contexts, bare, strict=True)
            ]
        return contexts

    # Acting

    def generate(
        self,
        prompts: Sequence[str] | TensorDictBase,
        *,
        greedy: bool = False,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
        max_new_tokens: int | None = None,
    ) -> TensorDict:
        """Sample one response for each prompt; equal prompts are read once.

        Args:
            prompts: N problems; or a TensorDict with ``("text", "prompt")``, or with
                ``("tokens", "prompt")`` and ``("masks", "prompt")`` [N, P].
            greedy: take the likeliest token.
            temperature: another one than the policy's.
            generator: where random numbers come from; None: torch's global generator.
            max_new_tokens: another limit than the policy's.

        Returns:
            A TensorDict [N] with tokens, attention, mask and the sampler's log-probabilities [N, T]
            of :mod:`llmrl.keys`, the texts ``("text", "response")``, and ``"finish_reason"`` [N]
            uint8: 0, an end token was sampled; 1, the limit was reached; 2, the prompt is longer
            than ``max_prompt_length``, and the row is empty.
        """
        episodes = [Episode(ids) for ids in self._contexts(prompts)]
        texts = self.respond(
            episodes,
            greedy=greedy,
            temperature=temperature,
            generator=generator,
            max_new_tokens=max_new_tokens,
        )
        out = self.pack(episodes)
        if texts:
            out["text", "response"] = NonTensorStack(*texts)
        return out

    def begin(self, problems: Sequence[str]) -> list[Episode]:
        """An episode for each problem, its prompt read and nothing said yet."""
        return [Episode(ids) for ids in self.encode(problems)]

    def respond(
        self,
        episodes: Sequence[Episode],
        *,
        greedy: bool = False,
        temperature: float | None = None,
        generator: torch.Generator | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """Sample the next response of each episode, and add it there.

        Args:
            episodes: each needs room for a response; one whose prompt is too long is marked so.
            greedy: take the likeliest token.
            temperature: another one than the policy's.
            generator: where random numbers come from; None: torch's global generator.
            max_new_tokens: another limit of all that follows a prompt than the policy's.

        Returns:
            The responses as text, without special tokens.
        """
        limit = self.max_response_length if max_new_tokens is None else max_new_tokens
        fits = [i for i, e in enumerate(episodes) if len(e.prompt) <= self.max_prompt_length]
        contexts = [episodes[i].context for i in fits]
        how: dict[str, Any] = {
            "max_new_tokens": [limit - len(episodes[i].tokens) for i in fits],
            "temperature": self.temperature if temperature is None else temperature,
            "greedy": greedy,
            "generator": generator,
        }
        if self.engine is None:
            drawn = Sampler(self.model, self.end_ids, self.pad_id).sample(contexts, **how)
        else:
            drawn = self.engine.sample(contexts, end_ids=self.end_ids, version=self.version, **how)
        samples = [Sample([], [], FINISH_REFUSED)] * len(episodes)
        for i, sample in zip(fits, drawn, strict=True):
            samples[i] = sample
        for episode, sample in zip(episodes, samples, strict=True):
            episode.add(sample)
        return self.tokenizer.batch_decode([s.tokens for s in samples], skip_special_tokens=True)

    def hear(self, episode: Episode, said: Sequence[str]) -> bool:
        """Add the newest reply to an episode.

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
        text = written_behind(self.render(*said[:-1]), self.render(*said))
        ids = continuation(self.tokenizer, text, episode.tokens[-1])
        if len(episode.tokens) + len(ids) >= self.max_response_length:
            episode.finish_reason = FINISH_LENGTH
            return False
        episode.read(ids)
        return True

    def _contexts(self, prompts: Sequence[str] | TensorDictBase) -> list[list[int]]:
        if not isinstance(prompts, TensorDictBase):
            if isinstance(prompts, str):
                raise TypeError("generate takes a list of problems, got one str. Put it in a list.")
            return self.encode(list(prompts))
        found = prompts.keys(include_nested=True)
        if ("tokens", "prompt") in found:
            tokens, mask = prompts["tokens", "prompt"], prompts["masks", "prompt"].bool()
            return [ids[real].tolist() for ids, real in zip(tokens, mask, strict=True)]
        if ("text", "prompt") in found:
            return self.encode(list(prompts["text", "prompt"]))
        raise KeyError(
            "generate needs ('text', 'prompt'), or ('tokens', 'prompt') and ('masks', 'prompt'), in "
            f"its TensorDict; it holds {sorted(map(str, found))}."
        )

    def pack(self, episodes: Sequence[Episode]) -> TensorDict:
        """Episodes as rows: prompts left-padded, the rest right-padded, both to the longest.

        Returns:
            What :meth:`generate` returns, without the texts.
        """
        prompts = [[] if episode.refused else episode.prompt for episode in episodes]
        left = max((len(prompt) for prompt in prompts), default=0)
        right = max((len(episode.tokens) for episode in episodes), default=0)
        tokens, attention, mask, log_probs = [], [], [], []
        for prompt, episode in zip(prompts, episodes, strict=True):
            before, after = left - len(prompt), right - len(episode.tokens)
            real = len(prompt) + len(episode.tokens)
            tokens.append([self.pad_id] * before + prompt + episode.tokens + [self.pad_id] * after)
            attention.append([False] * before + [True] * real + [False] * after)
            mask.append([False] * left + episode.sampled + [False] * after)
            log_probs.append([0.0] * left + episode.log_probs + [0.0] * after)
        size = (len(episodes), left + right)
        return TensorDict(
            {
                keys.TOKENS: torch.tensor(tokens, dtype=torch.long).reshape(size),
                keys.ATTENTION: torch.tensor(attention, dtype=torch.bool).reshape(size),
                keys.MASK: torch.tensor(mask, dtype=torch.bool).reshape(size),
                keys.SAMPLER_LOG_PROB: torch.tensor(log_probs, dtype=torch.float32).reshape(size),
                "finish_reason": torch.tensor([episode.finish_reason for episode in episodes], dtype=torch.uint8),
            },
            batch_size=[len(episodes)],
        ).to(self.device)

    # Scoring

    def score(
        self,
        tensordict: TensorDictBase,
        *,
        entropy: bool = False,
        micro_batch_tokens: int | None = None,
    ) -> TensorDictBase:
        """Teacher-forced log-probabilities of the sampled tokens, at the sampling temperature.

        Args:
            tensordict: tokens, attention and mask [N, T].
            entropy: whether to write ``"entropy"`` too, exact over the whole vocabulary.
            micro_batch_tokens: read the rows in groups of at most so many tokens, padding included.

        Returns:
            A new TensorDict with ``"log_prob"`` [N, T] float32, at each sampled token the
            log-probability given everything before it, 0 elsewhere, differentiable where gradients
            are enabled; ``"entropy"`` [N, T] likewise; ``"max_entropy"`` [N, 1].
        """
        tokens, attention, mask = self._read(tensordict)
        log_prob = torch.zeros(tokens.shape, dtype=torch.float32, device=tokens.device)
        entropies = torch.zeros_like(log_prob) if entropy else None
        head = Head.of(self.model)
        for rows in self._row_groups(tokens, attention, mask, micro_batch_tokens):
            where, hidden, targets = self._hidden(rows, tokens[rows], attention[rows], mask[rows])
            values, spread = score_tokens(hidden, targets, head, temperature=self.temperature, entropy=entropy)
            log_prob = log_prob.index_put(where, values.float())
            if entropies is not None and spread is not None:
                entropies = entropies.index_put(where, spread.float())
        out = tensordict.copy()
        out[keys.LOG_PROB] = log_prob
        top = log_prob.new_full((len(tokens), 1), math.log(self.vocab_size))
        out[keys.MAX_ENTROPY] = top
        if entropies is not None:
            out[keys.ENTROPY] = entropies
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

        tokens, attention, mask = self._read(tensordict)
        logits = torch.zeros((*tokens.shape, self.vocab_size), device=tokens.device)
        head = Head.of(self.model)
        for rows in self._row_groups(tokens, attention, mask, None):
            where, hidden, _ = self._hidden(rows, tokens[rows], attention[rows], mask[rows])
            logits = logits.index_put(where, head.logits(hidden) / self.temperature)
        return LLMMaskedCategorical(logits=logits, mask=mask)

    def _read(self, tensordict: TensorDictBase) -> tuple[Tensor, Tensor, Tensor]:
        tokens, attention, mask = (tensordict[key] for key in self.in_keys)
        if (mask & ~attention).any():
            raise ValueError("A sampled token is hidden from attention: mask must imply attention.")
        return tokens, attention, mask

    def _hidden(
        self, rows: Tensor, tokens: Tensor, attention: Tensor, mask: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Hidden states [M, H] that the sampled tokens are predicted from.

        Returns:
            Rows and columns of the sampled tokens in the whole batch, the hidden states, the tokens.
        """
        (row, column), hidden = hidden_before(self.model.get_decoder(), self.reader, tokens, attention, mask)
        return (rows[row], column), hidden, tokens[row, column]

    def _row_groups(self, tokens: Tensor, attention: Tensor, mask: Tensor, budget: int | None) -> list[Tensor]:
        """Numbers of the rows that have something to score, in groups within the budget."""
        rows = mask.any(1).nonzero().squeeze(1)
        if budget is None or len(rows) == 0:
            return [rows] if len(rows) else []
        sequences = Sequences.of(tokens[rows], attention[rows], mask[rows])
        return [rows[part] for part in self.reader.batches(sequences, budget)]

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

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint that ``AutoModelForCausalLM`` and ``AutoTokenizer`` load.

        Adapters are merged into a copy of the weights.
        """
        folder = Path(folder)
        merged(self.model).save_pretrained(folder)
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


def _chat_template(tokenizer: PreTrainedTokenizerBase, choice: str | None) -> str | None:
    if choice is None:
        return None
    if choice == "auto":
        return tokenizer.get_chat_template() if tokenizer.chat_template else None
    try:
        return Path(choice).read_text()
    except OSError as error:
        raise PolicyError(
            f"The chat template {choice!r} cannot be read ({error}). Give 'auto', None or the path of a Jinja file."
        ) from error


def _end_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """All that may end a response: chat models have several, and name them in different places."""
    named = getattr(model.generation_config, "eos_token_id", None)
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return {int(i) for i in ids}
