"""Calls of code that does not return: the row is lost, the others are not, and a stubborn one ends the process."""

import _thread
import signal
import subprocess
import sys
import threading
from pathlib import Path

import hanging  # noqa: F401  registers tests/Hanging-v0
import pytest
from unstarted import run_without_threads

from llmrl.envs.vector import TextVectorEnv
from llmrl.envs.waiting import TookTooLong, at_most


def made(name="Hanging", rows=3, **options):
    env = TextVectorEnv.make(f"tests/{name}-v0", rows, **options)
    env.tolerant, env.time_limit = True, 0.2
    return env


def test_a_step_that_hangs_costs_its_own_row_alone():
    env = made(once=True)
    env.reset(options={"problem_id": [0, 1, 2]})
    _, rewards, terminated, _, infos = env.step(["aaaa"] * 3)
    assert rewards.tolist() == [1, 0, 1]
    assert terminated.all()
    assert infos["_fault"].tolist() == [False, True, False]
    assert "step of tests/Hanging-v0 did not return within 0.2 s" in infos["fault"][1]


def test_a_reset_that_hangs_costs_its_own_row_alone():
    env = made(where="reset", once=True)
    env.reset(options={"problem_id": [1, 0, 0]})
    _, rewards, _, _, infos = env.step(["aaaa"] * 3)
    assert rewards.tolist() == [0, 1, 1]
    assert "reset of tests/Hanging-v0 did not return" in infos["fault"][0]


@pytest.mark.parametrize("name", ["Hanging", "Ungraded"])
def test_many_that_hang_share_one_more_limit(name):
    env = made(name, rows=40)
    env.time_limit = 0.5
    env.reset()
    with at_most(30, "40 rows of half a second each"):  # 20 s one by one, and more with the machine busy
        *_, infos = env.step(["a"] * 40)
    assert all("did not return within" in fault for fault in infos["fault"])


def test_without_tolerance_the_error_goes_up_and_the_handler_comes_back():
    env = made()
    env.tolerant = False
    before = signal.getsignal(signal.SIGALRM)
    env.reset()
    with pytest.raises(TookTooLong, match=r"step of tests/Hanging-v0"):
        env.step(["a"] * 3)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_another_thread_may_call_too():
    done = []

    def call():
        with at_most(30, "nothing"):
            done.append(1)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert done == [1]


def test_one_that_swallows_the_error_ends_the_process_with_a_sentence():
    code = (
        "import hanging; from llmrl.envs import waiting; from llmrl.envs.vector import TextVectorEnv\n"
        "waiting.GRACE = 0.5\n"
        "env = TextVectorEnv.make('tests/Hanging-v0', 1, stubborn=True); env.time_limit = 0.2\n"
        "env.reset(); env.step(['a'])"
    )
    helpers = str(Path(__file__).parents[1] / "helpers")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {helpers!r}); {code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "error: step of tests/Hanging-v0 did not return within 0.7 s and cannot be interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_thread_that_cannot_begin_stops_no_call():
    code = "from llmrl.envs.waiting import at_most\nwith at_most(100, 'it'): print('called')"
    assert run_without_threads(code) == "called\n"


def test_no_watch_is_left_behind():
    before = _thread._count()
    for _ in range(20):
        with at_most(30, "nothing"):
            pass
    with at_most(30, "the threads that end"):
        while _thread._count() > before + 1:  # its own
            pass
