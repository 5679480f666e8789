"""Signals ask a run to stop; it finishes its step, writes a checkpoint and says so by its exit status."""

import os
import signal
from types import SimpleNamespace

import pytest
from command import train
from trivial import SAY_A, SMALL

from llmrl.training import session, stopping
from llmrl.training.stopping import ONE_REQUEST, SIGNALS, Stop
from llmrl.training.trainer import Trainer


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_with_a_checkpoint_and_status_3(tiny, tmp_path, monkeypatch, number):
    step = Trainer.step

    def signalled(self):
        result = step(self)
        if self.counters.step == 2:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(Trainer, "step", signalled)
    arguments = ["--policy", str(tiny), *SAY_A, *SMALL, "--output", str(tmp_path / "run"), "--train.steps", "5"]
    assert train(arguments) == 3
    assert (tmp_path / "run" / "latest").resolve().name == "checkpoint-000002"
    monkeypatch.setattr(Trainer, "step", step)
    assert train([*arguments, "--resume", "auto"]) == 0
    assert (tmp_path / "run" / "latest").resolve().name == "checkpoint-000005"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["build", "introduce"])
def test_a_signal_before_the_first_step_ends_the_run_at_once_with_a_sentence(
    tiny, tmp_path, monkeypatch, capsys, moment, number
):
    function = getattr(session, moment)

    def signalled(*args):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # as timeout sends it
        return function(*args)

    monkeypatch.setattr(session, moment, signalled)
    arguments = ["--policy", str(tiny), *SAY_A, *SMALL, "--output", str(tmp_path / "run"), "--train.steps", "1"]
    assert train(arguments) == 130
    assert capsys.readouterr().err.startswith("error: Stopped at once.")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(session, moment, function)
    assert train([*arguments, "--resume", "auto"]) == 0


EVALUATED = ("--eval.problems", "2", "--eval.samples", "0", "--eval.batch", "1", "--train.steps", "1")


@pytest.mark.parametrize(
    ("number", "status", "sentence"), [(1, 130, "error: Stopped at once."), (2, 3, "Stopped. To continue")]
)
def test_a_signal_in_the_first_or_the_last_evaluation(number, status, sentence, tiny, tmp_path, monkeypatch, capsys):
    calls, evaluate = [], session.evaluate

    def signalled(*args, **options):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*args, **options)

    monkeypatch.setattr(session, "evaluate", signalled)
    folder = tmp_path / "my run"
    arguments = ["--policy", str(tiny), *SAY_A, *SMALL, *EVALUATED, "--output", str(folder)]
    assert train(arguments) == status
    said = "".join(capsys.readouterr())
    assert sentence in said
    if status == 3:
        assert f"--output '{folder}' --resume auto" in " ".join(said.split())
    assert (folder / "latest").exists() == (status == 3)
    assert train([*arguments, "--resume", "auto"]) == 0
    assert ("at step 1 already" in capsys.readouterr().out) == (status == 3)
    assert {path.name for path in (folder / "eval").iterdir()} >= {"before.json", "after.json"}


@pytest.fixture
def clock(monkeypatch):
    """The time of the signals, in seconds; a test moves it."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(stopping, "time", SimpleNamespace(monotonic=lambda: time.now))
    return time


def test_a_second_signal_leaves_at_once_and_the_handlers_come_back(clock):
    before = [signal.getsignal(number) for number in SIGNALS]
    stop, told = Stop(), []
    with stop.watched(told.append), stop.in_steps():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked == "SIGTERM"
        clock.now += ONE_REQUEST
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGHUP)
    assert told == ["SIGTERM: stopping after this step, with a checkpoint. A second signal stops at once."]
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_signals_that_come_together_are_one_request(clock):
    stop, told = Stop(), []
    with stop.watched(told.append), stop.in_steps():
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):  # as timeout and systemd send them
            os.kill(os.getpid(), number)
            clock.now += 0.4 * ONE_REQUEST
    assert stop.asked == "SIGTERM"
    assert len(told) == 1


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        stop = Stop()
        with stop.watched(print):
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)
