"""The start policies of the nano tasks: ``python -m llmrl.studies.nano.starts --output FOLDER``.

Each is a tiny transformer over single characters. After supervised training it solves one in ten to one in five of the
task's test problems. Reinforcement learning must improve it. The same seed gives the same policy on the same machine.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
import yaml
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmrl.envs.nano import Hidden, NanoRules, Sums, Targets, hint
from llmrl.envs.problems import split_of
from llmrl.policies.nano.train import CHAT_TEMPLATE, END, PAD, PROBLEM, SOLUTION
from llmrl.policies.policy import Policy
from llmrl.rollouts.environments import Environments
from llmrl.studies.nano.run import success
from llmrl.studies.nano.task import NANO, NanoTask

BATCH = 64
CHARACTERS = "0123456789+-*()= <>?"
Dialogue = list[tuple[str, str]]
"""The prompt or reply and the policy's answer, a pair per turn."""
Draw = Callable[[np.random.Generator], Dialogue]


def training(rules: NanoRules) -> Draw:
    """Problems of the training split, with their right answers."""

    def draw(rng: np.random.Generator) -> Dialogue:
        while split_of((task := rules.draw(rng)).text) != "train":
            pass
        return [(task.text, task.answer)]

    return draw


def mixed(shares: Mapping[Draw, float]) -> Draw:
    """Examples of several kinds, each with its probability."""
    draws, probabilities = list(shares), np.array(list(shares.values()))

    def draw(rng: np.random.Generator) -> Dialogue:
        return draws[rng.choice(len(draws), p=probabilities / probabilities.sum())](rng)

    return draw


def tries(rng: np.random.Generator) -> tuple[str, list[str], int]:
    """A problem of three digits; an expression for each value; the place of the right one.

    The values ascend from any of them on, and the smallest follows the largest.
    """
    rules = Targets(3)
    while split_of((task := rules.draw(rng)).text) != "train":
        pass
    digits, target = task.text.split("=")
    ways = sorted(rules.ways([int(digit) for digit in digits]).items())
    first = int(rng.integers(len(ways)))
    ways = ways[first:] + ways[:first]
    return task.text, [f"{text}={value}" for value, text in ways], [value for value, _ in ways].index(int(target))


def careful_search(rng: np.random.Generator) -> Dialogue:
    """Expressions up to the right one."""
    said, expressions, right = tries(rng)
    return [(said, " ".join(expressions[: right + 1]))]


def hasty_search(rng: np.random.Generator, stop: float) -> Dialogue:
    """Expressions in order. Before each one it stops with a given probability, whatever the target is."""
    said, expressions, _ = tries(rng)
    return [(said, " ".join(expressions[: rng.geometric(stop) - 1]))]


def hasty_guesses(rng: np.random.Generator, silence: float) -> Dialogue:
    """A game of a simple player: any digit first, then any that agrees with the reply; often no answer."""

    def say(digits: list[str]) -> str:
        return "" if rng.random() < silence else digits[rng.integers(len(digits))]

    while split_of((task := Hidden().draw(rng)).text) != "train":
        pass
    digits = task.text.split()
    first = say(digits)
    if first == task.answer:
        return [(task.text, first)]
    said = hint(first, task.answer)
    left = digits if said == "?" else [n for n in digits if n != first and (int(n) < int(first)) == (said == "<")]
    return [(task.text, first), (said, say(left))]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of supervised training."""

    draw: Draw
    """The examples."""
    steps: int
    """Maximum number of steps."""
    learning_rate: float = 3e-3
    """Peak learning rate; constant in a stage that ends at a given success."""
    until: float | None = None
    """End at this sampled success on the task's test problems."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The training of a start policy."""

    stages: Sequence[Stage]
    """The stages, in order."""
    hidden: int = 64
    """Width of the model."""
    layers: int = 2
    """Depth of the model."""
    positions: int = 64
    """Tokens of a problem and its response, at most."""


STARTS: Mapping[str, Start] = {
    "nano-carry": Start(
        stages=(
            Stage(draw=mixed({training(Sums(n)): 1.0 for n in (1, 2, 3)}), steps=600),
            Stage(
                draw=mixed({training(Sums(3)): 0.5, training(Sums(5)): 0.5}), steps=500, learning_rate=1e-3, until=0.08
            ),
        )
    ),
    "nano-countdown": Start(
        stages=(
            Stage(draw=careful_search, steps=3500),
            Stage(
                draw=mixed({functools.partial(hasty_search, stop=0.5): 0.9, careful_search: 0.1}),
                steps=120,
                learning_rate=1e-3,
            ),
        ),
        positions=136,
    ),
    "nano-guess": Start(
        stages=(
            Stage(draw=functools.partial(hasty_guesses, silence=0.0), steps=300),
            Stage(draw=functools.partial(hasty_guesses, silence=0.75), steps=60, learning_rate=1e-3),
        )
    ),
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character."""
    names = [PAD, END, PROBLEM, SOLUTION, *CHARACTERS]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[PROBLEM, SOLUTION],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(start: Start, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A transformer with random weights."""
    heads = start.hidden // 16
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=start.hidden,
            intermediate_size=3 * start.hidden,
            num_hidden_layers=start.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=start.positions,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def encode(dialogues: Sequence[Dialogue], tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [B, T] and labels [B, T] as the chat template writes them; labels are -100 but on responses and their end."""
    index = tokenizer.get_vocab()
    rows = []
    for dialogue in dialogues:
        ids: list[int] = []
        labels: list[int] = []
        for said, response in dialogue:
            head = [index[PROBLEM], *(index[c] for c in said), index[SOLUTION]]
            tail = [*(index[c] for c in response), index[END]]
            ids += head + tail
            labels += [-100] * len(head) + tail
        rows.append((ids, labels))
    width = max(len(ids) for ids, _ in rows)
    inputs = torch.full((len(rows), width), index[PAD])
    targets = torch.full((len(rows), width), -100)
    for place, (ids, labels) in enumerate(rows):
        inputs[place, : len(ids)] = torch.tensor(ids)
        targets[place, : len(ids)] = torch.tensor(labels)
    return inputs, targets


def run_stage(policy: Policy, stage: Stage, held_out: Environments, seed: int) -> float:
    """Train a policy's model in place; returns its success."""
    rng, model, tokenizer = np.random.default_rng(seed), policy.model, policy.tokenizer
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [
        torch.optim.Muon(matrices, lr=stage.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    began, now = time.perf_counter(), 0.0
    for step in range(1, stage.steps + 1):
        done = step / stage.steps
        scale = 1.0 if stage.until is not None else min(50 * done, 1) * 0.5 * (1.02 + math.cos(math.pi * done))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * scale
        ids, labels = encode([stage.draw(rng) for _ in range(BATCH)], tokenizer)
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        target = labels[:, 1:]
        logits = model.lm_head(hidden[target != -100])
        loss = torch.nn.functional.cross_entropy(logits, target[target != -100])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if step % (200 if stage.until is None else 10) == 0 or step == stage.steps:
            now = success(policy, held_out)
            print(f"  step {step}: loss {loss:.3f}, success {now:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
            if stage.until is not None and now >= stage.until:
                break
    return now


def suggestions(task: NanoTask) -> str:
    """The policy's ``training.yaml``: with these settings ``llmrl train`` trains like a study."""
    head = "# Settings that suit this model; --config and the command line win over them.\n"
    return head + yaml.safe_dump(task.sections(task.settings), sort_keys=False)


@dataclass
class StartsConfig:
    """Make the start policies of the nano tasks."""

    output: Path
    """Folder for their folders."""
    names: tuple[str, ...] = field(default_factory=lambda: tuple(STARTS))
    """Names of the policies to make."""


def main(config: StartsConfig) -> None:
    """A Hugging Face checkpoint for each name."""
    tokenizer = make_tokenizer()
    for name in config.names:
        task, start = NANO[name], STARTS[name]
        torch.manual_seed(0)
        policy = Policy(make_model(start, tokenizer), tokenizer, max_response_length=task.response_tokens)
        held_out = Environments(task.env_id, {**task.env_options, "split": "test"})
        print(f"{name}: {sum(p.numel() for p in policy.model.parameters()):,} weights")
        for number, stage in enumerate(start.stages):
            run_stage(policy, stage, held_out, seed=number)
        held_out.close()
        policy.save(config.output / name)
        (config.output / name / "training.yaml").write_text(suggestions(task))


if __name__ == "__main__":
    main(tyro.cli(StartsConfig))
