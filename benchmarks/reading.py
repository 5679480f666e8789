"""What packing and shared prompts save: score and backward of micro-batches, as the trainer cuts them.

python benchmarks/reading.py [--rows 64] [--group 8] [--prompts 20 60] [--budget 4096] [--models nano 30M]
[--device cuda]

Eight responses to each prompt.  Their lengths are drawn from three distributions: skewed (log-normal, most are short
and a few reach the limit), uniform, and equal.  Tokens are those that the model is given, padding included.  On a
CPU the seconds are its own, of all threads, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import time

import torch
from tensordict import TensorDict
from transformers import LlamaConfig, LlamaForCausalLM

from llmrl import keys
from llmrl.policies.policy import Policy
from llmrl.policies.scoring.forward import PACKED, PADDED, ForwardPass
from llmrl.policies.scoring.sharing import SHARED
from llmrl.rollouts.batch import Batch

LIMIT = 512
FORWARD_PASSES: dict[str, ForwardPass] = {"padded": PADDED, "packed": PACKED, "shared": SHARED}


def model_30m() -> LlamaForCausalLM:
    """Random weights: 8 layers of width 512, a vocabulary of 8192."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(vocab_size=8192, **sizes, **heads))


def drawn(name: str, rows: int) -> torch.Tensor:
    """Lengths of responses, up to ``LIMIT``."""
    generator = torch.Generator().manual_seed(0)
    if name == "skewed":
        spread = torch.randn(rows, generator=generator)
        return (80 * spread.mul(0.9).exp()).clamp(2, LIMIT).long()
    if name == "uniform":
        return torch.randint(2, LIMIT + 1, (rows,), generator=generator)
    return torch.full((rows,), 150)


def batch(response: torch.Tensor, vocabulary: int, prompts: tuple[int, int], group: int) -> TensorDict:
    """Left-padded prompts, the same for each group of rows, and right-padded responses."""
    generator = torch.Generator().manual_seed(1)
    which = torch.arange(len(response)) // group
    prompt = torch.randint(prompts[0], prompts[1] + 1, (len(response),), generator=generator)[which]
    left, right = int(prompt.max()), int(response.max())
    column = torch.arange(left + right)
    real = (column >= left - prompt[:, None]) & (column < left + response[:, None])
    tokens = torch.randint(vocabulary, real.shape, generator=generator)
    tokens[:, :left] = tokens[which * group, :left]
    entries = {keys.TOKENS: tokens, keys.ATTENTION: real, keys.MASK: real & (column >= left)}
    return TensorDict(entries, batch_size=[len(response)])


def read(data: TensorDict, budget: int, forward_pass: ForwardPass) -> int:
    """How many tokens are read."""
    tokens = 0
    for part in Batch.of(data).micro_batches(budget, forward_pass):
        count, each = part.extent(forward_pass)
        tokens += count * each
    return tokens


def seconds(policy: Policy, data: TensorDict, budget: int, forward_pass: ForwardPass) -> float:
    """Of scoring with entropies and the backward pass, over all micro-batches."""
    policy.forward_pass = forward_pass
    gpu = policy.device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    began = clock()
    for part in Batch.of(data).micro_batches(budget, forward_pass):
        scored = policy.score(part.data, entropy=True)
        scored[keys.LOG_PROB].sum().backward()
    if gpu:
        torch.cuda.synchronize()
    taken = clock() - began
    policy.model.zero_grad()
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompts", type=int, nargs=2, default=(20, 60), metavar=("LEAST", "MOST"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=int, default=4096)
    parser.add_argument("--models", nargs="+", choices=["nano", "30M"], default=["nano", "30M"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    names = list(FORWARD_PASSES)
    print(f"| model | lengths | tokens read: {' | '.join(names)} | seconds: {' | '.join(names)} |")
    print(f"| --- | --- |{' --- |' * 2 * len(names)}")
    for model in args.models:
        policy = Policy.from_pretrained("llmrl/nano", device=args.device)
        if model == "30M":
            policy = Policy(model_30m().to(args.device), policy.tokenizer)
        for lengths in ("skewed", "uniform", "equal"):
            data = batch(drawn(lengths, args.rows), policy.vocab_size, tuple(args.prompts), args.group).to(args.device)
            tokens = {name: read(data, args.budget, FORWARD_PASSES[name]) for name in names}
            best = dict.fromkeys(names, float("inf"))
            for _ in range(args.repeats):  # in turn, so that a busy machine slows all
                for name in names:
                    took = seconds(policy, data, args.budget, FORWARD_PASSES[name])
                    best[name] = min(best[name], took)
            cells = [f"{tokens[name]:,}" for name in names]
            cells += [f"{best[name]:.2f} ({best[name] / best['padded']:.2f})" for name in names]
            print(f"| {model} | {lengths} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
