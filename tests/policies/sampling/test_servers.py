"""What a trainer believes of an engine's answers, and how it deals rows over several engines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import threading
import time

import pytest
import torch
from engine_stand_in import TOKEN, StandIn, running
from malformed import broken_json, nonsense, places, with_value
from tiny import tiny_model, tiny_policy

from llmrl import keys
from llmrl.errors import EngineError, PolicyError
from llmrl.policies.sampling import pool, servers, wire
from llmrl.policies.sampling.folders import token_file, write_private
from llmrl.policies.sampling.servers import Address, Forgotten, Lost, Server, Unreachable, check, token_for
from llmrl.policies.sampling.vllm import VLLM
from llmrl.policies.sampling.weights import weights, write_parts

FUZZ = int(os.environ.get("LLMRL_FUZZ", "1000"))  # 10,000 for all that was promised
LENGTH = 144
VOCABULARY = 50
WEIGHTS = wire.Weights(run="r", step=3, digest="0" * 64)
ASKED = wire.Sampling(
    run="r",
    weights=WEIGHTS,
    contexts=[[5, 6, 7], [8]],
    seeds=[1, 2],
    limits=[4, 3],
    temperature=1.0,
    end_ids=[9],
)
GOOD = {
    "weights": WEIGHTS.model_dump(),
    "responses": [
        {"tokens": [1, 2, 3, 4], "log_probs": [-1.0, 0.0, -0.5, -2], "finish": "length"},
        {"tokens": [1, 9], "log_probs": [-1.5, -0.1], "finish": "end"},
    ],
    "cached": [0, 1],
}

pytestmark = pytest.mark.usefixtures("no_back_off")


# One answer


def changed(row: int, **values) -> dict:
    """The good answer with another response in one row."""
    return with_value(GOOD, ("responses", row), {**GOOD["responses"][row], **values})


LIES = {
    "fewer responses": {**GOOD, "responses": GOOD["responses"][:1]},
    "more responses": {**GOOD, "responses": [*GOOD["responses"], GOOD["responses"][1]]},
    "cached of one row": {**GOOD, "cached": [0]},
    "more cached than read": {**GOOD, "cached": [0, 2]},
    "an id beyond the vocabulary": changed(0, tokens=[1, 2, 3, 10**9]),
    "the id behind the last": changed(0, tokens=[1, 2, 3, VOCABULARY]),
    "a negative id": changed(0, tokens=[1, 2, 3, -1]),
    "more tokens than allowed": changed(0, tokens=[1] * 5, log_probs=[-1.0] * 5),
    "5000 tokens": changed(0, tokens=[1] * 5000, log_probs=[-1.0] * 5000),
    "no tokens": changed(1, tokens=[], log_probs=[]),
    "a log-probability of +5": changed(1, log_probs=[-1.5, 5.0]),
    "one that is not a number": changed(1, log_probs=[-1.5, float("nan")]),
    "one that is -inf": changed(1, log_probs=[-1.5, float("-inf")]),
    "one too few": changed(1, log_probs=[-1.5]),
    "one too many": changed(1, log_probs=[-1.5, -1.0, -1.0]),
    "an end token in the middle": changed(0, tokens=[1, 9, 3, 4]),
    "an end that is none": changed(1, tokens=[1, 8]),
    "a length that is an end": changed(0, tokens=[1, 2, 3, 9]),
    "a length that is short": changed(0, tokens=[1, 2, 3], log_probs=[-1.0] * 3),
    "another reason": changed(1, finish="abort"),
    "another step": {**GOOD, "weights": {**GOOD["weights"], "step": 2}},
    "another run": {**GOOD, "weights": {**GOOD["weights"], "run": "s"}},
    "another digest": {**GOOD, "weights": {**GOOD["weights"], "digest": "1" * 64}},
    "ids as texts": changed(1, tokens=["1", "9"]),
    "ids as fractions": changed(1, tokens=[1.0, 9.0]),
    "true for 1": changed(1, tokens=[True, 9]),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_believed(lie):
    with pytest.raises((Lost, wire.Malformed)):
        check(wire.read(wire.Sampled, json.dumps(LIES[lie]).encode()), ASKED, VOCABULARY)


def test_what_is_believed():
    check(wire.read(wire.Sampled, json.dumps(GOOD).encode()), ASKED, VOCABULARY)
    rounded = changed(1, log_probs=[-1.5, 1e-6])
    check(wire.read(wire.Sampled, json.dumps(rounded).encode()), ASKED, VOCABULARY)


class Liar:
    """Listens, reads a request, and sends the bytes it was given."""

    def __init__(self) -> None:
        self.answer = b""
        self.pause = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._done(asyncio.start_server(self._connected, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.server = Server(Address(f"http://127.0.0.1:{port}"), TOKEN)

    def _done(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _talk(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", head)[1]))
            for place in range(0, len(self.answer), 1 << 16):
                writer.write(self.answer[place : place + (1 << 16)])
                await writer.drain()
                await asyncio.sleep(self.pause)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _connected(self, reader, writer):
        try:
            await self._talk(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
            raise

    def close(self) -> None:
        async def end():
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0.05)  # the connections end

        self._done(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()


@pytest.fixture
def liar():
    liar = Liar()
    yield liar
    liar.close()


def http(body: bytes, status: str = "200 OK", content_type: str = wire.JSON, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def malformed_answer(random_: random.Random) -> bytes:
    """Bytes that are no answer to ``ASKED``."""
    good = json.dumps(GOOD).encode()
    match random_.randrange(6):
        case 0:
            return http(broken_json(random_, GOOD))
        case 1 | 2:
            while True:
                place, value = random_.choice(places(GOOD)), nonsense(random_)
                spot = place[-2:] if isinstance(place[-1], int) else place[-1:]
                if spot[0] == "log_probs" and value == -1:  # as good a number as any
                    continue
                break
            return http(json.dumps(with_value(GOOD, place, value)).encode())
        case 3:
            return http(json.dumps(random_.choice(list(LIES.values()))).encode())
        case 4:
            refusal = {
                "error": "\x1b[2J" * random_.randrange(1, 9),
                "kind": random_.choice(["weights", "busy", "what"]),
            }
            page = b"<html><h1>502 Bad Gateway</h1></html>"
            return random_.choice(
                [
                    http(page, "502 Bad Gateway", "text/html"),
                    http(page, "200 OK", "text/html"),
                    http(good, "200 OK", "text/html"),
                    http(good, "500 Oops"),
                    http(good, "302 Found\r\nLocation: http://127.0.0.1:9/"),
                    http(json.dumps(refusal).encode(), f"{random_.randrange(400, 600)} No"),
                    http(b"", "204 No Content"),
                    http(b"", "101 Switching Protocols"),
                    http(b"{" * 300_000),
                ]
            )
        case _:
            whole = http(good)
            return random_.choice(
                [
                    b"",
                    whole[: random_.randrange(len(whole) - 1)],
                    http(good, length=len(good) + 5),
                    http(good, length=len(good) - 5),
                    whole.replace(b"HTTP/1.1", random_.choice([b"HTTP", b"SSH-2.0", b""])),
                    whole.replace(b"200", random_.choice([b"2OO", b"-1", b"99999"])),
                    whole.replace(b"Content-Length", b"Transfer-Encoding: chunked\r\nX"),
                    whole.replace(b"Content-Length: ", b"Content-Length: -"),
                    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000,
                    random_.randbytes(random_.randrange(400)),
                    http(good, content_type="application/x-json"),
                ]
            )


def test_malformed_answers_are_not_believed(liar):
    """Seeded; LLMRL_FUZZ says how many."""
    random_ = random.Random(0)
    reasons: dict[str, int] = {}

    async def talk():
        for number in range(FUZZ):
            liar.answer = malformed_answer(random_)
            async with asyncio.timeout(20):
                try:
                    await liar.server.sample(ASKED, VOCABULARY)
                except (Lost, EngineError) as error:
                    said = str(error)
                    assert said.isprintable(), (number, said)
                    assert len(said) < 2100
                    reasons[type(error).__name__] = reasons.get(type(error).__name__, 0) + 1
                else:
                    pytest.fail(f"{number}: believed {liar.answer[:2000]!r}")
        liar.answer = http(json.dumps(GOOD).encode())
        answer = await liar.server.sample(ASKED, VOCABULARY)
        assert answer.model_dump() == GOOD

    asyncio.run(talk())
    print(reasons)


def test_an_answer_that_drips_is_waited_for_no_longer_than_is_allowed(liar, monkeypatch):
    """Every single wait would be short enough."""
    monkeypatch.setattr(servers, "SAMPLE_WITHIN", 0.6)
    liar.answer = http(json.dumps(GOOD).encode()) + b" " * (1 << 20)
    liar.pause = 0.3
    liar.answer = http(json.dumps(GOOD).encode() + b" " * (1 << 20), length=2 << 20)
    monkeypatch.setattr(servers, "BYTES_PER_TOKEN", 1 << 20)
    with pytest.raises(Unreachable, match="did not answer to /sample within 1 s"):
        asyncio.run(liar.server.sample(ASKED, VOCABULARY))


def test_an_answer_is_read_no_further_than_one_could_be_long(liar):
    liar.answer = http(json.dumps(GOOD).encode() + b" " * 100_000)
    with pytest.raises(Lost, match="its answer to /sample is longer than"):
        asyncio.run(liar.server.sample(ASKED, VOCABULARY))


def test_a_server_without_a_sign_of_life_is_given_up(liar, monkeypatch):
    monkeypatch.setattr(wire, "SILENCE", 0.5)
    liar.answer, liar.pause = b"H" * (1 << 18), 5.0
    with pytest.raises(Unreachable, match="no sign of life"):
        asyncio.run(liar.server.sample(ASKED, VOCABULARY))


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("weights", Forgotten, "^it says so"),
        ("busy", Lost, "^it says so"),
        ("broken", Lost, "^it says so"),
        ("input", EngineError, r"it says so .*\(the engine at http://127"),
        ("token", EngineError, "refuses access: it says so"),
        ("held", EngineError, "is in use: it says so"),
    ],
)
def test_what_a_refusal_means(liar, kind, error, words):
    liar.answer = http(json.dumps({"error": "it says so", "kind": kind, "silent": 1.0}).encode(), "400 No")
    with pytest.raises(error, match=words):
        asyncio.run(liar.server.sample(ASKED, VOCABULARY))


def test_a_page_of_a_proxy_becomes_one_sentence(liar, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 0.0)
    liar.answer = http(b"<html>502</html>", "502 Bad Gateway", "text/html")
    with pytest.raises(PolicyError, match=r"it answered with status 502 and text/html.*--policy\.engine transformers"):
        VLLM(tiny_model(), max_length=LENGTH, url=liar.server.address.url)


# Tokens


def test_the_token_comes_from_the_environment_or_from_a_server_of_this_account(monkeypatch):
    here, there = Address("http://127.0.0.1:19999"), Address("http://10.0.0.1:19999")
    assert token_for(here) == token_for(there) == TOKEN
    monkeypatch.delenv("LLMRL_TOKEN")
    assert token_for(here) == token_for(there) == ""
    file = token_file(19999)
    write_private(file, "written down")
    try:
        assert token_for(here) == "written down"
        assert token_for(there) == ""
    finally:
        file.unlink()


def test_a_server_that_is_started_again_may_have_made_another_token(tmp_path, monkeypatch):
    monkeypatch.delenv("LLMRL_TOKEN")
    policy = tiny_policy()
    with running(Keyed(), tmp_path) as server:
        file = token_file(server.port)
        try:
            for token in ("the first one made", "the second one made"):
                write_private(file, token.replace(" ", "-"))
                server.stop()
                server.options["token"] = token.replace(" ", "-")
                server.start()
                if policy.engine is None:
                    policy.engine = engine_for([server])
                assert sampled(policy)
        finally:
            file.unlink()
        with pytest.raises(EngineError, match="The token is missing or wrong"):
            sampled(policy)
    policy.close()


@pytest.mark.parametrize("token", ["with a blank in it", "a-line-of-text\n-and-another", "ä" * 20, "short"])
def test_what_no_token_may_be(monkeypatch, token):
    monkeypatch.setenv("LLMRL_TOKEN", token)
    with pytest.raises(PolicyError, match="LLMRL_TOKEN must have at least 16 characters, without spaces"):
        VLLM(tiny_model(), max_length=LENGTH, url="http://127.0.0.1:9")


def test_a_wrong_token_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMRL_TOKEN", "wrong" * 4)
    with (
        running(StandIn(), tmp_path) as server,
        pytest.raises(PolicyError, match="Set LLMRL_TOKEN to the server's token"),
    ):
        VLLM(tiny_model(), max_length=LENGTH, url=server.url)


# Weights


def test_weights_go_in_parts_that_are_not_all_held(tmp_path):
    tensors = {f"t{i}": torch.full((10,), float(i)) for i in range(7)}
    tensors["tied"] = tensors["t6"]
    digests = write_parts(iter(tensors.items()), tmp_path, part_bytes=100)
    from safetensors.torch import load_file

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [wire.part_name(index) for index in range(4)]
    assert digests == [wire.digest_of_file(file) for file in files]
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert list(found) == list(tensors)
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_an_identity_is_that_of_the_weights(tmp_path):
    def digest(folder, seed):
        (tmp_path / folder).mkdir()
        return wire.digest_of_parts(write_parts(weights(tiny_model(seed=seed)), tmp_path / folder))

    assert digest("a", 0) == digest("b", 0) != digest("c", 1)


# Several engines, several trainers


class Keyed(StandIn):
    """Samples by seed alone, as vLLM does: whatever is sampled with it."""

    def _sample(self, request, settings):
        answer = super()._sample(request, settings)
        responses = []
        for row, plain in enumerate(answer.responses):
            seed = 0 if request.seeds is None else request.seeds[row]
            draw = random.Random(seed + sum(request.contexts[row]))
            tokens = [draw.randrange(10, settings.vocab_size) for _ in plain.tokens]
            responses.append(wire.Response(tokens=tokens, log_probs=plain.log_probs, finish="length"))
        return wire.Sampled(weights=request.weights, responses=responses, cached=answer.cached)


@pytest.fixture
def fleet(tmp_path):
    """Start several servers."""
    with contextlib.ExitStack() as stack:

        def start(*hosts):
            made = []
            for host in hosts:
                folder = tmp_path / f"server{time.monotonic_ns()}"
                folder.mkdir()
                made.append(stack.enter_context(running(host, folder)))
            return made

        yield start


def urls(running_servers) -> str:
    return ",".join(server.url for server in running_servers)


def sampled(policy, prompts=("a", "bb", "ccc", "dddd")):
    data = policy.generate([p for p in prompts for _ in range(3)], seeds=range(3 * len(prompts)))
    return data[keys.TOKENS][data[keys.MASK]].tolist()


def engine_for(made, **options) -> VLLM:
    return VLLM(tiny_model(), max_length=LENGTH, url=urls(made), **options)


def test_responses_do_not_depend_on_how_many_engines_sample(fleet):
    policy = tiny_policy()
    results = []
    for count in (1, 2, 3):
        hosts = [Keyed() for _ in range(count)]
        policy.engine = engine_for(fleet(*hosts))
        results.append(sampled(policy))
        rows = [len(request.contexts) for host in hosts for request in host.requests]
        assert rows == [12 // count] * count
        for host in hosts:  # groups stay together where they can
            contexts = [tuple(context) for context in host.requests[0].contexts]
            assert len(set(contexts)) <= 4 // count + 1
        policy.close()
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("name", "most", "rows"), [("ROWS", 5, [5, 5, 2]), ("TOKENS", 1, [1] * 12)])
def test_many_rows_go_in_several_requests_of_which_each_is_within_the_limits(name, most, rows, fleet, monkeypatch):
    policy, host = tiny_policy(), Keyed()
    policy.engine = engine_for(fleet(host))
    want = sampled(policy)
    host.requests.clear()
    monkeypatch.setattr(pool, name, most)
    assert sampled(policy) == want
    assert [len(request.contexts) for request in host.requests] == rows
    policy.close()


def test_what_was_answered_before_a_failure_is_kept(fleet, monkeypatch):
    class Ending(Keyed):
        def _sample(self, request, settings):
            if request.contexts != [[0]] and len(self.requests) == 1:
                raise RuntimeError("out of order")
            return super()._sample(request, settings)

    monkeypatch.setattr(pool, "ROWS", 3)
    policy, hosts = tiny_policy(), [Keyed(), Ending()]
    policy.engine = engine_for(fleet(*hosts))
    responses = sampled(policy)
    assert [[len(request.contexts) for request in host.requests] for host in hosts] == [[3, 3, 3], [3]]
    policy.close()
    policy.engine = engine_for(fleet(Keyed()))
    assert sampled(policy) == responses
    policy.close()


def test_one_that_dies_is_left_out_and_taken_back_when_it_returns(fleet, caplog):
    hosts = [Keyed(), Keyed()]
    made = fleet(*hosts)
    policy = tiny_policy()
    policy.engine = engine_for(made)
    want = sampled(policy)
    made[1].stop()
    assert sampled(policy) == want
    assert f"The engine at {made[1].url} failed: nothing answers" in caplog.text
    assert "left out" in caplog.text
    asked = len(hosts[0].requests)
    assert sampled(policy) == want
    assert len(hosts[0].requests) == asked + 1  # all rows at once: the other one is not waited for

    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1.0)
    policy.sync()
    host = made[1].host = Keyed()  # a new process, which knows nothing
    made[1].start()
    assert sampled(policy) == want
    assert len(host.requests) == 1
    assert host.weights == hosts[0].weights
    assert host.weights.step == 1
    assert all(torch.equal(host.tensors[name], hosts[0].tensors[name]) for name in hosts[0].tensors)
    assert f"{made[1].url} is back" in caplog.text
    policy.close()


def test_one_that_returns_is_given_the_weights_of_the_next_push(fleet):
    hosts = [Keyed(), Keyed()]
    made = fleet(*hosts)
    policy = tiny_policy()
    policy.engine = engine_for(made)
    made[0].stop()
    sampled(policy)
    made[0].start()
    policy.sync()
    assert hosts[0].weights == hosts[1].weights
    assert hosts[0].weights.step == 1
    policy.close()


def test_one_whose_answers_are_wrong_is_left_out(fleet, caplog):
    class Lying(Keyed):
        def _sample(self, request, settings):
            answer = super()._sample(request, settings)
            return (
                answer if len(request.contexts) == 1 else answer.model_copy(update={"responses": answer.responses[1:]})
            )

    policy = tiny_policy()
    policy.engine = engine_for(fleet(Keyed()))
    want = sampled(policy)
    policy.close()
    policy.engine = engine_for(fleet(Keyed(), Lying()))
    assert sampled(policy) == want
    assert "its samples are invalid: 5 responses to 6 contexts" in caplog.text
    assert policy.engine.restarts == 3
    policy.close()


class Hanging(Keyed):
    """Answers every sign of life, and samples no further until it is let go."""

    def __init__(self, moves: float = 0.0) -> None:
        super().__init__()
        self.hangs, self.let_go = False, threading.Event()
        self.moves = moves  # seconds for which it goes on all the same
        self.asked = 0

    def _sample(self, request, settings):
        began = time.monotonic()
        self.asked += 1
        while self.hangs and not self.let_go.wait(0.1):
            if time.monotonic() - began < self.moves:
                self.progress += 1
            elif self.moves:
                break
        self.progress += 1
        return super()._sample(request, settings)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(wire, "BEAT", 0.2)
    monkeypatch.setattr(wire, "STALLED", 1.0)


def test_one_that_answers_and_hangs_is_named(fleet, impatient):
    host = Hanging()
    policy = tiny_policy()
    policy.engine = engine_for(fleet(host))
    host.hangs = True
    with pytest.raises(
        EngineError, match=r"^The engine at http\S+ failed: it answers, and has sampled no token for 1 s"
    ):
        sampled(policy)
    host.let_go.set()
    policy.close()


def test_one_that_hangs_is_left_out_until_it_moves(fleet, impatient, caplog):
    host = Hanging()
    policy = tiny_policy()
    policy.engine = engine_for(fleet(Keyed(), host))
    want = sampled(policy)
    host.hangs = True
    assert sampled(policy) == want
    assert "it hangs" in caplog.text
    asked = host.asked
    assert sampled(policy) == want
    assert host.asked == asked  # it is not asked again while it hangs
    host.let_go.set()
    for _ in range(100):
        assert sampled(policy) == want
        if host.asked > asked:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it was not taken back")
    policy.close()


def test_one_that_is_slow_is_waited_for(fleet, impatient):
    host = Hanging(moves=2.5)
    policy = tiny_policy()
    policy.engine = engine_for(fleet(host))
    asked, host.hangs = host.asked, True
    assert sampled(policy)
    assert host.asked == asked + 1
    policy.close()


def test_when_none_is_left_the_sentence_names_them_all(fleet, monkeypatch):
    made = fleet(Keyed(), Keyed())
    policy = tiny_policy()
    policy.engine = engine_for(made)
    monkeypatch.setattr(pool, "PATIENCE", 0.0)
    for server in made:
        server.stop()
    with pytest.raises(EngineError, match=rf"No engine is left.*{made[0].url} failed.*{made[1].url} failed"):
        sampled(policy)
    for server in made:  # and the next call finds them again
        server.start()
    assert len(sampled(policy)) == 12 * policy.max_response_length
    policy.close()


def test_one_that_cannot_be_reached_ends_the_start(fleet, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 0.0)
    made = fleet(Keyed())
    with pytest.raises(PolicyError, match=r"nothing answers.*llmrl serve --host 127\.0\.0\.1 --port 9"):
        VLLM(tiny_model(), max_length=LENGTH, url=f"{made[0].url},http://127.0.0.1:9")


def test_weights_that_changed_since_they_were_handed_over_are_not_handed_over_again(fleet):
    made = fleet(Keyed(), Keyed())
    policy = tiny_policy()
    policy.engine = engine_for(made)
    policy.engine.weights.model = policy.model
    made[1].stop()
    sampled(policy)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1.0)
    made[1].host = Keyed()
    made[1].start()
    sampled(policy)
    assert made[1].host.weights is None
    assert "the model has changed since" in policy.engine.pool.servers[1].away
    policy.close()


def test_a_second_trainer_is_told_and_the_first_goes_on(fleet, monkeypatch):
    host = Keyed()
    made = fleet(host)
    first = tiny_policy()
    first.engine = engine_for(made)
    monkeypatch.setattr(wire, "BEAT", 0.1)
    first.engine._loop.run(_spawned(first.engine))
    want = sampled(first)
    with pytest.raises(PolicyError, match=f"is in use: This engine works for run {first.engine.run}"):
        engine_for(made)
    assert sampled(first) == want
    first.close()
    second = engine_for(made)
    assert host.weights.run == second.run
    second.close()


async def _spawned(engine):
    engine._loop.spawn(engine.pool.beat())


def test_a_trainer_that_was_killed_is_forgotten(fleet, monkeypatch):
    made = fleet(Keyed())
    killed = engine_for(made)
    killed._loop.close()  # no more signs of life
    monkeypatch.setattr(wire, "SILENCE", 1.0)
    second = engine_for(made)
    assert made[0].host.weights.run == second.run
    second.close()


def test_a_trainer_that_lost_its_engine_is_told(fleet, monkeypatch):
    """It was silent for so long that another took over: it stops, and samples nothing from others' weights."""
    made = fleet(Keyed())
    first = tiny_policy()
    first.engine = engine_for(made)
    monkeypatch.setattr(wire, "SILENCE", 0.0)
    second = engine_for(made)
    monkeypatch.setattr(wire, "SILENCE", 60.0)
    with pytest.raises(EngineError, match=f"is in use: This engine works for run {second.run}"):
        sampled(first)
    second.close()
    assert sampled(first)  # the engine is free again, and is given the weights
    assert made[0].host.weights.run == first.engine.run
    first.close()
