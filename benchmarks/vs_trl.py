"""llmrl and TRL's GRPOTrainer beside each other: time of a step and its parts, tokens per second, memory, reward.

pip install llmrl trl==1.16.0
python benchmarks/vs_trl.py                                        the embedded policy
python benchmarks/vs_trl.py --policy PATH --prompts 4 --micro-rows 4 --learning-rate 1e-5     a larger one

Both get the same model, prompts in the same order, group size, limit of tokens, GRPO without reference and with
the same clip,
AdamW at the same constant learning rate, updates per rollout, rows per micro-batch, float32 and number of threads;
TRL without
gradient checkpointing, which it would use by default.  Each run is a process of its own, in turns; the reward is
the share of digits in a response, graded by the same function.  The whole is printed as markdown.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overhead import timed
from step import (
    PARTS,
    Workload,
    digits,
    heading,
    llmrl_steps,
    make_trainer,
    parser,
    problem,
    set_up,
    table,
    workload,
)

TRL = "1.16.0"


def peak() -> float:
    """The most memory that this process has held, GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def run_llmrl(work: Workload) -> dict[str, Any]:
    """Steps of llmrl."""
    trainer = make_trainer(work)
    before = peak()
    return {"steps": llmrl_steps(trainer, work.steps), "loaded": before, "peak": peak()}


def run_trl(work: Workload) -> dict[str, Any]:
    """The same steps of TRL, its methods timed from outside."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from llmrl.policies.policy import Policy

    policy = Policy.from_pretrained(work.policy)
    texts = [problem(i) for i in range(work.prompts * work.steps)]
    prompts = [policy.prompts.render(text) for text in texts]
    if policy.tokenizer(prompts)["input_ids"] != policy.prompts.encode(texts):
        raise SystemExit(f"TRL would read other prompt tokens than llmrl with {work.policy}.")
    accumulate = work.rows // work.updates // work.micro_rows
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            seed=0,
            shuffle_dataset=False,
            per_device_train_batch_size=work.micro_rows,
            gradient_accumulation_steps=accumulate,
            steps_per_generation=accumulate * work.updates,
            max_steps=work.steps * work.updates,
            num_generations=work.group,
            max_completion_length=work.tokens,
            temperature=1.0,
            generation_kwargs={"min_new_tokens": work.tokens} if work.full_length else None,
            loss_type="grpo",
            epsilon=0.2,
            epsilon_high=0.2,
            beta=0.0,
            scale_rewards="group",
            learning_rate=work.learning_rate,
            lr_scheduler_type="constant",
            warmup_steps=0,
            weight_decay=0.0,
            max_grad_norm=1.0,
        )

        spent: Counter[str] = Counter()
        steps: list[dict[str, float]] = []
        began = 0.0

        def close_step() -> None:
            if steps:
                row = steps[-1]
                row["step"] = time.perf_counter() - began
                row["generate"], row["grade"] = spent["generate"], spent["grade"]
                row["score"] = spent["prepare"] - spent["generate"] - spent["grade"]
                row["update"] = row["step"] - spent["prepare"]
                row["rest"] = 0.0
            spent.clear()

        class Timed(GRPOTrainer):
            def _generate_and_score_completions(self, inputs: Any) -> Any:
                nonlocal began
                close_step()
                began = time.perf_counter()
                steps.append({})
                out = super()._generate_and_score_completions(inputs)
                steps[-1]["tokens"] = float(out["completion_mask"].sum())
                spent["prepare"] += time.perf_counter() - began  # type: ignore[assignment]
                return out

        Timed._generate = timed(GRPOTrainer._generate, "generate", spent)
        Timed._calculate_rewards = timed(GRPOTrainer._calculate_rewards, "grade", spent)

        def reward(completions: Sequence[str], **_: Any) -> list[float]:
            values = [digits(text) for text in completions]
            steps[-1]["reward"] = statistics.fmean(values)
            return values

        trainer = Timed(
            model=policy.model,
            processing_class=policy.tokenizer,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
        )
        before = peak()
        trainer.train()
        close_step()
    return {"steps": steps, "loaded": before, "peak": peak()}


def in_turns(work: Workload, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """What both measured, each in processes of its own, one after the other."""
    results: dict[str, list[dict[str, Any]]] = {"llmrl": [], "TRL": []}
    env = {**os.environ, "OMP_NUM_THREADS": str(work.threads), "TOKENIZERS_PARALLELISM": "false"}
    for turn in range(repeats):
        for name, found in results.items():
            print(f"{name}, run {turn + 1} of {repeats} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "result.json"
                given = {"side": name, "work": dataclasses.asdict(work), "file": str(file)}
                subprocess.run(
                    [sys.executable, __file__, "--one-side", json.dumps(given)],
                    env=env,
                    check=True,
                    stdout=sys.stderr,
                )
                found.append(json.loads(file.read_text()))
    return results


def report(results: dict[str, list[dict[str, Any]]]) -> str:
    """Both as a table; seconds are medians over the steps of all runs but each run's first."""
    sides = [results["llmrl"], results["TRL"]]
    steps = [[step for run in runs for step in run["steps"][1:]] for runs in sides]

    def row(text: str, values: Sequence[float], form: str = ".2f") -> list[str]:
        ratio = f"{values[0] / values[1]:.2f}" if min(values) >= 0.01 else ""
        return [text, *(f"{value:{form}}" for value in values), ratio]

    def median(key: str) -> list[float]:
        return [statistics.median(step[key] for step in side) for side in steps]

    rows = [row("step, s", median("step"))]
    rows += [row(f"- {part}, s", median(part)) for part in PARTS]
    rates = [sum(s["tokens"] for s in side) / sum(s["step"] for s in side) for side in steps]
    rows.append(row("sampled tokens per second", rates, ".0f"))
    rows.append(row("ms per sampled token", [1e3 / rate for rate in rates], ".3f"))
    rows.append(row("sampled tokens per step", median("tokens"), ".0f"))
    for text, key in (("peak memory, GiB", "peak"), ("- of it before the first step", "loaded")):
        rows.append(row(text, [max(run[key] for run in runs) for runs in sides]))
    for text, place in (("reward of the first step", 0), ("reward of the last step", -1)):
        means = [statistics.fmean(run["steps"][place]["reward"] for run in runs) for runs in sides]
        rows.append([*row(text, means, ".3f")[:3], ""])
    return table(["", "llmrl", f"TRL {TRL}", "llmrl / TRL"], rows)


def main() -> int:
    """Run both in turns and print the table."""
    if sys.argv[1:2] == ["--one-side"]:
        given = json.loads(sys.argv[2])
        work = Workload(**given["work"])
        set_up(work)
        result = (run_llmrl if given["side"] == "llmrl" else run_trl)(work)
        Path(given["file"]).write_text(json.dumps(result))
        return 0
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=2, help="runs of each (default: 2)")
    chosen = options.parse_args()
    work = workload(chosen)
    if importlib.util.find_spec("trl") is None:
        raise SystemExit(f"This comparison needs TRL: pip install trl=={TRL}")
    print(heading(work, f", {work.steps - 1} steps of each of {chosen.repeats} runs"), end="\n\n")
    print(report(in_turns(work, chosen.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
