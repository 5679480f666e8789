"""llmrl's algorithms in the real TRL; `make test-trl` runs these in an environment of their own."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest
import torch

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.credit import Credit, GroupAdvantage
from llmrl.errors import ConfigError

pytestmark = [
    pytest.mark.trl,
    pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="TRL is not installed: make test-trl"),
    pytest.mark.filterwarnings("default"),  # TRL's and accelerate's own
]

LIKE_TRL = dataclasses.replace(algorithm("grpo", kl=0), credit=Credit(advantage=GroupAdvantage(eps=1e-4)))
"""GRPO with the constant that TRL adds to a group's deviation."""


def share_of_a(completions, **columns):
    """A reward that differs between random responses."""
    return [sum(byte < "a" for byte in text) / max(1, len(text)) for text in completions]


@pytest.fixture
def make(tmp_path):
    """A trainer on a model of one layer."""
    from datasets import Dataset
    from tiny import SMALLEST, tiny_model, tiny_tokenizer
    from trl import GRPOConfig

    def build(kind, *, steps=2, accumulate=2, generations=1, reward=share_of_a, **options):
        config = GRPOConfig(
            output_dir=str(tmp_path),
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            seed=0,
            per_device_train_batch_size=options.pop("rows", 4),
            gradient_accumulation_steps=accumulate,
            steps_per_generation=accumulate * generations,
            max_steps=steps,
            num_generations=4,
            max_completion_length=8,
            loss_type="grpo",
            beta=options.pop("beta", 0.0),
            learning_rate=options.pop("learning_rate", 1e-2),
            lr_scheduler_type="constant",
            max_grad_norm=1e9,
        )
        model = tiny_model(sharpness=1.0, **SMALLEST)
        if config.beta:  # TRL loads the reference by the model's name
            model.save_pretrained(tmp_path / "start")
            model.config._name_or_path = str(tmp_path / "start")
        rows = [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(32)]
        return kind(
            model=model,
            reward_funcs=reward,
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=tiny_tokenizer(chat=False),
            **options,
        )

    return build


def beside_trl(seen):
    """A trainer that computes TRL's own loss beside the algorithm's, with gradients of both."""
    from trl import GRPOTrainer

    from llmrl.integrations.trl import AlgorithmTrainer

    class Both(AlgorithmTrainer):
        def _compute_loss(self, model, inputs):
            ours = super()._compute_loss(model, inputs)
            theirs = GRPOTrainer._compute_loss(self, model, inputs)
            weights = [p for p in model.parameters() if p.requires_grad]
            grads = [torch.autograd.grad(loss, weights, retain_graph=True) for loss in (ours, theirs)]
            error = max(float((a - b).abs().max()) for a, b in zip(*grads, strict=True))
            size = max(float(b.abs().max()) for b in grads[1])
            seen.append((ours.item(), theirs.item(), error, size))
            return ours

    return Both


def test_grpo_equals_trls_own_in_value_and_gradient(make):
    seen = []
    make(beside_trl(seen), algorithm=LIKE_TRL, steps=4, generations=2).train()
    assert len(seen) == 8
    for ours, theirs, error, size in seen:
        assert abs(ours - theirs) < 1e-6, seen
        assert error < 1e-6 * max(1.0, size), seen
    assert max(size for *_, size in seen) > 1e-3  # there is a gradient to compare
    assert any(abs(ours) > 1e-3 for ours, *_ in seen)  # off policy, the value is not 0


@pytest.mark.parametrize("name", ["dapo", "espo", "gspo"])
def test_the_gradient_does_not_depend_on_accumulation(make, name):
    """One window of 8 responses, read as one, two and four micro-batches, ends in the same weights."""
    from llmrl.integrations.trl import AlgorithmTrainer

    class Fixed(AlgorithmTrainer):
        """TRL shuffles and draws per micro-batch; here the responses are the same however they are cut."""

        def _generate_single_turn(self, *args, **kwargs):
            torch.manual_seed(4)
            return super()._generate_single_turn(*args, **kwargs)

    ends = []
    for rows, accumulate in ((8, 1), (4, 2), (2, 4)):
        trainer = make(Fixed, algorithm=name, steps=1, rows=rows, accumulate=accumulate)
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1.0)
        trainer.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer, factor=1.0)
        start = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
        grads = [a - b.detach() for a, b in zip(start, trainer.model.parameters(), strict=True)]
        ends.append(torch.cat([g.flatten() for g in grads]))
    assert ends[0].abs().max() > 1e-4
    for other in ends[1:]:
        torch.testing.assert_close(other, ends[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "beta"),
    [
        *((name, {}, 0.0) for name in ("espo", "gppo", "erc", "dr_grpo", "tis")),
        ("gppo", {"positive_nll": 0.1}, 0.0),
        ("grpo", {"kl": 0.1, "kl_in_reward": True}, 0.1),
    ],
)
def test_algorithms_run_a_few_steps(make, name, options, beta):
    from llmrl.integrations.trl import AlgorithmTrainer

    recipe = algorithm(name, **options)
    trainer = make(AlgorithmTrainer, algorithm=recipe, steps=3, generations=3, beta=beta)
    start = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    assert trainer.state.global_step == 3
    assert any(not torch.equal(a, b) for a, b in zip(start, trainer.model.parameters(), strict=True))
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_a_verifier_grades_and_what_has_no_verdict_has_no_advantage(make):
    from llmrl.integrations.trl import AlgorithmTrainer, reward_function
    from llmrl.verifiers import Verdict

    def every_other(responses, golds):
        assert all(gold.isdigit() for gold in golds)
        return [Verdict(float(i % 4 == 0), "timeout" if i % 4 == 3 else "wrong") for i in range(len(responses))]

    seen = []

    class Watched(AlgorithmTrainer):
        def _credit(self, output):
            made = super()._credit(output)
            seen.append((made[keys.ADVANTAGE], made[keys.MASK]))
            return made

    make(Watched, algorithm=LIKE_TRL, steps=1, reward=reward_function(every_other)).train()
    advantage, mask = seen[0]
    assert (advantage[3::4] == 0).all()
    assert (advantage[0::4][mask[0::4]] > 0).all()


def test_chat_completions_are_read():
    from llmrl.integrations.trl import reward_function

    reward = reward_function("math", column="solution")
    assert reward(completions=[[{"role": "assistant", "content": r"\boxed{4}"}]], solution=[4]) == [1.0]
    with pytest.raises(ConfigError, match="reads the column 'solution'; the data set has answer"):
        reward(completions=["4"], answer=["4"])


@pytest.mark.parametrize(
    ("last", "score"),
    [
        ({"role": "assistant", "content": None, "tool_calls": []}, 0.0),
        ({"role": "assistant", "tool_calls": []}, 0.0),
        ({"role": "tool", "name": "sum", "content": r"\boxed{4}"}, 0.0),
        ({"role": "assistant", "content": [{"type": "image"}, {"type": "text", "text": r"\boxed{4}"}]}, 1.0),
    ],
)
def test_a_conversation_may_end_in_a_tool_or_in_parts(last, score):
    from llmrl.integrations.trl import reward_function

    before = [{"role": "assistant", "content": r"\boxed{4}"}]
    assert reward_function("math")(completions=[[*before, last]], answer=["4"]) == [score]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("grpo", {}, "TRL loads none at beta=0"),
        ("ppo", {}, "which TRL does not have"),
        ("dcpo", {}, "which TRL does not have"),
    ],
)
def test_what_trl_cannot_give_is_refused(make, name, options, said):
    from llmrl.integrations.trl import AlgorithmTrainer

    with pytest.raises(ConfigError, match=said):
        make(AlgorithmTrainer, algorithm=name, **options)


def test_what_the_page_shows_runs(tmp_path):
    from tiny import SMALLEST, tiny_model, tiny_tokenizer

    tiny_model(sharpness=1.0, **SMALLEST).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    page = (Path(__file__).resolve().parents[2] / "docs" / "integrations" / "trl.md").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    quick = 'use_cpu=True, bf16=False, max_steps=1, max_completion_length=4, report_to="none", save_strategy="no", '
    shown = shown.replace("HuggingFaceTB/SmolLM2-135M-Instruct", str(tmp_path / "model"))
    shown = shown.replace('output_dir="out", ', f"output_dir={str(tmp_path / 'out')!r}, {quick}")
    names = {}
    exec(shown, names)
    assert names["trainer"].state.global_step == 1
