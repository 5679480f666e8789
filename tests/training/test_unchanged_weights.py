"""With unchanged weights every ratio is exactly 1: no token is clipped, gated or penalised, in bfloat16 too.

A tiny model's rows do not depend on their neighbours on every machine. Here they do: noise that depends on what is
computed beside a row stands for the kernels of large models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from small_run import EASY, small_run
from tiny import SMALLEST, tiny_folder

from llmrl import keys
from llmrl.algorithms import ALGORITHMS
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.old_scores import OldScores
from llmrl.training.trainer import Trainer

READERS = {"shared": [], "padded": ["--train.no-share-prompts"], "packed": ["--train.packing"]}
FOUR_UPDATES = (
    "--train.updates-per-step 2 --train.epochs 2 --train.learning-rate 0 --train.critic-learning-rate 0 "
    "--train.micro-batch-tokens 30 --train.prompts-per-step 4 --train.max-mismatch 0"
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=4.0, **SMALLEST)


def disturb(model: torch.nn.Module) -> None:
    """Move what a decoder gives for a row by what is computed together with it, as much as bfloat16 rounds."""

    def moved(module: torch.nn.Module, given: Any, out: torch.Tensor) -> torch.Tensor:
        beside = (out.detach().float().sum() * 1e3).sin().to(out.dtype)
        return out * (1 + beside / 64)

    model.get_decoder().norm.register_forward_hook(moved)


def make(tiny: Path, *options: str, noise: bool = True) -> Trainer:
    easy = ("--env.goal", EASY)
    trainer, _ = build(parse(small_run(tiny, *FOUR_UPDATES.split(), *easy, *options)))
    if noise:
        for policy in (trainer.policy, trainer.reference):
            if policy is not None:
                disturb(policy.model)
    return trainer


def watch(trainer: Trainer) -> list[Any]:
    """What each micro-batch's loss is given."""
    seen: list[Any] = []
    loss = trainer.learner.loss

    def spied(td: Any) -> Any:
        seen.append(td.detach().clone())
        return loss(td)

    trainer.learner.loss = spied  # type: ignore[assignment]
    return seen


def assert_same(seen: list[Any], new: str, old: str) -> None:
    for td in seen:
        assert torch.equal(torch.where(td[keys.MASK], td[new], 0), torch.where(td[keys.MASK], td[old], 0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["espo", "erc"])
def test_no_token_is_clipped_or_gated(name, reader, dtype, tiny):
    trainer = make(tiny, "--algo", name, "--policy.dtype", dtype, *READERS[reader])
    seen = watch(trainer)
    metrics, _ = trainer.step()
    assert len(seen) > 4  # several micro-batches an update
    assert_same(seen, keys.LOG_PROB, keys.OLD_LOG_PROB)
    if keys.OLD_ENTROPY in trainer.algorithm.in_keys:
        assert_same(seen, keys.ENTROPY, keys.OLD_ENTROPY)
    assert metrics["actor/ratio_min"] == metrics["actor/ratio_max"] == 1.0
    for side in ("low", "high"):
        assert metrics[f"actor/clip_fraction_{side}"] == 0.0
    assert metrics["actor/gate_fraction"] == 1.0


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_recipe_has_a_ratio_of_1(name, tiny):
    trainer = make(tiny, "--algo", name, "--policy.dtype", "bfloat16")
    seen = watch(trainer)
    metrics, _ = trainer.step()
    assert len(seen) > 4
    assert metrics["actor/ratio_min"] == metrics["actor/ratio_max"] == 1.0
    if keys.REF_LOG_PROB in trainer.algorithm.in_keys:  # the reference has the same weights
        assert_same(seen, keys.LOG_PROB, keys.REF_LOG_PROB)
    if trainer.critic is not None:
        assert_same(seen, keys.VALUE, keys.OLD_VALUE)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scores_in_other_micro_batches_would_differ(dtype, tiny, monkeypatch):
    """The noise that the tests above need is there: rows scored all together are off."""
    trainer = make(tiny, "--algo", "espo", "--policy.dtype", dtype)
    score: Callable[..., None] = OldScores.score
    monkeypatch.setattr(OldScores, "score", lambda own, parts, *rest: score(own, [whole(parts)], *rest))
    metrics, _ = trainer.step()
    assert metrics["actor/ratio_min"] < 1.0 < metrics["actor/ratio_max"]


def whole(parts: list[Any]) -> Any:
    """All rows of the mini-batches as one."""
    part = parts[0]
    return type(part).of(part.whole)
