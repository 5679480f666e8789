"""Worked solutions graded against their own answers: what the default verifier misses.

    python benchmarks/math_self_grading.py [FILE ...] [--misses misses.jsonl]

FILE holds problems with solutions (default: math_train.jsonl.gz and gsm8k_train.jsonl.gz in the folder
LLMRL_TEST_DATA).  A solution of GSM8K names its answer after ``####``, one of MATH in a box.  A miss is a
verdict other than correct; each goes to the file of misses with the end of its solution, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

from llmrl.commands.verify import wilson
from llmrl.envs.files import FileProblems
from llmrl.verifiers import verifier

DATA = Path(os.environ.get("LLMRL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
NAMES = ("math_train.jsonl.gz", "gsm8k_train.jsonl.gz")


def main() -> None:
    """Grade, print a row per file, write the misses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[DATA / name for name in NAMES])
    parser.add_argument("--misses", type=Path, default=Path("misses.jsonl"))
    options = parser.parse_args()
    grade = verifier("math")
    print("| file | solutions | right | 95 % interval | misses | a second |\n" + "| --- " * 6 + "|")
    with options.misses.open("w") as out:
        for path in options.files:
            problems = [p for p in FileProblems(path) if p.solution]
            texts = [_response(p.solution or "", p.answer) for p in problems]
            began = time.perf_counter()
            verdicts = grade(texts, [p.answer for p in problems])
            speed = len(problems) / (time.perf_counter() - began)
            counts = Counter(verdict.status for verdict in verdicts)
            right = counts.pop("correct", 0)
            low, high = wilson(right, len(problems))
            print(
                f"| {path.name} | {len(problems)} | {100 * right / len(problems):.2f} % "
                f"| [{100 * low:.2f}, {100 * high:.2f}] "
                f"| {', '.join(f'{n} {s}' for s, n in counts.items()) or 'none'} | {speed:.0f} |"
            )
            for problem, text, verdict in zip(problems, texts, verdicts, strict=True):
                if verdict.status != "correct":
                    row = {
                        "file": path.name,
                        "id": problem.id,
                        "gold": problem.answer,
                        "verdict": verdict.status,
                        "extracted": verdict.extracted,
                        "rule": verdict.rule,
                        "detail": verdict.detail,
                        "end": text[-300:],
                    }
                    out.write(json.dumps(row) + "\n")


def _response(solution: str, answer: str) -> str:
    """The solution as a model would give it: GSM8K's reader takes the last line off, so it comes back."""
    return solution if "\\boxed" in solution or "\\fbox" in solution else f"{solution}\n#### {answer}"


if __name__ == "__main__":
    main()
