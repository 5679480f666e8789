"""``metrics.jsonl``: no line is lost or counted twice, and a write that fails ends the run clearly."""

import contextlib
import os

import pytest
from command import trained
from small_run import small_run

from llmrl.training.command_line import parse
from llmrl.training.metrics_file import MetricsFile, read_metrics, writing


def test_metrics_that_cannot_be_written_end_the_run_clearly(tiny, tmp_path, monkeypatch):
    config = parse(small_run(tiny, "--algo", "grpo", "--output", str(tmp_path / "run")))

    def full(self, step, metrics):
        with writing(self.path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(MetricsFile, "write", full)
    with pytest.raises(OSError, match=r"metrics.jsonl could not be written .*No space left.*--resume auto"):
        trained(config)


def test_a_line_of_metrics_that_was_cut_takes_no_other_with_it(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    file.write(1, {"reward/mean": 0.5})
    file.write(2, {"reward/mean": 0.5})
    os.truncate(path, path.stat().st_size - 5)
    file.write(3, {"reward/mean": 0.5})
    position = file.position
    file.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 3]
    assert "damaged lines are left out" in caplog.text
    again = MetricsFile(path, position)
    again.write(4, {"reward/mean": 0.5})
    again.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 3, 4]


def test_a_metric_of_a_callback_or_a_term_is_written(tmp_path):
    with contextlib.closing(MetricsFile(tmp_path / "metrics.jsonl")) as file:
        file.write(1, {"reward/mean": 0.5, "mine/number": 2.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "reward/mean": 0.5, "mine/number": 2.0}]
