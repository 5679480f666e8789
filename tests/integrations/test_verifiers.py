"""The page on verifiers, with the real package: the same rewards on both sides, in both directions."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gymnasium
import pytest

import llmrl
from llmrl.errors import ConfigError

pytestmark = [
    pytest.mark.verifiers,
    pytest.mark.skipif(
        importlib.util.find_spec("verifiers.v1") is None,
        reason="verifiers is not installed: pip install verifiers==0.4.0",
    ),
    pytest.mark.filterwarnings("default"),
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations" / "verifiers.md"
OPTIONS = {"source": "generated", "levels": (1, 2)}
TOOL = "llmrl/MathTool-v0"


@pytest.fixture
def on_the_page(tmp_path, monkeypatch):
    """The files of the page as modules."""
    blocks = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert {name for name, _ in blocks} == {"llmrl_tasks", "guess_number"}
    for name, block in blocks:
        (tmp_path / f"{name}.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name, _ in blocks:
        sys.modules.pop(name, None)


def played(env, replies, problem_id):
    """The sum of rewards of an episode, and what was asked."""
    asked, _ = env.reset(options={"problem_id": problem_id})
    heard, total = [asked], 0.0
    for reply in replies:
        asked, reward, terminated, truncated, _ = env.step(reply)
        total += reward
        if terminated or truncated:
            return total, heard
        heard.append(asked)
    raise AssertionError("the episode goes on")


def answers(problem_id, right):
    """Two turns: a call of the calculator, then an answer."""
    env = gymnasium.make(TOOL, **OPTIONS)
    _, info = env.reset(options={"problem_id": problem_id})
    return ["<calc>12*(3+4)</calc>", f"\\boxed{{{info['answer'] if right else 'no'}}}"]


class Model(BaseHTTPRequestHandler):
    """An OpenAI-compatible model that reads its lines from a list."""

    lines: list[str] = []  # noqa: RUF012
    heard: list[list[dict]] = []  # noqa: RUF012

    def log_message(self, *args):
        pass

    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append(told["messages"])
        message = {"role": "assistant", "content": self.lines.pop(0)}
        body = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HARNESS = '''
import httpx
import verifiers.v1 as vf


class Chat(vf.Harness):
    """Asks the model through the interception server, within this process."""

    APPENDS_SYSTEM_PROMPT = SUPPORTS_RESUME = True
    NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data):
        messages = [{"role": message.role, "content": message.content} for message in data.prompt]
        async with httpx.AsyncClient(timeout=60) as client:
            done = await client.post(
                f"{endpoint.rstrip('/')}/chat/completions",
                json={"model": ctx.model, "messages": messages},
                headers={"Authorization": f"Bearer {secret}"},
            )
        done.raise_for_status()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


__all__ = ["Chat"]
'''


def test_verifiers_plays_an_environment_of_several_turns(on_the_page, tmp_path):
    """Its own rollout: harness, interception server, client, trace. Only the model is a stand-in."""
    import verifiers.v1 as vf
    from verifiers.v1.env import RunSlot

    (tmp_path / "chat_harness.py").write_text(HARNESS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = {**OPTIONS, "call_cost": 0.25}
    made = vf.load_environment(
        vf.resolve_env_config(
            {
                "taskset": {"id": "llmrl_tasks", "env": TOOL, "options": options, "problems": 2},
                "player": {"harness": {"id": "chat_harness"}, "runtime": {"type": "subprocess"}},
            }
        )
    )
    client = vf.EvalClientConfig(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key_var="NONE")
    context = vf.ModelContext(client=client, model="m", sampling=vf.SamplingConfig())

    async def run(task):
        async with made.serving():
            return await made.run_slot(RunSlot(task), context)

    try:
        for number, task in enumerate(made.taskset):
            replies = answers(number, right=number == 0)
            expected, asked = played(gymnasium.make(TOOL, **options), replies, number)
            Model.lines[:], Model.heard[:] = list(replies), []
            episode = asyncio.run(run(task))
            (trace,) = episode.traces
            assert episode.ok, [error.message for error in trace.errors]
            assert trace.reward == expected == pytest.approx((1.0 if number == 0 else 0.0) - 0.25)
            users = [message["content"] for message in Model.heard[-1] if message["role"] == "user"]
            assert users == asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_response_without_a_verdict_is_no_wrong_answer(on_the_page):
    import verifiers.v1 as vf

    from llmrl.integrations.verifiers_env import VerifiersEnv

    def broken(responses, golds):
        return [llmrl.verifiers.Verdict(0.0, "error", detail="broken") for _ in responses]

    llmrl.verifiers.register_verifier("tests/broken")(broken)
    options = {**OPTIONS, "verifier": "tests/broken"}
    made = vf.load_environment(
        vf.resolve_env_config({"taskset": {"id": "llmrl_tasks", "env": TOOL, "options": options, "problems": 1}})
    )
    env = VerifiersEnv(made)
    env.reset()
    with pytest.raises(vf.TaskError, match="gave no verdict: broken"):
        env.step("\\boxed{1}")


def test_there_and_back(on_the_page):
    """An environment of llmrl, served as one of verifiers, played as one of llmrl."""
    import verifiers.v1 as vf

    from llmrl.integrations.verifiers_env import VerifiersEnv

    made = vf.load_environment(
        vf.resolve_env_config({"taskset": {"id": "llmrl_tasks", "env": TOOL, "options": OPTIONS, "problems": 4}})
    )
    env = VerifiersEnv(made)
    for number in range(4):
        replies = answers(number, right=number % 2 == 0)
        ours = played(gymnasium.make(TOOL, **OPTIONS), replies, number)
        assert played(env, replies, number) == ours
        assert ours[0] == (number % 2 == 0)
    for number in (-1, 4):
        with pytest.raises(IndexError, match=rf"There is no problem {number}: problem_id must be 0 to 3"):
            env.reset(options={"problem_id": number})


def test_an_environment_of_verifiers_trains(on_the_page, tmp_path):
    """Several turns, with the number of turns known; the rewards are those that its task records."""
    from llmrl.integrations.verifiers_env import VerifiersEnv

    env = VerifiersEnv("guess_number", problems=8)
    assert env.problems.size == 8
    total, asked = played(env, ["4", "7"], 7)
    assert asked == ["I think of a number from 0 to 9. Which?", "Too low. Which?"]
    assert total == pytest.approx(1.0 + 0.5 * 0.5)
    assert played(env, ["7"], 7)[0] == pytest.approx(1.0 + 0.5)
    assert played(env, ["1", "2", "3"], 7)[0] == 0.0
    run = llmrl.train(
        "llmrl/nano",
        "llmrl.integrations.verifiers_env:llmrl/Verifiers-v0",
        "grpo",
        env_options={"taskset": "guess_number", "problems": 8},
        policy_options={"max_response_length": 60},
        train={"steps": 1, "prompts_per_step": 2, "group_size": 2, "updates_per_step": 1},
        eval={"problems": 2, "samples": 0},
        output=tmp_path / "run",
        quiet=True,
    )
    assert run.finished
    assert run.metrics[0]["turns/mean"] > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("    NEEDS_CONTAINER = True", "need a container"),
        ("    async def setup(self, trace, runtime):\n        pass", "a runtime to be set up in"),
        (
            "    @vf.stop\n    async def enough(self, trace: vf.Trace) -> bool:\n        return False",
            "conditions that stop",
        ),
        ("    @vf.reward\n    async def files(self, runtime) -> float:\n        return 1.0", "a runtime for files"),
    ],
)
def test_what_only_verifiers_can_give_is_refused(on_the_page, tmp_path, change, said):
    from llmrl.integrations.verifiers_env import VerifiersEnv

    text = (tmp_path / "guess_number.py").read_text()
    head = "class GuessTask(vf.Task[GuessData]):"
    assert head in text
    (tmp_path / "guess_other.py").write_text(text.replace(head, f"{head}\n{change}\n"))
    with pytest.raises(ConfigError, match=said):
        VerifiersEnv("guess_other")
    sys.modules.pop("guess_other")


@pytest.mark.parametrize(
    ("taskset", "options", "said"),
    [
        ("", None, "Say which taskset"),
        ("nowhere_at_all", None, "cannot be loaded"),
        ("llmrl_tasks", {"problems": 0}, "cannot take these options: taskset.problems: Input should be greater"),
    ],
)
def test_wrong_tasksets_are_one_sentence(on_the_page, taskset, options, said):
    from llmrl.integrations.verifiers_env import VerifiersEnv

    with pytest.raises(ConfigError, match=said):
        VerifiersEnv(taskset, options=options)
