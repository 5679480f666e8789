"""What repacked weights and attention without copies save in the policy's own sampling on a processor.

python benchmarks/decoding.py [--policy llmrl/nano] [--rows 8 32 128] [--tokens 64] [--repeats 3]

The same responses are drawn with and without, in turn; the better of the repeats is printed, as markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

from llmrl.policies.policy import Policy
from llmrl.policies.sampling import sampler
from llmrl.policies.sampling.decoding import decoding

PROMPT = "Find the mean of the numbers {}, 13 and 3, and explain every step that you take."


@contextmanager
def as_it_is(decoder: Any, *, rows: int, tokens: int) -> Iterator[Any]:
    """In place of :func:`llmrl.policies.sampling.decoding.decoding`: nothing is changed."""
    yield lambda weight, bias: partial(linear, weight=weight, bias=bias)


def main() -> None:
    """Print a row for each number of responses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="llmrl/nano")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--group", type=int, default=8, help="responses for each prompt")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    policy = Policy.from_pretrained(options.policy, max_response_length=options.tokens)
    policy.end_ids = set()  # every response has the same length
    print(f"{Path(options.policy).name}, {options.tokens} tokens, {torch.get_num_threads()} threads\n")
    print("| responses | as it is, tokens/s | decoding, tokens/s | times as fast |\n" + "| --- " * 4 + "|")
    for rows in options.rows:
        prompts = [PROMPT.format(row // options.group) for row in range(rows)]
        best = dict.fromkeys((as_it_is, decoding), float("inf"))
        for seed in range(options.repeats):
            for way in best:
                sampler.decoding = way  # type: ignore[assignment]
                began = time.perf_counter()
                policy.generate(prompts, seeds=range(seed * rows, (seed + 1) * rows))
                best[way] = min(best[way], time.perf_counter() - began)
        plain, quick = (rows * options.tokens / seconds for seconds in best.values())
        print(f"| {rows} | {plain:,.0f} | {quick:,.0f} | {quick / plain:.2f} |", flush=True)


if __name__ == "__main__":
    main()
