"""A checkpoint is complete or absent, and a failure leaves the earlier ones alone."""

from pathlib import Path

import pytest
import torch

from llmrl.training import checkpoint


def save(folder: Path, step: int, keep: int = 2) -> Path:
    return checkpoint.save(
        folder,
        step,
        lambda path: (path / "model.txt").write_text(str(step)) and None,
        {"step": step},
        keep,
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


def test_a_half_written_folder_of_a_killed_run_is_no_checkpoint(tmp_path):
    (tmp_path / ".writing-checkpoint-000005").mkdir()
    assert checkpoint.list_checkpoints(tmp_path) == []
    save(tmp_path, 5)
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path)] == ["checkpoint-000005"]


def test_resume_auto_finds_the_newest_and_a_path_is_taken_as_it_is(tmp_path):
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    assert checkpoint.find(tmp_path, "auto") == second
    assert checkpoint.find(tmp_path, str(first)) == first.resolve()


def test_resuming_from_nothing_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .* Leave --resume out"):
        checkpoint.find(tmp_path, "auto")
    with pytest.raises(FileNotFoundError, match=r"not a checkpoint .*trainer\.pt"):
        checkpoint.find(tmp_path, str(tmp_path))


def test_random_states_survive(tmp_path):
    generator = torch.Generator().manual_seed(5)
    path = checkpoint.save(tmp_path, 1, lambda _: None, {"state": generator.get_state()}, keep=1)
    expected = torch.rand(3, generator=generator)
    other = torch.Generator()
    other.set_state(checkpoint.load_state(path)["state"])
    assert torch.equal(torch.rand(3, generator=other), expected)
