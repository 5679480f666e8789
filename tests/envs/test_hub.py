"""The hub, played by a small server: fetched once, kept, and left when it does not answer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import llmrl.envs.hub as hub_module

CLIENT = """
import json, sys, logging
logging.basicConfig(format="LOG %(message)s")
import gymnasium, llmrl
from llmrl.envs import hub
hub.PATIENCE = 1.0
from llmrl.envs.benchmarks import open_benchmark
from llmrl.envs.problems import ProblemOptions
name, split = sys.argv[1:]
try:
    if "/" in name:
        from llmrl.envs.data import open_data
        problems = open_data(name, ProblemOptions(split=split, check=False))
    else:
        problems = open_benchmark(name, ProblemOptions(source="hub", split=split, check=False))
    print(json.dumps([len(problems), problems[0].answer, problems[0].source]))
except hub.HubError as error:
    print(json.dumps(str(error)))
"""


class Hub(ThreadingHTTPServer):
    """One data set, ``openai/gsm8k``, as JSON Lines."""

    files = {"main/train-0.jsonl": 5, "main/test-0.jsonl": 3, "socratic/test-0.jsonl": 9}  # noqa: RUF012
    silent = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.done = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    commit = "a" * 40

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        self.server.asked.append(self.path)
        if self.server.silent:
            self.server.done.wait()
            return
        path, status, more = self.path.split("?")[0], 200, {}
        if path.startswith("/api/datasets/openai/gsm8k/tree"):
            names = self.server.files
            content = json.dumps(
                [{"type": "file", "path": n, "size": len(data(n)), "oid": n.replace("/", "-")} for n in names]
            ).encode()
        elif path.startswith("/api/datasets/openai/gsm8k"):
            listed = [{"rfilename": name} for name in self.server.files]
            content = json.dumps({"id": "openai/gsm8k", "sha": self.commit, "siblings": listed}).encode()
        elif (name := path.partition(f"/resolve/{self.commit}/")[2]) in self.server.files:
            content = data(name)
            more = {"ETag": f'"{name.replace("/", "-")}"', "X-Repo-Commit": self.commit}
        else:
            content, status, more = b"{}", 404, {"X-Error-Code": "RepoNotFound"}
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **more}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


def data(name):
    count = Hub.files[name]
    rows = [{"question": f"{name} {i}?", "answer": f"So.\n#### {i + 10}"} for i in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()
    thread.join()


def client(home, endpoint, name="gsm8k", split="test", **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "LLMRL_"))}
    clean |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, name, split],
        capture_output=True,
        text=True,
        env={**clean, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **env},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_files_of_a_split_are_fetched_once_and_kept(tmp_path, hub):
    assert client(tmp_path, hub.url)[0] == [3, "10", "openai/gsm8k"]
    assert any("main/test-0" in path for path in hub.asked)
    assert not any("train-0" in path or "socratic/" in path for path in hub.asked)
    count = len(hub.asked)
    answer, log = client(tmp_path, hub.url)
    assert answer == [3, "10", "openai/gsm8k"]
    assert len(hub.asked) == count
    assert "GSM8K test should have 1319 problems, but has 3 problems of test-0.jsonl" in log
    assert client(tmp_path, hub.url, split="train")[0][0] == 5


def test_a_data_set_by_its_name(tmp_path, hub):
    for split, size in (("train", 5), ("test", 3)):
        found = client(tmp_path, hub.url, name="openai/gsm8k", split=split)
        assert found[0][0] == size
        assert found[0][2] == "openai/gsm8k"


def cached(home):
    """The files of the hub's cache that belong to the snapshot."""
    return sorted((home / "hub" / "datasets--openai--gsm8k" / "snapshots" / Answer.commit).rglob("*.jsonl"))


TWO = {"main/test-0.jsonl": 3, "main/test-1.jsonl": 4, "main/train-0.jsonl": 5}
HALVES = {
    "one file is missing": lambda home: cached(home)[1].unlink(),
    "its content is missing": lambda home: cached(home)[1].resolve().unlink(),
    "fetched by another program": lambda home: shutil.rmtree(home / "hub" / "datasets--openai--gsm8k" / "llmrl"),
    "the note is damaged": lambda home: next(home.rglob("llmrl/*.json")).write_text('["main/te'),
    "another program, one file": lambda home: (
        shutil.rmtree(home / "hub" / "datasets--openai--gsm8k" / "llmrl"),
        cached(home)[1].unlink(),
    ),
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_a_data_set_that_is_partly_there_is_completed(half, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(Hub, "files", TWO)
    assert client(tmp_path, hub.url)[0][0] == 7
    half(tmp_path)
    assert client(tmp_path, hub.url)[0][0] == 7
    count = len(hub.asked)
    assert client(tmp_path, hub.url)[0][0] == 7
    assert len(hub.asked) == count


def test_without_the_hub_what_another_program_left_is_taken_and_that_is_said(tmp_path, hub, monkeypatch):
    monkeypatch.setattr(Hub, "files", TWO)
    client(tmp_path, hub.url)
    for folder in (tmp_path / "hub" / "datasets--openai--gsm8k").iterdir():
        if folder.name not in ("refs", "blobs", "snapshots"):
            shutil.rmtree(folder)
    cached(tmp_path)[1].unlink()
    answer, log = client(tmp_path, "http://127.0.0.1:9")
    assert answer[0] == 3
    assert "cannot be asked whether these are all files of openai/gsm8k" in log
    assert "test-0.jsonl" in log


def test_the_commit_of_a_data_set_is_known_without_the_hub(tmp_path, hub):
    client(tmp_path, hub.url)
    code = "from llmrl.envs.hub import commit_of; print(commit_of('openai/gsm8k'), commit_of('a/b'), commit_of('x y'))"
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == [Answer.commit, "None", "None"], done.stderr


def test_without_network_the_error_says_what_to_do(tmp_path):
    message, _ = client(tmp_path, "http://127.0.0.1:9")
    assert message.startswith("The data set openai/gsm8k is not on this machine, and the hub does not provide it")
    assert "put its problems into a file gsm8k_test.jsonl" in message
    assert "LLMRL_DATA" in message


def test_offline_mode_is_heard(tmp_path, hub):
    message, _ = client(tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert "offline" in message.lower()
    assert hub.asked == []


def test_a_silent_hub_is_left_within_seconds(tmp_path, hub):
    hub.silent = True
    message, _ = client(tmp_path, hub.url)
    assert "not on this machine" in message  # and this test ends: the server never would


def test_a_question_that_never_returns_is_given_up(monkeypatch):
    hub_library = pytest.importorskip("huggingface_hub")
    forever = threading.Event()
    monkeypatch.setattr(hub_library.HfApi, "dataset_info", lambda *_, **__: forever.wait())
    monkeypatch.setattr(hub_module, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError, match="no answer within"):
        hub_module._answers("openai/gsm8k")
    forever.set()


def test_a_data_set_that_is_gone(tmp_path, hub):
    message, _ = client(tmp_path, hub.url, name="math500")
    assert "HuggingFaceH4/MATH-500" in message
    assert "math500.jsonl" in message
