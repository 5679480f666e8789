"""The divergence in the reward: values by hand, published rules, gradients, its weight, resume."""

from __future__ import annotations

import math
from pathlib import Path

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import EASY, resumed_from, same_tensors, save, small_run, steps, stir
from tensordict import TensorDict
from tiny import SMALLEST, tiny_folder

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.credit import GAE, AdaptiveKL, GroupAdvantage, KLPenalty, LeaveOneOut, MixedRewards
from llmrl.losses.terms import absolute, k1, k2, k3
from llmrl.training import checkpoint
from llmrl.training.build import build
from llmrl.training.command_line import parse

NAN = float("nan")


def rows(old: list[list[float]], ref: list[list[float]], rewards: list[float]) -> TensorDict:
    """One group; ragged lists, with NaN where there is no token."""
    width = max(map(len, old))
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in old])

    def table(cells: list[list[float]]) -> torch.Tensor:
        return torch.tensor([row + [NAN] * (width - len(row)) for row in cells], dtype=torch.float64)

    td = TensorDict({keys.MASK: mask, keys.GROUP: torch.zeros(len(old), dtype=torch.long)}, [len(old)])
    td[keys.REWARD] = torch.tensor(rewards, dtype=torch.float64)[:, None]
    td[keys.OLD_LOG_PROB], td[keys.REF_LOG_PROB] = table(old), table(ref)
    return td


def two() -> TensorDict:
    """A response of two tokens that is right, and one of one token that is wrong."""
    return rows([[-1.0, -2.0], [-0.5]], [[-1.5, -1.0], [-1.5]], [1.0, 0.0])


@pytest.mark.parametrize(
    ("estimator", "nats"),
    [
        (k1, [[0.5, -1.0], [1.0, 0.0]]),
        (absolute, [[0.5, 1.0], [1.0, 0.0]]),
        (k2, [[0.125, 0.5], [0.5, 0.0]]),
        (k3, [[math.exp(-0.5) - 0.5, math.e - 2], [math.exp(-1), 0.0]]),
    ],
)
def test_each_token_pays_its_own_divergence(estimator, nats) -> None:
    out = KLPenalty(coefficient=0.1, estimator=estimator)(two())
    torch.testing.assert_close(out[keys.TOKEN_REWARD], -0.1 * torch.tensor(nats, dtype=torch.float64))


def test_a_group_is_compared_by_what_is_left_of_the_rewards() -> None:
    # k1 sums to -0.5 and 1.0 nats, so 1.05 and -0.1 are left.
    td = two()
    advantage = KLPenalty(base=GroupAdvantage(divide_by_std=False), coefficient=0.1)(td)[keys.ADVANTAGE]
    torch.testing.assert_close(advantage, torch.tensor([[0.575, 0.575], [-0.575, 0.0]], dtype=torch.float64))
    advantage = KLPenalty(base=LeaveOneOut(), coefficient=0.1)(td)[keys.ADVANTAGE]
    torch.testing.assert_close(advantage, torch.tensor([[1.15, 1.15], [-1.15, 0.0]], dtype=torch.float64))


@given(
    coefficient=st.sampled_from([0.01, 0.5]), lam=st.sampled_from([0.0, 0.9, 1.0]), gamma=st.sampled_from([0.9, 1.0])
)
def test_gae_sees_each_tokens_penalty_where_it_falls(coefficient: float, lam: float, gamma: float) -> None:
    td = two()
    td[keys.VALUE] = torch.tensor([[0.3, 0.6], [0.2, NAN]], dtype=torch.float64)
    out = KLPenalty(base=GAE(gamma=gamma, lam=lam, whiten=False), coefficient=coefficient)(td)
    by_hand = [
        oracles.gae([-0.5 * coefficient, 1.0 + coefficient], [0.3, 0.6], gamma, lam),
        [*oracles.gae([-coefficient], [0.2], gamma, lam), 0.0],
    ]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    torch.testing.assert_close(out[keys.ADVANTAGE], expected)
    used = td[keys.MASK]
    torch.testing.assert_close(out[keys.VALUE_TARGET][used], (expected + td[keys.VALUE])[used])


def test_the_environments_reward_the_shaped_one_and_the_choice_of_groups_stay() -> None:
    td = two()
    td[keys.SHAPED_REWARD] = td[keys.REWARD] - 0.25
    out = KLPenalty(coefficient=5.0)(td)
    assert out[keys.REWARD].tolist() == [[1.0], [0.0]]
    assert out[keys.SHAPED_REWARD].tolist() == [[0.75], [-0.25]]
    same = rows([[-1.0], [-3.0]], [[-3.0], [-1.0]], [1.0, 1.0])
    assert not MixedRewards()(KLPenalty()(same)).any()


def test_a_row_without_a_verdict_stays_out_of_advantage_and_controller() -> None:
    td = rows([[-1.0], [-1.0], [-1.0]], [[-2.0], [-2.0], [-90.0]], [1.0, 0.0, 0.0])
    td[keys.VALID] = torch.tensor([True, True, False])
    out = KLPenalty(base=GroupAdvantage(divide_by_std=False), controller=AdaptiveKL(target=1.0), coefficient=0.1)(td)
    assert out[keys.ADVANTAGE].flatten().tolist() == pytest.approx([0.5, -0.5, 0.0])
    assert out[keys.KL_COEFFICIENT].flatten().tolist() == [0.1] * 3  # the target is met


def test_the_expected_gradient_is_that_of_the_reward_minus_the_divergence() -> None:
    """Over all words of a vocabulary: REINFORCE on r - beta k1 is the gradient of E[R] - beta KL(pi, ref)."""
    logits = torch.tensor([0.3, -0.7, 1.1, 0.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([-0.2, 0.4, 0.5, -1.0], dtype=torch.float64).log_softmax(0)
    paid = torch.tensor([1.0, 0.0, 0.5, 0.0], dtype=torch.float64)
    log_pi = logits.log_softmax(0)
    wanted = (log_pi.exp() * (paid - 0.3 * (log_pi - ref))).sum()
    (expected,) = torch.autograd.grad(wanted, logits, retain_graph=True)
    td = TensorDict({keys.MASK: torch.ones(4, 1, dtype=torch.bool)}, [4])
    td[keys.REWARD], td[keys.VALUE] = paid[:, None], torch.zeros(4, 1, dtype=torch.float64)
    td[keys.OLD_LOG_PROB], td[keys.REF_LOG_PROB] = log_pi.detach()[:, None], ref[:, None]
    advantage = KLPenalty(base=GAE(whiten=False), coefficient=0.3)(td)[keys.ADVANTAGE][:, 0]
    (found,) = torch.autograd.grad((log_pi.exp().detach() * advantage * log_pi).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_the_weight_follows_the_divergence() -> None:
    # Ziegler et al. 2019 by hand: 0.2 * (1 + 0.1 * e), e bounded to 0.2 on both sides.
    adapt = AdaptiveKL(target=0.5)
    for kl, after in ((0.5, 0.2), (0.55, 0.202), (5.0, 0.204), (0.0, 0.196), (-9.0, 0.196)):
        assert float(adapt(torch.tensor(0.2, dtype=torch.float64), torch.tensor(kl))) == pytest.approx(after)
    # verl's controller with horizon 10,000 and 256 episodes a step has this gain.
    assert float(AdaptiveKL(target=0.5, gain=0.0256)(torch.tensor(0.2), torch.tensor(9.0))) == pytest.approx(0.201024)
    td = two()
    td[keys.KL_COEFFICIENT] = torch.full((2, 1), 0.4, dtype=torch.float64)
    out = KLPenalty(coefficient=7.0, controller=AdaptiveKL(target=1 / 6))(td)  # k1's mean over three tokens is 1/6
    assert out[keys.TOKEN_REWARD][0, 0] == pytest.approx(-0.2)
    assert out[keys.KL_COEFFICIENT].flatten().tolist() == pytest.approx([0.4, 0.4])
    with pytest.raises(ValueError, match="gain must be above 0 and below 5"):
        AdaptiveKL(target=1.0, gain=5.0)


# In a run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


def arguments(tiny: Path, *more: str) -> list[str]:
    options = "--train.learning-rate 3e-2 --train.warmup-steps 0 --algo.kl 0.5 --algo.kl-in-reward"
    return small_run(tiny, *options.split(), "--env.goal", EASY, *more)


@pytest.mark.parametrize("name", ["ppo", "grpo", "erc+gspo"])
def test_a_run_pays_the_penalty_and_goes_on_bitwise_with_its_weight(name, tiny, tmp_path) -> None:
    config = parse(arguments(tiny, "--algo", name, "--algo.kl-target", "0.01"))
    whole, _ = build(config)
    metrics = [row for row, _ in steps(whole, 2)]
    assert metrics[0]["reward/kl_penalty"] == pytest.approx(0.0, abs=1e-6)  # the policy is its reference
    assert metrics[1]["reward/kl_penalty"] != pytest.approx(0.0, abs=1e-3)
    assert metrics[0]["reward/kl_coefficient"] == pytest.approx(0.49, abs=1e-4)
    saved = save(whole, tmp_path)
    assert checkpoint.load_state(saved)["kl_coefficient"] == metrics[1]["reward/kl_coefficient"] != 0.5
    expected = steps(whole, 2)
    stir(99)
    resumed = resumed_from(saved, config)
    assert steps(resumed, 2) == expected
    assert same_tensors(whole.learner.parameters, resumed.learner.parameters)


def test_ppo_with_a_reference_in_the_loss_and_without_one(tiny) -> None:
    trainer, _ = build(parse([*arguments(tiny, "--algo", "ppo"), "--algo.no-kl-in-reward"]))
    assert trainer.reference is not None
    rows = [row for row, _ in steps(trainer, 2)]
    assert rows[1]["actor/kl_to_ref"] > 1e-4
    assert "reward/kl_penalty" not in rows[1]
    assert build(parse(small_run(tiny, "--algo", "ppo")))[0].reference is None


def test_the_published_rule_for_groups_is_met() -> None:
    """verl's apply_kl_penalty, then GRPO's outcome advantage: (S - mean S) / (std S + 1e-6), S = R - beta sum KL."""
    td = rows([[-1.0, -2.0], [-0.5], [-3.0, -0.25]], [[-1.5, -1.0], [-1.5], [-2.0, -0.5]], [1.0, 0.0, 0.0])
    left = [1.0 - 0.2 * -0.5, 0.0 - 0.2 * 1.0, 0.0 - 0.2 * -0.75]
    expected = oracles.z_scores(left, ddof=1, eps=1e-6)
    recipe = algorithm("grpo", kl=0.2, kl_in_reward=True)
    assert recipe.credit.advantage(td)[keys.ADVANTAGE][:, 0].tolist() == pytest.approx(expected)
