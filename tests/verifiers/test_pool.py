"""Killable workers: deadline, memory, death, threads, start methods, and what is left at exit."""

from __future__ import annotations

import contextlib
import copy
import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from unstarted import run_without_threads

from llmrl.verifiers.pool import WorkerPool

TASKS = '''
"""What the tests have workers do."""
import os, signal, socket, subprocess, sys, time

def echo(value): return value
def pid(): return os.getpid()
def sleep(seconds):
    time.sleep(seconds)
    return seconds
def spin():
    while True: pass
def uninterruptible(): return len(str(10 ** (10 ** 9)))
def allocate(size): return len(bytearray(size))
def kill_self(): os.abort()
def leave(): sys.exit(3)
def chatter(value):
    print("noise on standard output")
    os.write(1, b'{"value": "forged"}\\\\n')
    return value
def unserialisable(): return object()
def recursion(): return recursion()
def write(path): open(path, "w").write("x")
def create(path): os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
def system(path): os.system(f"touch {path}")
def run(path): subprocess.run(["touch", path])
def fork(path):
    if os.fork() == 0: os._exit(0)
def connect(path): socket.create_connection(("127.0.0.1", 9))
def remove(path): os.remove(__file__)
def environment(name): return os.environ.get(name)
def read(path): return open(path).read()
'''


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """A module of tasks on the path; returns a maker of pools that are closed at the end."""
    (tmp_path / "worker_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    pools = []

    def make(name, **options):
        pools.append(WorkerPool(f"worker_tasks:{name}", **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def alive(pid: int) -> bool:
    """Whether a process of this number runs or waits to be collected."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_outcomes_come_in_the_order_of_the_tasks(tasks):
    outcomes = tasks("echo", size=3).run([(i,) for i in range(50)])
    assert [o.value for o in outcomes] == list(range(50))


def test_nothing_starts_before_the_first_task_and_workers_are_used_again(tasks):
    pool = tasks("pid", size=1)
    assert not pool._all
    first, second = pool.run([()])[0].value, pool.run([()])[0].value
    assert first == second != os.getpid()
    pool.close()
    assert not alive(first)
    assert pool.run([()])[0].value != first, "after close the next task starts a new one"


@pytest.mark.parametrize("how", ["spin", "uninterruptible"])
def test_a_task_that_does_not_end_is_killed_and_the_next_runs(tasks, how):
    pool = tasks(how, deadline=0.3, size=1)
    outcome = pool.run([()])[0]
    assert outcome.status == "timeout"
    assert outcome.detail == "took more than 0.3 s"
    assert not pool._all, "the process is gone"


def test_the_deadline_does_not_count_the_wait_for_a_free_worker_nor_its_start(tasks):
    pool = tasks("sleep", deadline=1.5, size=1)
    # The last of them begins after the deadline, counted from the call.
    assert [o.status for o in pool.run([(0.5,)] * 5)] == ["done"] * 5


def test_one_slow_task_leaves_the_rest_of_the_batch_alone(tasks):
    pool = tasks("sleep", deadline=0.8, size=2)
    outcomes = pool.run([(0,), (60,), (0,), (0,), (60,), (0,)])
    assert [o.status for o in outcomes] == ["done", "timeout", "done", "done", "timeout", "done"]


def test_a_worker_that_is_killed_while_idle_is_replaced(tasks):
    pool = tasks("pid", size=1)
    first = pool.run([()])[0].value
    os.kill(first, signal.SIGKILL)
    while pool._idle[0].alive():
        time.sleep(0.01)
    outcome = pool.run([()])[0]
    assert outcome.status == "done"
    assert outcome.value != first


def test_a_worker_that_is_killed_in_mid_work_costs_its_task_alone(tasks):
    pool = tasks("sleep", deadline=60, size=2)
    stop = threading.Event()

    def strike():
        while not stop.is_set():
            busy = [w for w in list(pool._all) if w._ready and w not in pool._idle]
            if busy and len(pool._all) == 2:
                os.kill(busy[0]._process.pid, signal.SIGKILL)
                return
            time.sleep(0.01)

    striker = threading.Thread(target=strike)
    striker.start()
    outcomes = pool.run([(0.2,)] * 12)
    stop.set()
    striker.join()
    statuses = [o.status for o in outcomes]
    assert statuses.count("error") == 1
    assert statuses.count("done") == 11
    assert outcomes[statuses.index("error")].detail == "the worker ended with status -9"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kill_self", "ended with status -6"),
        ("leave", "SystemExit: 3"),
        ("recursion", "RecursionError"),
        ("unserialisable", "TypeError: Object of type object is not JSON serializable"),
    ],
)
def test_what_a_task_breaks_is_said_and_the_pool_goes_on(tasks, name, words):
    pool = tasks(name, size=1)
    for _ in range(2):
        outcome = pool.run([()])[0]
        assert outcome.status == "error"
        assert words in outcome.detail


def test_a_module_that_cannot_be_loaded_says_so(tasks):
    assert "no attribute" not in tasks("echo").run([(1,)])[0].detail
    outcome = tasks("ecko").run([(1,)])[0]
    assert outcome.status == "error"
    assert "did not start" in outcome.detail
    assert "Did you mean 'echo'" in outcome.detail


@pytest.mark.skipif(sys.platform != "linux", reason="the address space is bounded on Linux")
def test_memory_is_bounded_and_the_parent_lives(tasks):
    pool = tasks("allocate", memory=2**28, size=1)
    assert pool.run([(2**20,)])[0].value == 2**20
    outcome = pool.run([(2**32,)])[0]
    assert outcome.status == "error"
    assert "MemoryError" in outcome.detail
    assert pool.run([(2**20,)])[0].status == "done"


@pytest.mark.parametrize("name", ["write", "create", "system", "run", "fork", "connect", "remove"])
def test_a_task_may_not_reach_beyond_its_process(tasks, tmp_path, name):
    outcome = tasks(name, size=1).run([(str(tmp_path / "canary"),)])[0]
    assert outcome.status == "error"
    assert "PermissionError: a task may not do this" in outcome.detail
    assert not (tmp_path / "canary").exists()
    assert (tmp_path / "worker_tasks.py").exists()


def test_a_task_may_read_files(tasks, tmp_path):
    assert "os.abort" in tasks("read").run([(str(tmp_path / "worker_tasks.py"),)])[0].value


def test_a_worker_does_not_see_the_parents_environment(tasks, monkeypatch):
    monkeypatch.setenv("SOME_SECRET_TOKEN", "hunter2")
    assert tasks("environment").run([("SOME_SECRET_TOKEN",)])[0].value is None


def test_what_a_task_prints_is_no_reply(tasks):
    pool = tasks("chatter", size=1)
    assert [o.value for o in pool.run([(1,), (2,)])] == [1, 2]


@pytest.mark.parametrize("text", ["x" * 3_000_000, "\x00\ud800\u202e\n\r\u2028", "日本語"])
def test_any_text_makes_the_way_there_and_back(tasks, text):
    assert tasks("echo").run([(text,)])[0].value == text


def test_many_threads_share_one_pool_and_its_size(tasks):
    pool = tasks("pid", size=2)
    seen: list[list[int]] = []
    threads = [threading.Thread(target=lambda: seen.append([o.value for o in pool.run([()] * 4)])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, seen)) == [4] * 6
    assert len({pid for pids in seen for pid in pids}) <= 2


def test_no_signal_handler_and_no_alarm_is_touched(tasks):
    names = [s for s in signal.Signals if s not in (signal.SIGKILL, signal.SIGSTOP)]
    before = {name: signal.getsignal(name) for name in names}
    tasks("spin", deadline=0.2).run([()])
    assert {name: signal.getsignal(name) for name in names} == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_pool_that_nobody_holds_takes_its_processes_along(tasks, tmp_path):
    pool = WorkerPool("worker_tasks:pid", size=1)
    pid = pool.run([()])[0].value
    assert alive(pid)
    del pool
    gc.collect()
    assert not alive(pid)


CHILD = """
import multiprocessing, os, sys
sys.path[:0] = {paths!r}
from llmrl.verifiers.pool import WorkerPool

POOL = WorkerPool("operator:add", size=2)

def work(queue):
    queue.put([outcome.value for outcome in POOL.run([(1, 2), (3, 4), (5, 6)])])

if __name__ == "__main__":
    assert POOL.run([(1, 1)])[0].value == 2  # the parent has a worker when the child begins
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    children = [context.Process(target=work, args=(queue,)) for _ in range(2)]
    for child in children: child.start()
    print([queue.get() for _ in children])
    for child in children: child.join()
    print([child.exitcode for child in children], POOL.run([(2, 2)])[0].value)
"""
START_METHODS = multiprocessing.get_all_start_methods()


@pytest.mark.parametrize("method", START_METHODS)
def test_children_of_every_start_method_have_workers_of_their_own(tmp_path, method):
    script = tmp_path / "parent.py"
    script.write_text(CHILD.format(paths=[p for p in sys.path if p]))
    ended = subprocess.run([sys.executable, str(script), method], capture_output=True, text=True, timeout=120)
    assert ended.stdout.splitlines() == ["[[3, 7, 11], [3, 7, 11]]", "[0, 0] 4"], ended.stderr
    assert ended.stderr == ""


LEAVING = """
import os, sys, threading, time
sys.path[:0] = {paths!r}
from llmrl.verifiers.pool import WorkerPool
idle = WorkerPool("os:getpid", size=1)
print(idle.run([()])[0].value)
busy = WorkerPool("time:sleep", size=1, deadline=600)
thread = threading.Thread(target=busy.run, args=([(600,)],), daemon=True)
thread.start()
while not (busy._all and next(iter(busy._all))._ready): time.sleep(0.01)
print(next(iter(busy._all))._process.pid, flush=True)
{end}
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise SystemExit"])
def test_nothing_is_left_after_the_interpreter_ends(tmp_path, end):
    """An idle worker, and one in the middle of a task."""
    script = tmp_path / "leaving.py"
    script.write_text(LEAVING.format(paths=[p for p in sys.path if p], end=end))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    pids = [int(line) for line in ended.stdout.split()]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_an_idle_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    end = "os.kill(os.getpid(), 9)"
    script.write_text(LEAVING.format(paths=[p for p in sys.path if p], end=end))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    pids = [int(line) for line in ended.stdout.split()]
    end_by = time.monotonic() + 30
    while Path(f"/proc/{pids[0]}").exists() and time.monotonic() < end_by:
        time.sleep(0.05)
    assert not Path(f"/proc/{pids[0]}").exists()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pids[1], signal.SIGKILL)  # it sleeps for 600 s, so a limit on CPU time does not end it


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"deadline": 0}, "deadline must be above 0 seconds, got 0"),
    ],
)
def test_options_that_cannot_be_used_say_so(options, words):
    with pytest.raises(ValueError, match=words):
        WorkerPool("operator:add", **options)


def _stopped(pool):
    """Stop the pool's one worker, which is then alive and does nothing."""
    (worker,) = pool._all
    os.kill(worker._process.pid, signal.SIGSTOP)
    return worker


@pytest.mark.parametrize("size", [1, 300_000], ids=["short task", "task larger than a pipe"])
def test_a_stopped_worker_is_replaced(monkeypatch, size):
    monkeypatch.setattr("llmrl.verifiers.pool.STALL_LIMIT", 0.5)
    with WorkerPool("operator:add") as pool:
        pool.run([("a", "b")])
        worker = _stopped(pool)
        (outcome,) = pool.run([("a" * size, "b")])
        assert outcome.value == "a" * size + "b"
        assert not worker.alive()


def test_a_worker_that_takes_no_task_is_named(monkeypatch):
    monkeypatch.setattr("llmrl.verifiers.pool.STALL_LIMIT", 0.3)
    with WorkerPool("operator:add") as pool:
        pool.run([("a", "b")])
        worker = _stopped(pool)
        outcome = worker.call(("a", "b"))
        assert outcome.status == "error"
        assert not outcome.began
        assert f"the worker process {worker._process.pid} has not taken its task within 0.3 s" in outcome.detail


def test_a_pool_can_be_pickled_and_copied():
    with WorkerPool("operator:add", size=1, deadline=7) as pool:
        pool.run([(1, 2)])
        for other in (pickle.loads(pickle.dumps(pool)), copy.deepcopy(pool)):
            assert (other.function, other.size, other.deadline) == ("operator:add", 1, 7)
            assert not other._all
            assert other.run([(1, 2)])[0].value == 3
            other.close()


def test_a_worker_can_be_started_before_it_is_needed():
    with WorkerPool("operator:add") as pool:
        pool.start()
        pool.start()
        (worker,) = pool._all
        assert pool.run([(1, 2)])[0].value == 3
        assert pool._all == {worker}


def test_a_task_that_exits_is_an_error_and_the_worker_goes_on():
    with WorkerPool("sys:exit") as pool:
        (outcome,) = pool.run([("stop",)])
        assert outcome.status == "error"
        assert outcome.began
        assert "SystemExit" in outcome.detail


def test_threads_that_cannot_begin_leave_no_task_undone():
    code = "from llmrl.verifiers.pool import WorkerPool\nwith WorkerPool('operator:add') as pool:"
    code += " print([outcome.value for outcome in pool.run([(1, 2), (3, 4), (5, 6)])])"
    assert run_without_threads(code) == "[3, 7, 11]\n"
