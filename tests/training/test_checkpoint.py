"""A checkpoint is complete or absent, and a failure leaves the earlier ones alone."""

import errno
import os
import pickle
import resource
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import torch
from tiny import tiny_policy

from llmrl import text
from llmrl.errors import ConfigError
from llmrl.training import checkpoint
from llmrl.training.folder import named, newest


def save(folder: Path, step: int, keep: int = 2, score: float | None = None) -> Path:
    return checkpoint.save(
        folder,
        step,
        lambda path: (path / "model.txt").write_text(str(step)) and None,
        {"step": step},
        keep,
        None if score is None else checkpoint.Score("eval/greedy", score),
    )


def test_a_checkpoint_can_be_read_back_and_latest_points_at_it(tmp_path):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    assert checkpoint.load_state(path) == {"step": 2}
    assert (tmp_path / "latest").resolve() == path.resolve()
    assert (tmp_path / "latest" / "model.txt").read_text() == "2"


def test_only_the_last_ones_are_kept_in_the_order_of_their_steps(tmp_path):
    for step in (9, 10, 11):
        save(tmp_path, step)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "checkpoint-000010",
        "checkpoint-000011",
    ]


def test_a_failed_write_leaves_the_last_checkpoint_and_latest_alone(tmp_path):
    good = save(tmp_path, 1)

    def full_disk(path: Path) -> None:
        (path / "half.bin").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"could not be written.*No space left.*intact"):
        checkpoint.save(tmp_path, 2, full_disk, {}, keep=1)
    assert checkpoint.list_checkpoints(tmp_path) == [good]
    assert (tmp_path / "latest").resolve() == good.resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000001", "latest"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_of_the_disk_for_the_tokenizer_too(tmp_path):
    def on_a_full_disk(path: Path) -> None:
        (path / "tokenizer.json").symlink_to("/dev/full")
        tiny_policy().save(path)

    with pytest.raises(OSError, match=r"could not be written.*No space left.*intact"):
        checkpoint.save(tmp_path, 1, on_a_full_disk, {}, keep=1)
    assert not list(tmp_path.iterdir())


def test_a_half_written_folder_of_a_killed_run_is_no_checkpoint(tmp_path):
    (tmp_path / ".writing-checkpoint-000005").mkdir()
    assert checkpoint.list_checkpoints(tmp_path) == []
    save(tmp_path, 5)
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path)] == ["checkpoint-000005"]


def test_resume_auto_finds_the_newest_and_a_path_is_taken_as_it_is(tmp_path):
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    assert newest(tmp_path, "auto", print) == second
    assert named(str(first)) == first.resolve()


def test_a_path_is_followed_to_the_name_of_a_checkpoint_and_no_further(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    moved = run / "checkpoint-000001"
    save(run, 1)
    elsewhere.mkdir()
    moved.rename(elsewhere / moved.name)
    moved.symlink_to(elsewhere / moved.name)
    (tmp_path / "mine").symlink_to("run/latest")
    for name in ("run/checkpoint-000001", "run/latest", "mine", "run/latest/state/.."):
        expected = elsewhere if name.endswith("..") else run
        assert named(str(tmp_path / name)) == expected / moved.name


def test_resuming_from_nothing_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"no checkpoint in .* Leave out --resume"):
        newest(tmp_path, "auto", print)
    with pytest.raises(ConfigError, match=r"--resume runs/a: there is no checkpoint in"):
        newest(tmp_path, "runs/a", print)
    with pytest.raises(ConfigError, match=r"not a checkpoint .*trainer\.pt"):
        named(str(tmp_path))


def test_random_states_survive(tmp_path):
    generator = torch.Generator().manual_seed(5)
    path = checkpoint.save(tmp_path, 1, lambda _: None, {"state": generator.get_state()}, keep=1)
    expected = torch.rand(3, generator=generator)
    other = torch.Generator()
    other.set_state(checkpoint.load_state(path)["state"])
    assert torch.equal(torch.rand(3, generator=other), expected)


@pytest.mark.parametrize("call", ["os.fsync", "torch.save", "pathlib.Path.mkdir", "pathlib.Path.rename", "os.replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_whatever_the_disk_refuses_the_last_checkpoint_stands(call, code, tmp_path, monkeypatch):
    good = save(tmp_path, 1, keep=1)

    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(call, refuse)
        with pytest.raises(OSError, match=rf"000002 could not be written .*{os.strerror(code)}"):
            save(tmp_path, 2, keep=1)
    assert checkpoint.damages(good) == []
    assert (tmp_path / "latest").resolve() == good.resolve()
    # With os.replace the second one is complete, and only the link to it is missing.
    assert checkpoint.damages(newest(tmp_path, "auto", print)) == []
    third = save(tmp_path, 3, keep=1)
    assert (checkpoint.list_checkpoints(tmp_path), checkpoint.damages(third)) == ([third], [])


@pytest.mark.parametrize("of", ["state", "model"])
def test_a_file_that_may_not_grow_is_reported_with_the_systems_reason(of, tmp_path):
    good = save(tmp_path, 1)
    big = {"x": torch.zeros(100_000)}

    def save_model(path: Path) -> None:
        if of == "model":
            from safetensors.torch import save_file

            save_file(big, path / "model.safetensors")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"could not be written .*File too large.*intact"):
            checkpoint.save(tmp_path, 2, save_model, big if of == "state" else {}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.list_checkpoints(tmp_path) == [good]


def test_a_folder_that_is_none_is_reported(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"could not be written .*Not a directory"):
        save(tmp_path / "file", 1)


def test_the_sums_are_those_of_sha256sum(tmp_path):
    path = save(tmp_path, 1)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", checkpoint.SUMS],
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["model.txt: OK", "state/trainer.pt: OK"]


def damage_nothing(path: Path) -> None:
    pass


def flip_a_bit(path: Path) -> None:
    file = path / "state" / "trainer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off_the_sums(path: Path) -> None:
    sums = path / checkpoint.SUMS
    sums.write_text(sums.read_text().splitlines()[0] + "\n")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_nothing, []),
        (flip_a_bit, ["state/trainer.pt differs from what was written"]),
        (lambda path: (path / "model.txt").unlink(), ["model.txt is missing"]),
        (lambda path: (path / "model.txt").write_text(""), ["model.txt differs from what was written"]),
        (lambda path: (path / checkpoint.SUMS).unlink(), ["no SHA256SUMS in it"]),
        (lambda path: (path / checkpoint.SUMS).write_text(""), ["SHA256SUMS is cut off"]),
        (cut_off_the_sums, ["SHA256SUMS is cut off"]),
        (lambda path: (path / "notes.txt").write_text("a person's own"), []),
    ],
)
def test_damage_is_named(damage, words, tmp_path):
    path = save(tmp_path, 1)
    damage(path)
    assert checkpoint.damages(path) == words


def test_the_state_lies_apart_from_the_model_and_an_earlier_layout_is_named(tmp_path):
    path = save(tmp_path, 1)
    assert sorted(file.name for file in path.iterdir()) == ["SHA256SUMS", "model.txt", "state"]
    (path / "state" / "trainer.pt").rename(path / "trainer.pt")
    with pytest.raises(
        checkpoint.DamagedCheckpoint, match=r"it is of an earlier llmrl, which kept trainer\.pt next to"
    ):
        named(str(path))


def test_auto_takes_the_newest_good_one_and_a_named_one_must_be_good(tmp_path):
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    flip_a_bit(second)
    notes: list[str] = []
    assert newest(tmp_path, "auto", notes.append) == first
    assert notes == [
        f"{second} is damaged (state/trainer.pt differs from what was written): resuming from the one before it."
    ]
    with pytest.raises(
        checkpoint.DamagedCheckpoint,
        match=r"is damaged \(state/trainer.pt differs.*Others in the same folder: checkpoint-000001",
    ):
        named(str(second))
    flip_a_bit(first)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"every checkpoint in .* is damaged"):
        newest(tmp_path, "auto", print)


def test_the_best_one_stays_and_the_later_of_two_equals_is_the_best(tmp_path):
    def best() -> str:
        return (tmp_path / "best").resolve().name

    save(tmp_path, 1, keep=1, score=0.5)
    save(tmp_path, 2, keep=1, score=0.7)
    save(tmp_path, 3, keep=1, score=0.6)
    save(tmp_path, 4, keep=1)
    assert best() == "checkpoint-000002"
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path)]
    assert names == ["checkpoint-000002", "checkpoint-000004"]
    save(tmp_path, 5, keep=1, score=float("nan"))
    assert best() == "checkpoint-000002"
    save(tmp_path, 6, keep=1, score=0.7)
    assert best() == "checkpoint-000006"
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["checkpoint-000006"]
    # A value of another metric is no rival.
    checkpoint.note_score(save(tmp_path, 7), checkpoint.Score("reward/accuracy", 0.1))
    assert best() == "checkpoint-000007"


@pytest.mark.parametrize("record", ["{", "[]", "{}", '{"checkpoint": [], "metric": 1, "value": "x"}', "[" * 10_000])
def test_a_record_of_the_best_one_that_is_damaged_is_written_again(record, tmp_path):
    save(tmp_path, 1, score=0.5)
    (tmp_path / "best.json").write_text(record)
    save(tmp_path, 2, score=0.1)
    save(tmp_path, 3, score=0.05)
    assert (tmp_path / "best").resolve().name == "checkpoint-000002"


def test_of_a_checkpoint_that_was_moved_elsewhere_only_the_link_is_removed(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    moved = save(run, 1).rename(elsewhere)
    for name in ("checkpoint-000001", "aside-checkpoint-000004", ".writing-checkpoint-000009"):
        (run / name).symlink_to(moved)
    save(run, 3)
    save(run, 4, keep=2)
    checkpoint.set_aside_later(checkpoint.path_of(run, 3))
    assert sorted(path.name for path in run.iterdir()) == ["aside-checkpoint-000004", "checkpoint-000003", "latest"]
    assert checkpoint.damages(moved) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", pickle.dumps(os.getcwd, 2), pickle.dumps([1], 2)])
def test_a_state_that_is_none_is_named(content, tmp_path):
    path = save(tmp_path, 1)
    (path / checkpoint.STATE).write_bytes(content)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"trainer\.pt (cannot be read|is no state)"):
        checkpoint.load_state(path)


def test_a_checkpoint_written_again_takes_the_place_of_the_first(tmp_path):
    first = save(tmp_path, 1)
    flip_a_bit(first)
    save(tmp_path, 1)
    assert checkpoint.damages(first) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-000001", "latest"]


def test_latest_leads_to_the_checkpoint_that_is_gone_on_with(tmp_path):
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    checkpoint.link(tmp_path, "latest", first)  # the disk was full when the link to the second was due
    assert checkpoint.set_aside_later(second) == []
    assert (tmp_path / "latest").resolve() == second.resolve()


def test_later_ones_are_set_aside_and_latest_goes_back(tmp_path):
    first, second = save(tmp_path, 1), save(tmp_path, 2, score=0.5)
    assert checkpoint.set_aside_later(first) == [tmp_path / "aside-checkpoint-000002"]
    assert not second.exists()
    assert (tmp_path / "latest").resolve() == first.resolve()
    assert not (tmp_path / "best").is_symlink()
    assert checkpoint.set_aside_later(first) == []
    shutil.rmtree(tmp_path / "aside-checkpoint-000002")


@pytest.mark.parametrize("call", ["os.rmdir", "pathlib.Path.rename"])
def test_an_old_checkpoint_that_cannot_be_removed_ends_nothing_and_goes_later(call, tmp_path, monkeypatch):
    save(tmp_path, 1, keep=1)
    with monkeypatch.context() as patch:
        function = Path.rename

        def refuse(path, *args, **kwargs):
            if call == "os.rmdir" or path.name == "checkpoint-000001":
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))  # as NFS, where a file in it is open
            return function(path, *args, **kwargs)

        patch.setattr(call, refuse)
        second = save(tmp_path, 2, keep=1)
    assert (tmp_path / "latest").resolve() == second.resolve()
    assert all(checkpoint.damages(path) == [] for path in checkpoint.list_checkpoints(tmp_path))
    third = save(tmp_path, 3, keep=1)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()] == [third.name]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_flush_folders_is_a_fine_one(code, tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    assert checkpoint.damages(save(tmp_path, 1)) == []


def test_sums_that_are_no_file_or_too_large_are_damages(tmp_path, monkeypatch):
    path = save(tmp_path, 1)
    monkeypatch.setattr(text, "LARGEST", 10)
    assert "is larger than" in checkpoint.damages(path)[0]
