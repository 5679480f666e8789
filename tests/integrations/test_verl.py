"""llmrl's verifier and losses as verl calls them; beside verl's own losses where verl is installed.

verl 0.9.1 pins older releases of tensordict and transformers than llmrl needs, so it is installed without dependencies:
pip install --no-deps verl==0.9.1 omegaconf==2.3.1 antlr4-python3-runtime==4.9.3 hydra-core codetiming ray msgpack.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llmrl.algorithms import algorithm
from llmrl.errors import ConfigError
from llmrl.integrations.prime_rl import sequence_loss
from llmrl.integrations.verl import policy_loss
from llmrl.integrations.verl_reward import compute_score
from llmrl.losses import PolicyLoss

DOCS = Path(__file__).resolve().parents[2] / "docs" / "integrations"
N, T = 4, 6
LENGTHS = (6, 3, 5, 1)


@pytest.fixture
def batch():
    """Old and new log-probabilities, advantages and a mask; the new ones carry a gradient."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(N, T, generator=generator, dtype=torch.float64) - 0.1
    new = (old + torch.randn(N, T, generator=generator, dtype=torch.float64) * 0.3).requires_grad_()
    advantage = torch.tensor([1.0, -0.7, -1.2, 0.9], dtype=torch.float64)[:, None].expand(N, T)
    mask = (torch.arange(T) < torch.tensor(LENGTHS)[:, None]).to(torch.float64)
    return {"old_log_prob": old, "log_prob": new, "advantages": advantage * mask, "response_mask": mask}


def value_and_gradient(loss, batch):
    (grad,) = torch.autograd.grad(loss, batch["log_prob"])
    return loss.detach(), grad


# The verifier


@pytest.mark.parametrize(
    ("response", "gold", "score", "pred", "valid"),
    [
        (r"So \boxed{0.5}.", r"\frac12", 1.0, "0.5", 1.0),
        (r"So \boxed{3}.", 4, 0.0, "3", 1.0),
        ("", "4", 0.0, "", 1.0),
        (r"\boxed{4}", "", 0.0, "4", 0.0),  # no gold answer: no verdict
    ],
)
def test_a_response_is_graded_as_verl_asks(response, gold, score, pred, valid):
    told = compute_score(data_source="math", solution_str=response, ground_truth=gold, extra_info={"index": 1}, more=2)
    assert (told["score"], told["pred"], told["valid"]) == (score, pred, valid)
    assert told["acc"] == score


def test_verl_loads_the_function_by_its_path_without_torch():
    """As verl does: a file, imported by its path; all arguments by name. verl's own torch must not matter."""
    code = (
        "import importlib.util, sys, llmrl.integrations.verl_reward as m\n"
        "spec = importlib.util.spec_from_file_location('custom_module', m.__file__)\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "told = module.compute_score(data_source='a', solution_str='[[1]] is 3 - 2', ground_truth='1', extra_info=None,"
        " verifier_name='math')\n"
        "print(told['score'], sorted({'torch', 'tensordict', 'torchrl', 'transformers'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip().endswith("[]"), shown


# The losses


@pytest.mark.parametrize("name", ["dapo", "gppo", "gspo", "grpo", "cispo", "sapo", "ppo", "rloo", "dr_grpo"])
def test_a_loss_for_verl_is_the_algorithms_own(batch, name):
    recipe = algorithm(name).resolve(T)
    loss, told = policy_loss(recipe)(**batch, loss_agg_mode="seq-mean-token-mean", config=None)
    from llmrl.integrations.tensors import entries, policy_algorithm

    td = entries(*(batch[key] for key in ("log_prob", "old_log_prob", "advantages", "response_mask")))
    own = policy_algorithm(recipe, "verl")
    expected = PolicyLoss(own)(own.weigh(td))["loss_objective"]
    assert torch.equal(value_and_gradient(loss, batch)[1], value_and_gradient(expected, batch)[1])
    assert loss == expected
    assert set(told) >= {"actor/clip_fraction_low", "actor/kl_approx_k3"}
    assert all(isinstance(value, float) for value in told.values())


def test_the_response_limit_of_dr_grpo_is_verls(batch):
    with pytest.raises(ConfigError, match=r"dr_grpo divides by the response limit, .* max_response_length=\.\.\."):
        policy_loss("dr_grpo")
    loss, _ = policy_loss("dr_grpo", max_response_length=T)(**batch)
    expected, _ = policy_loss(algorithm("dr_grpo", max_length=T))(**batch)
    assert loss == expected


def test_weights_of_the_rollout_correction_multiply_every_token(batch):
    loss = policy_loss("dapo")
    twice, _ = loss(**batch, rollout_is_weights=torch.full((N, T), 2.0, dtype=torch.float64))
    torch.testing.assert_close(twice, 2 * loss(**batch)[0])


@pytest.mark.parametrize("name", ["espo", "erc", "erc+gspo", "tis"])
def test_what_reads_more_is_refused(name):
    with pytest.raises(ConfigError, match=r"which verl does not give a loss\. Use llmrl's own trainer"):
        policy_loss(name)


@pytest.mark.verl
@pytest.mark.skipif(
    importlib.util.find_spec("verl") is None,
    reason="verl is not installed: pip install --no-deps verl==0.9.1 and what it imports (see this file)",
)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "theirs", "mode", "low", "high"),
    [
        ("dapo", "vanilla", "token-mean", 0.2, 0.28),
        ("grpo", "vanilla", "seq-mean-token-mean", 0.2, 0.2),
        ("gspo", "gspo", "seq-mean-token-mean", 3e-4, 4e-4),
        ("sapo", "sapo", "seq-mean-token-mean", 0.2, 0.2),
    ],
)
def test_equal_to_verls_own(batch, name, theirs, mode, low, high):
    from verl.trainer.ppo.core_algos import get_policy_loss_fn, register_policy_loss
    from verl.workers.config import ActorConfig

    register_policy_loss(f"llmrl_{name}")(policy_loss(name))
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=4,
        clip_ratio=low,
        clip_ratio_low=low,
        clip_ratio_high=high,
        clip_ratio_c=1e9,
    )
    ours, _ = get_policy_loss_fn(f"llmrl_{name}")(**batch, loss_agg_mode=mode, config=config)
    their_loss, _ = get_policy_loss_fn(theirs)(**batch, loss_agg_mode=mode, config=config)
    (value, grad), (other, other_grad) = value_and_gradient(ours, batch), value_and_gradient(their_loss, batch)
    print(f"{name}: {value:.9f} {other:.9f} {(grad - other_grad).abs().max():.1e}")
    torch.testing.assert_close(value, other, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(grad, other_grad, rtol=1e-6, atol=1e-8)
    assert grad.abs().max() > 1e-3
    signature = inspect.signature(get_policy_loss_fn("vanilla")).parameters
    assert set(signature) <= set(inspect.signature(policy_loss("dapo")).parameters)


# prime-rl


@pytest.mark.parametrize("name", ["dapo", "gppo", "cispo"])
def test_sequences_of_prime_rl_add_up_to_the_loss_of_the_batch(batch, name):
    """Summed over sequences and divided by all tokens, as prime-rl does, it is the token mean."""
    total = 0.0
    for row in range(N):
        inputs = SimpleNamespace(
            trainer_logprobs=batch["log_prob"][row],
            inference_logprobs=batch["old_log_prob"][row],
            advantages=batch["advantages"][row],
            loss_mask=batch["response_mask"][row].bool(),
        )
        loss, told = sequence_loss(inputs, name)
        assert all(value.ndim == 0 for value in told.values())
        total = total + loss
    whole, _ = policy_loss(name)(**batch)
    value, grad = value_and_gradient(total / sum(LENGTHS), batch)
    expected, expected_grad = value_and_gradient(whole, batch)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_prime_rl_averages_over_tokens_alone(batch):
    with pytest.raises(ConfigError, match="gspo averages by SequenceMean, and prime-rl over tokens"):
        sequence_loss(SimpleNamespace(), "gspo")


def test_what_would_be_left_out_without_a_word_is_refused(batch):
    with pytest.raises(ConfigError, match="kl_cov has the term CovarianceKL, which verl cannot add"):
        policy_loss("kl_cov")
    with pytest.raises(ConfigError, match="gppo has the term PositiveNLL, which prime-rl cannot add"):
        sequence_loss(SimpleNamespace(), algorithm("gppo", positive_nll=0.1))
    with pytest.raises(ConfigError, match="clip_cov ranks the tokens of a batch by covariance"):
        sequence_loss(SimpleNamespace(), "clip_cov")
    kept = [policy_loss(algorithm("dapo", kl=kl))(**batch)[0] for kl in (0.0, 0.1)]
    assert kept[0] == kept[1]  # the divergence is verl's


# The pages


def test_the_code_of_the_pages_runs(tmp_path, monkeypatch):
    """With stand-ins for what the other packages give: their registry and their class of outputs."""
    registered = {}
    for name in (
        "verl",
        "verl.trainer",
        "verl.trainer.ppo",
        "verl.trainer.ppo.core_algos",
        "prime_rl",
        "prime_rl.trainer",
        "prime_rl.trainer.rl",
        "prime_rl.trainer.rl.loss",
    ):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["verl.trainer.ppo.core_algos"].register_policy_loss = lambda name: (
        lambda f: registered.setdefault(name, f)
    )
    sys.modules["prime_rl.trainer.rl.loss"].LossInputs = object
    sys.modules["prime_rl.trainer.rl.loss"].LossOutputs = lambda loss, metrics: (loss, metrics)
    for page in ("verl.md", "prime_rl.md"):
        blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
        assert blocks
        names = {}
        for block in blocks:
            exec(block, names)
    assert set(registered) == {"llmrl_gspo", "llmrl_gppo"}
    row = torch.zeros(3, requires_grad=True)
    inputs = SimpleNamespace(
        trainer_logprobs=row, inference_logprobs=row.detach(), advantages=torch.ones(3), loss_mask=torch.ones(3).bool()
    )
    loss, _ = names["gppo_loss"](inputs)
    assert loss.item() == -3
