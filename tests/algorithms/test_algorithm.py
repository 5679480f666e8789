"""Recipes by name, compositions, and what a recipe says of itself."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from strategies import make_batch
from table import evaluate
from tensordict import TensorDict

from llmrl import keys
from llmrl.algorithms import ALGORITHMS, Algorithm, algorithm, find_algorithm, register_algorithm
from llmrl.algorithms.algorithm import term
from llmrl.algorithms.options import ESTIMATORS
from llmrl.credit import AdaptiveKL, KLPenalty, SoftOverlong
from llmrl.losses import (
    CovarianceGate,
    DualClip,
    EntropyRatioGate,
    KLToReference,
    MissingEntry,
    PPOClip,
    SegmentMean,
    SequenceTIS,
    TokenMean,
)
from llmrl.registry import UnknownName
from llmrl.training.command_line import parse

BATCH = make_batch([[0.1, -0.4, 0.5], [0.2]], [1.0, -1.0])


def plain(*, width: float = 0.3) -> Algorithm:
    """A recipe from outside the package."""
    return Algorithm(name="plain", clip=PPOClip(low=width, high=width))


def not_a_recipe() -> int:
    return 1


def test_composition_puts_the_first_on_top_of_the_rest() -> None:
    both = algorithm("erc+tis+gspo", low=0.9, cap=4.0, sequence=True, clip_high=0.5)
    assert both.name == "erc+tis+gspo"
    assert both.gates == (EntropyRatioGate(low=0.9),)
    assert both.corrections == (SequenceTIS(cap=4.0),)
    assert both.clip == PPOClip(low=3e-4, high=0.5)
    assert both.ratio == algorithm("gspo").ratio
    assert both.aggregate == algorithm("gspo").aggregate


def test_a_gate_is_added_to_those_of_the_base() -> None:
    assert [type(gate) for gate in algorithm("erc+clip_cov").gates] == [
        CovarianceGate,
        EntropyRatioGate,
    ]


def test_options_of_both_reach_their_own_half() -> None:
    recipe = algorithm("erc+gppo", low=0.5, clip_low=0.1, dual_clip=5.0)
    assert recipe.gates[0].low == 0.5
    assert recipe.clip.bound == 5.0
    assert recipe.clip.base.base.low == 0.1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dapoo", r"No algorithm is called 'dapoo'. Did you mean 'dapo'\?"),
        ("erc+gspoo", r"Did you mean 'gspo'\?"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        algorithm(name)


def test_what_changes_no_base_cannot_stand_before_a_plus() -> None:
    with pytest.raises(ValueError, match=r"'dapo' in 'dapo\+gspo'.*erc, mis, tis"):
        algorithm("dapo+gspo")


@pytest.mark.parametrize("name", ["dapo", "erc+dapo"])
def test_an_unknown_option_suggests_the_nearest(name: str) -> None:
    with pytest.raises(TypeError, match=r"no option 'clip_hihg'. Did you mean 'clip_high'\?"):
        algorithm(name, clip_hihg=0.3)


def test_a_recipe_from_outside_is_reached_by_module_and_name(monkeypatch) -> None:
    module = SimpleNamespace(plain=plain, not_a_recipe=not_a_recipe)
    monkeypatch.setitem(sys.modules, "my_recipes", module)
    assert algorithm("my_recipes:plain", width=0.4).clip == PPOClip(low=0.4, high=0.4)
    assert algorithm("erc+my_recipes:plain").gates == (EntropyRatioGate(),)
    with pytest.raises(TypeError, match=r"must return an llmrl.algorithms.Algorithm, got int"):
        algorithm("my_recipes:not_a_recipe")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match=r"'dapo' is taken"):
        register_algorithm("dapo")(plain)


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_recipe_documents_itself_and_each_of_its_options(name: str) -> None:
    recipe = find_algorithm(name)
    made = algorithm(name)
    assert made.paper
    assert made.name
    documentation = recipe.__doc__ or ""
    for option in inspect.signature(recipe).parameters:
        assert f"{option}:" in documentation, option


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_in_keys_are_enough_to_weigh_and_to_score(name: str) -> None:
    recipe = algorithm(name)
    wanted = [key for key in recipe.in_keys if key in set(BATCH.td().keys(True, True))]
    td = recipe.weigh(BATCH.td().select(*wanted))
    assert recipe.loss()(td)["loss_objective"].isfinite()
    assert keys.WEIGHT not in recipe.in_keys


def test_entropies_and_references_are_asked_for_only_where_they_are_read() -> None:
    assert {keys.ENTROPY, keys.OLD_ENTROPY} <= set(algorithm("erc").in_keys)
    assert keys.OLD_ENTROPY in algorithm("espo").in_keys
    assert keys.ENTROPY not in algorithm("espo").in_keys
    assert keys.SEGMENT not in algorithm("espo").in_keys
    assert keys.SEGMENT in algorithm("espo", partition=None).in_keys
    assert not {keys.ENTROPY, keys.OLD_ENTROPY} & set(algorithm("dapo").in_keys)


def test_a_part_is_replaced_and_a_recipe_is_not_changed() -> None:
    dapo = algorithm("dapo")
    wide = dataclasses.replace(dapo, clip=PPOClip(low=1.0, high=10.0))
    assert (evaluate(dapo, BATCH).grad == 0).any()
    assert (evaluate(wide, BATCH).grad[BATCH.mask] != 0).all()
    with pytest.raises(dataclasses.FrozenInstanceError):
        dapo.name = "other"


def test_weights_are_made_in_the_precision_of_the_log_probabilities() -> None:
    assert algorithm("dapo").weigh(BATCH.td())[keys.WEIGHT].dtype == torch.float64
    for dtype in (torch.float32, torch.bfloat16):
        assert algorithm("dapo").weigh(BATCH.td(dtype=dtype))[keys.WEIGHT].dtype == torch.float32


def test_a_segment_of_minus_1_is_not_trained() -> None:
    td = BATCH.td()
    td[keys.SEGMENT] = torch.tensor([[0, -1, 0], [-1, -1, -1]])
    weight = algorithm("espo", partition=None).weigh(td)[keys.WEIGHT]
    assert weight.tolist() == [[0.5, 0, 0.5], [0, 0, 0]]


class Sum:
    """An aggregate from outside: every token it is shown counts 1."""

    in_keys = (keys.SEGMENT,)

    def __call__(self, mask: torch.Tensor, segment: torch.Tensor | None = None) -> torch.Tensor:
        return mask.double()


def test_an_aggregate_that_reads_segments_is_shown_the_trained_tokens_alone() -> None:
    td = BATCH.td()
    td[keys.SEGMENT] = torch.tensor([[0, -1, 0], [1, 0, 0]])
    weight = Algorithm(name="mine", aggregate=Sum()).weigh(td)[keys.WEIGHT]
    assert weight.tolist() == [[1, 0, 1], [1, 0, 0]]


def test_segment_means_without_segments_are_told_who_writes_it() -> None:
    recipe = Algorithm(name="mine", aggregate=SegmentMean())
    with pytest.raises((ValueError, MissingEntry), match=r"segment"):
        recipe.weigh(BATCH.td())
    assert Algorithm(name="mine").aggregate == TokenMean()


@pytest.mark.parametrize("name", ["dapo", "erc", "tis+dapo"])
def test_the_overlong_penalty_follows_the_response_limit(name: str) -> None:
    recipe = algorithm(name)
    assert recipe.resolve(256).credit.shape == (SoftOverlong(limit=256, window=51, penalty=0.5),)
    assert recipe.resolve(1).credit.shape == (SoftOverlong(limit=1, window=1, penalty=0.5),)
    assert "limit=256, window=51" in str(recipe.resolve(256))
    given = algorithm(name, max_length=100, soft_length=20)
    assert given.resolve(256) == given
    assert algorithm(name, soft_length=0).resolve(256).credit.shape == ()
    with pytest.raises(ValueError, match="window must be above 0 and at most limit"):
        algorithm(name, soft_length=300).resolve(256)
    td = TensorDict({keys.MASK: torch.ones(1, 256) > 0, keys.REWARD: torch.ones(1, 1)}, [1])
    assert float(recipe.resolve(256).credit.shape[0](td)) == 0.5
    assert float(recipe.credit.shape[0](td)) == 1.0


def test_dr_grpo_divides_by_the_response_limit_unless_it_is_given_a_length() -> None:
    def total(recipe: Algorithm) -> float:
        return float(recipe.weigh(BATCH.td())[keys.WEIGHT].sum())

    assert total(algorithm("dr_grpo").resolve(8)) == pytest.approx(4 / (2 * 8))
    assert total(algorithm("dr_grpo", max_length=5).resolve(8)) == pytest.approx(4 / (2 * 5))
    assert total(algorithm("dr_grpo")) == pytest.approx(4 / (2 * 3000))
    assert total(algorithm("rloo").resolve(8)) == pytest.approx(4 / 2)


@pytest.mark.parametrize("name", ["erc", "tis", "mis"])
def test_a_recipe_on_its_default_base_takes_the_options_of_the_base(name: str) -> None:
    shown = inspect.signature(find_algorithm(name)).parameters
    assert {*inspect.signature(find_algorithm("dapo")).parameters} <= {*shown}
    made = algorithm(name, clip_high=0.5, dual_clip=4.0, max_refills=3)
    assert made.clip == DualClip(base=PPOClip(low=0.2, high=0.5), bound=4.0)
    assert made.credit.max_refills == 3
    assert made.name == name
    assert algorithm(name) == dataclasses.replace(algorithm(f"{name}+dapo"), name=name)

    options = vars(parse(["--algo", name, "--algo.clip-high", "0.4"]).algo)
    assert options["clip_high"] == 0.4


BASES = sorted(set(ALGORITHMS) - {"erc", "tis", "mis"})


@pytest.mark.parametrize("name", [*BASES, "erc", "tis+gspo"])
def test_every_recipe_takes_a_kl_term_and_its_estimator(name: str) -> None:
    assert keys.REF_LOG_PROB not in algorithm(name, kl=0.0).in_keys
    for estimator, kind in ESTIMATORS.items():
        made = algorithm(name, kl=0.3, kl_estimator=estimator)
        assert keys.REF_LOG_PROB in made.in_keys
        assert [t for t in made.terms if t.loss is KLToReference] == [
            term(KLToReference, estimator=kind, coefficient=0.3)
        ]
    with pytest.raises(ValueError, match=r"No KL estimator is called 'k4'. Known: abs, k1"):
        algorithm(name, kl_estimator="k4")


@pytest.mark.parametrize("name", [*sorted(set(BASES) - {"dcpo"}), "erc", "tis+gspo"])
def test_every_recipe_takes_the_divergence_in_its_reward(name: str) -> None:
    plain = algorithm(name, kl=0.0)
    for estimator in ("k1", "k2", "k3", "abs"):
        made = algorithm(name, kl=0.3, kl_estimator=estimator, kl_in_reward=True)
        penalty = made.credit.advantage
        assert penalty == KLPenalty(base=plain.credit.advantage, coefficient=0.3, estimator=ESTIMATORS[estimator])
        assert made.terms == plain.terms
        assert keys.REF_LOG_PROB in made.in_keys
        assert keys.KL_COEFFICIENT not in made.in_keys
    made = algorithm(name, kl=0.3, kl_in_reward=True, kl_target=0.02)
    assert made.credit.advantage == KLPenalty(
        base=plain.credit.advantage, coefficient=0.3, estimator=ESTIMATORS["k1"], controller=AdaptiveKL(target=0.02)
    )
    assert keys.KL_COEFFICIENT in made.in_keys


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kl": 0.0, "kl_estimator": "k2"}, "kl_estimator k2 needs a weight, but kl is 0"),
        ({"kl_in_reward": True}, "kl_in_reward needs a weight, but kl is 0: give kl above 0"),
        (
            {"kl": 0.1, "kl_target": 0.1},
            "kl_target adapts the penalty in the reward, but kl_in_reward is off: give kl_in_reward too",
        ),
        ({"kl": 0.1, "kl_in_reward": True, "kl_estimator": "off_policy_k3"}, "a reward has no gradient"),
        ({"kl": 0.1, "kl_in_reward": True, "kl_estimator": "k3_straight_through"}, "a reward has no gradient"),
        ({"kl": 0.1, "kl_in_reward": True, "kl_target": 0.0}, "target must be above 0 nats per token"),
        ({"kl": -0.1}, "kl must be 0 or more and finite, got -0.1"),
        ({"kl": float("nan")}, "kl must be 0 or more and finite, got nan"),
    ],
)
def test_divergences_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        algorithm("ppo", **options)


def test_dcpo_has_no_penalty_in_the_reward() -> None:
    with pytest.raises(ValueError, match="SmoothGroupAdvantage compares with rewards of earlier steps"):
        algorithm("dcpo", kl=0.1, kl_in_reward=True)


def test_a_kl_estimator_is_an_option_of_the_command_line() -> None:
    section = parse(["--algo", "espo", "--algo.kl", "0.1", "--algo.kl-estimator", "k2"]).algo
    assert (section.kl, section.kl_estimator) == (0.1, "k2")
