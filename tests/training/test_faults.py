"""Injected faults: a bad batch, too little memory, a broken environment, a verifier that dies."""

import logging
import math
from pathlib import Path

import noisy
import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from command import trained
from safetensors.torch import load_file
from small_run import EASY, same_tensors, small_run
from tensordict import TensorDict

from llmrl import keys
from llmrl.distributed.world import World
from llmrl.envs.vector import TextVectorEnv
from llmrl.errors import ConfigError
from llmrl.rollouts.collect import collect
from llmrl.text import read_json_lines
from llmrl.training import faults
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.faults import Memory, TooLarge, TrainingError, load_batch
from llmrl.training.metrics_file import read_metrics


@pytest.fixture(autouse=True)
def fresh():
    noisy.Raising.made = 0


def make(tiny: Path, *more: str, env: str = "tests/SayA-v0", folder: Path | None = None):
    config = parse(arguments(tiny, *more, env=env))
    trainer, _ = build(config)
    trainer.incidents.folder = folder
    notes: list[str] = []
    trainer.note = notes.append
    return trainer, notes


def arguments(tiny: Path, *more: str, env: str = "tests/SayA-v0") -> list[str]:
    goal = ["--env.goal", EASY] if env == "tests/SayA-v0" else []
    size = "--algo ppo --train.prompts-per-step 3 --train.learning-rate 1e-3"
    return small_run(tiny, *size.split(), *goal, *more, env=env)


def weights(trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in (*trainer.learner.parameters, *trainer.learner.critic_parameters)]


# A batch whose loss or gradient is not finite.


def poison(trainer, on: int):
    """Multiply the policy loss of one call by NaN, as the gradient and the value see it."""
    forward, calls = trainer.learner.loss.forward, 0

    def poisoned(data):
        nonlocal calls
        calls += 1
        out = forward(data)
        if calls == on:
            out["loss_objective"] = out["loss_objective"] * math.nan
        return out

    trainer.learner.loss.forward = poisoned


def test_a_bad_batch_is_left_out_counted_and_kept_to_be_replayed(tiny, tmp_path):
    trainer, notes = make(tiny, folder=tmp_path / "faults")
    poison(trainer, on=1)
    metrics, rollouts = trainer.step()
    assert metrics["actor/skipped_updates"] == 1
    path = tmp_path / "faults" / "step_000001.safetensors"
    assert notes == [f"Step 1: an update was left out, because its loss or gradient was not finite. Its batch: {path}."]
    batch = load_batch(path)
    records = read_json_lines(path.with_suffix(".jsonl"))
    assert len(batch) == len(records) == 6
    for row, record in enumerate(records):
        # Text and tensors of a row belong together.
        ids = batch[keys.TOKENS][row][batch[keys.MASK][row]]
        assert record["tokens"] == len(ids)
        assert record["response"] == trainer.policy.tokenizer.decode(ids, skip_special_tokens=True)
        assert record in [{"step": 1, **one} for one in rollouts.records]
    # What was kept is all that the loss reads.
    scored = trainer.policy.score(batch, entropy=True)
    out = trainer.learner.loss(trainer.critic(scored))
    assert all(torch.isfinite(value).all() for value in out.values())


def test_a_loss_that_is_not_finite_is_enough_even_where_the_gradient_is(tiny):
    trainer, _ = make(tiny, "--train.updates-per-step", "1")
    forward = trainer.learner.loss.forward

    def poisoned(data):
        out = forward(data)
        out["loss_objective"] = out["loss_objective"] + math.inf
        return out

    trainer.learner.loss.forward = poisoned
    before = weights(trainer)
    assert trainer.step()[0]["actor/skipped_updates"] == 1
    assert same_tensors(before, weights(trainer))


def test_the_run_stops_after_too_many_bad_batches_in_a_row_and_says_where_they_are(tiny, tmp_path):
    trainer, _ = make(tiny, "--train.max-bad-steps", "2", folder=tmp_path)
    trainer.learner.parameters[0].register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"not finite in 2 updates in a row \(step 1\).*step_000001_2"):
        trainer.step()
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_no_more_than_so_many_bad_batches_are_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "MAX_DUMPS", 1)
    trainer, notes = make(tiny, folder=tmp_path)
    trainer.learner.parameters[0].register_hook(lambda gradient: gradient * math.inf)
    trainer.step()
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert notes[1].endswith("was not finite.")


def test_bad_batches_that_were_set_aside_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "MAX_DUMPS", 2)
    (tmp_path / "aside-step_100000.safetensors").touch()
    (tmp_path / "step_1000000.safetensors").touch()
    bad = TensorDict({"advantage": torch.zeros(1)}, batch_size=[1])
    assert faults.dump(tmp_path, 100_000, bad, []) == tmp_path / "step_100000.safetensors"
    assert faults.dump(tmp_path, 100_000, bad, []) is None


def test_a_bad_batch_that_cannot_be_kept_does_not_stop_the_run(tiny, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    trainer, notes = make(tiny, folder=tmp_path / "file")
    poison(trainer, on=1)
    assert trainer.step()[0]["actor/skipped_updates"] == 1
    assert notes[0].startswith("Could not be written, going on without: [Errno 17]")


def test_without_anybody_to_tell_notes_go_to_the_log(tiny, caplog):
    trainer, _ = build(parse(arguments(tiny)))
    poison(trainer, on=1)
    with caplog.at_level(logging.WARNING):
        trainer.step()
    assert "an update was left out" in caplog.text


# Memory.

LENGTH = len("say it") + 2 + 4 - 1
"""Tokens of a row that are read: the prompt, the two marks of its template, the response but its last one."""

OUT = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to ..."),
    "cpu on linux": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ..."),
}


def limit_memory(trainer, rows: int, error: Exception, half_way: bool):
    """Raise in passes of more than so many rows: forward, or in the midst of the backward pass."""
    score = trainer.policy.score

    def limited(data, **options):
        if len(data) <= rows:
            return score(data, **options)
        if not (half_way and torch.is_grad_enabled()):
            raise error

        def fail(gradient):
            # The output matrix is tied to the embedding, which comes last: gradients of the layers
            # between them have been added by now.
            assert any(p.grad is not None for p in trainer.learner.parameters)
            raise error

        trainer.model_hook = trainer.policy.model.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: output.register_hook(fail) and None
        )
        try:
            return score(data, **options)
        finally:
            trainer.model_hook.remove()

    trainer.policy.score = limited


@pytest.mark.parametrize("half_way", [False, True])
@pytest.mark.parametrize("kind", OUT)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_that_runs_out_halves_the_micro_batches_and_changes_nothing_else(kind, half_way, dtype, tiny):
    more = ("--policy.dtype", dtype, "--train.updates-per-step", "1", "--train.no-share-prompts")
    small, _ = make(tiny, *more, "--train.micro-batch-tokens", str(3 * LENGTH))
    expected = small.step()[0]
    trainer, notes = make(tiny, *more, "--train.micro-batch-tokens", "100000")
    limit_memory(trainer, 5, OUT[kind], half_way)
    metrics, _ = trainer.step()
    assert metrics["perf/micro_batch_tokens"] == trainer.memory.budget == 6 * LENGTH
    assert len(notes) == 1
    assert f"at most {6 * LENGTH} tokens instead of 100000 (--train.micro-batch-tokens)" in notes[0]
    # Half of twelve rows is six, which are cut evenly into micro-batches of three; so it is the step of three rows.
    assert same_tensors(weights(small), weights(trainer))
    assert metrics["actor/loss"] == expected["actor/loss"]
    trainer.step()
    assert len(notes) == 1, "the smaller size is kept, and said once"


def test_a_run_may_go_on_with_other_micro_batches(tiny, tmp_path):
    def run(folder, *more):
        size = ["--train.steps", "3", "--train.micro-batch-tokens", "100000", "--checkpoint.every", "1"]
        return trained(parse([*arguments(tiny, *size, "--output", str(folder)), *more]))

    whole = load_file(run(tmp_path / "whole") / "latest" / "model.safetensors")
    folder = run(tmp_path / "run", "--train.steps", "2")
    run(folder, "--train.micro-batch-tokens", str(3 * LENGTH), "--resume", "auto")
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["perf/micro_batch_tokens"] for row in rows] == [100_000, 100_000, 3 * LENGTH]
    gone_on = load_file(folder / "latest" / "model.safetensors")
    for name in whole:
        torch.testing.assert_close(gone_on[name], whole[name], rtol=1e-3, atol=1e-5)


def test_several_processes_are_told_a_command_that_goes_on():
    memory = Memory(64, lambda text: None, Several())
    with pytest.raises(TrainingError, match=r"--resume auto and --train\.micro-batch-tokens 8,"):
        memory.fit(raise_too_large)


class Several(World):
    size = 2


def raise_too_large(budget):
    raise TooLarge(rows=4, length=4)


def test_a_single_row_that_does_not_fit_is_an_error_that_says_what_to_do(tiny):
    trainer, _ = make(tiny)
    limit_memory(trainer, 0, OUT["gpu"], half_way=False)
    with pytest.raises(
        TrainingError,
        match=rf"A single response does not fit into memory: {LENGTH} tokens.*max-response-length",
    ):
        trainer.step()


def test_other_errors_of_a_micro_batch_are_not_taken_for_memory(tiny):
    trainer, _ = make(tiny)
    limit_memory(trainer, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trainer.step()


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert faults.is_out_of_memory(caught.value)


def test_the_smaller_size_is_told_before_and_after():
    told: list[str] = []
    memory = Memory(64, told.append)

    def work(budget: int) -> int:
        if budget > 8:
            raise TooLarge(rows=budget // 4, length=4)
        return budget

    assert (memory.fit(work), memory.budget) == (8, 8)
    assert told == [
        "A micro-batch did not fit into memory: from now on they have at most 8 tokens instead of 64 "
        "(--train.micro-batch-tokens). The work was repeated with them."
    ]


# Environments.


@pytest.mark.parametrize(("where", "error"), [("step", "the sandbox has gone"), ("reset", "no sandbox")])
def test_an_environment_that_raises_costs_its_group_alone(where, error, tiny, tmp_path):
    trainer, notes = make(tiny, "--env.where", where, env="noisy:tests/Raising-v0", folder=tmp_path)
    before = weights(trainer)
    metrics, rollouts = trainer.step()
    assert {record["group"] for record in rollouts.records} == {1, 2}
    assert len(rollouts.data) == 8
    assert metrics["groups/lost"] == 1
    assert not same_tensors(before, weights(trainer))
    assert len(notes) == 1
    assert notes[0].startswith("Step 1: 1 groups left out, because their environment raised an error")
    assert f"'ConnectionError: {error}" in notes[0]
    (record,) = read_json_lines(tmp_path / "step_000001_environment.jsonl")
    assert record["fault"].startswith("Traceback (most recent call last)")
    assert trainer.step()[0]["groups/lost"] == 2


def test_an_environment_that_always_raises_stops_the_run_after_some_steps(tiny):
    trainer, _ = make(tiny, "--env.every", "--train.max-lost-steps", "2", env="noisy:tests/Raising-v0")
    before = weights(trainer)
    metrics, rollouts = trainer.step()
    assert (len(rollouts), metrics["groups/lost"]) == (0, 3)
    with pytest.raises(
        TrainingError,
        match=r"(?s)every group of 2 steps in a row \(up to step 2\).*ConnectionError: the sandbox has gone",
    ):
        trainer.step()
    assert same_tensors(before, weights(trainer))


def test_a_verifier_that_never_answers_stops_the_run_after_some_steps(tiny, monkeypatch):
    def silent(*args, **options):
        rollouts = collect(*args, **options)
        for record in rollouts.records:
            record |= {"valid": False, "verdict": "timeout"}
        return rollouts

    monkeypatch.setattr("llmrl.training.gathering.collect", silent)
    trainer, _ = make(tiny, "--train.max-lost-steps", "2")
    trainer.step()
    with pytest.raises(TrainingError, match=r"No response of 2 steps in a row .*: timeout 12\. Try the verifier"):
        trainer.step()


def test_a_run_with_an_environment_that_raises_at_times_comes_to_its_end(tiny, tmp_path, capsys):
    # Of the eight environments of the check one is broken, and so is one of those of the evaluation.
    folder = trained(
        parse(
            [
                *arguments(tiny, env="noisy:tests/Raising-v0"),
                "--train.steps",
                "2",
                "--eval.problems",
                "2",
                "--output",
                str(tmp_path / "run"),
            ]
        )
    )
    assert len(read_metrics(folder / "metrics.jsonl")) == 2
    assert "raised an error at 1 of 8 problems" in " ".join(capsys.readouterr().out.split())


def test_a_run_with_an_environment_that_always_raises_does_not_begin(tiny, tmp_path):
    config = parse(
        [
            *arguments(tiny, "--env.every", env="noisy:tests/Raising-v0"),
            "--output",
            str(tmp_path / "run"),
        ]
    )
    with pytest.raises(ConfigError, match=r"(?s)raised an error at every one of the first problems.*sandbox"):
        trained(config)
    assert not (tmp_path / "run").exists()


def test_a_vector_environment_raises_unless_it_is_told_to_be_tolerant():
    env = TextVectorEnv.make("tests/Raising-v0", 2, every=True)
    env.reset(seed=0)
    with pytest.raises(ConnectionError):
        env.step(["a", "b"])
    env.tolerant = True
    env.reset(seed=0)
    _, rewards, terminated, _, infos = env.step(["a", "b"])
    assert (rewards.tolist(), terminated.tolist()) == ([0, 0], [True, True])
    assert not infos["valid"].any()
    assert "ConnectionError" in infos["fault"][0]


def test_a_verifier_that_raises_on_one_response_costs_that_response_alone():
    def grade(responses, golds):
        if "poison" in responses:
            raise ZeroDivisionError("mine")
        return [noisy.Verdict(1.0, "correct") for _ in responses]

    from llmrl.envs.text import TextEnv

    env = TextVectorEnv([TextEnv(noisy.Questions(), grade) for _ in range(3)])
    env.tolerant = True
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step(["x", "poison", "y"])
    assert rewards.tolist() == [1, 0, 1]
    assert infos["_fault"].tolist() == [False, True, False]


def test_a_verifier_whose_workers_die_does_not_end_the_run(tiny, tmp_path):
    folder = trained(
        parse(
            [
                *arguments(tiny, "--algo", "grpo", env="noisy:tests/Dying-v0"),
                "--train.steps",
                "2",
                "--output",
                str(tmp_path / "run"),
            ]
        )
    )
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert 0 < rows[0]["verifier/invalid"] < 1
    assert rows[0]["groups/lost"] == 0
