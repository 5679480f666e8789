"""Tiny random models of every family of causal language models, against a dense pass over one sequence at a time.

``python benchmarks/models.py --output docs/models.md`` makes the table; ``--families llama gpt2`` prints some rows.
A model has four layers of width 64 and a vocabulary of 512; its settings are those of its family, shrunk.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import re
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from llmrl import keys
from llmrl.algorithms.algorithm import algorithm
from llmrl.errors import PolicyError
from llmrl.policies.adapters import LoraOptions, add_adapters
from llmrl.policies.names import local_folder
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.states import Way
from llmrl.policies.scoring.forward import PADDED
from llmrl.policies.scoring.sharing import SHARED

CHECKS = (
    "sampler",
    "scorer",
    "entropy",
    "gradient",
    "packing",
    "sharing",
    "checkpointing",
    "LoRA",
    "reload",
    "two steps",
)
NATS, OF_LENGTH = 1e-4, 2e-4
"""What counts as exact: of a log-probability or an entropy, and of a gradient relative to its length."""

LARGEST = 20_000_000
"""Parameters up to which a model counts as small."""

PROBLEMS = [
    "What is 2 + 2?",
    "What is 2 + 2?",
    "Compute the sum of " + " + ".join(map(str, range(20))),
    "x",
    "x",
    "How many? " * 3,
    "How many? " * 3,
    "Compute the sum of " + " + ".join(map(str, range(14))),
]
SEEDS = range(3)
LAYERS = 4
VOCABULARY = 512
PLAIN = ("bert", "bert-generation", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert")
PLAIN += ("data2vec-text", "ernie", "megatron-bert", "rembert", "roformer", "big_bird")
MIXED = ["mamba", "attention", "mamba", "attention"]

SMALL: dict[str, Any] = {
    name: value
    for names, value in (
        ("hidden_size n_embd d_model dim embed_dim embedding_size lru_width word_embed_proj_dim", 64),
        ("hidden_size_global", 64),
        ("num_hidden_layers n_layer num_layers n_layers decoder_layers encoder_layers", LAYERS),
        ("num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads", 4),
        ("num_key_value_heads num_kv_heads multi_query_kv_heads linear_num_key_heads num_experts_per_tok", 2),
        ("num_selected_experts moe_topk moe_k moe_top_k top_k_experts num_experts_per_token experts_per_token", 2),
        ("head_dim attention_head_dim global_head_dim v_head_dim linear_key_head_dim linear_value_head_dim", 16),
        ("intermediate_size ffn_dim n_inner d_ff ffn_hidden_size decoder_ffn_dim encoder_ffn_dim dff dim_ff", 96),
        ("intermediate_size_mlp shared_intermediate_size", 96),
        ("moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size q_lora_rank", 32),
        ("moe_shared_expert_intermediate_size", 32),
        ("vocab_size vocab_size_per_layer_input", VOCABULARY),
        ("max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length seq_length", 512),
        ("sliding_window attention_window_size window_size local_window", 64),
        ("index_topk", 32),
        ("linear_num_heads", 4),
        ("logits_scaling lm_head_multiplier", 0.5),
        ("num_experts n_routed_experts num_local_experts moe_num_experts linear_num_value_heads", 4),
        ("n_group topk_group num_expert_group mamba_n_groups n_groups mamba_ngroups n_shared_experts", 1),
        ("first_k_dense_replace num_dense_layers", 1),
        ("linear_head_dim kv_lora_rank mamba_d_head mamba_head_dim mamba_headdim mamba_chunk_size chunk_size", 16),
        ("hidden_size_per_layer_input", 16),
        ("qk_rope_head_dim qk_nope_head_dim mamba_n_heads mamba_num_heads n_mamba_heads mamba_d_state", 8),
        ("state_size ssm_state_size mamba_dt_rank rotary_dim", 8),
        ("initializer_range init_std initializer_std", 0.15),
        ("num_kv_shared_layers num_nextn_predict_layers pad_token_id", 0),
        ("eos_token_id", 1),
        ("bos_token_id", 2),
        ("attn_layer_period expert_layer_period", 2),
        ("attn_layer_offset expert_layer_offset", 1),
    )
    for name in names.split()
}
"""Settings by their names."""

LATENT: dict[str, Any] = {"head_dim": 8, "num_key_value_heads": 4}
"""Settings besides, where keys and values have a small common form and only a part of each head has positions."""

QWEN4: dict[str, Any] = {
    "layer_types": ["linear_attention", "indexed_attention"] * 2,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 32,
    "indexer_compress_ratio": 4,
    "ple_layer_ids": [1],
    "ngram_vocab_size_base": 64,
    "heads_per_ngram": 2,
    "hc_lowrank": 16,
    "split_ngram_parts": 1,
    "eos_token_id": 1,
    "make_ngram_vocab_size_divisible_by": 8,
}
"""Its own defaults leave out the settings of a layer type that they use."""

ASSISTED: dict[str, Any] = {
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_kv_shared_layers": LAYERS,
    **{name: SMALL[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")},
    **{name: SMALL[name] for name in ("num_attention_heads", "num_key_value_heads", "head_dim", "global_head_dim")},
}
"""Of an assistant of Gemma 4, which has no settings by default."""

FAMILIES: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": True} for name in PLAIN},
    **{name: {"head_dim": 16} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 64},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [3, 3, 2]}}
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0}},
    "deepseek_v2": {"topk_method": "greedy"},
    "electra": {"is_decoder": True, "embedding_size": 64},
    "falcon_h1": {"mamba_d_ssm": 128, "mamba_n_heads": 8, "mamba_d_head": 16},
    "gemma3n_text": {"intermediate_size": [96] * LAYERS, "activation_sparsity_pattern": [0.0] * LAYERS},
    "gemma4_assistant": {"text_config": {"model_type": "gemma4_text", **ASSISTED}},
    "gemma4_unified_assistant": {"text_config": {"model_type": "gemma4_unified_text", **ASSISTED}},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": MIXED},
    "kimi_linear": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "mamba", "mlp"]},
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4,
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "lsh"] * 2},
    "roc_bert": {"is_decoder": True, "pronunciation_vocab_size": 32, "shape_vocab_size": 32},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "xlm": {"emb_dim": 64, "causal": True},
    "zamba": {"layers_block_type": ["mamba", "hybrid"] * 2},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "layer_types": ["mamba", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}
"""What some families need besides."""


def tiny(family: str, seed: int = 0) -> Any:
    """A small random model of a family.

    Settings that are None by default stay so, unless the model cannot be made or cannot read tokens without them.

    Raises:
        ValueError: it cannot be made small; the message says why.
    """
    config_class = next(c for c in MODEL_FOR_CAUSAL_LM_MAPPING if c.model_type == family)
    made, reason = [], ""
    for fill in (False, True):
        try:
            made.append(_random(config_class, FAMILIES.get(family, {}), fill, seed))
            made[-1](input_ids=torch.arange(3, 9)[None], use_cache=False)
            return made[-1]
        except Exception as error:  # whatever a family makes of settings that do not fit together
            reason = reason or f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if not made:
        raise ValueError(reason)
    return made[0]


def _random(config_class: Any, own: dict[str, Any], fill: bool, seed: int) -> Any:
    torch.manual_seed(seed)
    model_class, config = MODEL_FOR_CAUSAL_LM_MAPPING[config_class], _shrunk(config_class, own, fill)
    if model_class.config_class is config_class.sub_configs.get("text_config"):  # as transformers loads it
        config = config.get_text_config()
    model = model_class._from_config(config)
    size = sum(p.numel() for p in model.parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters are left")
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.isfinite().all() or parameter.abs().max() > 1e3:  # left as it was in memory
                parameter.normal_(0, 0.15)
            elif parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():  # a bias of 0, a factor of 1
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval()


def _shrunk(config_class: Any, own: dict[str, Any], fill: bool) -> Any:
    def small(settings: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, value in settings.items():
            if isinstance(value, dict) and "model_type" in value:
                found[name] = small(value)
            elif name in SMALL and (fill if value is None else type(value) in (int, float)):
                found[name] = SMALL[name]
        if {"qk_rope_head_dim", "kv_lora_rank"} <= found.keys():
            found |= LATENT
        return found

    def changed(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        nested = {name: changed(settings[name], more[name]) for name in more if isinstance(settings.get(name), dict)}
        return {**settings, **more, **nested}

    return config_class(**changed(small(config_class().to_dict()), own))


class Family:
    """One row of the table.

    Args:
        family: the ``model_type``.
        tokenizer: of llmrl/nano.
        seed: of the random weights.
    """

    def __init__(self, family: str, tokenizer: Any, seed: int = 0) -> None:
        self.family, self.tokenizer, self.seed = family, tokenizer, seed
        self.notes: list[str] = []
        self.way: tuple[Way, bool] | None = None
        self.nats = NATS  # or the tolerance of the model's own rounding, if that is larger

    def policy(self, model: Any, **options: Any) -> Policy:
        """With end tokens that are often sampled."""
        policy = Policy(model, self.tokenizer, max_prompt_length=120, max_response_length=24, **options)
        policy.end_ids = set(range(60, 90))
        if self.way is not None:
            vars(policy)["sampling_way"] = self.way  # found for the same weights already
        return policy

    def row(self) -> dict[str, str]:
        """What each check found: exact, off, refused, or a fault in capitals."""
        model = tiny(self.family, self.seed)
        try:
            policy = self.policy(model)
            self.way = policy.sampling_way
            _ = policy.forward_pass
        except PolicyError as error:
            self.notes.append(str(error))
            return dict.fromkeys(CHECKS, "refused")
        if self.way[0] is not Way.ROOMY:
            self.notes.append(f"sampled with {self.way[0].value}")
        data = policy.generate(PROBLEMS, seeds=range(len(PROBLEMS))).exclude("text")
        want = dense(model, data)
        sampled = largest(data[keys.SAMPLER_LOG_PROB][data[keys.MASK]] - want[0].detach())
        self.nats = max(NATS, policy.rounding.tolerance)
        row = {"sampler": verdict(sampled, self.nats), **self.scored(policy, data, want)}
        row["packing"] = self.attempt(lambda: self.packed(data, want))
        shared = policy.forward_pass is SHARED
        row["sharing"] = "exact" if shared and row["scorer"] == "exact" else "off" if not shared else row["scorer"]
        row["checkpointing"] = self.attempt(lambda: self.checkpointed(data, want))
        row["LoRA"] = self.attempt(lambda: self.adapted(data))
        row["reload"] = self.attempt(lambda: self.reloaded(data, want))
        row["two steps"] = self.attempt(lambda: self.stepped())
        return row

    def attempt(self, check: Callable[[], str]) -> str:
        """The verdict of a check; a refusal is noted."""
        try:
            return check()
        except PolicyError as error:
            self.notes.append(re.sub(rf"{tempfile.gettempdir()}/\w+", "FOLDER", str(error)))
            return "refused"
        except Exception as error:  # the table shows every traceback as one
            self.notes.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            return "TRACEBACK"

    def scored(self, policy: Policy, data: Any, want: tuple[Tensor, Tensor]) -> dict[str, str]:
        """Log-probabilities, entropies and the gradient of a mixture of both."""
        mask, model = data[keys.MASK], policy.model
        policy.train()
        scored = policy.score(data, entropy=True)
        got = scored[keys.LOG_PROB][mask], scored[keys.ENTROPY][mask]
        off = gradient_gap(model, got, want)
        policy.eval()
        return {
            "scorer": verdict(largest(got[0] - want[0]), self.nats),
            "entropy": verdict(largest(got[1] - want[1]), self.nats),
            "gradient": verdict(off, OF_LENGTH),
        }

    def packed(self, data: Any, want: tuple[Tensor, Tensor]) -> str:
        """Several responses in a row."""
        policy = self.policy(tiny(self.family, self.seed), packing=True)
        return worst(self.scored(policy, data, dense(policy.model, data)))

    def checkpointed(self, data: Any, want: tuple[Tensor, Tensor]) -> str:
        """With gradient checkpointing."""
        model = tiny(self.family, self.seed)
        try:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        except ValueError as error:
            self.notes.append(str(error))
            return "refused"
        policy = self.policy(model)
        found = self.scored(policy, data, dense(model, data))
        assert policy.forward_pass is PADDED
        return worst(found)

    def adapted(self, data: Any) -> str:
        """With low-rank adapters that are not zero."""
        model = add_adapters(tiny(self.family, self.seed), LoraOptions(rank=4))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
        self.way, known = None, self.way  # adapters are layers more: they are tried again
        policy = self.policy(model)
        data = policy.generate(PROBLEMS, seeds=range(len(PROBLEMS))).exclude("text")
        self.way = known
        want = dense(model, data)
        sampled = largest(data[keys.SAMPLER_LOG_PROB][data[keys.MASK]] - want[0].detach())
        self.nats = max(NATS, policy.rounding.tolerance)
        return worst({"sampler": verdict(sampled, self.nats), **self.scored(policy, data, want)})

    def reloaded(self, data: Any, want: tuple[Tensor, Tensor]) -> str:
        """Saved, loaded, scored."""
        with tempfile.TemporaryDirectory() as folder:
            self.policy(tiny(self.family, self.seed)).save(folder)
            policy = Policy.from_pretrained(folder, device="cpu", max_prompt_length=120, max_response_length=24)
        with torch.no_grad():
            got = policy.score(data)[keys.LOG_PROB][data[keys.MASK]]
        return verdict(largest(got - want[0]), self.nats)

    def stepped(self) -> str:
        """Two steps of espo with unequal rewards; then the sampler must still agree."""
        policy = self.policy(tiny(self.family, self.seed))
        optimizer = torch.optim.SGD(policy.model.parameters(), lr=1e-2)
        espo = algorithm("espo")
        for step in range(2):
            data = policy.generate(PROBLEMS, seeds=range(8 * step, 8 * step + 8)).exclude("text", "finish_reason")
            want = dense(policy.model, data)[0].detach()
            if not largest(data[keys.SAMPLER_LOG_PROB][data[keys.MASK]] - want) <= self.nats:
                return "WRONG"
            rows = len(data)
            data[keys.GROUP] = torch.arange(rows) // 4
            data[keys.REWARD] = (torch.arange(rows) % 3 == 0).float()[:, None]
            with torch.no_grad():
                old = policy.score(data, entropy=True)
            old[keys.OLD_LOG_PROB], old[keys.OLD_ENTROPY] = old[keys.LOG_PROB], old[keys.ENTROPY]
            advantage = old[keys.REWARD] - old[keys.REWARD].mean()
            old[keys.ADVANTAGE] = advantage.expand(-1, old[keys.MASK].shape[1]).clone()
            out = espo.loss()(policy.score(espo.weigh(old), entropy=True))
            loss = sum(value for key, value in out.items() if str(key).startswith("loss_"))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
            optimizer.step()
            if not loss.isfinite():
                return "WRONG"
        return "exact"


def dense(model: Any, data: Any) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the sampled tokens, from the logits of one sequence at a time."""
    log_probs, entropies = [], []
    for attention, tokens, mask in zip(data[keys.ATTENTION], data[keys.TOKENS], data[keys.MASK], strict=True):
        ids, place = tokens[attention], mask[attention].nonzero()[:, 0]
        log_p = model(input_ids=ids[None], use_cache=False).logits[0, place - 1].log_softmax(-1)
        log_probs.append(log_p.gather(1, ids[place, None])[:, 0])
        entropies.append(-(log_p.exp() * log_p).sum(-1))
    return torch.cat(log_probs), torch.cat(entropies)


def gradient_gap(model: Any, got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> float:
    """How far the gradient is off, of its length."""
    leaves = [p for p in model.parameters() if p.requires_grad]
    signs = torch.linspace(-1, 1, len(got[0]))
    a, b = (
        torch.autograd.grad((signs * x[0]).sum() + 0.3 * x[1].sum(), leaves, allow_unused=True, retain_graph=True)
        for x in (got, want)
    )
    gap = sum(float((zero(x, y) - zero(y, x)).square().sum()) for x, y in zip(a, b, strict=True))
    return (gap / sum(float(y.square().sum()) for y in b if y is not None)) ** 0.5


def zero(x: Tensor | None, like: Tensor | None) -> Tensor:
    """A gradient that is not there is 0."""
    if x is not None:
        return x
    return torch.zeros(()) if like is None else torch.zeros_like(like)


def largest(gap: Tensor) -> float:
    """The largest absolute value; infinite where one is no number."""
    return float(gap.detach().abs().nan_to_num(torch.inf).max())


def verdict(gap: float, tolerance: float) -> str:
    """exact, or how far it is off."""
    return "exact" if gap <= tolerance else f"WRONG {gap:.1e}"


def worst(found: dict[str, str]) -> str:
    """The first that is not exact."""
    return next((v for v in found.values() if v != "exact"), "exact")


class Table:
    """The rows so far."""

    def __init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(local_folder("llmrl/nano"))
        self.lines = ["| family | " + " | ".join(CHECKS) + " |", "| --- " * (len(CHECKS) + 1) + "|"]
        self.notes: list[str] = []
        self.unmade: list[str] = []
        self.counts: Counter[str] = Counter()

    def add(self, name: str) -> None:
        """Try one family, with other random weights if a number is wrong.

        A fault shows with all weights. Rounding shows with some: it chooses between two experts with nearly equal
        scores, and adds up in a recurrence.
        """
        began = time.perf_counter()
        for seed in SEEDS:
            family = Family(name, self.tokenizer, seed)
            try:
                row = family.row()
            except ValueError as error:
                self.unmade.append(f"- {name}: {error}")
                print(f"{name}: not made: {error}", flush=True)
                return
            off = {check: value for check, value in row.items() if value not in ("exact", "off", "refused")}
            if not off:
                break
            self.notes.append(f"- {name}: with the random weights of seed {seed}, {off}")
        fine = not off
        self.counts.update(value.split()[0] for value in row.values())
        self.counts["families"] += 1
        self.counts["families exact"] += fine and row["two steps"] == "exact"
        self.counts["families refused"] += all(value == "refused" for value in row.values())
        self.lines.append(f"| {name} | " + " | ".join(row[check] for check in CHECKS) + " |")
        self.notes += [f"- {name}: {' '.join(note.split())}" for note in dict.fromkeys(family.notes)]
        print(f"{name}: {row} {family.notes} {time.perf_counter() - began:.1f} s", flush=True)

    def __str__(self) -> str:
        parts = ["\n".join(self.lines)]
        for title, lines in (("Notes", self.notes), ("Families that could not be made small", self.unmade)):
            if lines:
                parts.append(f"## {title}\n\n" + "\n".join(lines))
        return "\n\n".join(parts)

    def summary(self) -> str:
        """One sentence for each count."""
        counts = self.counts
        return (
            f"{counts['families']} families: {counts['families exact']} train exactly, {counts['families refused']} "
            f"are refused. Cells: {counts['exact']} exact, {counts['off']} off, {counts['refused']} refused, "
            f"{counts['WRONG']} wrong, {counts['TRACEBACK']} tracebacks."
        )


INTRODUCTION = """# Model families

This page compares llmrl with transformers {version}, with a tiny random model of every family of causal language
models. The reference is `AutoModelForCausalLM(ids, use_cache=False).logits` of one sequence at a time. The cells say:

- *exact*: log-probabilities and entropies are within {nats:g} nats (or the measured rounding of the model, if that
  is larger), and gradients within {length:g} of their norm.
- *off*: the feature is not used, because it would not be exact.
- *refused*: loading ends with an error of one sentence, which the notes quote.

Windows and sparse attention are shorter than the sequences. Weights that begin with one value for all are changed a
little. If a number is wrong, the row is made again with other random weights, and the notes give the number: rounding
decides between two experts with nearly equal scores, and it adds up in a recurrence.

`{command}`, commit {commit}, {date}, 2 CPU cores. {counts} Real weights, GPUs and other data types of weights were not
tested.

"""


def main() -> None:
    """Print the rows; write the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="*", help="only these")
    parser.add_argument("--output", type=Path, help="the page to write")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    logging.getLogger("llmrl").setLevel(logging.ERROR)
    every = sorted({config.model_type for config in MODEL_FOR_CAUSAL_LM_MAPPING})
    table = Table()
    for name in options.families or every:
        table.add(name)
        if options.output is not None:  # after each, as all of them take a while
            options.output.write_text(_page(table))
    print(table.summary())


def _page(table: Table) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    head = INTRODUCTION.format(
        version=transformers.__version__,
        nats=NATS,
        length=OF_LENGTH,
        command="python benchmarks/models.py --output docs/models.md",
        commit=commit.stdout.strip(),
        date=datetime.date.today().isoformat(),
        counts=table.summary(),
    )
    return f"{head}{table}\n"


if __name__ == "__main__":
    main()
