"""The folder of a run: one process at a time, nothing lost, and a record of what was done."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from command import train, trained
from trivial import SAY_A, SMALL

from llmrl.errors import ConfigError
from llmrl.training import folder as module
from llmrl.training.command_line import parse
from llmrl.training.trainer import Trainer


def settings(tiny, output, *more, steps=1):
    """A run of a tiny model."""
    where = () if output is None else ("--output", str(output))
    return parse(["--policy", str(tiny), *SAY_A, *SMALL, "--train.steps", str(steps), *where, *more])


def claim(config, start=None):
    return module.claimed(config, start, lambda text: None)


def files(folder):
    """Names and contents, but for the lock."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != module.LOCK}


def test_a_folder_in_use_is_refused_and_its_user_named(tiny, tmp_path):
    config = settings(tiny, tmp_path / "run")
    refused = pytest.raises(ConfigError, match=r"run is in use by process \d+ on .* since \d{4}-")
    with claim(config), refused, claim(config):
        pass
    with claim(config):  # free again
        pass


def test_another_process_is_refused_too(tiny, tmp_path):
    code = (
        "import sys, trivial; from llmrl.training import folder; from llmrl.training.command_line import parse; "
        "config = parse(sys.argv[1:])\n"
        "with folder.claimed(config, None, print): pass"
    )
    config = settings(tiny, tmp_path / "run")
    arguments = ["--policy", str(tiny), *SAY_A, *SMALL, "--output", str(tmp_path / "run")]
    helpers = str(Path(__file__).parents[1] / "helpers")
    with claim(config):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {helpers!r}); {code}", *arguments],
            capture_output=True,
            text=True,
        )
    assert done.returncode != 0
    assert "is in use by process" in done.stderr


def test_two_runs_without_an_output_get_a_folder_each(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, chosen, meet = settings(tiny, None), [], threading.Barrier(8)

    def run():
        meet.wait()
        with claim(config) as folder:
            chosen.append(folder)
            meet.wait()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(chosen)) == 8


def test_force_sets_a_run_aside_and_touches_nothing_else(tiny, tmp_path):
    first = trained(settings(tiny, tmp_path / "run"))
    before = files(first)
    with pytest.raises(ConfigError, match=r"holds a run.*--resume auto.*--force"):
        trained(settings(tiny, first))
    assert files(first) == before
    trained(settings(tiny, first, "--force"))
    aside = first / "replaced-1"
    assert files(aside) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="is no run of llmrl"):
        trained(settings(tiny, other, "--force"))
    assert (other / "thesis.tex").read_text() == "mine"


def test_an_empty_folder_or_a_link_to_one_is_a_fine_output(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert (trained(settings(tiny, tmp_path / "link")) / "latest").exists()


def test_a_run_that_never_began_leaves_no_folder(tiny, tmp_path):
    with pytest.raises(ConfigError, match="at least 2"):
        trained(settings(tiny, tmp_path / "run", "--train.group-size", "1"))
    assert not (tmp_path / "run").exists()


def test_going_on_in_another_folder_leaves_the_old_run_alone(tiny, tmp_path):
    old = trained(settings(tiny, tmp_path / "old", "--checkpoint.every", "1", "--checkpoint.keep", "9", steps=2))
    before = files(old)
    config = settings(tiny, tmp_path / "new", "--resume", str(old / "checkpoint-000001"), steps=3)
    new = trained(config)
    assert new == tmp_path / "new"
    assert files(old) == before
    assert [json.loads(line)["step"] for line in (new / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_a_run_is_named_by_its_folder_when_it_goes_on(tiny, tmp_path):
    run = trained(settings(tiny, tmp_path / "run"))
    again = trained(settings(tiny, None, "--resume", str(run), steps=2))
    assert again == run
    assert (run / "latest").resolve().name == "checkpoint-000002"


def test_resume_auto_starts_where_there_is_nothing(tiny, tmp_path, monkeypatch):
    run = trained(settings(tiny, tmp_path / "run", "--resume", "auto"))
    assert (run / "latest").exists()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is no checkpoint in runs"):
        trained(settings(tiny, None, "--resume", "auto"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert (trained(settings(tiny, None, "--resume", "auto")) / "latest").exists()


def test_a_run_that_broke_off_before_its_first_checkpoint_starts_at_the_beginning(tiny, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / module.MARKER).write_text("{}")
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    trained(settings(tiny, run, "--resume", "auto"))
    assert (run / "replaced-1" / "metrics.jsonl").read_text() == '{"step": 1}\n'
    assert (run / "latest").exists()


def test_a_checkpoint_that_another_process_has_passed_is_not_gone_on_from(tiny, tmp_path):
    run = trained(settings(tiny, tmp_path / "run", "--checkpoint.every", "1", steps=2))
    before = files(run)
    config = settings(tiny, run, "--resume", "auto", steps=3)
    stale = run / "checkpoint-000001"
    with pytest.raises(ConfigError, match="Another process has continued"), claim(config, stale):
        pass
    with claim(settings(tiny, run, "--resume", str(stale), steps=3), stale):  # it was named
        pass
    assert files(run) == before


def test_steps_are_compared_as_numbers(tiny, tmp_path):
    run = trained(settings(tiny, tmp_path / "run", "--checkpoint.every", "1", steps=2))
    for step, name in ((1, "999999"), (2, "1000000")):
        (run / f"checkpoint-{step:06d}").rename(run / f"checkpoint-{name}")
    config = settings(tiny, run, "--resume", "auto")
    start = module.start_of(config, print)
    assert start == run / "checkpoint-1000000"
    with claim(config, start):
        pass
    with pytest.raises(ConfigError, match="Another process has continued"), claim(config, run / "checkpoint-999999"):
        pass


def test_a_named_run_without_a_checkpoint_is_named(tiny, tmp_path):
    (tmp_path / module.MARKER).write_text("{}")
    with pytest.raises(ConfigError, match=rf"--resume {tmp_path}: there is no checkpoint in"):
        module.start_of(settings(tiny, None, "--resume", str(tmp_path)), print)


@pytest.mark.parametrize("output", ["none", "the same"])
def test_a_folder_of_kept_checkpoints_is_not_taken_for_a_run(output, tiny, tmp_path):
    run = trained(settings(tiny, tmp_path / "run"))
    archive = tmp_path / "archive"
    for step in (1, 2, 7):
        shutil.copytree(run / "checkpoint-000001", archive / f"checkpoint-{step:06d}")
    (archive / "config.yaml").write_text("mine")
    before = files(archive)
    start = archive / "checkpoint-000002"
    given = archive if output == "the same" else None
    with pytest.raises(
        ConfigError, match=r"archive holds checkpoint-000002, but no run \(no run.json.*another --output"
    ):
        trained(settings(tiny, given, "--resume", str(start), steps=4))
    assert files(archive) == before


def test_a_run_whose_folder_is_removed_ends_with_an_error(tiny, tmp_path, monkeypatch, capsys):
    step = Trainer.step

    def removing(self):
        result = step(self)
        if self.counters.step == 2:
            shutil.rmtree(tmp_path / "run")
        return result

    monkeypatch.setattr(Trainer, "step", removing)
    arguments = ["--policy", str(tiny), *SAY_A, *SMALL, "--output", str(tmp_path / "run"), "--train.steps", "4"]
    assert train(arguments) == 1
    assert "the folder of the run was removed or moved" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["config.yaml", ".lock", "plots/learning.png", "eval"])
def test_a_folder_with_a_link_that_leads_out_is_not_written_to(name, tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine"
    mine.write_text("mine")
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).symlink_to(mine)
    with pytest.raises(ConfigError, match="is a link that leads out"), module.held(run):
        pass
    assert mine.read_text() == "mine"


def test_links_within_a_folder_and_checkpoints_that_were_moved_are_taken(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run.mkdir()
    (run / "checkpoint-000002").symlink_to(elsewhere)
    (run / "latest").symlink_to("checkpoint-000002")
    (run / "notes").symlink_to("config.yaml")
    with module.held(run):
        assert (run / module.LOCK).exists()


def test_a_file_system_without_links_is_refused_before_training(tiny, tmp_path, monkeypatch):
    def refuse(link, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(ConfigError, match=r"No link can be made in .*run \(Operation not permitted\)"):
        trained(settings(tiny, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_holder_that_cannot_be_removed_ends_nothing(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with module.held(tmp_path):
        monkeypatch.setattr(Path, "unlink", refuse)
