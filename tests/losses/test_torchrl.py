"""The losses as TorchRL modules, and what bad input is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from strategies import Batch, f64, make_batch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.objectives.common import LossModule

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.losses import LossComponents, MissingEntry, PolicyLoss, PPOClip, TokenMean

BATCH = make_batch(
    [[0.05, -0.41, 0.33], [0.31, -0.07]],
    [1.0, -0.7],
    old_entropy=[[0.4, 1.7, 0.9], [3.0, 0.2]],
    entropy=[[0.41, 1.72, 0.5], [3.01, 0.3]],
)
NAMES = ("dapo", "gppo", "gspo", "espo", "erc", "cispo", "sapo", "gmpo", "grpo", "ppo", "kl_cov")
every = pytest.mark.parametrize("name", NAMES)


def weighed(name: str = "dapo", batch: Batch = BATCH, **options) -> tuple[PolicyLoss, TensorDict]:
    recipe = algorithm(name, **options)
    return recipe.loss(), recipe.weigh(batch.td())


@every
def test_it_is_a_loss_module_that_names_what_it_reads_and_writes(name: str) -> None:
    loss, td = weighed(name)
    assert isinstance(loss, LossModule)
    read = td.select(*loss.in_keys)  # raises where an entry is not among them
    out = loss(read)
    assert set(out.keys(True, True)) == set(loss.out_keys)
    assert out["loss_objective"].shape == ()
    assert out.batch_size == torch.Size([])


@every
def test_every_entry_it_names_is_needed(name: str) -> None:
    loss, td = weighed(name)
    read = td.select(*loss.in_keys)
    for key in loss.in_keys:
        with pytest.raises(MissingEntry):
            loss(read.exclude(key))


def test_the_input_is_left_alone() -> None:
    loss, td = weighed()
    before = td.clone()
    loss(td)
    assert set(td.keys(True, True)) == set(before.keys(True, True))
    for key in before.keys(True, True):
        assert torch.equal(td[key], before[key])


def test_set_keys_moves_an_entry() -> None:
    loss, td = weighed()
    expected = loss(td)["loss_objective"]
    loss.set_keys(advantage="my_advantage", mask=("my", "mask"))
    assert "my_advantage" in loss.in_keys
    assert keys.ADVANTAGE not in loss.in_keys
    td["my_advantage"], td["my", "mask"] = td[keys.ADVANTAGE], td[keys.MASK]
    td = td.exclude(keys.ADVANTAGE, keys.MASK)
    assert torch.equal(loss(td)["loss_objective"], expected)


def test_set_keys_moves_the_entries_of_parts() -> None:
    loss, td = weighed("erc")
    expected = loss(td)["loss_objective"]
    loss.set_keys(entropy="my_entropy")
    td["my_entropy"] = td[keys.ENTROPY]
    assert torch.equal(loss(td.exclude(keys.ENTROPY))["loss_objective"], expected)


def test_set_keys_moves_the_entries_of_terms() -> None:
    loss, td = weighed("grpo")
    expected = loss(td)["loss_kl"]
    loss.set_keys(ref_log_prob="reference", advantage="a")
    td["reference"], td["a"] = td[keys.REF_LOG_PROB], td[keys.ADVANTAGE]
    out = loss(td.exclude(keys.REF_LOG_PROB, keys.ADVANTAGE))
    assert torch.equal(out["loss_kl"], expected)


def test_tensors_by_keyword_need_no_tensordict() -> None:
    loss, td = weighed()
    names = {
        "masks_all_assistant_mask": keys.MASK,
        "log_prob": keys.LOG_PROB,
        "old_log_prob": keys.OLD_LOG_PROB,
        "advantage": keys.ADVANTAGE,
        "weight": keys.WEIGHT,
    }
    out = loss(**{name: td[key] for name, key in names.items()})
    value = out if isinstance(out, torch.Tensor) else out[0]
    assert torch.equal(value, loss(td)["loss_objective"])


def test_by_hand_in_three_lines() -> None:
    loss = PolicyLoss(LossComponents(clip=PPOClip(low=0.2, high=0.28)))
    td = BATCH.td()
    td[keys.WEIGHT] = TokenMean()(td[keys.MASK])
    recipe_loss, recipe_td = weighed("dapo", clip_high=0.28)
    assert torch.equal(loss(td)["loss_objective"], recipe_loss(recipe_td)["loss_objective"])


class Actor(torch.nn.Module):
    """A table of log-probabilities."""

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(start.clone())

    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        return self.table.expand(mask.shape)


@every
def test_behind_an_actor_in_a_sequential(name: str) -> None:
    loss, td = weighed(name)
    actor = TensorDictModule(Actor(BATCH.log_prob), in_keys=[keys.MASK], out_keys=[keys.LOG_PROB])
    chain = TensorDictSequential(actor, loss)
    out = chain(td.exclude(keys.LOG_PROB))
    out["loss_objective"].backward()
    assert torch.equal(out["loss_objective"].detach(), loss(td)["loss_objective"])
    assert (actor.module.table.grad != 0).any()
    assert keys.LOG_PROB not in chain.in_keys
    assert not list(loss.parameters())


@every
def test_its_numbers_follow_the_state_dict(name: str) -> None:
    loss, td = weighed(name)
    other = algorithm(name).loss()
    state = {k: v + 0.125 if v.isfinite() else v for k, v in loss.state_dict().items()}
    assert state
    other.load_state_dict(state)
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key])
    assert torch.equal(loss(td)["loss_objective"], algorithm(name).loss()(td)["loss_objective"])


def test_a_loaded_number_changes_the_loss() -> None:
    loss, td = weighed("dapo", clip_low=0.2, clip_high=0.28)
    other, _ = weighed("dapo", clip_low=0.1, clip_high=0.1)
    assert loss(td)["loss_objective"] != other(td)["loss_objective"]
    loss.load_state_dict(other.state_dict())
    assert torch.equal(loss(td)["loss_objective"], other(td)["loss_objective"])


def test_casting_the_module_keeps_its_numbers_exact() -> None:
    clipped = make_batch([[0.1, 0.2], [-0.1]], [1.0, -1.0])
    loss, td = weighed("gspo", clipped)
    expected = loss(td)["loss_objective"]
    loss.to(torch.bfloat16)
    assert torch.equal(loss(td)["loss_objective"], expected)
    torch.testing.assert_close(expected, f64(-(1 + 4e-4) / 2 + (1 - 3e-4) / 2))


@every
def test_it_compiles_into_one_graph(name: str) -> None:
    torch.compiler.reset()  # all losses share TorchRL's forward, whose recompilations are counted
    loss, td = weighed(name)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    new = BATCH.log_prob.clone().requires_grad_()
    td[keys.LOG_PROB] = new
    (plain,) = torch.autograd.grad(loss(td)["loss_objective"], new)
    out = compiled(td)["loss_objective"]
    (grad,) = torch.autograd.grad(out, new)
    torch.testing.assert_close(grad, plain)
    torch.testing.assert_close(out, loss(td)["loss_objective"])


# Bad input. Each message names the entry, what was given, what was expected, and who writes it.


def changed(key, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[TensorDict], None]:
    def apply(td: TensorDict) -> None:
        td[key] = change(td[key])

    return apply


def removed(key) -> Callable[[TensorDict], None]:
    def apply(td: TensorDict) -> None:
        del td[key]

    return apply


BAD = {
    "log_prob missing": (
        "dapo",
        removed(keys.LOG_PROB),
        "log_prob",
        ["[N, T]", "Policy.score", "missing"],
    ),
    "old_log_prob missing": (
        "dapo",
        removed(keys.OLD_LOG_PROB),
        "old_log_prob",
        ["[N, T]", "trainer"],
    ),
    "advantage missing": ("dapo", removed(keys.ADVANTAGE), "advantage", ["[N, T]", "credit"]),
    "weight missing": ("dapo", removed(keys.WEIGHT), "weight", ["[N, T]", "Algorithm.weigh"]),
    "mask missing": (
        "dapo",
        removed(keys.MASK),
        "all_assistant_mask",
        ["[N, T]", "rollouts"],
    ),
    "entropy missing": ("erc", removed(keys.ENTROPY), "entropy", ["[N, T]", "Policy.score"]),
    "old entropy missing": ("erc", removed(keys.OLD_ENTROPY), "old_entropy", ["[N, T]", "trainer"]),
    "max entropy missing": (
        "espo",
        removed(keys.MAX_ENTROPY),
        "max_entropy",
        ["[N, 1]", "Policy.score"],
    ),
    "segment missing": (
        "espo",
        removed(keys.SEGMENT),
        "segment",
        ["[N, T]", "Algorithm.weigh"],
    ),
    "float mask": (
        "dapo",
        changed(keys.MASK, lambda x: x.float()),
        "all_assistant_mask",
        ["bool", "torch.float32", "rollouts", ".bool()"],
    ),
    "integer advantage": (
        "dapo",
        changed(keys.ADVANTAGE, lambda x: x.long()),
        "advantage",
        ["floats", "torch.int64", "credit", ".float()"],
    ),
    "log_prob of rank 3": (
        "dapo",
        changed(keys.LOG_PROB, lambda x: x[..., None]),
        "log_prob",
        ["[2, 3, 1]", "[2, 3]", "Policy.score"],
    ),
    "log_prob of rank 1": (
        "dapo",
        changed(keys.LOG_PROB, lambda x: x[:, 0]),
        "log_prob",
        ["[2]", "[2, 3]"],
    ),
    "mask of rank 3": (
        "dapo",
        changed(keys.MASK, lambda x: x[..., None]),
        "all_assistant_mask",
        ["[2, 3, 1]", "[N, T]"],
    ),
    "advantage too short": (
        "dapo",
        changed(keys.ADVANTAGE, lambda x: x[:, :2]),
        "advantage",
        ["[2, 2]", "[2, 3]", "credit"],
    ),
    "weight too long": (
        "dapo",
        changed(keys.WEIGHT, lambda x: x.repeat(1, 2)),
        "weight",
        ["[2, 6]", "[2, 3]"],
    ),
    "max_entropy per token": (
        "espo",
        changed(keys.MAX_ENTROPY, lambda x: x.repeat(1, 3)),
        "max_entropy",
        ["[2, 3]", "[2, 1]", "Policy.score"],
    ),
    "segment of floats": (
        "espo",
        changed(keys.SEGMENT, lambda x: x.float()),
        "segment",
        ["int64", "torch.float32", "Algorithm.weigh"],
    ),
    "segment with a huge id": (
        "espo",
        changed(keys.SEGMENT, lambda x: x + 10_000),
        "segment",
        ["10001", "256"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_what_where_and_who(case: str) -> None:
    name, spoil, entry, words = BAD[case]
    loss, td = weighed(name)
    spoil(td)
    with pytest.raises((KeyError, TypeError, ValueError)) as error:
        loss(td)
    message = str(error.value)
    assert entry in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(("name", "key"), [("espo", keys.OLD_ENTROPY), ("dapo", keys.MASK)])
def test_weighing_without_what_it_reads_is_told_so(name: str, key) -> None:
    td = BATCH.td()
    del td[key]
    with pytest.raises(MissingEntry, match=r"written by"):
        algorithm(name).weigh(td)


def test_a_moved_entry_is_missed_under_its_new_name() -> None:
    loss, td = weighed()
    loss.set_keys(advantage="my_advantage")
    with pytest.raises(MissingEntry, match=r"'my_advantage'.*credit"):
        loss(td)


def test_one_advantage_a_response_will_do() -> None:
    loss, td = weighed()
    wide = loss(td)["loss_objective"]
    td[keys.ADVANTAGE] = f64([[1.0], [-0.7]])
    torch.testing.assert_close(loss(td)["loss_objective"], wide)


def test_a_batch_without_rows_has_no_loss() -> None:
    loss, td = weighed()
    out = loss(td[:0])
    assert out["loss_objective"] == 0
    assert all(value.isfinite() for value in out.values())
