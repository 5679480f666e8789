"""The server around an engine: it lets in whom it should, and no request ends, blocks or deceives it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
import time

import httpx2
import pytest
import torch
from engine_stand_in import TOKEN, StandIn, running
from malformed import broken_json, nonsense, places, with_value
from safetensors.torch import save

from llmrl.policies.sampling import folders, serve, service, wire

RUN = "a-run"
TENSORS = {"weight": torch.ones(2, 3)}
FUZZ = int(os.environ.get("LLMRL_FUZZ", "300"))  # 10,000 for all that was promised
START = {
    "run": RUN,
    "config": {"model_type": "llama"},
    "dtype": "float32",
    "vocab_size": 50,
    "max_length": 32,
    "max_rows": 8,
    "cache_bytes": 1 << 20,
    "sleep": False,
}


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def identity(body: bytes, step: int = 0, run: str = RUN) -> dict:
    return {"run": run, "step": step, "digest": wire.digest_of_parts([digest(body)])}


WEIGHTS = save(TENSORS)
SAMPLE = {
    "run": RUN,
    "weights": identity(WEIGHTS),
    "contexts": [[5, 6, 7], [8]],
    "seeds": [1, 2],
    "limits": [4, 3],
    "temperature": 1.0,
    "end_ids": [9],
}
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": wire.JSON}


def part_headers(body: bytes, index: str = "0", run: str = RUN) -> dict[str, str]:
    return {
        **HEADERS,
        "Content-Type": wire.SAFETENSORS,
        wire.RUN_HEADER: run,
        wire.PART_HEADER: index,
        wire.DIGEST_HEADER: digest(body),
    }


class Asked:
    """Requests to the application itself, without a socket."""

    def __init__(self, folder, **options) -> None:
        self.host = StandIn()
        folder.mkdir(exist_ok=True)
        self.broken = 0
        self.service = service.Service(
            self.host, token=TOKEN, names=["localhost"], folder=folder, broken=self._break, **options
        )
        self.folder = folder
        transport = httpx2.ASGITransport(app=self.service.application(), raise_app_exceptions=True)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")

    def _break(self) -> None:
        self.broken += 1

    async def post(self, path: str, message=None, *, content=None, headers=HEADERS) -> httpx2.Response:
        body = json.dumps(message).encode() if content is None else content
        return await self.client.post(path, content=body, headers=headers)

    async def ready(self) -> None:
        """Started, with weights."""
        assert (await self.post("/start", START)).status_code == 200
        await self.hand_over(WEIGHTS)

    async def hand_over(self, body: bytes, step: int = 0, run: str = RUN) -> None:
        answer = await self.post("/weights/part", content=body, headers=part_headers(body, run=run))
        assert answer.status_code == 200, answer.text
        answer = await self.post("/weights/load", {"weights": identity(body, step, run), "parts": 1})
        assert answer.status_code == 200, answer.text
        assert answer.json()["weights"] == identity(body, step, run)


@pytest.fixture
def asked(tmp_path):
    asked = Asked(tmp_path / "inbox")
    yield asked
    asked.service.close()


def refused(answer: httpx2.Response, status: int, kind: str, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["kind"] == kind
    assert words in answer.json()["error"]


def test_what_a_trainer_does(asked):
    async def talk():
        await asked.ready()
        answer = await asked.post("/sample", SAMPLE)
        assert answer.status_code == 200
        sampled = wire.read(wire.Sampled, answer.content)
        assert [response.tokens for response in sampled.responses] == [[5, 6, 7, 5], [8, 8, 8]]
        assert sampled.weights.model_dump() == SAMPLE["weights"]
        assert torch.equal(asked.host.tensors["weight"], TENSORS["weight"])
        assert list(asked.folder.iterdir()) == []  # the files went when they were read
        assert (await asked.post("/sleep", {"run": RUN})).json() == {"weights": None, "progress": 0}
        refused(await asked.post("/sample", SAMPLE), 409, "weights", "holds no weights")
        assert (await asked.client.get("/health")).json() == {"status": "ok"}

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"Authorization": ""}, 401, "LLMRL_TOKEN"),
        ({"Authorization": "Bearer wrong"}, 401, "LLMRL_TOKEN"),
        ({"Authorization": f"Basic {TOKEN}"}, 401, "LLMRL_TOKEN"),
        ({"Host": "evil.example"}, 403, "not called 'evil.example'"),
        ({"Host": "localhost.evil.example:80"}, 403, "not called"),
        ({"Origin": "http://evil.example"}, 403, "web pages"),
        ({"Sec-Fetch-Site": "cross-site"}, 403, "web pages"),
        ({"Content-Type": "text/plain"}, 415, "must be application/json, not text/plain"),
        ({"Content-Type": ""}, 415, "untyped"),
    ],
)
def test_who_is_not_let_in(asked, change, status, words):
    async def talk():
        await asked.ready()
        answer = await asked.post("/sample", SAMPLE, headers={**HEADERS, **change})
        assert answer.status_code == status
        assert words in answer.json()["error"]
        assert asked.host.requests == []

    asyncio.run(talk())


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "LOCALHOST", "127.0.0.1:8000", "[::1]:8000", "10.1.2.3"])
def test_names_under_which_it_is_asked(asked, host):
    async def talk():
        assert (await asked.post("/start", START, headers={**HEADERS, "Host": host})).status_code == 200

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"contexts": [[5], [50]]}, "Row 1: token 50 is outside the vocabulary of 50"),
        ({"contexts": [[5]]}, "1 contexts and 2 limits"),
        ({"seeds": [1]}, "2 contexts and 1 seeds"),
        ({"limits": [4, 32]}, "Row 1: a context of 1 and a response of 32 tokens are longer than 32"),
        ({"end_ids": [77]}, "End token 77 is outside"),
    ],
)
def test_what_the_model_cannot_continue(asked, change, words):
    async def talk():
        await asked.ready()
        refused(await asked.post("/sample", {**SAMPLE, **change}), 422, "input", words)
        assert asked.host.requests == []

    asyncio.run(talk())


def test_other_weights_than_those_asked_for_sample_nothing(asked):
    async def talk():
        await asked.ready()
        for change in ({"step": 1}, {"run": "another"}, {"digest": "0" * 64}):
            wanted = {**SAMPLE, "weights": {**SAMPLE["weights"], **change}}
            refused(await asked.post("/sample", wanted), 409, "weights", f"holds the weights of step 0 of run {RUN}")
        body = save({"weight": torch.zeros(2, 3)})
        await asked.hand_over(body, step=1)
        refused(await asked.post("/sample", SAMPLE), 409, "weights", "holds the weights of step 1")
        assert asked.host.requests == []
        assert (await asked.post("/sample", {**SAMPLE, "weights": identity(body, 1)})).status_code == 200

    asyncio.run(talk())


def test_log_probabilities_that_are_not_finite_are_told_as_such(asked, monkeypatch):
    async def talk():
        await asked.ready()
        response = wire.Response.model_construct(tokens=[1], log_probs=[float("nan")], finish="length")
        answer = wire.Sampled.model_construct(weights=asked.host.weights, responses=[response], cached=[0])
        monkeypatch.setattr(asked.host, "_sample", lambda *ignored: answer)
        refused(await asked.post("/sample", SAMPLE), 422, "input", "training has diverged")

    asyncio.run(talk())


def test_weights_that_are_others_are_refused_and_the_engine_keeps_its_own(asked):
    async def talk():
        await asked.ready()
        for body in (save({"other": torch.ones(2, 3)}), save({"weight": torch.ones(3, 2)}), b"no safetensors" * 9):
            answer = await asked.post("/weights/part", content=body, headers=part_headers(body))
            assert answer.status_code == 200
            answer = await asked.post("/weights/load", {"weights": identity(body, 1), "parts": 1})
            assert answer.status_code == 422, answer.text
            assert answer.json()["kind"] == "input"
        # Damaged on the way; not the part that is next; not what the identity says; more parts than came.
        bad = {**part_headers(WEIGHTS), wire.DIGEST_HEADER: "0" * 64}
        assert (await asked.post("/weights/part", content=WEIGHTS, headers=bad)).status_code == 400
        for index in ("1", "-1", "../x", "9" * 9, ""):
            answer = await asked.post("/weights/part", content=WEIGHTS, headers=part_headers(WEIGHTS, index))
            assert answer.status_code == 409
        assert (await asked.post("/weights/part", content=WEIGHTS, headers=part_headers(WEIGHTS))).status_code == 200
        for wrong in (
            {"weights": identity(b"x"), "parts": 1},
            {"weights": identity(WEIGHTS), "parts": 2},
        ):
            refused(await asked.post("/weights/load", wrong), 409, "weights", "not the uploaded weights")
        assert (await asked.post("/sample", SAMPLE)).status_code == 200

    asyncio.run(talk())


def test_a_body_may_be_no_larger_and_take_no_longer_than_is_allowed(asked, monkeypatch):
    monkeypatch.setattr(service, "BODY_LIMIT", 1000)
    monkeypatch.setattr(service, "BODY_WITHIN", 0.2)

    async def slowly():
        yield b'{"run":'
        await asyncio.sleep(60)

    async def talk():
        refused(await asked.post("/hold", content=b"x" * 1001), 413, "input", "1000 bytes")
        refused(await asked.post("/hold", content=slowly()), 411, "input", "Content-Length")
        headers = {**HEADERS, "Content-Length": "20"}
        refused(await asked.post("/hold", content=slowly(), headers=headers), 408, "busy", "within 0 seconds")

    asyncio.run(talk())


def test_an_engine_that_fails_says_so_and_ends(asked, monkeypatch):
    def fail(*ignored):
        raise RuntimeError("out of luck\x1b[2J")

    async def talk():
        await asked.ready()
        monkeypatch.setattr(asked.host, "_sample", fail)
        refused(await asked.post("/sample", SAMPLE), 500, "broken", "out of luck?[2J")
        assert asked.broken == 1

    asyncio.run(talk())


def test_one_run_at_a_time(asked, monkeypatch):
    other = {**START, "run": "another"}

    async def talk():
        await asked.ready()
        for path, message in (
            ("/start", other),
            ("/sample", {**SAMPLE, "run": "another"}),
            ("/sleep", {"run": "another"}),
        ):
            refused(await asked.post(path, message), 409, "held", f"works for run {RUN}")
        refused(await asked.post("/hold", {"run": "another"}), 409, "weights", "does not work for this run")
        assert (await asked.post("/leave", {"run": "another"})).status_code == 200
        refused(await asked.post("/start", other), 409, "held", f"works for run {RUN}")
        assert (await asked.post("/sample", SAMPLE)).status_code == 200

        # The one that is silent loses the engine, and its weights with it.
        monkeypatch.setattr(wire, "SILENCE", 0.0)
        assert (await asked.post("/start", other)).json() == {"weights": None, "progress": 0}
        monkeypatch.setattr(wire, "SILENCE", 60.0)
        refused(await asked.post("/sample", SAMPLE), 409, "held", "works for run another")
        assert (await asked.post("/leave", {"run": "another"})).status_code == 200
        refused(await asked.post("/sample", SAMPLE), 409, "weights", "holds no weights")

    asyncio.run(talk())


def test_signs_of_life_are_taken_while_the_engine_works(asked, monkeypatch):
    async def talk():
        await asked.ready()
        works = asked.host._sample

        def slowly(*arguments):
            time.sleep(0.5)
            return works(*arguments)

        monkeypatch.setattr(asked.host, "_sample", slowly)
        sampling = asyncio.ensure_future(asked.post("/sample", SAMPLE))
        await asyncio.sleep(0.1)
        assert (await asked.post("/hold", {"run": RUN})).status_code == 200
        monkeypatch.setattr(wire, "SILENCE", 0.0)  # a run whose request is being done is not silent
        refused(await asked.post("/start", {**START, "run": "b"}), 409, "held", RUN)
        assert not sampling.done()
        assert (await sampling).status_code == 200

    asyncio.run(talk())


def malformed_request(random_: random.Random) -> tuple[str, str, bytes, dict[str, str]]:
    """Method, path, body and headers; none may be done."""
    path, good = random_.choice(
        [
            ("/start", START),
            ("/sample", SAMPLE),
            ("/weights/load", {"weights": identity(WEIGHTS), "parts": 1}),
            ("/sleep", {"run": RUN}),
            ("/hold", {"run": RUN}),
            ("/leave", {"run": RUN}),
        ]
    )
    headers = dict(HEADERS)
    body = json.dumps(good).encode()
    match random_.randrange(8):
        case 0 | 1:
            return "POST", path, broken_json(random_, good), headers
        case 2 | 3:
            # Everywhere but in the model's configuration, which is whatever a model's is; null seeds mean greedy.
            spots = [place for place in places(good) if len(place) < 2 or place[0] != "config"]
            while True:
                place, value = random_.choice(spots), nonsense(random_)
                if (place == ("seeds",) and value is None) or (place == ("config",) and isinstance(value, dict)):
                    continue
                if path == "/leave" and value == "1":  # the name of another run
                    continue
                if (place == ("sleep",) and value is True) or (place == ("temperature",) and value == 0.5):
                    continue
                break
            return "POST", path, json.dumps(with_value(good, place, value)).encode(), headers
        case 4:
            wrong = [
                {"Authorization": "Bearer " + "x" * random_.randrange(100)},
                {"Host": random_.choice(["evil.example", "", "a" * 300, "localhost@evil", "127.0.0.1.evil"])},
                {"Origin": "null"},
                {"Content-Type": random_.choice(["text/plain", "multipart/form-data", "x" * 100])},
                {"Content-Length": random_.choice(["-1", "x", "9" * 30, "1e3", "", str(len(body) - 1)])},
            ]
            return "POST", path, body, {**headers, **random_.choice(wrong)}
        case 5:
            methods = ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]
            return random_.choice(methods), path, b"", headers
        case 6:
            name = random_.choice(["/", "/x", "/../etc/passwd", "/weights", "/sample/", "/%00", "/sample%2f"])
            return "POST", name, body, headers
        case _:
            junk = random_.choice([b"", random_.randbytes(40), WEIGHTS[:-1], (1 << 60).to_bytes(8, "little") + b"{}"])
            head = part_headers(junk, random_.choice(["0", "1", "-1", "a", "0x1", "1e1", "٣"]).encode().decode())
            head[wire.DIGEST_HEADER] = random_.choice(["", "0" * 64, "g" * 64, digest(WEIGHTS)])
            if random_.random() < 0.3:
                head[wire.RUN_HEADER] = random_.choice(["", "a b", "x" * 65, "../../x"])
            head = {name: value.encode("utf-8", "replace") for name, value in head.items()}  # type: ignore[misc]
            return "POST", "/weights/part", junk, head


def test_malformed_requests_change_nothing(asked):
    """Seeded; LLMRL_FUZZ says how many."""
    random_ = random.Random(0)
    statuses: dict[int, int] = {}

    async def talk():
        await asked.ready()
        for number in range(FUZZ):
            method, path, body, headers = malformed_request(random_)
            async with asyncio.timeout(20):
                answer = await asked.client.request(method, path, content=body, headers=headers)
            said = f"{number}: {method} {path} {headers} {body[:200]!r} -> {answer.status_code} {answer.text[:200]}"
            assert 400 <= answer.status_code < 500, said
            if method != "HEAD":
                assert wire.read(wire.Refusal, answer.content).error.isprintable(), said
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert asked.host.requests == [], said
            if number % 50 == 0:
                answer = await asked.post("/sample", SAMPLE)
                assert answer.status_code == 200, (said, answer.text)
                assert answer.json()["weights"] == identity(WEIGHTS)
                asked.host.requests.clear()
        assert asked.broken == 0
        assert asked.host.naps == 0
        print(statuses)

    asyncio.run(talk())


# Through a socket


def exchange(port: int, sent: bytes, *, within: float = 20) -> bytes:
    """What comes back until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=within) as line:
        got = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            line.sendall(sent)
            while block := line.recv(65536):
                got += block
        return got


def good_request() -> bytes:
    body = json.dumps(START).encode()
    head = f"POST /start HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    return head.encode() + f"Content-Type: {wire.JSON}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(("count", "within"), [(20, 1.0), (300, 600.0)])
def test_silent_connections_block_nobody_and_are_ended(tmp_path, monkeypatch, count, within):
    """After a while; and at once where there are too many."""
    monkeypatch.setattr(serve, "HEAD_WITHIN", within)
    with running(StandIn(), tmp_path) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(count)]
        for line in silent[count // 2 :]:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                line.sendall(b"POST /sample HT")
        assert b"200 OK" in exchange(server.port, good_request())
        for line in silent if within < 10 else silent[: count - serve.MAX_SILENT]:
            with contextlib.suppress(ConnectionResetError):
                assert line.recv(1) == b""
        for line in silent:
            line.close()


def test_bytes_that_are_no_request_end_nothing(tmp_path):
    random_ = random.Random(1)
    good = good_request()
    with running(StandIn(), tmp_path) as server:
        for number in range(FUZZ // 10):
            match random_.randrange(5):
                case 0:
                    sent = random_.randbytes(random_.randrange(1, 300)) + b"\r\n\r\n"
                case 1:
                    place = random_.randrange(0, 60)
                    sent = good[:place] + random_.randbytes(3) + good[place:]
                case 2:
                    sent = b"POST /start HTTP/1.1\r\nHost: localhost\r\n\r\n"
                case 3:
                    sent = b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n"
                case _:
                    sent = good.replace(
                        b"Content-Length: ", random_.choice([b"Content-Length: -", b"Content-Length: x"])
                    )
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
                line.sendall(sent)
                line.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    assert b" 200 " not in line.recv(64), (number, sent[:200])
        assert b"200 OK" in exchange(server.port, good)


# Folders and files


def test_only_this_account_can_enter_the_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = folders.PrivateFolder()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.path.parent.stat().st_mode) == 0o700
    file = folders.token_file(1)
    folders.write_private(file, "secret")
    folders.write_private(file, "another")
    assert file.read_text() == "another"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    folder.close()
    folder.close()
    assert not folder.path.exists()
    folder.path.parent.chmod(0o755)
    with pytest.raises(folders.FolderError, match="this account alone can enter"):
        folders.PrivateFolder()


def test_what_a_killed_process_left_in_shared_memory_is_removed(tmp_path, monkeypatch):
    """The folder of a process that lives stays."""
    monkeypatch.setattr(folders, "SHARED_MEMORY", tmp_path)
    script = (
        "import sys, time; from pathlib import Path; from llmrl.policies.sampling import folders\n"
        "folders.SHARED_MEMORY = Path(sys.argv[1])\n"
        "folder = folders.PrivateFolder(0)\n"
        "(folder.path / 'part-00000.safetensors').write_bytes(bytes(100))\n"
        "print(folder.path, flush=True); time.sleep(600)"
    )
    left = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert left.stdout is not None
    path = left.stdout.readline().strip()
    first = folders.PrivateFolder(0)
    assert os.path.exists(path)
    left.kill()
    left.wait()
    left.stdout.close()
    assert os.path.exists(path)
    second = folders.PrivateFolder(0)
    assert not os.path.exists(path)
    assert first.path.exists()
    assert second.path.parent.parent == tmp_path
    first.close()
    second.close()
