"""The real vLLM in the policy's place: it follows every update, and says what the scorer says.

``make test-vllm`` installs it in an environment of its own and runs this file.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import train, trained
from ranks import launch
from small_run import untimed_rows
from tiny import seeds_of, tiny_tokenizer
from transformers import XGLMConfig, XGLMForCausalLM

import llmrl
from llmrl import keys
from llmrl.policies.policy import Policy, PolicyError
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.policies.sampling.vllm import VLLM
from llmrl.training.build import build
from llmrl.training.command_line import parse

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None,
        reason="vLLM is not installed; make test-vllm installs it and runs this",
    ),
]

TOLERANCE = 1e-4  # nats, both in float32; about 5e-6 is usual
PROBLEMS = [
    "What is $3+4$?",
    "Find the mean of the numbers $8$, $13$ and $3$.",
    "Solve for $x$: $2x + 6 = 20$.",
    "What is the area of a square whose side is $7$?",
]
LIMIT = 40


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def nano() -> Policy:
    policy = Policy.from_pretrained("llmrl/nano", max_response_length=LIMIT, device="cpu")
    assert policy.model.config.tie_word_embeddings
    return policy


def greedy(policy: Policy, engine: VLLM | None) -> list[list[int]]:
    """The greedy responses, by an engine or by the policy's own loop."""
    kept, policy.engine = policy.engine, engine
    data = policy.generate(PROBLEMS, SamplingOptions(greedy=True, max_new_tokens=LIMIT))
    policy.engine = kept
    return [row[mask].tolist() for row, mask in zip(data[keys.TOKENS], data[keys.MASK], strict=True)]


def first_log_probs(policy: Policy) -> torch.Tensor:
    """Of the first greedy token of each response, by the policy's engine: even a small update moves them."""
    data = policy.generate(PROBLEMS, SamplingOptions(greedy=True, max_new_tokens=1))
    return data[keys.SAMPLER_LOG_PROB][data[keys.MASK]]


def largest_gap(policy: Policy, data) -> float:
    with torch.no_grad():
        scored = policy.score(data)
    mask = data[keys.MASK]
    return float((scored[keys.LOG_PROB] - data[keys.SAMPLER_LOG_PROB])[mask].abs().max())


def equal(one, two) -> bool:
    return all(torch.equal(one[key], two[key]) for key in (keys.TOKENS, keys.SAMPLER_LOG_PROB))


@pytest.fixture(scope="module")
def policy():
    """nano and an engine of its own; tests that change weights put them back."""
    policy = nano()
    policy.engine = VLLM(policy.model, max_length=512)
    yield policy
    policy.close()


@pytest.fixture
def weights(policy):
    before = {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}
    yield policy.model
    policy.model.load_state_dict(before)
    policy.sync()


def started(folder: Path) -> Iterator[str]:
    """``llmrl serve`` in a process; its address."""
    folder.mkdir()
    file = folder / "log"
    with file.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "llmrl", "serve", "--port", "0"],
            stdout=output,
            stderr=output,
        )
    while "http://" not in file.read_text():
        assert process.poll() is None, file.read_text()
        time.sleep(0.1)
    yield "http://" + file.read_text().split("http://")[1].split(";")[0]
    process.terminate()
    assert process.wait(60) == 0, file.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """A server."""
    yield from started(tmp_path_factory.mktemp("server") / "first")


@pytest.fixture(scope="module")
def second_server(tmp_path_factory) -> Iterator[str]:
    """Another."""
    yield from started(tmp_path_factory.mktemp("server") / "second")


def arguments(engine: str, *more: str) -> list[str]:
    return [
        "--algo",
        "tis+dapo",
        "--policy",
        "llmrl/nano",
        "--policy.engine",
        engine,
        "--policy.device",
        "cpu",
        "--policy.max-response-length",
        str(LIMIT),
        "--train.prompts-per-step",
        "4",
        "--train.group-size",
        "4",
        "--train.learning-rate",
        "2e-3",
        "--train.warmup-steps",
        "1",
        "--train.steps",
        "3",
        "--threads",
        "1",
        "--eval.problems",
        "2",
        "--eval.samples",
        "2",
        "--checkpoint.every",
        "2",
        *more,
    ]


def test_greedy_responses_follow_every_step_of_training(tmp_path):
    """nano's head is tied to its embedding, so that this is also a test of the head."""
    trainer, held_out = build(parse(arguments("vllm")))
    try:
        engine = trainer.policy.engine
        last = first_log_probs(trainer.policy)
        assert greedy(trainer.policy, engine) == greedy(trainer.policy, None)
        for step in range(3):
            metrics, _ = trainer.step()
            assert metrics["actor/grad_norm"] > 0
            assert metrics["rollout/mismatch_max"] < TOLERANCE
            assert engine.version == trainer.policy.version == step + 1
            assert greedy(trainer.policy, engine) == greedy(trainer.policy, None)
            now = first_log_probs(trainer.policy)
            assert (now - last).abs().max() > TOLERANCE, "old weights would pass this test"
            last = now
    finally:
        trainer.policy.close()
        trainer.environments.close()
        held_out.close()


def test_the_tied_head_follows_too(policy, weights):
    """Only the embedding changes, turned about in the hidden space where no layer reads it alike."""
    before = greedy(policy, policy.engine)
    embedding = weights.get_input_embeddings().weight
    with torch.no_grad():
        embedding.add_(0.3 * embedding.std() * torch.randn(embedding.shape, generator=seeded()))
    policy.sync()
    now = greedy(policy, policy.engine)
    assert now == greedy(policy, None)
    assert now != before
    assert largest_gap(policy, policy.generate(PROBLEMS * 4, seeds=seeds_of(PROBLEMS * 4))) < TOLERANCE


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probabilities_are_the_scorers(policy, temperature):
    policy.temperature = temperature
    try:
        data = policy.generate(PROBLEMS * 8, seeds=seeds_of(PROBLEMS * 8))
        assert largest_gap(policy, data) < TOLERANCE
        policy.temperature = temperature + 0.2  # the test would notice
        assert largest_gap(policy, data) > 100 * TOLERANCE
    finally:
        policy.temperature = 1.0


def test_greedy_log_probabilities_are_those_of_temperature_1(policy):
    assert largest_gap(policy, policy.generate(PROBLEMS, SamplingOptions(greedy=True))) < TOLERANCE


def test_samples_have_the_scorers_distribution(policy):
    """How often each first token comes, against the probabilities of the model."""
    count = 600
    data = policy.generate(PROBLEMS[:1] * count, SamplingOptions(max_new_tokens=1), seeds=range(count))
    with torch.no_grad():
        ids = torch.tensor(policy.prompts.encode(PROBLEMS[:1]))
        p = policy.model(input_ids=ids).logits[0, -1].softmax(-1)
    seen = torch.bincount(data[keys.TOKENS][:, -1], minlength=len(p)) / count
    spread = (p * (1 - p) / count).sqrt()
    assert ((seen - p).abs() <= 5 * spread + 1e-2).all()
    assert p.max() < 0.95, "no test if there is next to no choice"


def test_a_seed_reproduces_and_the_next_draw_differs(policy):
    first = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS, 7))
    second = policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS, 8))
    assert equal(second, policy.generate(PROBLEMS, seeds=seeds_of(PROBLEMS, 8)))
    assert not equal(first, second)


def test_a_group_is_one_prompt_read_once_and_as_many_different_responses(policy):
    long = ["Compute the sum. " * 30 + "What is $3+4$?"]
    tokens = len(policy.prompts.encode(long)[0])
    assert tokens > 64
    data = policy.generate(long * 6, seeds=seeds_of(long * 6))
    responses = [row[mask].tolist() for row, mask in zip(data[keys.TOKENS], data[keys.MASK], strict=True)]
    assert len({tuple(response) for response in responses}) > 1
    assert policy.engine.cached_tokens >= 5 * 64  # all but the first row, in whole blocks
    assert largest_gap(policy, data) < TOLERANCE
    again = policy.generate(long * 6, seeds=seeds_of(long * 6))
    assert equal(data, again)


def test_every_end_token_ends_a_response_and_is_kept(policy):
    ends = set(policy.end_ids)
    try:
        policy.end_ids |= {greedy(policy, None)[0][3]}
        data = policy.generate(PROBLEMS, SamplingOptions(greedy=True))
        assert greedy(policy, policy.engine) == greedy(policy, None)
        assert data["finish_reason"][0] == 0
        policy.end_ids = set()
        assert (policy.generate(PROBLEMS, SamplingOptions(greedy=True))["finish_reason"] == 1).all()
        assert greedy(policy, policy.engine) == greedy(policy, None)
    finally:
        policy.end_ids = ends


def test_a_prompt_that_is_too_long_is_refused_and_the_others_are_answered(policy):
    kept, policy.max_prompt_length = policy.max_prompt_length, 60
    try:
        data = policy.generate([PROBLEMS[0], "x " * 200, PROBLEMS[1]], SamplingOptions(greedy=True))
        assert data["finish_reason"].tolist()[1] == 2
        assert not data[keys.MASK][1].any()
        assert data[keys.MASK][0].any()
        assert data[keys.MASK][2].any()
    finally:
        policy.max_prompt_length = kept


def test_the_death_of_the_engine_changes_nothing(policy, weights, caplog):
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.mul_(1.02)
    policy.sync()
    want = policy.generate(PROBLEMS * 2, seeds=seeds_of(PROBLEMS * 2, 5))
    restarts = policy.engine.restarts
    policy.engine.pool.child._process.kill()
    got = policy.generate(PROBLEMS * 2, seeds=seeds_of(PROBLEMS * 2, 5))
    assert equal(want, got)
    assert policy.engine.restarts == restarts + 1
    assert "The engine at this machine failed" in caplog.text
    assert "told everything again, and the request repeated" in caplog.text


def test_a_run_through_a_server_stops_and_goes_on_bitwise(server, tmp_path, monkeypatch):
    """From the command line; the weights travel as the body of a request."""
    assert train(arguments(server, "--output", str(tmp_path / "whole"))) == 0
    half = arguments(server, "--output", str(tmp_path / "half"))
    steps = half.index("--train.steps")
    half[steps + 1] = "2"
    assert train(half) == 0
    half[steps + 1] = "3"
    folder = trained(parse([*half, "--resume", "auto"]))
    assert untimed_rows(tmp_path / "whole") == untimed_rows(folder)
    last = "rollouts/step_000003.jsonl"
    assert (tmp_path / "whole" / last).read_text() == (folder / last).read_text()


def test_a_server_that_serves_another_model_says_so(server):
    VLLM(nano().model, max_length=1024, url=server).close()  # as in the run above
    with pytest.raises(PolicyError, match="already serves a model with other settings"):
        VLLM(nano().model, max_length=256, url=server)


def test_two_servers_sample_from_the_weights_that_were_trained(server, second_server):
    """They are one process's responses, greedy or not; and one goes on alone, with the same."""
    policy = nano()
    policy.engine = VLLM(policy.model, max_length=1024, url=f"{server},{second_server}")
    before = greedy(policy, policy.engine)
    assert before == greedy(policy, None)
    for (
        each
    ) in policy.engine.pool.servers:  # vLLM's own rounds are counted, which tell one that hangs from one that works
        policy.engine._loop.run(each.hold(policy.engine.run))
        assert each._progress[0] >= 2
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1.02)
    policy.sync()
    now = greedy(policy, policy.engine)
    assert now == greedy(policy, None)
    assert now != before
    together = policy.generate(PROBLEMS * 4, seeds=seeds_of(PROBLEMS * 4, 5))
    assert largest_gap(policy, together) < TOLERANCE
    policy.engine.pool.servers[1].away = "as if it had died"
    policy.engine.pool._take_back = nothing
    alone = policy.generate(PROBLEMS * 4, seeds=seeds_of(PROBLEMS * 4, 5))
    assert torch.equal(alone[keys.TOKENS], together[keys.TOKENS])
    policy.close()


@pytest.mark.parametrize("engines", ["two servers", "one beside each rank"])
def test_two_ranks(engines, request, tmp_path):
    """Greedy responses of the last evaluation are those of the weights that were trained, sampled without an engine."""
    names = ("server", "second_server") if engines == "two servers" else ()
    engine = ",".join(str(request.getfixturevalue(name)) for name in names) or "vllm"
    evaluation = ["--eval.problems", "8", "--eval.samples", "0", "--output", str(tmp_path / "run")]
    launch(Path(llmrl.__file__).parent / "__main__.py", "train", *arguments(engine, *evaluation), limit=400)
    records = [json.loads(line) for line in (tmp_path / "run" / "eval" / "after.jsonl").read_text().splitlines()]
    assert len(records) == 8
    policy = Policy.from_pretrained(tmp_path / "run" / "latest", max_response_length=LIMIT)
    drawn = policy.generate([record["problem"] for record in records], SamplingOptions(greedy=True))
    assert list(drawn["text", "response"]) == [record["response"] for record in records]
    moved = nano().model.state_dict()
    assert any(not torch.equal(moved[name], value) for name, value in policy.model.state_dict().items())


async def nothing(server) -> None:
    """What was left out stays out."""


def test_what_vllm_cannot_serve_is_refused_with_its_reason(tmp_path):
    config = XGLMConfig(
        vocab_size=261,
        d_model=64,
        num_layers=1,
        attention_heads=2,
        ffn_dim=64,
        max_position_embeddings=128,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    policy = Policy(XGLMForCausalLM(config), tiny_tokenizer(), max_prompt_length=64, max_response_length=16)
    with pytest.raises(PolicyError) as caught:
        VLLM(policy.model, max_length=80)
    assert str(caught.value) == (
        "vLLM cannot serve this model: Model architectures ['XGLMModel'] are not supported for now. "
        "--policy.engine transformers needs no engine."
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can")
def test_a_cpu_cannot_sleep():
    with pytest.raises(PolicyError, match="Sleeping needs a GPU"):
        VLLM(nano().model, max_length=64, sleep=True)
