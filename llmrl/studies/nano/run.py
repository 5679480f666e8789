"""One run of one algorithm on one nano task: the trainer itself, step by step, with evaluations between.

As on exact tasks, refills, the choice of groups and shaping are left out, so that algorithms can be compared.
"""

from __future__ import annotations

import itertools
import time

import torch

from llmrl import keys
from llmrl.algorithms import Algorithm
from llmrl.policies.policy import Policy
from llmrl.rollouts.collect import Rollouts, collect
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.records import is_correct
from llmrl.studies.exact.run import Broken, RunResult, compared, variation
from llmrl.studies.exact.task import Settings
from llmrl.studies.nano.task import PROBLEMS, NanoTask, places
from llmrl.training.build import build
from llmrl.training.command_line import from_settings
from llmrl.training.given import Given
from llmrl.training.process import borrowed
from llmrl.training.trainer import Trainer

PER_STEP = {
    "accuracy": "reward/accuracy",
    "zero_grad": "actor/zero_grad_fraction",
    "kept": "actor/gate_fraction",
    "grad_norm": "actor/grad_norm",
    "ratio_max": "actor/ratio_max",
    "length": "response_length/mean",
}
"""Curves that come from metrics of the trainer."""


def make(task: NanoTask, algorithm: Algorithm, seed: int, settings: Settings) -> tuple[Trainer, Environments]:
    """The trainer of a run and its test problems."""
    sections = task.sections(settings)
    sections["policy"] |= {"path": task.policy, "device": "cpu"}
    config = from_settings({"seed": seed, **sections})
    return build(config, given=Given(algorithm=compared(algorithm)))


def success(policy: Policy, held_out: Environments) -> float:
    """Sampled success on the test problems, with the same random numbers for every algorithm."""
    played = collect(policy, held_out, range(PROBLEMS), seed=0, stream="evaluation")
    return sum(map(is_correct, played.records)) / len(played)


def divergence(trainer: Trainer, rollouts: Rollouts) -> float:
    """KL(old, new) of whole answers in nats: the sum over tokens of r - 1 - log r, mean over the step's responses."""
    data = rollouts.data
    if not len(rollouts):
        return 0.0
    with torch.no_grad():
        new = trainer.policy.score(data)[keys.LOG_PROB]
    log_ratio = torch.where(data[keys.MASK], new - data[keys.OLD_LOG_PROB], 0.0).double()
    return float((log_ratio.exp() - 1 - log_ratio).sum(1).mean())


def run(task: NanoTask, algorithm: Algorithm, seed: int, settings: Settings) -> RunResult:
    """Train from the start policy.

    Args:
        task: the task.
        algorithm: a recipe; its refills, choice of groups and shaping are left out.
        seed: the seed of problems, samples and the order of rows.
        settings: the settings of the run.

    Returns:
        The same results as for exact tasks. Success, entropy and KL are estimates from samples, and ``score`` has a
        value for each of :func:`~llmrl.studies.nano.task.places`.

    Raises:
        Broken: an update was not finite.
    """
    began = time.perf_counter()
    curves: dict[str, list[float]] = {name: [] for name in ("score", "entropy", "kl", *PER_STEP)}
    with borrowed():
        trainer, held_out = make(task, algorithm, seed, settings)
        wanted = places(settings.rollouts)
        curves["score"].append(success(trainer.policy, held_out))
        for step in range(1, settings.rollouts + 1):
            metrics, rollouts = trainer.step()
            if trainer.counters.skipped_updates:
                raise Broken(f"The loss or the gradient is not finite in rollout {step}.")
            for name, metric in PER_STEP.items():
                curves[name].append(metrics[metric])
            # The entropy of an answer is the sum of its tokens' entropies, by the chain rule.
            curves["entropy"].append(metrics["actor/entropy"] * metrics["response_length/mean"])
            curves["kl"].append(divergence(trainer, rollouts))
            if step in wanted:
                curves["score"].append(success(trainer.policy, held_out))
        held_out.close()
        trainer.environments.close()
    return RunResult(curves, summarise(curves), {}, time.perf_counter() - began)


def summarise(curves: dict[str, list[float]]) -> dict[str, float]:
    """The numbers that a study compares, with the names that exact tasks use."""
    scores, norms = curves["score"], torch.tensor(curves["grad_norm"], dtype=torch.float64)
    best = max(scores)
    return {
        "start": scores[0],
        "final": scores[-1],
        "best": best,
        "area": sum(scores[1:]) / len(scores[1:]),
        "success": scores[-1],
        "entropy": curves["entropy"][-1],
        "collapsed": float(scores[-1] < best / 2),
        "kl": sum(curves["kl"]) / len(curves["kl"]),
        "kl_max": max(curves["kl"]),
        "zero_grad": sum(curves["zero_grad"]) / len(curves["zero_grad"]),
        "kept": sum(curves["kept"]) / len(curves["kept"]),
        "ratio_max": max(curves["ratio_max"]),
        "grad_norm_cv": variation(norms),
        "entropy_variation": sum(abs(b - a) for a, b in itertools.pairwise(curves["entropy"])),
    }


def estimate(task: NanoTask, algorithm: Algorithm, settings: Settings) -> float:
    """Estimated seconds of a run, from the time until the first rollout, of the second rollout, and of an
    evaluation."""
    began = time.perf_counter()
    with borrowed():
        trainer, held_out = make(task, algorithm, 0, settings)
        success(trainer.policy, held_out)  # makes the environments
        trainer.step()
        ready = time.perf_counter()
        trainer.step()
        stepped = time.perf_counter()
        success(trainer.policy, held_out)
        scored = time.perf_counter()
    steps, scores = settings.rollouts, len(places(settings.rollouts))
    return (ready - began) + steps * (stepped - ready) + scores * (scored - stepped)
