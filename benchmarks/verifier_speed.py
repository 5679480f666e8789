"""Speed of the default verifier: plain integers a second, and the time of a case with known verdict.

    python benchmarks/verifier_speed.py [FILE ...] [--integers 20000]

FILE is as for verifier_accuracy.py.  Each case is graded by itself, once; for integers the median of three passes is
given.  Measured is the CPU time of this process, so that a busy machine counts less; a case that asks
a worker process is counted apart, by the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from verifier_accuracy import DEFAULT, text

from llmrl.verifiers import MathVerifier


def main() -> None:
    """Print integers a second, then a row for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[path for path in DEFAULT if path.is_file()])
    parser.add_argument("--integers", type=int, default=20_000)
    options = parser.parse_args()
    grade, tasks = MathVerifier(), []
    run = grade.pool.run
    grade.pool.run = lambda given: (tasks.extend(given), run(given))[1]
    rates = []
    for start in (10**5, 2 * 10**5, 3 * 10**5):
        golds = [str(number) for number in range(start, start + options.integers)]
        responses = [f"So the sum is \\boxed{{{gold}}}." for gold in golds]
        began = time.process_time()
        verdicts = grade(responses, golds)
        rates.append(len(golds) / (time.process_time() - began))
        assert all(verdict.score for verdict in verdicts)
    print(f"boxed integers a second: {statistics.median(rates):,.0f}\n")
    print("| file | cases | mean ms | median ms | p99 ms | asked a worker | of these mean ms |")
    print("| --- " * 7 + "|")
    for path in options.files:
        cases = [json.loads(line) for line in path.read_text().splitlines()]
        grade([r"\boxed{\sin 1}"], [r"\cos 1"])  # imports, not counted
        alone, asked = [], []
        for case in cases:
            began, clock = time.process_time(), time.perf_counter()
            grade([text(case)], [case["gold"]])
            spent, passed = time.process_time() - began, time.perf_counter() - clock
            (asked if tasks else alone).append(1000 * (passed if tasks else spent))
            tasks.clear()
        alone.sort()
        print(
            f"| {path.name} | {len(cases)} | {statistics.mean(alone):.2f} "
            f"| {statistics.median(alone):.2f} | {alone[int(0.99 * len(alone))]:.2f} "
            f"| {len(asked)} | {statistics.mean(asked) if asked else 0:.1f} |"
        )


if __name__ == "__main__":
    main()
