"""Checkpoints that are written while training goes on are those that would have been written at once."""

import errno
import json
import os
import threading

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
from command import train
from small_run import EASY, equal, small_run
from tiny import SMALLEST, tiny_folder

from llmrl.errors import ConfigError
from llmrl.training import checkpoint, writer
from llmrl.training.trainer import Trainer
from llmrl.training.writer import refuse_without_memory

STEPS = 4


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


def arguments(tiny, output, *more):
    """A run that keeps the checkpoints of all steps."""
    size = f"--train.learning-rate 1e-2 --train.steps {STEPS} --checkpoint.every 1 --checkpoint.keep 9 --algo ppo"
    return small_run(tiny, *size.split(), "--env.goal", EASY, "--output", str(output), *more)


@pytest.fixture
def slow_writer(monkeypatch):
    """Nothing is written before training has gone a step further, or has come to its end."""
    moved = threading.Event()
    step, save, late = Trainer.step, checkpoint.save, []

    def stepped(self):
        done = step(self)
        (moved.set if self.counters.step == STEPS else moved.clear)()
        return done

    def saved(*given):
        late.append(threading.current_thread().name.startswith("llmrl-checkpoint") and moved.wait(60))
        return save(*given)

    monkeypatch.setattr(Trainer, "step", stepped)
    monkeypatch.setattr(checkpoint, "save", saved)
    return late


def test_training_changes_nothing_of_what_is_being_written(tiny, tmp_path, slow_writer):
    assert train(arguments(tiny, tmp_path / "at_once")) == 0
    assert slow_writer == [False] * STEPS
    slow_writer.clear()
    # One checkpoint in the middle: its writing begins behind step 2 and is held up until step 4 is done.
    more = ["--checkpoint.background", "--checkpoint.every", "2"]
    assert train(arguments(tiny, tmp_path / "behind", *more)) == 0
    assert slow_writer == [True] * 2
    for number in (2, 4):
        [one, other] = [tmp_path / name / f"checkpoint-00000{number}" for name in ("at_once", "behind")]
        assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
        [one, other] = [checkpoint.load_state(folder) for folder in (one, other)]
        config = [json.loads(state.pop("config")) for state in (one, other)]
        assert config[0]["checkpoint"]["background"] is not config[1]["checkpoint"]["background"]
        [one.pop("metrics_position"), other.pop("metrics_position")]  # times in that file have more or fewer digits
        assert equal(one, other), [key for key in one if not equal(one[key], other[key])]


def test_what_cannot_be_written_ends_the_run_at_the_next_step(tiny, tmp_path, monkeypatch, capsys):
    write, ended = checkpoint._write_state, threading.Event()
    begun, step = [], Trainer.step

    def full(state, path):
        if state["counters"]["step"] == 2:
            ended.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(state, path)

    def stepped(self):
        begun.append(self.counters.step)
        if self.counters.step == 2:
            assert ended.wait(60)
            self.writer._thread.submit(int).result(60)  # what was before it has ended
        return step(self)

    monkeypatch.setattr(checkpoint, "_write_state", full)
    monkeypatch.setattr(Trainer, "step", stepped)
    assert train(arguments(tiny, tmp_path / "run", "--checkpoint.background")) != 0
    assert begun == [0, 1, 2]
    said = " ".join(capsys.readouterr().err.split())
    assert "could not be written ([Errno 28] No space left on device). Earlier checkpoints are intact" in said
    assert "Traceback" not in said
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["checkpoint-000001"]
    assert not checkpoint.damages((tmp_path / "run" / "latest").resolve())
    assert not list((tmp_path / "run").glob(".writing-*"))


def test_a_copy_that_does_not_fit_into_memory_is_refused(tiny, tmp_path, monkeypatch, capsys):
    said = "of about 2.0 GiB, and 1.5 GiB of memory are free. Leave it out."
    monkeypatch.setattr(writer, "MEMORY", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    1572864 kB\n")
    refuse_without_memory(1 << 30)
    with pytest.raises(ConfigError, match=said):
        refuse_without_memory(2 << 30)
    (tmp_path / "meminfo").write_text("MemAvailable:    10 kB\n")
    assert train(arguments(tiny, tmp_path / "run", "--checkpoint.background")) == 2
    assert "--checkpoint.background writes from a copy" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
    (tmp_path / "meminfo").unlink()  # another kernel, which does not tell
    refuse_without_memory(1 << 60)
