"""The page on OpenEnv, with the real package: the same rewards on both sides, in both directions."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import threading
import time
from pathlib import Path

import gymnasium
import pytest

import llmrl
from llmrl.errors import ConfigError

pytestmark = [
    pytest.mark.openenv,
    pytest.mark.skipif(
        importlib.util.find_spec("openenv") is None, reason="openenv is not installed: pip install openenv==0.10.0"
    ),
    pytest.mark.filterwarnings("default"),
]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "integrations" / "openenv.md"
TOOL = "llmrl/MathTool-v0"
OPTIONS = {"source": "generated", "levels": (1, 2), "call_cost": 0.25}


@contextlib.contextmanager
def served(app):
    """The address of an application that runs within the block."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def of_page(name):
    """What a file of the page defines."""
    (block,) = re.findall(rf"```python\n# {name}\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found = {}
    exec(compile(block, name, "exec"), found)
    return found


def episode(env, replies, problem_id):
    """Rewards and texts of an episode."""
    text, _ = env.reset(seed=0, options={"problem_id": problem_id})
    heard, rewards = [text], []
    for reply in replies:
        text, reward, terminated, truncated, _ = env.step(reply)
        heard.append(text)
        rewards.append(reward)
        if terminated or truncated:
            return rewards, heard
    raise AssertionError("the episode goes on")


def test_an_environment_of_several_turns_is_served_and_played():
    from llmrl.integrations.openenv import app
    from llmrl.integrations.openenv_env import OpenEnvEnv

    ours = gymnasium.make(TOOL, **OPTIONS)
    with served(app(TOOL, **OPTIONS)) as url:
        theirs = OpenEnvEnv(url=url, problems=4)
        for number in range(4):
            _, info = ours.reset(options={"problem_id": number})
            answer = info["answer"] if number % 2 == 0 else "no"
            replies = ["<calc>12*(3+4)</calc>", f"\\boxed{{{answer}}}"]
            expected = episode(ours, replies, number)
            assert episode(theirs, replies, number) == expected
            assert expected[0] == [-0.25, float(number % 2 == 0)]
        with pytest.raises(IndexError, match="There is no problem -1: problem_id must be 0 to 3"):
            theirs.reset(options={"problem_id": -1})
        theirs.close()


def test_the_gold_answer_is_not_sent():
    from openenv import GenericEnvClient

    with served(of_page("serve")["app"]) as url, GenericEnvClient(base_url=url).sync() as client:
        asked = client.reset(index=0)
        done = client.step({"text": "\\boxed{1}"})
    for result in (asked, done):
        assert "answer" not in result.observation.get("metadata", {})
    assert asked.observation["text"]
    assert done.done


def test_an_environment_of_openenv_trains(tmp_path):
    """One of several turns that is not ours, whose observations have two fields."""
    from llmrl.integrations.openenv_env import OpenEnvEnv

    with served(of_page("count")["app"]) as url:
        env = OpenEnvEnv(url=url)
        asked, _ = env.reset(seed=3)
        assert asked == '{"said": "Say 1.", "left": 3}'
        assert env.step("1")[:4] == ('{"said": "Say 2.", "left": 2}', 1.0, False, False)
        assert env.step("no")[1:4] == (0.0, True, False)
        env.close()
        run = llmrl.train(
            "llmrl/nano",
            "llmrl.integrations.openenv_env:llmrl/OpenEnv-v0",
            "grpo",
            env_options={"url": url},
            policy_options={"max_response_length": 40},
            train={"steps": 1, "prompts_per_step": 2, "group_size": 2, "updates_per_step": 1},
            eval={"problems": 0},
            output=tmp_path / "run",
            quiet=True,
        )
        assert run.finished


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "must be the address of a server"),
        ({"url": "http://127.0.0.1:9"}, "does not answer as a server of OpenEnv does"),
        ({"url": "http://127.0.0.1:9", "problems": 0}, "problems must be 1 or more, got 0"),
    ],
)
def test_wrong_servers_are_one_sentence(options, said):
    from llmrl.integrations.openenv_env import OpenEnvEnv

    with pytest.raises(ConfigError, match=said):
        OpenEnvEnv(**options)
