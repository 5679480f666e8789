"""Trackers get every step's numbers, under the names that were asked for, and never stop a run."""

import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
from command import trained
from small_run import EASY, small_run

from llmrl.errors import ConfigError
from llmrl.training import sinks
from llmrl.training.command_line import parse
from llmrl.training.metrics import METRICS
from llmrl.training.metrics_file import read_metrics
from llmrl.training.sinks import renamed


def arguments(tiny: Path, output: Path, *more: str) -> list[str]:
    size = "--algo grpo --train.steps 3 --checkpoint.every 1"
    return small_run(tiny, "--output", str(output), *size.split(), *more)


class FakeRun:
    """What the loggers of wandb and trackio, and torch's writer, are asked to do."""

    def __init__(self) -> None:
        self.began: list[dict] = []
        self.logged: list[tuple[int, dict]] = []
        self.finished = 0
        self.fails_at = -1

    def init(self, **told):
        self.began.append(told)
        return self

    def log(self, metrics, step):
        if step == self.fails_at:
            raise ConnectionError("the network is down")
        self.logged.append((step, metrics))

    def finish(self):
        self.finished += 1

    # torch's SummaryWriter

    @property
    def file_writer(self):
        return self

    def add_summary(self, settings):
        self.began[-1]["config"] = settings

    def writer(self, folder, purge_step=None):
        return self.init(folder=folder, purge_step=purge_step)

    def add_scalar(self, name, value, step):
        self.log({name: value}, step)

    def flush(self):
        pass

    def close(self):
        self.finish()


@pytest.fixture(params=["wandb", "trackio", "tensorboard"])
def tracker(request, monkeypatch) -> tuple[str, FakeRun]:
    """A tracker that is installed, but fake."""
    run = FakeRun()
    module = types.ModuleType(request.param)
    module.init, module.log, module.finish = run.init, run.log, run.finish
    module.SummaryWriter = run.writer
    name = "torch.utils.tensorboard" if request.param == "tensorboard" else request.param
    monkeypatch.setitem(sys.modules, name, module)
    if request.param == "tensorboard":
        summary = types.ModuleType(f"{name}.summary")
        summary.hparams = lambda settings, metrics: (settings,)
        monkeypatch.setitem(sys.modules, summary.__name__, summary)
    find = importlib.util.find_spec
    known = lambda wanted, *a: object() if wanted == request.param else find(wanted, *a)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", known)
    return request.param, run


def test_every_step_reaches_the_tracker(tracker, tiny, tmp_path):
    name, run = tracker
    folder = trained(parse(arguments(tiny, tmp_path / "run", "--log.to", name)))
    assert (len(run.began), run.finished) == (1, 1)
    got: dict[int, dict] = {}
    for step, metrics in run.logged:
        got.setdefault(step, {}).update(metrics)
    for row in read_metrics(folder / "metrics.jsonl"):
        step = row.pop("step")
        assert got.pop(step) == row
    assert not got


def test_a_resumed_run_is_the_same_run_to_the_tracker(tracker, tiny, tmp_path):
    name, run = tracker
    more = arguments(tiny, tmp_path / "run", "--log.to", name)
    trained(parse(more))
    trained(parse([*more, "--train.steps", "5", "--resume", "auto"]))
    first, second = run.began
    if name == "tensorboard":
        assert (first["purge_step"], second["purge_step"]) == (None, 4)
        assert first["folder"] == second["folder"]
    else:
        key = "id" if name == "wandb" else "name"
        assert first[key] == second[key] != ""
        assert second["resume"] == "allow"
        assert first["config"]["algo"]["name"] == "grpo"
        assert first["project"] == "llmrl"


def test_evaluations_before_and_after_reach_the_tracker_with_their_intervals_and_the_settings(tracker, tiny, tmp_path):
    name, run = tracker
    more = arguments(
        tiny, tmp_path / "run", "--log.to", name, "--eval.problems", "3", "--eval.samples", "2", "--env.goal", EASY
    )
    folder = trained(parse(more))
    trained(parse([*more, "--train.steps", "4", "--resume", "auto"]))  # the one before is not given again
    got: dict[str, list] = {}
    for step, metrics in run.logged:
        for key, value in metrics.items():
            got.setdefault(key, []).append((step, value))
    assert [step for step, _ in got["eval/greedy"]] == [0, 3, 4]
    after = json.loads((folder / "eval" / "after.json").read_text())
    for measure in ("greedy", "avg@2", "pass@2"):
        for ending, end in (("", "mean"), ("_low", "low"), ("_high", "high")):
            assert got[f"eval/{measure}{ending}"][-1] == (4, after[measure][end])
    settings = run.began[0]["config"]
    assert (settings["train.steps"] if name == "tensorboard" else settings["train"]["steps"]) == 3
    assert (settings["algo.name"] if name == "tensorboard" else settings["algo"]["name"]) == "grpo"


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tracker, tiny, tmp_path, capsys):
    name, run = tracker
    run.fails_at = 2
    folder = trained(parse(arguments(tiny, tmp_path / "run", "--log.to", name)))
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3]
    assert {step for step, _ in run.logged} == {1}
    said = " ".join(capsys.readouterr().out.split())
    assert f"{name} failed (ConnectionError: the network is down) and is left out from now on" in said


def test_a_tracker_that_cannot_begin_stops_the_run_before_it_starts(tracker, tiny, tmp_path):
    name, _ = tracker

    def refuse(**told):
        raise PermissionError("not logged in")

    module = sys.modules["torch.utils.tensorboard" if name == "tensorboard" else name]
    module.init = module.SummaryWriter = lambda *args, **told: refuse()
    with pytest.raises(ConfigError, match=rf"--log.to {name}: it could not start .*not logged in"):
        trained(parse(arguments(tiny, tmp_path / "run", "--log.to", name)))
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_names_its_extra(name, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *args: None)
    with pytest.raises(ConfigError) as caught:
        trained(parse(arguments(tiny, tmp_path / "run", "--log.to", name)))
    assert str(caught.value) == (f'--log.to {name}: {name} is not installed. Install it: pip install "llmrl[{name}]"')
    assert not (tmp_path / "run").exists()


def test_every_tracker_has_its_extra_and_its_choice():
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    for name in sinks.TRACKERS:
        assert f"\n{name} = [" in text
        assert parse(["--log.to", name]).log.to == (name,)
    assert parse(["--log.to", *sinks.TRACKERS]).log.to == tuple(sinks.TRACKERS)
    with pytest.raises(SystemExit):
        parse(["--log.to", "mlflow"])


def test_trls_names_are_those_of_the_registry(tracker, tiny, tmp_path):
    name, run = tracker
    trained(parse(arguments(tiny, tmp_path / "run", "--log.to", name, "--log.names", "trl")))
    names = {key for _, metrics in run.logged for key in metrics}
    assert {"reward", "completions/mean_length", "frac_reward_zero_std", "loss", "entropy"} <= names
    assert {"groups/mixed", "time/update"} <= names
    assert not names & {metric.name for metric in METRICS if metric.trl}
    # metrics.jsonl is what a run reads itself.
    assert "reward/mean" in read_metrics(tmp_path / "run" / "metrics.jsonl")[0]


def test_no_two_metrics_have_one_name_in_trl():
    given = [metric.trl for metric in METRICS if metric.trl]
    assert len(given) == len(set(given))
    assert set(renamed({metric.name: 0.0 for metric in METRICS}, "trl")) >= set(given)


def test_tensorboard_reads_back_what_was_written_also_after_a_resume(tiny, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra llmrl[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    more = arguments(tiny, tmp_path / "run", "--log.to", "tensorboard")
    trained(parse(more))
    going_back = str(tmp_path / "run" / "checkpoint-000002")
    folder = trained(parse([*more, "--train.steps", "5", "--resume", going_back]))
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    rows = read_metrics(folder / "metrics.jsonl")
    (told,) = events.PluginTagToContent("hparams").keys() & {"_hparams_/session_start_info"}
    assert b"grpo" in events.PluginTagToContent("hparams")[told]
    for name in ("reward/mean", "actor/grad_norm", "time/step"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2, 3, 4, 5]
        assert [scalar.value for scalar in scalars] == pytest.approx([row[name] for row in rows])
