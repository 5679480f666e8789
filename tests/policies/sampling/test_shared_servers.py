"""Several processes of one run share servers: each hands the weights to some, and asks the others where these fall."""

import contextlib
import threading

import pytest
import torch
from engine_stand_in import StandIn, running
from tiny import tiny_model

from llmrl.errors import EngineError
from llmrl.policies.sampling import pool
from llmrl.policies.sampling.child import own_gpu
from llmrl.policies.sampling.vllm import VLLM

pytestmark = pytest.mark.usefixtures("no_back_off")


@pytest.fixture
def servers(tmp_path):
    """Start servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(count):
            made = []
            for number in range(count):
                (tmp_path / str(number)).mkdir()
                made.append(stack.enter_context(running(StandIn(), tmp_path / str(number))))
            return made

        yield start


@pytest.fixture
def processes():
    """Make the engines of several processes at the same time, each with a model of its own that has equal weights."""
    with contextlib.ExitStack() as stack:

        def make(made, count):
            url = ",".join(server.url for server in made)
            models = [tiny_model() for _ in range(count)]
            engines = {}

            def one(rank):
                engines[rank] = VLLM(models[rank], max_length=32, url=url, run="same", share=(rank, count))

            threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            for rank in range(count):
                stack.callback(engines[rank].close)
            return [engines[rank] for rank in range(count)]

        yield make


def ask(engine, context):
    """One response to each of two rows."""
    [one, two] = engine.sample([context, context], end_ids=[], version=engine.version, max_new_tokens=2, seeds=[0, 1])
    return one.tokens, two.tokens


def asked(server):
    """The first token of each request that came."""
    return [request.contexts[0][0] for request in server.host.requests]


def push(engine, version):
    """Hand over weights that are a little larger."""
    with torch.no_grad():
        for parameter in engine.weights.model.parameters():
            parameter.add_(1.0)
    engine.push(engine.weights.model, version)


def test_each_process_asks_servers_of_its_own(servers, processes):
    made = servers(3)
    engines = processes(made, 2)
    ask(engines[0], [10])
    ask(engines[1], [11])
    assert [asked(server) for server in made] == [[10], [11], [10]]  # two rows over two servers
    push(engines[1], 1)
    assert [server.host.weights.step for server in made] == [0, 1, 0]
    push(engines[0], 1)
    assert len({server.host.weights for server in made}) == 1


def test_a_process_whose_servers_fall_asks_the_others_until_one_is_back(servers, processes):
    made = servers(2)
    engines = processes(made, 2)
    made[1].stop()
    assert ask(engines[1], [11]) == ([11, 11], [11, 11])
    assert asked(made[0]) == [11]
    made[1].host = StandIn()
    made[1].start()
    ask(engines[0], [10])
    assert made[1].host.weights is None  # another process's to hand over
    ask(engines[1], [12])
    assert asked(made[0]) == [11, 10]
    assert asked(made[1]) == [12]
    assert made[1].host.weights == made[0].host.weights


def test_more_processes_than_servers(servers, processes):
    made = servers(1)
    engines = processes(made, 3)  # two of them waited for the first one's weights
    for rank, engine in enumerate(engines):
        ask(engine, [10 + rank])
    assert asked(made[0]) == [10, 11, 12]


def test_a_process_without_a_server_of_its_own_waits_for_the_weights(servers, processes, monkeypatch):
    made = servers(1)
    engines = processes(made, 2)
    made[0].host = StandIn()
    made[0].stop()
    made[0].start()
    monkeypatch.setattr(pool, "PATIENCE", 1.0)
    with pytest.raises(EngineError, match="it holds no weights, and another process has to change that"):
        ask(engines[1], [11])
    ask(engines[0], [10])
    ask(engines[1], [11])
    assert asked(made[0]) == [10, 11]


@pytest.mark.parametrize(("seen", "here", "want"), [(None, 1, "1"), ("4,7", 1, "7"), ("0", 0, "0")])
def test_an_engine_beside_a_rank_sees_the_gpu_of_that_rank(monkeypatch, seen, here, want):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: here)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert own_gpu() == {"CUDA_VISIBLE_DEVICES": want}
