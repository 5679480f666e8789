"""Scoring by blocks against the dense computation: time, peak extra memory, difference of the results.

    python benchmarks/scoring.py --tokens 4096 --hidden 896 --vocabulary 151936

Both compute log-probability and entropy of every token, forward and backward to hidden states and
output matrix.  Each runs in a process of its own, so that its peak memory is its own, and the two take
turns, so that a busy machine slows down both.  On a GPU the peak is the allocator's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from llmrl.policies.scoring.head import Head, score_tokens


def main() -> None:
    """Both ways in turns, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3, help="timed passes in each process")
    parser.add_argument("--turns", type=int, default=2, help="processes for each of the two ways")
    parser.add_argument("--way", choices=["dense", "blocks"], help="only this one, result as JSON")
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    results: dict[str, list[dict[str, float]]] = {"dense": [], "blocks": []}
    for _ in range(options.turns):
        for way, measured in results.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            measured.append(json.loads(out.splitlines()[-1]))
    print(
        f"{options.tokens} tokens, hidden {options.hidden}, vocabulary {options.vocabulary}, "
        f"{options.dtype}, {options.device}, {options.threads} threads, torch {torch.__version__}"
    )
    print(f"{'':8}{'seconds':>10}{'CPU s':>10}{'extra MiB':>12}{'TFLOP/s':>10}")
    best = {way: _best(measured) for way, measured in results.items()}
    for way, row in best.items():
        print(f"{way:8}{row['seconds']:10.3f}{row['cpu_seconds']:10.3f}{row['extra_mib']:12.0f}{row['tflops']:10.3f}")
    dense, blocks = best["dense"], best["blocks"]
    loss, gradient = (
        abs(dense[name] - blocks[name]) / max(abs(dense[name]), 1e-12) for name in ("checksum", "gradient")
    )
    print(
        f"blocks / dense: time {blocks['seconds'] / dense['seconds']:.3f}, CPU time "
        f"{blocks['cpu_seconds'] / dense['cpu_seconds']:.3f}, extra memory "
        f"{blocks['extra_mib'] / max(dense['extra_mib'], 1e-9):.3f}; relative difference of the loss "
        f"{loss:.1e}, of the gradient's norm {gradient:.1e}"
    )


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One way in this process: median seconds of a pass, and peak memory above what came before."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = getattr(torch, options.dtype)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(options.tokens, options.hidden, generator=generator)
    weight = torch.randn(options.vocabulary, options.hidden, generator=generator)
    weight /= options.hidden**0.5
    targets = torch.randint(options.vocabulary, (options.tokens,), generator=generator).to(device)
    hidden = hidden.to(device, dtype).requires_grad_()
    weight = weight.to(device, dtype).requires_grad_()

    def run() -> float:
        hidden.grad = weight.grad = None
        if options.way == "dense":
            logits = torch.nn.functional.linear(hidden, weight)
            log_p = logits.float().log_softmax(-1)
            log_prob = log_p.gather(-1, targets[:, None]).squeeze(-1)
            entropy = -(log_p.exp() * log_p).sum(-1)
        else:
            log_prob, entropy = score_tokens(hidden, targets, Head(weight=weight), entropy=True)
        assert entropy is not None
        loss = log_prob.mean() + 0.1 * entropy.mean()
        loss.backward()
        return loss.item()

    # What a first small pass sets up (threads, libraries) is not the method's memory.
    score_tokens(hidden[:1].detach(), targets[:1], Head(weight=weight.detach()[:8]))
    before = _peak(device)
    seconds, cpu_seconds, checksum = [], [], 0.0
    for _ in range(options.repeats):
        began, cpu_began = time.perf_counter(), time.process_time()
        checksum = run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu_began)
    assert hidden.grad is not None
    assert weight.grad is not None
    median = statistics.median(seconds)
    operations = 2 * 3 * options.tokens * options.hidden * options.vocabulary  # recomputing is not work
    return {
        "seconds": median,
        "cpu_seconds": statistics.median(cpu_seconds),
        "extra_mib": (_peak(device) - before) / 2**20,
        "tflops": operations / median / 1e12,
        "checksum": checksum,
        "gradient": float(weight.grad.double().norm()) + float(hidden.grad.double().norm()),
    }


def _peak(device: torch.device) -> float:
    """Bytes: the most that was held so far."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _best(measured: list[dict[str, float]]) -> dict[str, Any]:
    """The quickest turn; the smallest peak."""
    quickest = min(measured, key=lambda row: row["seconds"])
    return {**quickest, "extra_mib": min(row["extra_mib"] for row in measured)}


if __name__ == "__main__":
    main()
