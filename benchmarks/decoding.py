"""What repacked weights and attention without copies save in the policy's own sampling on a CPU.

python benchmarks/decoding.py [--policy llmrl/nano] [--rows 8 32 128] [--tokens 64] [--repeats 3]

The same responses are drawn with and without, in turn; the better of the repeats is printed, as markdown.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from llmrl.policies.policy import Policy

PROMPT = "Find the mean of the numbers {}, 13 and 3, and explain every step that you take."


def main() -> None:
    """Print a row for each number of responses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="llmrl/nano")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--group", type=int, default=8, help="responses for each prompt")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    policies = [
        Policy.from_pretrained(options.policy, max_response_length=options.tokens, fast_cpu=fast)
        for fast in (False, True)
    ]
    for policy in policies:
        policy.end_ids = set()  # every response has the same length
    print(f"{Path(options.policy).name}, {options.tokens} tokens, {torch.get_num_threads()} threads\n")
    print("| responses | as it is, tokens/s | decoding, tokens/s | times as fast |\n" + "| --- " * 4 + "|")
    for rows in options.rows:
        prompts = [PROMPT.format(row // options.group) for row in range(rows)]
        best = [float("inf")] * 2
        for seed in range(options.repeats):
            for which, policy in enumerate(policies):
                began = time.perf_counter()
                policy.generate(prompts, seeds=range(seed * rows, (seed + 1) * rows))
                best[which] = min(best[which], time.perf_counter() - began)
        plain, quick = (rows * options.tokens / seconds for seconds in best)
        print(f"| {rows} | {plain:,.0f} | {quick:,.0f} | {quick / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
