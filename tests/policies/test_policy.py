"""The policy: sampler and scorer agree on every token, and padding, batches and files change nothing."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tensordict import NonTensorStack, TensorDict
from tensordict.nn import TensorDictSequential
from tiny import (
    CHAT_TEMPLATE,
    END,
    MODEL,
    STOP,
    USER,
    seeds_of,
    tiny_folder,
    tiny_model,
    tiny_policy,
    tiny_tokenizer,
)
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CohereConfig,
    CohereForCausalLM,
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    HyperCLOVAXConfig,
    HyperCLOVAXForCausalLM,
    MptConfig,
    MptForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from llmrl import keys
from llmrl.algorithms import algorithm
from llmrl.errors import EngineError
from llmrl.policies.critic import Critic
from llmrl.policies.policy import LoraOptions, Policy, PolicyError
from llmrl.policies.sampling.engine import SamplingOptions

PROBLEMS = ["1+1", "What is seven times eight?", "x", "1+1", "Solve $x^2=4$."]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense_scores(policy: Policy, data: TensorDict, row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies of one row's sampled tokens: one row, no padding, the model's own logits."""
    real = data[keys.ATTENTION][row]
    ids = data[keys.TOKENS][row][real][None]
    sampled = data[keys.MASK][row][real]
    logits = policy.model(input_ids=ids).logits[0].float()
    log_p = (logits / policy.temperature).log_softmax(-1)
    at = sampled.nonzero().squeeze(1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p[at - 1, ids[0, at]], entropy[at - 1]


def assert_scores_are_exact(policy: Policy, data: TensorDict, tolerance: float = 2e-5) -> None:
    with torch.no_grad():
        scored = policy.score(data, entropy=True)
        mask = data[keys.MASK]
        for row in range(len(data)):
            want, want_entropy = dense_scores(policy, data, row)
            for key, value in (
                (keys.LOG_PROB, want),
                (keys.SAMPLER_LOG_PROB, want),
                (keys.ENTROPY, want_entropy),
            ):
                torch.testing.assert_close(scored[key][row][mask[row]], value, atol=tolerance, rtol=tolerance)
    for key in (keys.LOG_PROB, keys.ENTROPY, keys.SAMPLER_LOG_PROB):
        assert (scored[key][~mask] == 0).all()
        assert scored[key].dtype == torch.float32


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("pad", ["<|pad|>", END, None])
@pytest.mark.parametrize("more_ends", [[], list(range(30, 160))])
def test_sampler_and_scorer_agree_on_every_token(temperature, pad, more_ends):
    """With pad and end the same, with several end tokens, with left padding of mixed lengths."""
    policy = tiny_policy(temperature=temperature, pad=pad)
    policy.end_ids |= set(more_ends)
    data = policy.generate(PROBLEMS * 4, seeds=seeds_of(PROBLEMS * 4))
    lengths = data[keys.MASK].sum(1)
    assert lengths.min() < 16 or not more_ends
    assert_scores_are_exact(policy, data)


def test_the_layout():
    policy = tiny_policy()
    policy.end_ids |= set(range(30, 50))
    data = policy.generate(PROBLEMS * 3, seeds=seeds_of(PROBLEMS * 3))
    contexts = policy.prompts.encode(PROBLEMS * 3)
    width = max(map(len, contexts))
    assert data.batch_size == (15,)
    for row, context in enumerate(contexts):
        tokens, attention, mask = (data[key][row] for key in (keys.TOKENS, keys.ATTENTION, keys.MASK))
        length = int(mask.sum())
        assert tokens[width - len(context) : width].tolist() == context
        expected = torch.zeros_like(mask)
        expected[width : width + length] = True
        assert torch.equal(mask, expected)
        expected[width - len(context) : width] = True
        assert torch.equal(attention, expected)
        assert (tokens[~attention] == policy.pad_id).all()
        ended = tokens[width + length - 1].item() in policy.end_ids
        assert data["finish_reason"][row].item() == (0 if ended else 1)
        assert ended or length == policy.max_response_length
    assert set(data["finish_reason"].tolist()) == {0, 1}


@pytest.mark.parametrize("greedy", [True, False])
def test_weights_that_are_not_finite_end_sampling_with_a_sentence(greedy):
    policy = tiny_policy()
    policy.generate(["1 + 1"])  # the weights become wrong later than the trial of the sampler
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(EngineError, match="not finite: training has diverged"):
        policy.generate(["1 + 1"], SamplingOptions(greedy=greedy))


def test_the_end_token_is_trained_where_pad_and_end_are_the_same():
    policy = tiny_policy(pad=END)
    end = policy.tokenizer.eos_token_id
    assert policy.pad_id == end
    with torch.no_grad():  # an end token is likely, but not at once
        policy.model.get_output_embeddings().weight[end] *= 3
    data = policy.generate(PROBLEMS * 8, seeds=seeds_of(PROBLEMS * 8, 1))
    ended = data["finish_reason"] == 0
    assert 0 < ended.sum() < len(data)
    mask, tokens = data[keys.MASK], data[keys.TOKENS]
    assert torch.equal((mask & (tokens == end)).sum(1), ended.long())
    scored = policy.score(data)
    at_end = scored[keys.LOG_PROB][mask & (tokens == end)]
    gradient = torch.autograd.grad(at_end.sum(), policy.model.get_output_embeddings().weight)[0]
    assert (at_end < 0).all()
    assert gradient[end].abs().sum() > 0


def test_a_pad_token_sampled_in_mid_response_stays():
    policy = tiny_policy()
    with torch.no_grad():
        policy.model.get_output_embeddings().weight[policy.pad_id].normal_(generator=seeded())
    data = policy.generate(PROBLEMS * 8, seeds=seeds_of(PROBLEMS * 8))
    sampled_pad = data[keys.MASK] & (data[keys.TOKENS] == policy.pad_id)
    assert sampled_pad.any()
    assert (data[keys.MASK].sum(1)[data["finish_reason"] == 1] == policy.max_response_length).all()
    assert_scores_are_exact(policy, data)


def test_scores_do_not_depend_on_padding_or_batch():
    policy = tiny_policy()
    policy.end_ids |= set(range(30, 130))
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    together = policy.score(data, entropy=True)
    wider = data.exclude("text").apply(lambda x: torch.nn.functional.pad(x, (5, 3)) if x.ndim == 2 else x)
    garbage = wider[keys.TOKENS]
    garbage[~wider[keys.ATTENTION]] = torch.randint(0, 261, garbage.shape)[~wider[keys.ATTENTION]]
    padded = policy.score(wider, entropy=True)
    for key in (keys.LOG_PROB, keys.ENTROPY):
        torch.testing.assert_close(padded[key][:, 5:-3], together[key], atol=1e-5, rtol=1e-5)
        for row in range(len(data)):
            alone = policy.score(data[row : row + 1], entropy=True)[key][0]
            torch.testing.assert_close(alone, together[key][row], atol=1e-5, rtol=1e-5)


def test_the_gradient_of_score_is_that_of_the_dense_computation():
    policy = tiny_policy(temperature=0.8)
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    factor = torch.randn(data[keys.MASK].shape, generator=seeded(1))
    scored = policy.score(data, entropy=True)
    (factor * (scored[keys.LOG_PROB] + 0.3 * scored[keys.ENTROPY])).sum().backward()
    got = {name: p.grad.clone() for name, p in policy.model.named_parameters()}
    policy.model.zero_grad()
    total = torch.zeros(())
    for row in range(len(data)):
        log_prob, entropy = dense_scores(policy, data, row)
        total = total + (factor[row][data[keys.MASK][row]] * (log_prob + 0.3 * entropy)).sum()
    total.backward()
    for name, p in policy.model.named_parameters():
        scale = float(p.grad.abs().max())
        torch.testing.assert_close(got[name], p.grad, atol=1e-5 * max(scale, 1), rtol=1e-4)


def test_several_turns_in_a_row_are_scored_by_the_mask():
    """Tokens of a user between two responses count as context, and get nothing themselves."""
    policy = tiny_policy()
    tokens = torch.randint(5, 261, (2, 12), generator=seeded())
    attention = torch.ones(2, 12, dtype=torch.bool)
    attention[1, :3] = False
    mask = torch.zeros(2, 12, dtype=torch.bool)
    mask[:, 4:6] = mask[:, 9:] = True
    data = TensorDict({keys.TOKENS: tokens, keys.ATTENTION: attention, keys.MASK: mask}, [2])
    with torch.no_grad():
        scored = policy.score(data, entropy=True)
        for row in range(2):
            want, _ = dense_scores(policy, data, row)
            torch.testing.assert_close(scored[keys.LOG_PROB][row][mask[row]], want)


def test_rows_without_sampled_tokens_cost_nothing_and_break_nothing():
    policy = tiny_policy(max_prompt_length=20)
    data = policy.generate(["1", "much too long a problem for this policy", "2"], seeds=[0, 1, 2])
    assert data["finish_reason"].tolist() == [1, 2, 1]
    assert not data[keys.ATTENTION][1].any()
    assert list(data["text", "response"])[1] == ""
    scored = policy.score(data, entropy=True)
    scored[keys.LOG_PROB].sum().backward()
    assert (scored[keys.LOG_PROB][1] == 0).all()
    assert all(p.grad.isfinite().all() for p in policy.model.parameters())
    with torch.no_grad():
        alone = policy.score(data[[0, 2]])
    torch.testing.assert_close(scored[keys.LOG_PROB][[0, 2]].detach(), alone[keys.LOG_PROB])
    nothing = policy.generate(["much too long a problem for this policy"])
    assert policy.score(nothing)[keys.LOG_PROB].shape == nothing[keys.TOKENS].shape == (1, 0)


def test_bfloat16():
    policy = Policy(tiny_model().to(torch.bfloat16), tiny_tokenizer(), max_response_length=16)
    data = policy.generate(PROBLEMS * 4, seeds=seeds_of(PROBLEMS * 4))
    scored = policy.score(data, entropy=True)
    mask = data[keys.MASK]
    gap = (scored[keys.LOG_PROB] - data[keys.SAMPLER_LOG_PROB])[mask].abs()
    assert scored[keys.LOG_PROB].dtype == data[keys.SAMPLER_LOG_PROB].dtype == torch.float32
    assert gap.mean() < 0.02
    assert gap.max() < 0.2
    scored[keys.LOG_PROB].sum().backward()


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "cohere", "granite", "falcon_h1", "hyperclovax", "untied"])
def test_other_kinds_of_models(kind):
    """Learned positions and dropout, soft-capped logits, scaled logits, a head of its own."""
    torch.manual_seed(0)
    size = {"vocab_size": 261, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    body = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "head_dim": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 128,
    }
    model = {
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=2, n_positions=128, **size)),
        "gemma2": lambda: Gemma2ForCausalLM(
            Gemma2Config(final_logit_softcapping=2.0, sliding_window=8, **body, **size)
        ),
        "cohere": lambda: CohereForCausalLM(CohereConfig(logit_scale=0.25, **body, **size)),
        "granite": lambda: GraniteForCausalLM(GraniteConfig(logits_scaling=4.0, **body, **size)),
        "falcon_h1": lambda: FalconH1ForCausalLM(
            FalconH1Config(lm_head_multiplier=0.5, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, **body, **size)
        ),
        "hyperclovax": lambda: HyperCLOVAXForCausalLM(HyperCLOVAXConfig(logits_scaling=0.25, **body, **size)),
        "untied": lambda: tiny_model(tie_word_embeddings=False),
    }[kind]()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20 if kind != "untied" else 1)
    policy = Policy(model, tiny_tokenizer(), max_prompt_length=64, max_response_length=12, temperature=0.9)
    policy.train()  # dropout would show
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    scored = policy.score(data, entropy=True)
    policy.eval()
    assert_scores_are_exact(policy, data, tolerance=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(scored[keys.LOG_PROB], policy.score(data)[keys.LOG_PROB])
    entropy = scored[keys.ENTROPY][data[keys.MASK]]
    assert (entropy < math.log(261) - 1e-3).all()


def test_a_head_that_is_not_understood_is_refused():
    class Odd(type(tiny_model())):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = out.logits * 1.5
            return out

    model = Odd(tiny_model().config)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(10)
    with pytest.raises(PolicyError, match="Odd computes its logits from the hidden states in a way"):
        Policy(model, tiny_tokenizer())


def test_greedy_is_greedy_and_seeds_decide():
    policy = tiny_policy()
    first = policy.generate(PROBLEMS, SamplingOptions(greedy=True))
    torch.manual_seed(99)
    again = policy.generate(PROBLEMS, SamplingOptions(greedy=True))
    assert torch.equal(first[keys.TOKENS], again[keys.TOKENS])
    a, b, c = (policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS, s))[keys.TOKENS] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_overrides_of_one_call():
    policy = tiny_policy(temperature=1.0)
    data = policy.generate(PROBLEMS, SamplingOptions(max_new_tokens=3, temperature=0.05), seeds=seeds_of(PROBLEMS))
    assert data[keys.MASK].sum(1).tolist() == [3] * 5
    assert data[keys.SAMPLER_LOG_PROB][data[keys.MASK]].exp().mean() > 0.5
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        policy.generate(PROBLEMS, SamplingOptions(max_new_tokens=0))


def test_a_tensordict_of_prompts():
    policy = tiny_policy()
    want = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    texts = TensorDict(batch_size=[5])
    texts["text", "prompt"] = NonTensorStack(*PROBLEMS)
    got = policy.generate(texts, seeds=seeds_of(texts))
    assert torch.equal(got[keys.TOKENS], want[keys.TOKENS])
    contexts = policy.prompts.encode(PROBLEMS)
    width = max(map(len, contexts))
    ids = torch.tensor([[9] * (width - len(c)) + c for c in contexts])
    real = torch.tensor([[False] * (width - len(c)) + [True] * len(c) for c in contexts])
    tokens = TensorDict({("tokens", "prompt"): ids, ("masks", "prompt"): real}, [5])
    got = policy.generate(tokens, seeds=seeds_of(tokens))
    assert torch.equal(got[keys.TOKENS], want[keys.TOKENS])
    with pytest.raises(KeyError, match="generate needs"):
        policy.generate(TensorDict({"x": torch.zeros(2)}, [2]))
    with pytest.raises(TypeError, match="a list of problems, got one str"):
        policy.generate("1+1")


def test_prompts_use_the_chat_template_if_there_is_one(tmp_path):
    policy = tiny_policy()
    assert policy.prompts.render("{2}") == f"{USER}{{2}}{MODEL}"
    first = policy.prompts.encode(["ab"])[0]
    user, model = policy.tokenizer.convert_tokens_to_ids([USER, MODEL])
    assert first[0] == user
    assert first[-1] == model
    assert len(first) == 4  # the special tokens are one token each, and there is no other
    args = policy.model, policy.tokenizer
    plain = Policy(*args, chat_template=None, prompt_template="Q: {problem} \\boxed{} A:")
    assert plain.prompts.render("{2}") == "Q: {2} \\boxed{} A:"
    assert Policy(args[0], tiny_tokenizer(chat=False)).prompts.render("2") == "2"
    (tmp_path / "own.jinja").write_text(CHAT_TEMPLATE.replace(USER, STOP))
    own = Policy(*args, chat_template=str(tmp_path / "own.jinja"))
    assert own.prompts.render("2") == f"{STOP}2{MODEL}"
    assert policy.prompts.encode([]) == []


def test_a_tokenizer_that_closes_every_text_does_not_end_the_prompt():
    tokenizer = tiny_tokenizer(chat=False)
    want = Policy(tiny_model(), tokenizer).prompts.encode(["ab", f"ab{END}"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.eos_token_id)]
    )
    policy = Policy(tiny_model(), tokenizer)
    assert policy.prompts.encode(["ab"]) == want[:1]


def test_special_tokens_are_written_once():
    """A tokenizer that begins every text with a token does so without a chat template only."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{STOP} $A", special_tokens=[(STOP, 2)])
    assert 2 not in Policy(tiny_model(), tokenizer).prompts.encode(["ab"])[0]
    plain = Policy(tiny_model(), tokenizer, chat_template=None).prompts.encode(["ab"])[0]
    assert plain[0] == 2
    assert plain.count(2) == 1


def test_end_tokens_come_from_everywhere():
    model = tiny_model()
    model.generation_config.eos_token_id = [2, 3]
    assert Policy(model, tiny_tokenizer()).end_ids == {1, 2, 3}
    assert tiny_policy().end_ids == {1}


def test_room_for_the_response_is_left_in_the_context():
    assert tiny_policy(max_prompt_length=1000, max_response_length=100).max_prompt_length == 412
    assert tiny_policy(max_prompt_length=64, max_response_length=100).max_prompt_length == 64
    with pytest.raises(PolicyError, match=r"max_response_length 512 leaves no room.*512 tokens"):
        tiny_policy(max_response_length=512)


def test_the_length_of_the_context_has_other_names_too():
    config = MptConfig(d_model=16, n_heads=2, n_layers=1, vocab_size=261, max_seq_len=64)
    policy = Policy(MptForCausalLM(config), tiny_tokenizer(), max_prompt_length=100, max_response_length=16)
    assert policy.max_prompt_length == 48


def test_a_critic_is_as_wide_as_the_states_before_the_head():
    size = {"vocab_size": 261, "hidden_size": 32, "word_embed_proj_dim": 16, "num_hidden_layers": 1, "ffn_dim": 16}
    model = OPTForCausalLM(OPTConfig(num_attention_heads=2, pad_token_id=0, **size))
    policy = Policy(model, tiny_tokenizer(), max_response_length=4)
    data = policy.generate(PROBLEMS)
    assert Critic.from_policy(policy)(data)[keys.VALUE].shape == data[keys.TOKENS].shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature must be greater than 0, got 0.0"),
        ({"prompt_template": "Q:"}, r"must contain \{problem\}, got 'Q:'"),
        ({"chat_template": "no/such/file"}, "chat template 'no/such/file' cannot be read"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(PolicyError, match=message):
        Policy(tiny_model(), tiny_tokenizer(), **settings)


def test_bad_masks_are_refused():
    policy = tiny_policy()
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS)).exclude("text")
    hidden = data.clone()
    hidden[keys.ATTENTION][0, -1] = False
    with pytest.raises(ValueError, match="mask must imply attention"):
        policy.score(hidden)
    data[keys.MASK] = data[keys.ATTENTION].clone()
    with pytest.raises(ValueError, match="nothing comes before it"):
        policy.score(data)


def test_score_leaves_its_input_alone_and_composes():
    policy = tiny_policy()
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    before = set(data.keys(include_nested=True, leaves_only=True))
    policy.score(data, entropy=True)
    assert set(data.keys(include_nested=True, leaves_only=True)) == before
    scored = policy(data)
    assert set(policy.out_keys) <= set(scored.keys())
    assert scored[keys.MAX_ENTROPY].tolist() == [[pytest.approx(math.log(261))]] * 5
    assert keys.ENTROPY not in scored.keys()  # noqa: SIM118
    data[keys.OLD_LOG_PROB] = scored[keys.LOG_PROB].detach()
    data[keys.ADVANTAGE] = torch.where(data[keys.MASK], 1.0, 0.0)
    mask = data[keys.MASK].float()
    data[keys.WEIGHT] = mask / mask.sum()
    out = TensorDictSequential(policy, algorithm("dapo").loss())(data)
    assert out["loss_objective"].item() == pytest.approx(-1, abs=1e-5)
    out["loss_objective"].backward()


def test_torchrl_reads_the_distribution():
    """TorchRL's GRPOLoss with this actor gives the loss and gradient of our own computation."""
    from torchrl.objectives.llm import GRPOLoss

    policy = tiny_policy(temperature=0.8)
    policy.end_ids |= set(range(30, 130))
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    dist = policy.get_dist(data)
    scored = policy.score(data, entropy=True)
    mask = data[keys.MASK]
    log_prob = dist.log_prob(data[keys.TOKENS])
    torch.testing.assert_close(log_prob, scored[keys.LOG_PROB], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dist.entropy()[mask], scored[keys.ENTROPY][mask], atol=1e-4, rtol=1e-4)
    data[keys.SAMPLER_LOG_PROB] = torch.where(mask, data[keys.SAMPLER_LOG_PROB] + 0.1, 0.0)
    advantage = torch.randn(5, generator=seeded(2))[:, None].expand(mask.shape)
    data["advantage"] = advantage[..., None]
    loss = GRPOLoss(actor_network=policy, entropy_bonus=False, masking_strategy="rlhf")
    theirs = loss(data).loss_objective
    ratio = (scored[keys.LOG_PROB] - data[keys.SAMPLER_LOG_PROB]).exp()
    terms = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
    ours = -terms[mask].mean()
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-5)
    weight = policy.model.get_output_embeddings().weight
    (got,) = torch.autograd.grad(ours, weight)
    (want,) = torch.autograd.grad(theirs, weight)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-3)


def test_sync_counts_versions_and_new_weights_are_sampled_at_once():
    policy = tiny_policy()
    before = policy.generate(PROBLEMS, SamplingOptions(greedy=True))[keys.TOKENS]
    with torch.no_grad():
        policy.model.model.layers[0].mlp.down_proj.weight.mul_(-2)
    assert policy.version == 0
    assert policy.sync() == policy.version == 1
    data = policy.generate(PROBLEMS, SamplingOptions(greedy=True))
    assert not torch.equal(data[keys.TOKENS], before)
    assert_scores_are_exact(policy, data)


def test_save_and_load(tmp_path):
    policy = tiny_policy(pad=END)
    policy.model.generation_config.eos_token_id = [1, 2]
    policy.save(tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for name, p in policy.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], p)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    again = Policy.from_pretrained(tmp_path / "saved", device="cpu", max_prompt_length=128, max_response_length=16)
    assert again.end_ids == {1, 2}
    assert again.pad_id == policy.pad_id
    policy.end_ids = again.end_ids
    x, y = (p.generate(PROBLEMS, SamplingOptions(greedy=True)) for p in (policy, again))
    assert torch.equal(x[keys.TOKENS], y[keys.TOKENS])


def test_a_copy_is_a_policy_of_its_own():
    policy = tiny_policy()
    reference = copy.deepcopy(policy).requires_grad_(False)
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(2)
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    assert not torch.equal(policy.score(data)[keys.LOG_PROB], reference.score(data)[keys.LOG_PROB])


def test_gradient_checkpointing_changes_nothing_but_memory(tmp_path):
    folder = tiny_folder(tmp_path / "tiny")
    options = {"device": "cpu", "max_prompt_length": 64, "max_response_length": 8}
    gradients = []
    for checkpointing in (False, True):
        policy = Policy.from_pretrained(folder, gradient_checkpointing=checkpointing, **options)
        policy.train()
        assert policy.model.is_gradient_checkpointing == checkpointing
        data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
        policy.score(data)[keys.LOG_PROB].sum().backward()
        gradients.append([p.grad for p in policy.model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "lm_head")])
def test_low_rank_adapters(tmp_path, targets):
    pytest.importorskip("peft", reason="peft is not installed: pip install 'llmrl[lora]'")
    folder = tiny_folder(tmp_path / "tiny", tie_word_embeddings=False)
    policy = Policy.from_pretrained(
        folder,
        device="cpu",
        lora=LoraOptions(rank=4, targets=targets),
        max_prompt_length=64,
        max_response_length=12,
        temperature=0.7,
    )
    trained = [name for name, p in policy.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.2, generator=seeded())
    data = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS))
    assert_scores_are_exact(policy, data, tolerance=1e-4)
    policy.score(data)[keys.LOG_PROB].sum().backward()
    for name, p in policy.model.named_parameters():
        assert (p.grad is not None) == ("lora_" in name)
        if "lora_A" in name:
            assert p.grad.abs().sum() > 0
    policy.save(tmp_path / "merged")
    merged = Policy.from_pretrained(
        tmp_path / "merged",
        device="cpu",
        max_prompt_length=64,
        max_response_length=12,
        temperature=0.7,
    )
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    with torch.no_grad():
        torch.testing.assert_close(
            merged.score(data)[keys.LOG_PROB],
            policy.score(data)[keys.LOG_PROB],
            atol=1e-4,
            rtol=1e-4,
        )
    assert any("lora_" in name for name, _ in policy.model.named_parameters())  # a copy was merged
