"""One step ahead: the next batch is gathered while this one trains, and nothing depends on when."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch
import trivial  # noqa: F401  registers tests/SayA-v0
from engine_stand_in import TOKEN, StandIn, running
from small_run import EASY, save, small_run, steps, stir
from tiny import SMALLEST, tiny_folder

from llmrl import keys
from llmrl.algorithms import ALGORITHMS
from llmrl.errors import ConfigError
from llmrl.policies.sampling import wire
from llmrl.training import checkpoint, run_state
from llmrl.training import trainer as trainer_module
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.trainer import Trainer

STEPS = 4


class Before:
    """In place of the thread: the work is done where it is asked for, before the update."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, work, *arguments):
        done = Future()
        done.set_result(work(*arguments))
        return done


class Behind(Before):
    """The work is done when its result is read, behind the update."""

    def submit(self, work, *arguments):
        done = Future()
        done.result = lambda timeout=None: work(*arguments)
        return done


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0, **SMALLEST)


def make(tiny: Path, *more: str, start: Path | None = None) -> Trainer:
    size = f"--train.learning-rate 3e-2 --train.warmup-steps 1 --train.steps {STEPS} --train.ahead 1"
    trainer, _ = build(parse(small_run(tiny, *size.split(), "--env.goal", EASY, *more)), start)
    if start is not None:
        run_state.restore(trainer, checkpoint.load_state(start), start)
    return trainer


def went(trainer: Trainer, count: int = STEPS):
    done = steps(trainer, count)
    return done, [p.clone() for p in (*trainer.learner.masters, *trainer.learner.critic_parameters)]


def same(one, other) -> bool:
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


@pytest.mark.parametrize("name", ["grpo", "dapo", "ppo", "espo"])
def test_when_the_next_batch_is_gathered_does_not_matter(name, tiny, monkeypatch):
    threaded = went(make(tiny, "--algo", name))
    for way in (Before, Behind):
        monkeypatch.setattr(trainer_module, "ThreadPoolExecutor", way)
        assert same(went(make(tiny, "--algo", name)), threaded)
    assert not same(went(make(tiny, "--algo", name, "--train.ahead", "0")), threaded)


def test_it_is_gathered_during_the_update(tiny, monkeypatch):
    trainer = make(tiny, "--algo", "grpo")
    began, updated = threading.Event(), threading.Event()
    gather, update = trainer.gatherer.gather, trainer.learner.update

    def gathering(step, first_group):
        if step:  # the first one has nothing to run beside
            began.set()
            assert updated.wait(60), "the update waits for the batch"
        return gather(step, first_group)

    def updating(*arguments):
        assert began.wait(60), "gathering has not begun"
        done = update(*arguments)
        updated.set()
        return done

    monkeypatch.setattr(trainer.gatherer, "gather", gathering)
    monkeypatch.setattr(trainer.learner, "update", updating)
    metrics, _ = trainer.step()
    assert metrics["time/wait"] >= 0


def test_an_interruption_does_not_wait_for_the_next_batch_but_an_error_does(tiny, monkeypatch):
    trainer = make(tiny, "--algo", "grpo")
    free, gathered = threading.Event(), threading.Event()

    def gathering(*_):
        free.wait(60)
        gathered.set()

    monkeypatch.setattr(trainer.gatherer, "gather", gathering)
    with pytest.raises(KeyboardInterrupt), trainer.meanwhile():
        raise KeyboardInterrupt
    assert not gathered.is_set()
    free.set()
    finished = threading.Event()

    def slowly(*_):
        time.sleep(0.2)
        finished.set()

    monkeypatch.setattr(trainer.gatherer, "gather", slowly)
    with pytest.raises(ValueError, match="update"), trainer.meanwhile():
        raise ValueError("the update failed")
    assert finished.is_set()


def test_staleness_and_mismatch_are_told(tiny):
    found = [metrics for metrics, _ in went(make(tiny, "--algo", "grpo"))[0]]
    assert [metrics["rollout/staleness"] for metrics in found] == [0.0, 1.0, 1.0, 1.0]
    assert found[0]["rollout/mismatch_max"] < 1e-4
    assert min(metrics["rollout/mismatch_max"] for metrics in found[1:]) > 1e-2
    straight = [metrics for metrics, _ in went(make(tiny, "--algo", "grpo", "--train.ahead", "0"))[0]]
    assert [metrics["rollout/staleness"] for metrics in straight] == [0.0] * STEPS


def test_responses_are_those_of_the_weights_before_the_update(tiny):
    trainer = make(tiny, "--algo", "grpo")
    trainer.step()
    assert trainer.pending is not None
    data = trainer.pending.rollouts.data
    old = make(tiny, "--algo", "grpo")  # the weights that the run began with
    with torch.no_grad():
        scored = old.policy.score(data)
    torch.testing.assert_close(
        torch.where(data[keys.MASK], scored[keys.LOG_PROB], 0), data[keys.SAMPLER_LOG_PROB], rtol=1e-4, atol=1e-4
    )
    with torch.no_grad():
        now = trainer.policy.score(data)[keys.LOG_PROB]
    assert float((now - data[keys.SAMPLER_LOG_PROB])[data[keys.MASK]].abs().max()) > 1e-2


@pytest.mark.parametrize("name", ["grpo", "dapo", "dcpo", "ppo"])
def test_a_resumed_run_trains_on_the_batch_that_was_waiting(name, tiny, tmp_path):
    whole = make(tiny, "--algo", name)
    steps(whole, 2)
    saved = save(whole, tmp_path)
    expected = went(whole, 2)
    stir(99)
    assert same(went(make(tiny, "--algo", name, start=saved), 2), expected)


def test_no_problem_is_left_out_or_asked_twice(tiny, tmp_path):
    whole = make(tiny, "--algo", "grpo")
    records = [record for _, rows in steps(whole, 2) for record in rows]
    resumed = make(tiny, "--algo", "grpo", start=save(whole, tmp_path))
    records += [record for _, rows in steps(resumed, 2) for record in rows]
    groups = [record["group"] for record in records]
    assert sorted(set(groups)) == list(range(2 * STEPS))
    assert len(groups) == 4 * 2 * STEPS
    assert resumed.pending is None  # nothing is asked for that no step would train on


def test_what_gathering_raises_ends_the_step(tiny, monkeypatch):
    trainer = make(tiny, "--algo", "grpo")
    gather = trainer.gatherer.gather

    def broken(step, first_group):
        if step == 1:
            raise ConnectionError("no sandbox is free")
        return gather(step, first_group)

    monkeypatch.setattr(trainer.gatherer, "gather", broken)
    with pytest.raises(ConnectionError, match="no sandbox"):
        trainer.step()


def test_nothing_is_gathered_any_more_when_the_update_has_failed(tiny, monkeypatch):
    trainer = make(tiny, "--algo", "grpo")
    gather, failed, ended = trainer.gatherer.gather, threading.Event(), threading.Event()

    def slow(step, first_group):
        result = gather(step, first_group)
        if step == 1:
            failed.wait()
            time.sleep(0.3)
            ended.set()
        return result

    def fail(batch, metrics):
        failed.set()
        raise ConnectionError("the update failed")

    monkeypatch.setattr(trainer.gatherer, "gather", slow)
    monkeypatch.setattr(trainer, "update", fail)
    with pytest.raises(ConnectionError, match="the update"):
        trainer.step()
    assert ended.is_set()


@pytest.mark.parametrize("name", [*ALGORITHMS, "erc+gspo", "mis+grpo"])
def test_every_algorithm_is_corrected_by_default(name, tiny):
    recipe = make(tiny, "--algo", name).algorithm
    assert len(recipe.corrections) >= 1
    assert keys.SAMPLER_LOG_PROB in recipe.in_keys
    own = {"tis": "tis", "mis": "mis", "mis+grpo": "mis+grpo"}
    assert recipe.name == own.get(name, f"tis+{name}")


def test_the_correction_can_be_left_out(tiny):
    recipe = make(tiny, "--algo", "grpo", "--train.no-ahead-correction").algorithm
    assert (recipe.name, recipe.corrections) == ("grpo", ())
    trainer = make(tiny, "--algo", "grpo", "--train.no-ahead-correction", "--train.no-rescore")
    assert [m["rollout/staleness"] for m, _ in steps(trainer, 2)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--train.ahead", "2"), "--train.ahead must be 0 or 1"),
        (("--train.no-rescore",), "--train.ahead 1 weighs tokens by the gap .* --train.no-rescore leaves unknown"),
        (("--policy.engine", "vllm", "--policy.engine-sleep"), "--train.ahead 1 samples during the update"),
    ],
)
def test_what_does_not_go_together_is_refused(more, message, tiny):
    with pytest.raises(ConfigError, match=message):
        make(tiny, *more)


class Sampling(StandIn):
    """Samples as the policy itself would, from the weights that it was given."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def _sample(self, request, settings):
        model = copy.deepcopy(self.policy.model)
        model.load_state_dict(self.tensors, strict=False)
        self.policy.model, own = model, self.policy.model
        drawn = self.policy._sampler(model).sample(
            request.contexts,
            max_new_tokens=request.limits,
            temperature=request.temperature,
            seeds=request.seeds,
            greedy=request.seeds is None,
        )
        self.policy.model = own
        finish = ["end", "length"]
        responses = [
            wire.Response(tokens=s.tokens, log_probs=[min(p, 0.0) for p in s.log_probs], finish=finish[s.finish_reason])
            for s in drawn
        ]
        return wire.Sampled(weights=request.weights, responses=responses, cached=[0] * len(responses))


def test_servers_give_the_run_of_the_policys_own_sampler(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv(wire.TOKEN_VARIABLE, TOKEN)
    alone = make(tiny, "--algo", "grpo")
    with running(Sampling(copy.deepcopy(alone.policy)), tmp_path) as server:
        served = make(tiny, "--algo", "grpo", "--policy.engine", server.url)
        try:
            assert same(went(served), went(alone))
        finally:
            served.policy.close()
