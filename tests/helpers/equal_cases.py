"""What tests/distributed/test_equal.py runs on several ranks: whole training steps against those of one process.

Prints one JSON line: for each case how far weights and metrics are from those of one process, and what differs.
"""

import copy
import hashlib
import json
import sys

import gymnasium
import torch
from tiny import tiny_model, tiny_tokenizer
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llmrl.distributed.world import World, WorldConfig, joined
from llmrl.envs.problems import Problem
from llmrl.envs.spaces import FreeText
from llmrl.envs.text import TextEnv
from llmrl.evaluation import evaluate
from llmrl.policies.adapters import LoraOptions, add_adapters
from llmrl.policies.policy import Policy
from llmrl.policies.sampling import trial
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.given import Given
from llmrl.verifiers import Verdict

STEPS = 2


def exact_norm(self, hidden):
    """transformers' own computes in float32."""
    return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)


LlamaRMSNorm.forward = exact_norm
# Positions and one of the kernels are in float32.
trial.FLOOR[torch.float64] = 1e-5


class Checksum(gymnasium.Env):
    """Prompts of different lengths; the reward depends on every character, and on a draw that no seed repeats."""

    def __init__(self, split="train"):
        self.observation_space = FreeText()
        self.action_space = FreeText()

    def reset(self, *, seed=None, options=None):
        self.number = seed % 12  # the environment has no problem ids; its own generator is not seeded by this
        return "count " + "ab" * (self.number % 4), {"level": self.number % 3}

    def step(self, action):
        reward = float(sum(map(ord, action)) % 3 == 0)
        return "", reward + 1e-3 * float(self.np_random.random()), True, False, {}


gymnasium.register("tests/Checksum-v0", entry_point=Checksum)


def odd(responses, golds):
    """Grades that depend on every character of a response."""
    return [Verdict(score, STATUS[score]) for score in (float(sum(map(ord, text)) % 3 == 0) for text in responses)]


STATUS = {0.0: "wrong", 1.0: "correct"}


class Nine:
    """Problems of three levels."""

    size = 9

    def __getitem__(self, index):
        return Problem(id=str(index), problem=f"count {index}", answer="a", level=1 + index % 3)


class Levels(TextEnv):
    """Problems that have levels and come again."""

    def __init__(self, split="train"):
        super().__init__(Nine(), odd)


gymnasium.register("tests/Nine-v0", entry_point=Levels)


def policy_of(case):
    """A policy as the case asks for, the same on every rank."""
    model = tiny_model(
        sharpness=3.0, tie_word_embeddings=case.get("tied", True), vocab_size=case.get("vocabulary", 261)
    )
    model = model.to(getattr(torch, case.get("dtype", "float64")))
    if case.get("lora"):
        torch.manual_seed(1)
        model = add_adapters(model, LoraOptions(rank=2))
    if case.get("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    options = {"share_prompts": case.get("share_prompts", True), "packing": case.get("packing", False)}
    return Policy(model, tiny_tokenizer(), max_response_length=12, max_prompt_length=64, **options)


def run(case, world, batches=None):
    """Train and evaluate; what came of it.

    Args:
        batches: trained on in place of new ones. In bfloat16 a response may depend on how many are sampled together.
    """
    config = parse(
        [
            *(
                "--algo",
                case["algo"],
                "--env",
                case.get("env", "tests/Checksum-v0"),
                "--policy.max-response-length",
                "12",
            ),
            *("--train.prompts-per-step", str(case.get("prompts", 5)), "--train.group-size", "4"),
            *("--train.updates-per-step", str(case.get("updates", 2)), "--train.steps", str(case.get("steps", STEPS))),
            *("--train.learning-rate", "1e-3", "--train.critic-learning-rate", "1e-3", "--train.warmup-steps", "1"),
            *("--train.micro-batch-tokens", str(case.get("budget", 150)), "--train.epochs", str(case.get("epochs", 1))),
            *case.get("more", ()),
        ]
    )
    trainer, held_out = build(config, given=Given(policy=policy_of(case)), world=world)
    gather, gathered = trainer.gatherer.gather, []

    def recorded(*args):
        gathered.append(gather(*args) if batches is None else copy.deepcopy(batches[len(gathered)]))
        return copy.deepcopy(gathered[-1])

    trainer.gatherer.gather = recorded
    before = weights_of(trainer, world)
    metrics, responses = [], []
    for _ in range(config.train.steps):
        measured, rollouts = trainer.step()
        metrics.append({k: v for k, v in measured.items() if not k.startswith(("time/", "perf/tokens"))})
        responses += [(record["response"], record["reward"]) for record in rollouts.records]
    found = evaluate(trainer.policy, held_out, 5, samples=2, world=world)
    weights = weights_of(trainer, world)
    moved = max(float((value - before[name]).abs().max()) for name, value in weights.items())
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values())).hexdigest()
    return {
        "weights": weights,
        "copies": len(set(world.gather([digest]))),
        "moved": moved,
        "batches": gathered,
        "metrics": metrics,
        "responses": responses,
        "evaluation": [(record["response"], record["reward"]) for record in found.records],
    }


def weights_of(trainer, world):
    """What is trained, in the type that the optimizer changes, as whole tensors."""
    tensors = trainer.learner.tensors().items()
    return {name: world.whole(t).double().clone() for name, t in tensors if not name.startswith("optimizer.")}


def compare(one, many):
    """How far apart they are."""
    gaps = {name: float((one["weights"][name] - value).abs().max()) for name, value in many["weights"].items()}
    off = {}
    for a, b in zip(one["metrics"], many["metrics"], strict=True):
        for name in {**a, **b}:
            gap = abs(a.get(name, 1e9) - b.get(name, -1e9)) / (1 + abs(a.get(name, 0.0)))
            off[name] = max(off.get(name, 0.0), gap if gap == gap else 1e9)
    worst = max(off, key=off.get)
    return {
        "weights": max(gaps.values()),
        "weight": max(gaps, key=gaps.get),
        "moved": one["moved"],
        "copies": many["copies"],
        "names": sorted(one["weights"]) == sorted(many["weights"]),
        "metrics": off[worst],
        "metric": worst,
        "responses": [r[0] for r in one["responses"]] == [r[0] for r in many["responses"]],
        "rewards": [r[1] for r in one["responses"]] == [r[1] for r in many["responses"]],
        "evaluation": one["evaluation"] == many["evaluation"],
        "count": len(one["responses"]),
    }


def main():
    """``CASES [SHARD]``: all cases; what one process does is shared out over the ranks too."""
    cases = json.loads(sys.argv[1])
    shard = int(sys.argv[2]) if len(sys.argv) > 2 else None
    with joined(WorldConfig(timeout_minutes=4, shard=shard), "cpu") as world:
        mine = [n for n, case in enumerate(cases) if "dtype" in case or n in world.mine(len(cases))]
        alone = {number: run(cases[number], World()) for number in mine}
        found = []
        for number, case in enumerate(cases):
            half = case.get("dtype") == "bfloat16"
            many = run(case, world, alone[number]["batches"] if half else None)
            mine = compare(alone.pop(number), many) if number in alone else None
            found.append(next(report for report in world.gather([mine]) if report is not None))
        if world.main:
            print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
