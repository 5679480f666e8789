"""Sampled tokens per second of vLLM and of the policy's own loop, as a markdown table.

python benchmarks/engines.py --policy llmrl/nano --rows 8 64 --tokens 128
"""

from __future__ import annotations

import argparse
import time

import torch

from llmrl import keys
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.policies.sampling.vllm import VLLM

PROMPT = "Find the mean of the numbers {}, 13 and 3, and explain every step that you take."


def rate(policy: Policy, prompts: list[str], tokens: int) -> float:
    """Sampled tokens per second, the better of two runs."""
    rates = []
    for seed in range(2):
        began = time.perf_counter()
        data = policy.generate(
            prompts,
            SamplingOptions(max_new_tokens=tokens),
            seeds=range(seed * len(prompts), (seed + 1) * len(prompts)),
        )
        rates.append(int(data[keys.MASK].sum()) / (time.perf_counter() - began))
    return max(rates)


def main() -> None:
    """Print a row for each number of responses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="llmrl/nano")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--group", type=int, default=8, help="responses for each prompt")
    options = parser.parse_args()
    policy = Policy.from_pretrained(
        options.policy,
        dtype=options.dtype,
        max_prompt_length=128,
        max_response_length=options.tokens,
    )
    policy.end_ids = set()  # every response has the same length
    engine = VLLM(policy.model, max_length=128 + options.tokens)
    began = time.perf_counter()
    engine.push(policy.model, 0)
    pushed = time.perf_counter() - began
    print(f"{options.policy}, {options.dtype}, {torch.get_num_threads()} threads, {options.tokens} tokens a response,")
    print(f"groups of {options.group}; weights handed over in {pushed:.2f} s\n")
    print("| responses | transformers loop, tokens/s | vLLM, tokens/s |\n| --- | --- | --- |")
    try:
        for rows in options.rows:
            prompts = [PROMPT.format(row // options.group) for row in range(rows)]
            policy.engine = None
            own = rate(policy, prompts, options.tokens)
            policy.engine = engine
            print(f"| {rows} | {own:.0f} | {rate(policy, prompts, options.tokens):.0f} |", flush=True)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
