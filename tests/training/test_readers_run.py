"""Training with packing or shared prompts: the same steps to rounding, and a stopped run goes on bit by bit."""

from __future__ import annotations

from pathlib import Path

import noisy  # noqa: F401  registers tests/Noisy-v0
import pytest
import torch
from command import trained
from small_run import same_tensors, save, small_run, steps, stir
from tensordict import TensorDict
from tiny import SMALLEST, tiny_folder

from llmrl import keys
from llmrl.errors import PolicyError
from llmrl.policies.scoring.forward import PACKED, PADDED, Sequences
from llmrl.policies.scoring.sharing import SHARED
from llmrl.rollouts.batch import LAYOUT, Batch
from llmrl.training import checkpoint, run_state
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.faults import TooLarge, sized
from llmrl.training.trainer import Trainer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=3.0, **SMALLEST)


def arguments(tiny: Path, *more: str) -> list[str]:
    size = "--policy.max-response-length 12 --train.micro-batch-tokens 60"
    speed = "--train.warmup-steps 0 --train.learning-rate 1e-3"
    return small_run(tiny, *size.split(), *speed.split(), *more, env="noisy:tests/Noisy-v0")


def varied(trainer: Trainer) -> None:
    """Make every other token end a response, so that their lengths differ."""
    trainer.policy.end_ids |= set(range(1, 261, 8))


@pytest.mark.parametrize("name", ["espo", "ppo"])
def test_a_packed_run_goes_on_bitwise(name, tiny, tmp_path):
    config = parse(arguments(tiny, "--algo", name, "--train.packing"))
    whole, _ = build(config)
    assert whole.policy.forward_pass is PACKED
    varied(whole)
    steps(whole, 2)
    saved = save(whole, tmp_path)
    expected = steps(whole, 2)
    stir(99)
    resumed, _ = build(config, saved)
    varied(resumed)
    run_state.restore(resumed, checkpoint.load_state(saved), saved)
    assert steps(resumed, 2) == expected
    assert same_tensors(whole.learner.masters, resumed.learner.masters)
    assert same_tensors(whole.learner.critic_parameters, resumed.learner.critic_parameters)


@pytest.mark.parametrize("name", ["espo", "ppo", "erc"])
@pytest.mark.parametrize("way", ["packing", "share-prompts"])
def test_a_step_is_the_padded_step_to_rounding(name, way, tiny):
    results = []
    for switch in (f"--train.{way}", "--train.no-share-prompts"):
        stir(0)  # the environment draws from the generators of the process
        trainer, _ = build(parse(arguments(tiny, "--algo", name, switch)))
        varied(trainer)
        metrics, rollouts = trainer.step()
        assert trainer.policy.forward_pass is {"p": PACKED, "s": SHARED, "n": PADDED}[switch[8]]
        if switch == "--train.packing":
            lengths = rollouts.data[keys.ATTENTION].sum(1)
            assert lengths.unique().numel() > 2
        results.append((metrics, rollouts, [*trainer.learner.masters, *trainer.learner.critic_parameters]))
    (one, first, packed), (two, second, padded) = results
    assert [r["response"] for r in first.records] == [r["response"] for r in second.records]
    for key in (keys.OLD_LOG_PROB, keys.OLD_ENTROPY, keys.LOG_PROB, keys.ADVANTAGE):
        torch.testing.assert_close(first.data[key], second.data[key], rtol=1e-4, atol=1e-4)
    for key in ("actor/loss", "actor/grad_norm", "actor/entropy"):
        assert one[key] == pytest.approx(two[key], rel=1e-3, abs=1e-5)
    # Adam's first step is the sign of the gradient, which rounding may turn where it is almost 0.
    off = torch.cat([(a - b).abs().flatten() for a, b in zip(packed, padded, strict=True)])
    assert float((off > 1e-5).float().mean()) < 0.01


def rows_of(lengths: list[int]) -> TensorDict:
    attention = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    mask = attention.clone()
    mask[:, 0] = False
    entries = {keys.TOKENS: attention.long(), keys.ATTENTION: attention, keys.MASK: mask}
    return TensorDict(entries, batch_size=[len(lengths)])


def test_packed_micro_batches_hold_more_rows_within_the_same_budget():
    batch = Batch.of(rows_of([41, 5, 5, 5, 5, 5, 5, 5, 5, 21, 21]))
    parts = list(batch.micro_batches(80, PACKED))
    assert sorted(torch.cat([part.rows for part in parts]).tolist()) == list(range(11))
    sequences = Sequences.of(*(batch.layout[key] for key in LAYOUT))
    assert len(PACKED.batches(sequences, 80)) == 2
    assert len(PADDED.batches(sequences, 80)) == 3


def test_memory_that_runs_out_is_counted_in_packed_rows():
    # As padded rows these would be 11 of 41, and half of that is more than there was.
    part = Batch.of(rows_of([41, 5, 5, 5, 5, 5, 5, 5, 5, 21, 21]))
    with pytest.raises(TooLarge) as caught, sized(part, PACKED):
        raise MemoryError
    assert (caught.value.rows, caught.value.length) == (3, 40)
    with pytest.raises(TooLarge) as caught, sized(part, PADDED):
        raise MemoryError
    assert (caught.value.rows, caught.value.length) == (11, 40)


def test_a_model_that_cannot_is_refused_before_anything_is_written(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", lambda position_ids: None)
    output = ["--output", str(tmp_path / "run")]
    with pytest.raises(PolicyError, match=rf"LlamaForCausalLM {tiny} cannot be scored with packing"):
        trained(parse(arguments(tiny, "--train.packing", *output)))
    assert not (tmp_path / "run").exists()
