"""Whole training steps on several ranks are those of one process: weights, responses, metrics, evaluations.

Set LLMRL_EVERY_CASE=1 for every case; by default every algorithm on 2 ranks with whole
copies of the model, and a few cases on 3 that share one and on 2 x 2.
"""

import json
import os
from pathlib import Path

import pytest
from ranks import launch

from llmrl.algorithms import ALGORITHMS

CASES = Path(__file__).parents[1] / "helpers" / "equal_cases.py"
EVERY = os.environ.get("LLMRL_EVERY_CASE") == "1"
ADAPTIVE = ["--algo.kl", "0.1", "--algo.kl-in-reward", "--algo.kl-target", "0.01"]
LEARNED = ["--curriculum.threshold", "0.1", "--curriculum.window", "2"]
WAYS = [
    {"algo": "dapo", "packing": True},
    {"algo": "grpo", "checkpointing": True},
    {"algo": "ppo", "tied": False, "vocabulary": 263},
    {"algo": "grpo", "share_prompts": False, "epochs": 2},
    {"algo": "gspo", "budget": 100000},  # one micro-batch: more ranks than parts
    {"algo": "grpo", "prompts": 1},  # more ranks than groups
    {"algo": "grpo", "dtype": "float32"},
    {"algo": "dapo", "more": ["--train.no-rescore"]},
    {"algo": "ppo", "more": ADAPTIVE},
    {"algo": "dapo", "more": ["--train.ahead", "1"]},
]
LATER = [  # reward penalties, references, adapters, which problems are asked; several at once
    {"algo": "espo", "more": ["--algo.kl", "0.1"]},
    {"algo": "rloo", "more": ["--algo.kl", "0.1", "--algo.kl-in-reward"]},
    {"algo": "erc", "more": [*ADAPTIVE, "--algo.kl-estimator", "abs"]},
    {"algo": "ppo", "more": [*ADAPTIVE, "--train.ahead", "1"], "steps": 4},
    {"algo": "gspo", "lora": True},
    {"algo": "ppo", "lora": True, "more": [*ADAPTIVE, "--train.ahead", "1"]},
    {"algo": "grpo", "env": "tests/Nine-v0", "more": ["--curriculum.every", "1"], "steps": 3},
    {"algo": "gppo", "env": "tests/Nine-v0", "more": ["--filter.visits", "1", "--train.ahead", "1"], "steps": 4},
    {"algo": "dcpo", "env": "tests/Nine-v0", "more": [*LEARNED, "--train.ahead", "1"], "steps": 3},
]
# The norm of a sharded gradient is summed in another order; a factor that is off by one float32 step moves weights to
# the next bfloat16 number, and one process whose norm is moved by one step differs by as much. Clipping is compared in
# the other types.
UNCLIPPED = ["--train.max-grad-norm", "1e9"]
HALF = {"dtype": "bfloat16", "more": UNCLIPPED}
TWO_BY_TWO = [  # two copies of the model, two ranks that share each
    {"algo": "ppo", "more": ["--algo.kl", "0.1"]},  # shared prompts, which is the default
    {"algo": "grpo", **HALF, "checkpointing": True},
    {"algo": "grpo", **HALF, "lora": True},  # the adapters compute in float32
    {"algo": "grpo", "checkpointing": True},
    {"algo": "dapo", "packing": True},
    {"algo": "grpo", **HALF},
    {"algo": "espo", **HALF, "packing": True},
    {"algo": "gspo", **HALF, "tied": False, "more": ["--train.ahead", "1", *UNCLIPPED]},
]
FEW = {
    2: [*({"algo": name} for name in ALGORITHMS), *WAYS[:4], LATER[3]],
    3: [{"algo": "grpo"}, {"algo": "tis"}, *WAYS[4:-1], LATER[5], LATER[8]],
}


def all_cases(ranks):
    """What is compared."""
    if ranks == 4:
        return TWO_BY_TWO if EVERY else TWO_BY_TWO[:3]
    return [*({"algo": name} for name in ALGORITHMS), *WAYS, *LATER] if EVERY else FEW[ranks]


def bound(case):
    """How far weights and metrics may be apart; where gradients are tiny, Adam magnifies rounding."""
    if case.get("dtype") == "bfloat16":  # of float32 masters, where sums of micro-batches are rounded in another order
        return 1e-6, 1e-5
    if case.get("dtype") == "float32":
        return 1e-5, 1e-3
    return (1e-10 if case["algo"] == "dr_grpo" else 1e-12), 1e-6


@pytest.mark.parametrize(("ranks", "shard"), [(2, 1), (3, 3), (4, 2), *([(2, 2), (3, 1)] if EVERY else [])])
def test_results_do_not_depend_on_the_number_of_ranks(ranks, shard):
    cases = all_cases(ranks)
    output = launch(CASES, json.dumps(cases), shard, ranks=ranks, limit=100 + 40 * len(cases)).stdout
    found = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT "))[7:])
    for case, report in zip(cases, found, strict=True):
        name = " ".join(map(str, case.values()))
        print(f"| {ranks}/{shard} | {name} | {report['weights']:.1e} | {report['metrics']:.1e} |")
    for case, report in zip(cases, found, strict=True):
        weights, metrics = bound(case)
        assert report["count"] > 0, case
        assert report["moved"] > 1e-4, (case, report)  # else equal weights would say nothing
        assert report["names"], case
        assert report["copies"] == 1, case
        assert report["weights"] < weights, (case, report)
        assert report["metrics"] < metrics, (case, report)
        assert report["responses"], case
        assert report["rewards"], case
        assert report["evaluation"] or case.get("dtype") == "bfloat16", case
