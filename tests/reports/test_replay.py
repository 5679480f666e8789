"""Saved rollouts under several algorithms: what is known of them by counting, and what is refused."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from command import trained
from tensordict import TensorDict
from tiny import tiny_folder, tiny_policy

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.commands.cli import main
from llmrl.credit import Credit, GroupAdvantage
from llmrl.policies.policy import Policy
from llmrl.reports.replay import ReplayError, Width, clip_width, replay
from llmrl.rollouts.collect import Rollouts
from llmrl.rollouts.files import find_rollouts, read_rollouts, write_rollouts
from llmrl.training.command_line import parse

# Two groups of a right and a wrong response, by how far each token's probability has moved.
RATIOS = [
    [1.5, 1.5, 1.0, 0.5, 1.0],  # right: two tokens above 1.28
    [0.5, 1.5, 1.0, 1.0, 0.7],  # wrong: two tokens below 0.8
    [1.0, 1.0, 1.0, 1.0, 1.0],
    [1.0, 1.0, 1.0, 1.0, 0.9],
]
# And its entropy: one token that is clipped anyway, and three of an untouched row.
ENTROPY_RATIOS = [[1.2, 1.0, 1.0, 1.0, 1.0], [1.0] * 5, [1.2, 0.8, 1.2, 1.0, 1.0], [1.0] * 5]


@pytest.fixture(scope="module")
def policy():
    return tiny_policy(sharpness=3.0)


def rollouts_of(policy, ratios=None, entropy_ratios=None) -> Rollouts:
    """Four responses of five tokens, two of them behind a longer prompt."""
    generator = torch.Generator().manual_seed(0)
    data = TensorDict({}, batch_size=[4])
    data[keys.TOKENS] = torch.randint(5, 261, (4, 8), generator=generator)
    data[keys.ATTENTION] = torch.ones(4, 8, dtype=torch.bool)
    data[keys.ATTENTION][:2, 0] = False
    data[keys.MASK] = torch.tensor([[False] * 3 + [True] * 5] * 4)
    data[keys.GROUP] = torch.tensor([3, 3, 7, 7])
    data[keys.REWARD] = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    with torch.no_grad():
        scored = policy.score(data, entropy=True)
    data[keys.OLD_LOG_PROB] = scored[keys.LOG_PROB].clone()
    data[keys.SAMPLER_LOG_PROB] = data[keys.OLD_LOG_PROB].clone()
    data[keys.OLD_ENTROPY] = scored[keys.ENTROPY].clone()
    data[keys.MAX_ENTROPY] = scored[keys.MAX_ENTROPY]
    data[keys.ADVANTAGE] = torch.full((4, 8), 99.0)  # of the run: not to be used
    data[keys.LOG_PROB] = torch.full((4, 8), 99.0)
    if ratios is not None:
        data[keys.OLD_LOG_PROB][:, 3:] -= torch.tensor(ratios).log()
    if entropy_ratios is not None:
        data[keys.OLD_ENTROPY][:, 3:] /= torch.tensor(entropy_ratios)
    return Rollouts(data, [{"group": int(g)} for g in data[keys.GROUP]])


def recipes(*names: str) -> list:
    return [algorithm(name) for name in names]


def test_at_a_ratio_of_one_nothing_is_held_back_and_algorithms_that_coincide_do(policy):
    result = replay(rollouts_of(policy), policy, recipes("dapo", "gppo", "erc", "gspo"))
    for score in result.scores.values():
        assert score.clip_fraction_low == score.clip_fraction_high == score.zero_grad_fraction == 0
        assert score.gate_fraction == 1
        assert score.ratio_min == pytest.approx(1, abs=1e-4)
        assert score.ratio_max == pytest.approx(1, abs=1e-4)
        assert score.tokens == 20
        assert score.zero_advantage_fraction == 0
        assert score.grad_norm > 0
    # Rows of equal length: the sequence mean is the token mean too.
    for name in ("gppo", "erc", "gspo"):
        assert result.cosine["dapo"][name] == pytest.approx(1, abs=1e-6)
        assert result.cosine[name]["dapo"] == result.cosine["dapo"][name]
    assert result.scores["erc"].grad_norm == pytest.approx(result.scores["dapo"].grad_norm)


def test_what_is_held_back_is_what_one_counts(policy):
    rollouts = rollouts_of(policy, RATIOS, ENTROPY_RATIOS)
    result = replay(rollouts, policy, recipes("dapo", "gppo", "gspo", "erc"))
    counted = {
        # clipped below and above, without gradient, not gated; of 20 tokens
        "dapo": (2, 2, 4, 20),
        "gppo": (2, 2, 0, 20),
        # whole responses: the first up and right; the second and the fourth down and wrong
        "gspo": (10, 5, 15, 20),
        # four gated, one of them clipped as well
        "erc": (2, 2, 7, 16),
    }
    for name, (low, high, zero, kept) in counted.items():
        score = result.scores[name]
        assert score.clip_fraction_low == pytest.approx(low / 20), name
        assert score.clip_fraction_high == pytest.approx(high / 20), name
        assert score.zero_grad_fraction == pytest.approx(zero / 20), name
        assert score.gate_fraction == pytest.approx(kept / 20), name
    assert result.scores["dapo"].ratio_max == pytest.approx(1.5, rel=1e-4)
    assert result.scores["dapo"].ratio_min == pytest.approx(0.5, rel=1e-4)
    cosines = result.cosine
    assert cosines["dapo"]["dapo"] == pytest.approx(1)
    assert cosines["dapo"]["gspo"] < 0.99
    assert cosines["dapo"]["gppo"] < 1 - 1e-4


@pytest.mark.parametrize("name", ["espo", "erc", "gspo"])
def test_loss_and_gradient_are_those_of_one_pass_over_all_rows(policy, name):
    rollouts, recipe = rollouts_of(policy, RATIOS, ENTROPY_RATIOS), algorithm(name)
    part = policy.score(recipe.weigh(recipe.credit.advantage(rollouts.data)), entropy=keys.ENTROPY in recipe.in_keys)
    loss = recipe.loss()(part)["loss_objective"]
    parameters = list(policy.model.parameters())
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    loss = loss.detach()
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradient if g is not None))
    for budget in (8, 10_000):  # one row at a time; all of them
        score = replay(rollouts, policy, [recipe], micro_batch_tokens=budget).scores[name]
        # Rows of weight one cancel to 2e-4 with gspo, so single precision leaves four digits or fewer.
        assert score.loss == pytest.approx(float(loss), rel=1e-4, abs=1e-6)
        assert score.grad_norm == pytest.approx(norm, rel=1e-4)
    assert all(p.grad is None for p in parameters)


def test_each_algorithm_makes_its_own_advantage(policy):
    dapo = algorithm("dapo")
    centred = dataclasses.replace(dapo, name="centred", credit=Credit(advantage=GroupAdvantage(divide_by_std=False)))
    scores = replay(rollouts_of(policy), policy, [dapo, centred]).scores
    # The deviation of rewards 1 and 0 is 1 / sqrt 2.
    assert scores["dapo"].grad_norm == pytest.approx(math.sqrt(2) * scores["centred"].grad_norm, rel=1e-5)


def test_tokens_without_advantage_are_not_held_back(policy):
    rollouts = rollouts_of(policy, RATIOS)
    rollouts.data[keys.REWARD][:2] = 1.0
    score = replay(rollouts, policy, recipes("dapo")).scores["dapo"]
    assert score.zero_advantage_fraction == 0.5
    assert score.zero_grad_fraction == 0


def test_without_any_advantage_there_is_no_direction(policy):
    rollouts = rollouts_of(policy)
    rollouts.data[keys.REWARD][:] = 1.0
    result = replay(rollouts, policy, recipes("dapo", "gspo"))
    assert result.scores["dapo"].grad_norm == 0
    assert result.cosine["dapo"]["gspo"] is None


def test_widths_are_those_of_the_entropy_groups_or_the_clips_own(policy):
    data = rollouts_of(policy).data
    espo = algorithm("espo")
    got = clip_width(espo, espo.weigh(espo.credit.advantage(data)))
    entropies = [sorted(row[3:].tolist()) for row in data[keys.OLD_ENTROPY]]
    scale = 0.02 / math.log(261)
    for part, tokens in (("segment0", slice(0, 4)), ("segment1", slice(4, 5))):  # the top fifth apart
        widths = [scale * sum(row[tokens]) / len(row[tokens]) for row in entropies]
        assert got[part].mean == pytest.approx(sum(widths) / 4, rel=1e-5)
        assert got[part].min == pytest.approx(min(widths), rel=1e-5)
        assert got[part].max == pytest.approx(max(widths), rel=1e-5)
    assert got["segment1"].min > got["segment0"].min
    gated = algorithm("erc+espo")  # its gate reads what is not scored yet
    assert clip_width(gated, gated.weigh(gated.credit.advantage(data))) == got

    def fixed(width: float) -> Width:
        near = pytest.approx(width)  # a bound is 1 + width
        return Width(mean=near, min=near, max=near)

    for name, sides in {
        "dapo": {"low": fixed(0.2), "high": fixed(0.28)},
        "gspo": {"low": fixed(3e-4), "high": fixed(4e-4)},
        "cispo": {"low": fixed(1.0), "high": fixed(0.28)},
        "gmpo": {"low": fixed(1 - math.exp(-0.4)), "high": fixed(math.exp(0.4) - 1)},
        "sapo": {},
    }.items():
        recipe = algorithm(name)
        assert clip_width(recipe, recipe.weigh(recipe.credit.advantage(data))) == sides
    dual = algorithm("dapo", dual_clip=3.0)
    assert clip_width(dual, data)["high"] == fixed(0.28)
    # DCPO's bounds follow how likely a token was.
    dcpo = clip_width(algorithm("dcpo"), data)
    assert dcpo["high"].min < dcpo["high"].mean < dcpo["high"].max <= 9


def test_what_the_file_lacks_is_named_with_who_writes_it(policy):
    rollouts = rollouts_of(policy)
    with pytest.raises(ReplayError) as error:
        replay(rollouts, policy, recipes("dapo", "ppo"))
    assert str(error.value) == (
        "ppo reads 'value', which the rollouts lack. It is [N, T] float32, expected return before each "
        "sampled token, with gradient in an update; written by Critic.score, in runs whose algorithm "
        "reads it. Replay rollouts of such a run (llmrl train --algo ppo), or leave ppo out."
    )
    with pytest.raises(ReplayError, match=r"grpo reads 'ref_log_prob'.*written by trainer.*, or replay grpo\[kl=0\]"):
        replay(rollouts, policy, recipes("grpo"))
    assert list(replay(rollouts, policy, recipes("dapo", "grpo[kl=0]")).scores) == ["dapo", "grpo[kl=0]"]
    rollouts.data[keys.VALUE] = rollouts.data[keys.OLD_VALUE] = torch.rand(4, 8)
    rollouts.data[keys.REF_LOG_PROB] = rollouts.data[keys.OLD_LOG_PROB]
    result = replay(rollouts, policy, recipes("dapo", "ppo", "grpo"))
    assert result.cosine["dapo"]["ppo"] < 0.999  # GAE: an advantage for each token
    assert result.cosine["dapo"]["grpo"] == pytest.approx(1, abs=1e-3)


def test_what_cannot_be_compared_is_refused(policy):
    rollouts = rollouts_of(policy)
    with pytest.raises(ReplayError, match=r"'dapo' is given 2 times. Name each once"):
        replay(rollouts, policy, recipes("dapo", "gspo", "dapo"))
    alone = rollouts_of(policy)
    alone.data[keys.GROUP] = torch.arange(4)
    with pytest.raises(ReplayError, match=r"dapo cannot score these rollouts: .*a group of 1"):
        replay(alone, policy, recipes("dapo"))
    empty = rollouts.select(torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ReplayError, match=r"No response of this step was trained on: .* Give the file of another step"):
        replay(empty, policy, recipes("dapo"))
    rollouts.data[keys.TOKENS][0, 0] = 261
    with pytest.raises(ReplayError, match=r"hold the token 261, .* a vocabulary of 261: .*--policy"):
        replay(rollouts, policy, recipes("dapo"))


EASY = "".join(map(chr, range(ord("0"), ord("z"))))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    tiny = tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0)
    folder = tmp_path_factory.mktemp("runs") / "espo"
    arguments = [
        "--algo",
        "espo",
        "--policy",
        str(tiny),
        "--env",
        "tests/SayA-v0",
        "--env.goal",
        EASY,
        "--output",
        str(folder),
        "--policy.max-response-length",
        "4",
        "--train.prompts-per-step",
        "3",
        "--train.group-size",
        "4",
        "--train.learning-rate",
        "3e-3",
        "--train.steps",
        "2",
        "--train.warmup-steps",
        "0",
        "--eval.problems",
        "0",
        "--checkpoint.rollouts-every",
        "1",
        "--checkpoint.every",
        "1",
        "--policy.temperature",
        "1.3",
    ]
    trained(parse(arguments))
    return folder


def test_the_command_shows_and_writes_the_newest_step_under_the_newest_policy(run, capsys):
    assert main(["replay", str(run), "--algo", "dapo, gspo,erc+gppo"]) == 0
    shown = capsys.readouterr().out
    assert f"step_000002.jsonl: 12 responses, scored by {run / 'latest'}" in shown
    assert "Every ratio is 1" not in shown
    for heading in ("algorithm", "grad norm", "zero grad", "cosine between gradients", "erc+gppo"):
        assert heading in shown
    numbers = json.loads((run / "replay" / "step_000002.json").read_text())
    assert numbers["rows"] == 12
    assert list(numbers["algorithms"]) == ["dapo", "gspo", "erc+gppo"]
    assert numbers["algorithms"]["dapo"]["clip_width"]["high"]["mean"] == pytest.approx(0.28)
    assert numbers["algorithms"]["dapo"]["ratio_max"] > 1.001
    assert numbers["cosine"]["dapo"]["dapo"] == pytest.approx(1)
    assert (run / "replay" / "step_000002.png").stat().st_size > 5000


def test_an_algorithm_has_the_response_limit_of_the_run(run, tmp_path):
    assert main(["replay", str(run), "--algo", "dr_grpo", "--output", str(tmp_path)]) == 0
    shown = json.loads((tmp_path / "step_000002.json").read_text())["algorithms"]["dr_grpo"]
    rollouts = read_rollouts(find_rollouts(run))
    policy = Policy.from_pretrained(str(run / "latest"), temperature=1.3, max_response_length=1)
    expected = replay(rollouts, policy, [algorithm("dr_grpo", max_length=4)]).scores["dr_grpo"]
    assert shown["grad_norm"] == pytest.approx(expected.grad_norm, rel=1e-4)


def test_the_policy_that_sampled_has_a_ratio_of_one_at_the_temperature_of_the_run(run, capsys, tmp_path):
    file = run / "rollouts" / "step_000002.safetensors"
    sampled = ["--policy", str(run / "checkpoint-000001"), "--output", str(tmp_path)]
    assert main(["replay", str(file), "--algo", "dapo", *sampled]) == 0
    assert "Every ratio is 1: this policy sampled the rollouts" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"step_000002.json", "step_000002.png"}
    assert main(["replay", str(file), "--algo", "dapo", *sampled, "--temperature", "1"]) == 0
    assert "Every ratio is 1" not in capsys.readouterr().out


def test_what_the_user_can_mend_is_one_message(run, capsys, policy, tmp_path):
    def message(*arguments: str) -> str:
        assert main(["replay", *arguments]) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "Did you mean 'dapo'?" in message(str(run), "--algo", "dapoo")
    assert "--algo gspo+dapo: 'gspo'" in message(str(run), "--algo", "gspo+dapo")
    assert "holds no rollouts" in message(str(tmp_path))
    assert "The policy folder" in message(str(run), "--policy", "./nothing")
    path = write_rollouts(tmp_path, 5, rollouts_of(policy))
    assert "There is no checkpoint in" in message(str(path))
    assert "No algorithm is given. Give names" in message(str(run), "--algo", ",")


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as left:
        main(["replay", "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for part in ("same saved rollouts", "--algo", "newest checkpoint", "ROLLOUTS"):
        assert part in shown
