"""Rollouts on disk: what comes back is what was trained on, and files that do not fit are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from safetensors.torch import load_file, save_file
from tensordict import TensorDict
from tiny import tiny_folder

from llmrl import keys
from llmrl.rollouts.batch import Batch
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.files import (
    RolloutsError,
    find_rollouts,
    read_rollouts,
    write_rollouts,
)
from llmrl.training.build import build
from llmrl.training.command_line import parse

EASY = "".join(map(chr, range(ord("0"), ord("z"))))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0)


def trainer_of(tiny: Path, algo: str, *more: str):
    arguments = [
        "--algo",
        algo,
        "--policy",
        str(tiny),
        "--env",
        "tests/SayA-v0",
        "--env.goal",
        EASY,
        "--policy.max-response-length",
        "5",
        "--train.prompts-per-step",
        "3",
        "--train.group-size",
        "4",
        "--train.updates-per-step",
        "3",
        "--train.learning-rate",
        "1e-3",
        "--train.warmup-steps",
        "0",
        "--train.micro-batch-tokens",
        "40",
        *more,
    ]
    return build(parse(arguments))[0]


def small() -> Rollouts:
    """Two rows of one group, one of another."""
    data = TensorDict({}, batch_size=[3])
    data[keys.TOKENS] = torch.arange(12).reshape(3, 4)
    data[keys.ATTENTION] = torch.ones(3, 4, dtype=torch.bool)
    data[keys.MASK] = torch.tensor([[False, True, True, True]] * 3)
    data[keys.GROUP] = torch.tensor([5, 5, 9])
    data[keys.VALUE] = torch.randn(3, 4)
    data[keys.OLD_VALUE] = data[keys.VALUE]  # one tensor under two names
    records = [{"group": g, "problem": "2 × 3", "response": "6"} for g in (5, 5, 9)]
    return Rollouts(data, records, dropped_prompts=2)


@pytest.mark.parametrize("algo", ["ppo", "grpo", "erc"])
def test_what_is_read_is_what_the_step_returned(tiny, tmp_path, algo):
    trainer = trainer_of(tiny, algo)
    _, rollouts = trainer.step()
    path = write_rollouts(tmp_path, 12, rollouts)
    assert path.name == "step_000012.jsonl"
    again = read_rollouts(path)
    assert again.records == [{"step": 12, **record} for record in rollouts.records]
    names = set(rollouts.data.keys(True, True))
    assert set(again.data.keys(True, True)) == names
    for name in names:
        assert again.data[name].dtype == rollouts.data[name].dtype
        assert torch.equal(again.data[name], rollouts.data[name].detach())
    always = {
        keys.TOKENS,
        keys.ATTENTION,
        keys.MASK,
        keys.SAMPLER_LOG_PROB,
        keys.OLD_LOG_PROB,
        keys.OLD_ENTROPY,
        keys.MAX_ENTROPY,
        keys.ADVANTAGE,
        keys.GROUP,
        keys.REWARD,
        keys.SHAPED_REWARD,
        keys.TERMINATED,
        keys.TRUNCATED,
        keys.VALID,
        keys.LOG_PROB,
        keys.ENTROPY,
    }
    beside = {
        "ppo": {keys.VALUE, keys.OLD_VALUE, keys.VALUE_TARGET},
        "grpo": {keys.REF_LOG_PROB},
        "erc": set(),
    }
    assert names == always | beside[algo]


@pytest.mark.parametrize("epochs", ["1", "2"])
def test_the_saved_scores_are_those_that_the_loss_saw_last(tiny, tmp_path, epochs):
    trainer = trainer_of(tiny, "erc", "--train.epochs", epochs)
    loss, seen = trainer.learner.loss, {}

    def spy(part):
        for row in part:
            live = row[keys.MASK]
            # Ids and sampled log-probabilities together name a row.
            name = tuple(row[keys.SAMPLER_LOG_PROB][live].tolist())
            old, new = row[keys.OLD_LOG_PROB][live], row[keys.LOG_PROB][live].detach()
            seen[name] = ((new - old).tolist(), row[keys.ENTROPY][live].detach().tolist())
        return loss(part)

    trainer.learner.loss = spy
    _, rollouts = trainer.step()
    data = read_rollouts(write_rollouts(tmp_path, 1, rollouts)).data
    moved = 0
    for row in data:
        live = row[keys.MASK]
        name = tuple(row[keys.SAMPLER_LOG_PROB][live].tolist())
        log_ratio = row[keys.LOG_PROB][live] - row[keys.OLD_LOG_PROB][live]
        assert (log_ratio.tolist(), row[keys.ENTROPY][live].tolist()) == seen[name]
        moved += int((log_ratio.abs() > 1e-5).any())
        for key in (keys.LOG_PROB, keys.ENTROPY):
            assert not row[key][~live].any()
    assert len(seen) == len(data)
    assert moved >= len(data) // 2  # the later minibatches, of a policy that has moved


def test_entropies_are_noted_where_rollouts_are_kept_and_change_nothing(tiny):
    kept = trainer_of(tiny, "dapo", "--checkpoint.rollouts-every", "2", "--train.updates-per-step", "1")
    left = trainer_of(tiny, "dapo", "--checkpoint.rollouts-every", "0", "--train.updates-per-step", "1")
    for step in (1, 2, 3):
        data, other = kept.step()[1].data, left.step()[1].data
        assert (keys.ENTROPY in data.keys()) is (step != 3)  # noqa: SIM118
        assert keys.ENTROPY not in other.keys()  # noqa: SIM118
        if step != 3:  # one update: it scores the very weights that the step began with
            torch.testing.assert_close(data[keys.ENTROPY], data[keys.OLD_ENTROPY])
    assert all(map(torch.equal, kept.learner.parameters, left.learner.parameters))


def test_scores_of_trimmed_rows_go_back_to_their_tokens():
    data = TensorDict({keys.MASK: torch.zeros(3, 6, dtype=torch.bool)}, [3])
    data[keys.ATTENTION] = torch.zeros(3, 6, dtype=torch.bool)
    data[keys.TOKENS] = torch.ones(3, 6, dtype=torch.long)
    data[keys.ATTENTION][0] = True
    data[keys.ATTENTION][1, 1:4] = data[keys.MASK][1, 2:4] = True
    data[keys.ATTENTION][2, 2:5] = data[keys.MASK][2, 3:5] = True
    data[keys.LOG_PROB] = torch.full((3, 6), 7.0)
    part = Batch.of(data).take(torch.tensor([2, 1]))
    values = torch.arange(8.0, requires_grad=True).reshape(2, 4)
    part.put_back({"new": values}, {"new": keys.LOG_PROB})
    expected = torch.full((3, 6), 7.0)
    expected[2, 3:5], expected[1, 2:4] = torch.tensor([2.0, 3.0]), torch.tensor([5.0, 6.0])
    assert torch.equal(part.whole[keys.LOG_PROB], expected)
    assert not part.whole[keys.LOG_PROB].requires_grad


def test_a_step_is_found_by_either_file_its_folder_and_its_run(tmp_path):
    folder = tmp_path / "run" / "rollouts"
    for step in (2, 10):
        write_rollouts(folder, step, small())
    newest = folder / "step_000010.jsonl"
    for path in (newest, newest.with_suffix(".safetensors"), folder, str(folder.parent)):
        assert find_rollouts(path) == newest
        rollouts = read_rollouts(path)
        assert rollouts.records[0] == {"step": 10, **small().records[0]}
        assert rollouts.dropped_prompts == 2
    assert read_rollouts(folder / "step_000002.jsonl").records[0]["step"] == 2


def test_a_step_without_rows_is_kept(tmp_path):
    empty = small().select(torch.zeros(3, dtype=torch.bool))
    assert len(read_rollouts(write_rollouts(tmp_path, 1, empty))) == 0


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(RolloutsError, match=r"holds no rollouts .*Give the folder of a run"):
        read_rollouts(tmp_path)
    with pytest.raises(RolloutsError, match=r"runs.espo does not exist. Give a run"):
        read_rollouts("runs/espo")
    path = write_rollouts(tmp_path, 3, small())
    with pytest.raises(RolloutsError, match=r"no file .*step_000004.jsonl. In .*: step_000003.jsonl"):
        read_rollouts(tmp_path / "step_000004.jsonl")
    tensors = path.with_suffix(".safetensors")
    tensors.rename(tmp_path / "aside")
    with pytest.raises(RolloutsError, match=r"step_000003.safetensors, which holds the tensors of"):
        read_rollouts(path)
    (tmp_path / "aside").rename(tensors)
    path.unlink()
    with pytest.raises(RolloutsError, match=r"step_000003.jsonl, which holds the texts of"):
        read_rollouts(tensors)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    path = write_rollouts(tmp_path, 3, small())
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:2]))
    with pytest.raises(RolloutsError, match=r"has 2 lines and step_000003.safetensors 3 rows"):
        read_rollouts(path)
    other = json.dumps({**json.loads(lines[2]), "group": 8})
    path.write_text("\n".join([*lines[:2], other]))
    with pytest.raises(RolloutsError, match=r"line 3 is of step 3 and group 8, .* group 9"):
        read_rollouts(path)
    path.write_text("\n".join([*lines[:2], "{"]))
    with pytest.raises(RolloutsError, match=r"step_000003.jsonl, line 3 cannot be read as JSON"):
        read_rollouts(path)
    write_rollouts(tmp_path, 4, small())
    shutil.copy(tmp_path / "step_000004.jsonl", path)
    with pytest.raises(RolloutsError, match=r"line 1 is of step 4 .* of step 3 "):
        read_rollouts(path)


def test_damaged_tensors_are_refused(tmp_path):
    path = write_rollouts(tmp_path, 3, small())
    tensors = path.with_suffix(".safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(RolloutsError, match=r"step_000003.safetensors cannot be read .*damaged"):
        read_rollouts(path)
    bare = small()
    bare.data = bare.data.exclude(keys.MASK)
    write_rollouts(tmp_path, 3, bare)
    with pytest.raises(RolloutsError, match=r"no entry 'masks.all_assistant_mask'.* It has: group, "):
        read_rollouts(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens.full": lambda x: x[:, :1].contiguous()}, "expected"),
        ({"tokens.full": lambda x: x * 0 - 7}, "ids below 0"),
        ({"masks.all_assistant_mask": lambda x: x.float()}, "all_assistant_mask' is .* float"),
        ({"group": lambda x: x.float()}, "'group' is .* float"),
        ({"group": lambda x: x[0]}, "'group' is"),
        ({"next.reward": lambda x: x[:1]}, "next.reward' is"),
        ({"mine": lambda x: x[:1]}, "expected a row for each response"),
        ({"tokens": lambda x: x}, "Give another step"),
    ],
)
def test_tensors_of_another_shape_or_kind_are_refused(change, words, tmp_path):
    path = write_rollouts(tmp_path, 3, small())
    tensors = path.with_suffix(".safetensors")
    flat = load_file(tensors)
    for name, altered in change.items():
        flat[name] = altered(flat.get(name, flat["group"])).clone()
    save_file(flat, tensors, metadata={"rollouts": "{}"})
    with pytest.raises(RolloutsError, match=words):
        read_rollouts(path)


@pytest.mark.parametrize("about", ["{", "[1]", "[" * 10_000])
def test_a_step_that_is_not_said_is_refused(about, tmp_path):
    path = write_rollouts(tmp_path, 3, small())
    tensors = path.with_suffix(".safetensors")
    save_file(load_file(tensors), tensors, metadata={"rollouts": about})
    with pytest.raises(RolloutsError, match="does not say of which step"):
        read_rollouts(path)
