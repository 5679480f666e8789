"""Accuracy of the default verifier beside Math-Verify's, on cases with known verdicts.

    python benchmarks/verifier_accuracy.py [FILE ...] [--misses misses.jsonl] [--by category] [--verifiers math]

FILE holds cases as JSON lines (default: tests/verifiers/cases.jsonl, and verifier_cases.jsonl and
verifier_cases_2.jsonl in the folder LLMRL_TEST_DATA where they are there). A case has a gold answer, an answer
(given in a box) or a whole response, and whether it is to be accepted. A false positive is a wrong answer that
was accepted.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from llmrl.verifiers import verifier

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("LLMRL_TEST_DATA", HERE.parents[1] / "shared" / "data"))
DEFAULT = (
    HERE.parent / "tests" / "verifiers" / "cases.jsonl",
    DATA / "verifier_cases.jsonl",
    DATA / "verifier_cases_2.jsonl",
)
VERIFIERS = ("math", "math_verify")


def main() -> None:
    """Grade every case with both verifiers, print a row per file and kind, write the misses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, default=[path for path in DEFAULT if path.is_file()])
    parser.add_argument("--misses", type=Path, default=Path("misses.jsonl"))
    parser.add_argument("--by", choices=("kind", "category"), default="kind", help="what the rows of a file are")
    parser.add_argument("--verifiers", nargs="+", choices=VERIFIERS, default=VERIFIERS)
    options = parser.parse_args()
    print("| file | kind | cases | verifier | right | false positives | false negatives |")
    print("| --- " * 7 + "|")
    with options.misses.open("w") as out:
        for path in options.files:
            cases = [json.loads(line) for line in path.read_text().splitlines()]
            for name in options.verifiers:
                for kind, (count, misses) in sorted(judge(name, cases, options.by).items()):
                    wrongly = [case for case in misses if not case["expected"]]
                    right = 100 * (1 - len(misses) / count)
                    print(
                        f"| {path.name} | {kind} | {count} | {name} | {right:.2f} % "
                        f"| {len(wrongly)} | {len(misses) - len(wrongly)} |"
                    )
                    for case in misses:
                        out.write(json.dumps({"verifier": name, **case}) + "\n")


def judge(name: str, cases: list[dict[str, Any]], by: str = "kind") -> dict[str, tuple[int, list[dict[str, Any]]]]:
    """For each kind, how many cases there are and which the verifier judges otherwise than labelled."""
    verdicts = verifier(name)([text(case) for case in cases], [case["gold"] for case in cases])
    counts: dict[str, int] = defaultdict(int)
    misses: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for case, verdict in zip(cases, verdicts, strict=True):
        row = kind(case) if by == "kind" else str(case.get("category", kind(case)))
        counts[row] += 1
        if bool(verdict.score) != case["expected"]:
            misses[row].append({**case, "status": verdict.status, "detail": verdict.detail})
    return {name: (count, misses[name]) for name, count in counts.items()}


def kind(case: dict[str, Any]) -> str:
    """core: every grader should agree; response: found in running text; policy: a matter of taste."""
    if "core" in case:
        return case["kind"].replace("answer", "core") if case["core"] else "policy"
    return str(case["kind"])


def text(case: dict[str, Any]) -> str:
    """The response of a case; a bare answer comes in a box."""
    if case.get("kind") == "response":
        return str(case.get("response", case.get("answer")))
    return str(case["response"]) if "response" in case else rf"\boxed{{{case['answer']}}}"


if __name__ == "__main__":
    main()
