"""Train llmrl/nano from nothing: ``python -m llmrl.policies.nano.train --output FOLDER``.

Two stages on generated training problems.  *Knowledge*: mostly careful responses, until working a
problem out is nearly always right.  *Habit*: a short stage on the mixture that sets how often the model
answers carefully before reinforcement learning.  The tokenizer is trained first, on the same texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.progress import Progress
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmrl.policies.nano.corpus import Mixture, examples

PAD, END, PROBLEM, SOLUTION = "<|pad|>", "<|end|>", "<|problem|>", "<|solution|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}" + PROBLEM + "{{ message['content'] }}"
    "{% else %}" + SOLUTION + "{{ message['content'] }}" + END + "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}" + SOLUTION + "{% endif %}"
)


@dataclass
class Stage:
    """A stage of training with one mixture of styles."""

    tokens: int
    """How many tokens it reads, prompts and padding included."""
    learning_rate: float
    """Peak, after 2 % of warm-up; a cosine takes it to a twentieth."""
    mixture: Mixture
    """Shares of careful, sloppy and terse responses."""


@dataclass
class NanoConfig:
    """Train the embedded policy llmrl/nano on generated problems."""

    output: Path
    """Folder for the Hugging Face checkpoint."""
    start: Path | None = None
    """Go on from this checkpoint instead of from nothing."""
    hidden: int = 192
    """Width of the model; heads are 32 wide."""
    layers: int = 4
    """Depth of the model."""
    vocabulary: int = 512
    """Size of the byte-pair vocabulary, digits one by one."""
    tokens_per_batch: int = 2048
    """Size of an optimiser batch, prompts included."""
    level_weights: dict[int, float] = field(default_factory=lambda: {1: 0.6, 2: 0.4})
    """How often each level is drawn."""
    knowledge: Stage = field(
        default_factory=lambda: Stage(tokens=14_000_000, learning_rate=4e-3, mixture=Mixture(0.7, 0.15, 0.15))
    )
    """The long first stage."""
    habit: Stage = field(
        default_factory=lambda: Stage(tokens=300_000, learning_rate=6e-4, mixture=Mixture(0.15, 0.15, 0.7))
    )
    """The short second stage."""
    careful_subjects: tuple[str, ...] = ("prealgebra", "algebra", "geometry", "precalculus")
    """Subjects for which the habit stage swaps the shares of careful and terse: there the habit is to work."""
    seed: int = 0
    """Seed of everything."""


def train_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-pair encoding that never merges across words or digits, so that numbers stay readable."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d"), "isolated"),
            pre_tokenizers.Split(Regex(r" ?\\?[A-Za-z]+| ?[^A-Za-z\d\s]|\s"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, END, PROBLEM, SOLUTION],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def batches(
    pairs: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, size: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (ids [B, T], labels [B, T]) of about ``size`` tokens; rows of like length together.

    Labels are -100 on the problem and on padding.
    """
    order = np.random.default_rng(seed)
    problem_id, solution_id = (tokenizer.convert_tokens_to_ids(t) for t in (PROBLEM, SOLUTION))
    while True:
        chunk = list(islice(pairs, 4096))
        problems = tokenizer([p for p, _ in chunk], add_special_tokens=False)["input_ids"]
        responses = tokenizer([r for _, r in chunk], add_special_tokens=False)["input_ids"]
        rows = []
        for prompt, response in zip(problems, responses, strict=True):
            head = [problem_id, *prompt, solution_id]
            rows.append((head + response + [tokenizer.eos_token_id], len(head)))
        rows.sort(key=lambda row: len(row[0]))
        cuts, begin = [], 0
        for end in range(1, len(rows) + 1):
            if end == len(rows) or (end - begin + 1) * len(rows[end][0]) > size:
                cuts.append((begin, end))
                begin = end
        for i in order.permutation(len(cuts)):
            part = rows[slice(*cuts[i])]
            width = max(len(ids) for ids, _ in part)
            inputs = torch.full((len(part), width), tokenizer.pad_token_id)
            labels = torch.full((len(part), width), -100)
            for place, (tokens, begins) in enumerate(part):
                inputs[place, : len(tokens)] = torch.tensor(tokens)
                labels[place, begins : len(tokens)] = torch.tensor(tokens[begins:])
            yield inputs, labels


def run_stage(
    name: str,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    config: NanoConfig,
    seed: int,
) -> None:
    """Train ``model`` in place on ``stage.tokens``."""
    # Muon on the matrices of the layers learns from about half the text that AdamW needs here.
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [
        torch.optim.Muon(matrices, lr=stage.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    careful = config.careful_subjects if name == "habit" else ()
    pairs = examples(np.random.default_rng(seed), stage.mixture, config.level_weights, careful)
    tokens, step, mean_loss = 0, 0, math.nan
    with Progress() as progress:
        task = progress.add_task(name, total=1.0)
        for ids, labels in batches(pairs, tokenizer, config.tokens_per_batch, seed):
            done = tokens / stage.tokens
            if done >= 1:
                break
            scale = min(done / 0.02, 1) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = stage.learning_rate * scale
            # bfloat16 products are a third faster on CPUs that have them, and do no harm here.
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
                target = labels[:, 1:]
                logits = model.lm_head(hidden[target != -100])
            loss = torch.nn.functional.cross_entropy(logits.float(), target[target != -100])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            tokens, step = tokens + ids.numel(), step + 1
            mean_loss = loss.item() if step == 1 else 0.98 * mean_loss + 0.02 * loss.item()
            progress.update(
                task,
                completed=done,
                description=f"{name}: step {step}, {tokens / 1e6:.2f}M tokens, loss {mean_loss:.4f}",
            )
            if step % 100 == 0:
                progress.console.print(f"{name} {done:.3f} {step} {tokens} {mean_loss:.4f}")
            if step % 1000 == 0:
                model.save_pretrained(config.output)


def main(config: NanoConfig) -> None:
    """Tokenizer, two stages, and a checkpoint that ``AutoModelForCausalLM`` loads."""
    torch.manual_seed(config.seed)
    config.output.mkdir(parents=True, exist_ok=True)
    if config.start is None:
        texts = (
            text
            for pair in islice(
                examples(np.random.default_rng(config.seed), Mixture(0.8, 0.1, 0.1), config.level_weights),
                20_000,
            )
            for text in pair
        )
        tokenizer = train_tokenizer(texts, config.vocabulary)
        heads = config.hidden // 32
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden,
                intermediate_size=-(-config.hidden * 8 // 3 // 32) * 32,
                num_hidden_layers=config.layers,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                max_position_embeddings=1024,
                tie_word_embeddings=True,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
                bos_token_id=None,
            )
        )
    else:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(config.start)
        model = LlamaForCausalLM.from_pretrained(config.start, dtype=torch.float32)
    tokenizer.save_pretrained(config.output)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    for number, name in enumerate(("knowledge", "habit")):
        stage = getattr(config, name)
        if stage.tokens > 0:
            run_stage(name, model, tokenizer, stage, config, seed=config.seed + 1 + number)
            model.save_pretrained(config.output)


if __name__ == "__main__":
    main(tyro.cli(NanoConfig))
