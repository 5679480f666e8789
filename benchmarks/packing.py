"""What packing saves: score and backward of padded and of packed micro-batches, as the trainer cuts them.

python benchmarks/packing.py [--rows 64] [--repeats 3] [--budget 4096] [--models nano 30M] [--device cuda]

Prompts have 20 to 60 tokens.  The lengths of the responses are drawn from three distributions: skewed
(log-normal, most are short and a few reach the limit), uniform, and equal.  On a processor the seconds
are its own, of all threads, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import time

import torch
from tensordict import TensorDict
from transformers import LlamaConfig, LlamaForCausalLM

from llmrl import keys
from llmrl.policies.packing import Layout, read_lengths
from llmrl.policies.policy import Policy
from llmrl.training.rollout import micro_batches, trim

LIMIT = 512


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


def batch(response: torch.Tensor, vocabulary: int) -> TensorDict:
    """Left-padded prompts, right-padded responses."""
    generator = torch.Generator().manual_seed(1)
    prompt = torch.randint(20, 61, response.shape, generator=generator)
    left, width = int(prompt.max()), int(prompt.max() + response.max())
    column = torch.arange(width)
    real = (column >= left - prompt[:, None]) & (column < left + response[:, None])
    tokens = torch.randint(vocabulary, real.shape, generator=generator)
    entries = {keys.TOKENS: tokens, keys.ATTENTION: real, keys.MASK: real & (column >= left)}
    return TensorDict(entries, batch_size=[len(response)])


def read(data: TensorDict, budget: int, packing: bool) -> tuple[int, int]:
    """Micro-batches, and the columns of all rows that are read."""
    columns, parts = 0, micro_batches(data, budget, packing=packing)
    for rows in parts:
        lengths = read_lengths(data[keys.ATTENTION][rows], data[keys.MASK][rows]).tolist()
        layout = (Layout.packed if packing else Layout.one_each)(lengths)
        columns += layout.rows * layout.width
    return len(parts), columns


def seconds(policy: Policy, data: TensorDict, budget: int, packing: bool) -> float:
    """Of scoring with entropies and the backward pass, over all micro-batches."""
    policy.packing = packing
    gpu = policy.device.type == "cuda"
    clock = time.perf_counter if gpu else time.process_time
    began = clock()
    for rows in micro_batches(data, budget, packing=packing):
        scored = policy.score(trim(data[rows]), entropy=True)
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
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=int, default=4096)
    parser.add_argument("--models", nargs="+", choices=["nano", "30M"], default=["nano", "30M"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(
        "| model | lengths | padding, padded | packed | micro-batches | seconds, padded | packed | speed |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")  # fmt: skip
    for name in args.models:
        policy = Policy.from_pretrained("llmrl/nano", device=args.device)
        if name == "30M":
            policy = Policy(model_30m().to(args.device), policy.tokenizer)
        for lengths in ("skewed", "uniform", "equal"):
            data = batch(drawn(lengths, args.rows), policy.vocab_size).to(args.device)
            real = int(read_lengths(data[keys.ATTENTION], data[keys.MASK]).sum())
            shape = {packing: read(data, args.budget, packing) for packing in (False, True)}
            padding = [f"{100 - 100 * real / columns:.0f} %" for _, columns in shape.values()]
            best = {False: float("inf"), True: float("inf")}
            for _ in range(args.repeats):  # in turn, so that a busy machine slows both
                for packing in best:
                    best[packing] = min(best[packing], seconds(policy, data, args.budget, packing))
            print(
                f"| {name} | {lengths} | {padding[0]} | {padding[1]} | {shape[False][0]} -> {shape[True][0]} "
                f"| {best[False]:.2f} | {best[True]:.2f} | {best[False] / best[True]:.2f}x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
