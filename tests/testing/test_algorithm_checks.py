"""`check_algorithm` notices a fault planted for each of its checks; test_table.py runs it for what is shipped."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.credit import Credit
from llmrl.losses import PolicyLoss
from llmrl.losses.clip import NoClip, PPOClip
from llmrl.testing import ALGORITHM_CHECKS, check_algorithm

GRPO = algorithm("grpo")


@pytest.mark.parametrize("name", ["erc+gspo", "espo", "examples.custom_algorithm:steady"])
def test_compositions_and_outside_algorithms_pass_compiled_too(name):
    check_algorithm(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("grpo", {"kl": 0.05, "kl_in_reward": True, "kl_target": 0.1}),
        ("gppo", {"dual_clip": 10.0, "positive_nll": 0.1}),
        ("ppo", {"entropy_coefficient": 0.01}),
        ("mis", {"geometric": True}),
    ],
)
def test_the_batch_holds_every_entry_that_an_option_reads(name, options):
    check_algorithm(algorithm(name, **options), except_for=("compile",))


def test_an_entry_of_ones_own_is_asked_for_and_taken():
    @dataclasses.dataclass(frozen=True)
    class Hinted:
        in_keys = ("hint",)

        def __call__(self, batch):
            return batch.log_ratio + 0 * batch["hint"]

    hinted = dataclasses.replace(GRPO, ratio=Hinted())
    with pytest.raises(AssertionError, match=r"reads 'hint'.*entries=\{'hint': lambda mask"):
        check_algorithm(hinted)
    check_algorithm(hinted, entries={"hint": lambda mask: mask.double()}, except_for=("pickle", "compile"))


@dataclasses.dataclass(frozen=True)
class Faulty(PPOClip):
    """A clip with a fault: what it makes of the batch is changed by a function."""

    fault: object = None

    def __call__(self, log_ratio, batch):
        clipped = super().__call__(log_ratio, batch)
        return clipped._replace(objective=self.fault(clipped.objective, log_ratio, batch))


def with_clip(fault):
    return dataclasses.replace(GRPO, clip=Faulty(fault=fault))


def with_loss(change):
    """GRPO whose loss has its output changed by a function of input and output."""

    class Changed(PolicyLoss):
        def forward(self, tensordict):
            return change(tensordict, super().forward(tensordict))

    class Recipe(type(GRPO)):
        def loss(self):
            return Changed(self)

    return Recipe(name="grpo", aggregate=GRPO.aggregate)


def wipe(td, out):
    td[keys.ADVANTAGE].zero_()
    return out


def attach(td, out):
    out["ratio_mean"] = td[keys.LOG_PROB].sum()
    return out


def leak(td, out):
    return out.set("loss_objective", out["loss_objective"] + td[keys.LOG_PROB].sum())


def lose(td, out):
    return out.exclude("ratio_mean")


def branch(objective, log_ratio, batch):
    return objective * (1 if float(log_ratio.detach().sum()) > -1e9 else 2)  # reads a number on the way


def no_mask(td):
    out = td.copy()
    out[keys.ADVANTAGE] = td[keys.REWARD].expand(td[keys.MASK].shape)
    return out


def over_rows(objective, log_ratio, batch):
    return objective * (1 + torch.arange(len(objective))[:, None] * log_ratio.detach().abs())


FAULTS = {
    "entries": with_loss(lose),
    "advantage": dataclasses.replace(GRPO, credit=Credit(advantage=no_mask)),
    "ratio_one": with_clip(lambda objective, log_ratio, batch: 2 * objective),
    "far_ratio": dataclasses.replace(GRPO, clip=NoClip()),
    "zero_advantage": with_clip(lambda objective, log_ratio, batch: objective + log_ratio),
    "mask": with_loss(leak),
    "rows": with_clip(over_rows),
    "micro_batches": with_clip(lambda objective, log_ratio, batch: objective * batch.log_ratio.detach().abs().sum()),
    "finite": with_clip(lambda objective, log_ratio, batch: objective * (40 * log_ratio.detach().abs()).exp()),
    "inputs": with_loss(wipe),
    "detached": with_loss(attach),
    "pickle": dataclasses.replace(GRPO, aggregate=lambda mask, segment=None: mask / mask.sum()),
    "compile": with_clip(branch),
}


def test_a_fault_is_planted_for_every_check():
    assert set(FAULTS) == set(ALGORITHM_CHECKS)


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_planted_fault_is_noticed(name):
    others = [check for check in ALGORITHM_CHECKS if check != name]
    with pytest.raises(AssertionError, match=rf"^Algorithm grpo, check '{name}': ") as caught:
        check_algorithm(FAULTS[name], except_for=others)
    assert "\n" not in str(caught.value) or name == "compile"


def test_a_gradient_against_the_advantage_is_noticed():
    flipped = with_clip(
        lambda objective, log_ratio, batch: torch.where(
            log_ratio.abs() > 1, -objective - log_ratio * batch.advantage, objective
        )
    )
    with pytest.raises(AssertionError, match="against its advantage"):
        check_algorithm(flipped, except_for=[check for check in ALGORITHM_CHECKS if check != "far_ratio"])


def test_a_check_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'pickle'"):
        check_algorithm("grpo", except_for=("pickl",))
