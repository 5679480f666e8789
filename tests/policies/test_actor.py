"""The policy samples from the distribution that it scores, and a row's scores depend on that row alone."""

import pytest
import torch
from tensordict.nn import TensorDictSequential
from tiny import tiny_folder, tiny_policy
from transformers import AutoModelForCausalLM

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.policies.policy import Policy, PolicyError
from llmrl.policies.sampler import FINISH_END, FINISH_LENGTH, FINISH_REFUSED

PROMPTS = ["a", "a much longer prompt", "b", "a"]


def sampled(policy: Policy, seed: int = 0, **options):
    generator = torch.Generator().manual_seed(seed)
    return policy.generate(PROMPTS, generator=generator, **options)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_sampled_token_has_the_log_probability_it_was_sampled_with(temperature):
    policy = tiny_policy(temperature=temperature)
    data = sampled(policy)
    scored = policy.score(data, entropy=True)
    mask = data[keys.MASK]
    torch.testing.assert_close(
        scored[keys.LOG_PROB][mask], data[keys.SAMPLER_LOG_PROB][mask], atol=1e-5, rtol=0
    )
    assert (scored[keys.LOG_PROB][~mask] == 0).all()
    assert (data[keys.SAMPLER_LOG_PROB][mask] < 0).all()


def test_scores_equal_a_plain_forward_pass_token_by_token():
    policy = tiny_policy(temperature=0.7)
    data = sampled(policy)
    scored = policy.score(data, entropy=True)
    for row in range(len(PROMPTS)):
        real = data[keys.ATTENTION][row]
        ids, mask = data[keys.TOKENS][row][real], data[keys.MASK][row][real]
        log_p = (policy.model(input_ids=ids[None]).logits[0].float() / 0.7).log_softmax(-1)
        expected = log_p[:-1].gather(1, ids[1:, None])[:, 0][mask[1:]]
        entropy = -(log_p.exp() * log_p).sum(-1)[:-1][mask[1:]]
        where = data[keys.MASK][row]
        torch.testing.assert_close(scored[keys.LOG_PROB][row][where], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(scored[keys.ENTROPY][row][where], entropy, atol=1e-5, rtol=0)


def test_a_row_is_scored_alike_alone_and_among_others():
    policy = tiny_policy()
    data = sampled(policy)
    whole = policy.score(data)[keys.LOG_PROB]
    for row in range(len(PROMPTS)):
        alone = policy.score(data[row : row + 1])[keys.LOG_PROB]
        torch.testing.assert_close(alone[0], whole[row], atol=1e-5, rtol=0)


def test_the_gradient_of_a_score_is_that_of_the_plain_model():
    policy = tiny_policy()
    data = sampled(policy)[:1]
    policy.score(data)[keys.LOG_PROB].sum().backward()
    ours = [p.grad.clone() for p in policy.model.parameters()]
    policy.model.zero_grad()
    real = data[keys.ATTENTION][0]
    ids, mask = data[keys.TOKENS][0][real], data[keys.MASK][0][real]
    log_p = policy.model(input_ids=ids[None]).logits[0].log_softmax(-1)
    log_p[:-1].gather(1, ids[1:, None])[:, 0][mask[1:]].sum().backward()
    for mine, parameter in zip(ours, policy.model.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad, atol=1e-4, rtol=1e-4)


def test_the_mask_holds_the_end_token_and_nothing_after_it():
    policy = tiny_policy(max_response_length=40)
    data = sampled(policy)
    for row in range(len(PROMPTS)):
        response = data[keys.TOKENS][row][data[keys.MASK][row]].tolist()
        ends = [token in policy.end_ids for token in response]
        assert not any(ends[:-1])
        reason = int(data["finish_reason"][row])
        assert reason == (FINISH_END if ends[-1] else FINISH_LENGTH)
        assert len(response) == 40 or ends[-1]


def test_where_padding_is_the_end_token_the_end_token_still_counts():
    from tiny import END

    policy = tiny_policy(pad=END, max_response_length=200, sharpness=1.0)
    assert policy.pad_id in policy.end_ids
    data = sampled(policy)
    ended = data["finish_reason"] == FINISH_END
    assert ended.any()
    lengths = data[keys.MASK].sum(1)
    last = data[keys.MASK].int().cumsum(1).argmax(1)
    tokens = data[keys.TOKENS].gather(1, last[:, None])[:, 0]
    assert all(int(t) in policy.end_ids for t in tokens[ended])
    assert (lengths > 0).all()


def test_greedy_is_what_transformers_generates():
    policy = tiny_policy()
    data = policy.generate(PROMPTS[:1], greedy=True)
    prompt = torch.tensor(policy.encode(PROMPTS[:1]))
    expected = policy.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=16,
        pad_token_id=policy.pad_id, eos_token_id=sorted(policy.end_ids),
    )  # fmt: skip
    ours = data[keys.TOKENS][0][data[keys.MASK][0]].tolist()
    assert expected[0, prompt.shape[1] :].tolist()[: len(ours)] == ours


def test_the_same_seed_gives_the_same_responses_and_another_one_others():
    policy = tiny_policy()
    first, again, other = sampled(policy, 1), sampled(policy, 1), sampled(policy, 2)
    assert torch.equal(first[keys.TOKENS], again[keys.TOKENS])
    assert list(first["text", "response"]) != list(other["text", "response"])


def test_equal_prompts_get_responses_of_their_own():
    responses = list(
        tiny_policy().generate(["a"] * 8, generator=torch.Generator().manual_seed(0))[
            "text", "response"
        ]
    )
    assert len(set(responses)) > 1


def test_a_prompt_that_is_too_long_is_refused_not_cut():
    policy = tiny_policy(max_prompt_length=20)
    data = sampled(policy)
    reasons = data["finish_reason"].tolist()
    assert reasons[1] == FINISH_REFUSED
    assert FINISH_REFUSED not in (reasons[0], reasons[2], reasons[3])
    assert data[keys.MASK][1].sum() == 0


def test_policy_and_loss_are_one_sequence_of_tensordict_modules():
    policy, grpo = tiny_policy(), algorithm("dapo")
    data = sampled(policy)
    with torch.no_grad():
        data[keys.OLD_LOG_PROB] = policy.score(data)[keys.LOG_PROB]
    data[keys.ADVANTAGE] = torch.tensor([1.0, -1.0, 0.5, -0.5])[:, None].expand(
        data[keys.MASK].shape
    )
    out = TensorDictSequential(policy, grpo.loss())(grpo.weigh(data))
    out["loss_objective"].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.model.parameters())


def test_a_saved_policy_is_the_same_model_for_transformers(tmp_path):
    policy = tiny_policy()
    policy.save(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for (name, ours), theirs in zip(
        policy.model.state_dict().items(), loaded.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    again = Policy.from_pretrained(tmp_path / "model", max_response_length=16)
    assert again.end_ids == policy.end_ids


def test_low_rank_adapters_train_alone_and_are_saved_merged(tmp_path):
    pytest.importorskip("peft", reason="the extra llmrl[lora] is not installed")
    from llmrl.policies.policy import LoraOptions

    folder = tiny_folder(tmp_path / "base")
    policy = Policy.from_pretrained(folder, lora=LoraOptions(rank=4), max_response_length=8)
    trained = [p for p in policy.model.parameters() if p.requires_grad]
    assert (
        0
        < sum(p.numel() for p in trained)
        < 0.5 * sum(p.numel() for p in policy.model.parameters())
    )
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1 * torch.randn_like(parameter))
    data = sampled(policy)
    before = policy.score(data)[keys.LOG_PROB]
    merged = Policy.from_pretrained(policy.save(tmp_path / "merged"), max_response_length=8)
    torch.testing.assert_close(merged.score(data)[keys.LOG_PROB], before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "words"),
    [("./no/such/folder", "does not exist"), ("./test", "does not exist")],
)
def test_a_policy_that_is_not_there_is_named(name, words):
    with pytest.raises(PolicyError, match=words):
        Policy.from_pretrained(name)


def test_a_folder_without_a_model_and_a_model_of_another_kind_are_refused(tmp_path):
    with pytest.raises(PolicyError, match=r"holds no config\.json"):
        Policy.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(PolicyError, match="is a vit, not a causal language model"):
        Policy.from_pretrained(tmp_path)
