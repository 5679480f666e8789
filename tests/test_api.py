"""Python equals the command line: names or objects in, results out, and nothing else touched."""

import logging
import os
import random
import signal
import sys
import threading
import warnings

import noisy  # noqa: F401  registers tests/Noisy-v0
import numpy as np
import pytest
import torch
import trivial
from command import trained
from huggingface_hub.utils import are_progress_bars_disabled
from safetensors.torch import load_file
from tiny import tiny_folder
from transformers.utils import logging as transformers_logging

import llmrl
from llmrl import api
from llmrl.algorithms import algorithm
from llmrl.errors import ConfigError, UserError
from llmrl.policies import Policy
from llmrl.studies import load
from llmrl.training.command_line import parse
from llmrl.training.process import borrowed

SMALL = {"group_size": 2, "prompts_per_step": 2, "updates_per_step": 1}
SHORT = {"policy_options": {"max_response_length": 3}, "eval": {"problems": 3, "samples": 1}, "quiet": True}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0))


def test_names_give_the_run_that_the_command_line_gives(tiny, tmp_path):
    run = llmrl.train(tiny, "tests/SayA-v0", "grpo", train={"steps": 2, **SMALL}, output=tmp_path / "python", **SHORT)
    assert run.finished
    assert len(run.metrics) == 2
    assert run.before.greedy.mean <= 1
    assert run.after.greedy.mean <= 1
    command = ["--policy", tiny, *trivial.SAY_A, *trivial.SMALL, "--train.steps", "2", "--eval.problems", "3"]
    other = trained(parse([*command, "--eval.samples", "1", "--output", str(tmp_path / "command")]))
    ours, theirs = (load_file(folder / "latest" / "model.safetensors") for folder in (run.folder, other))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_objects_are_taken_as_they_are(tiny, tmp_path):
    policy = Policy.from_pretrained(tiny, max_response_length=3)
    first = policy.model.get_input_embeddings().weight.clone()
    seen = []

    class Watch(llmrl.Callback):
        def on_step(self, trainer, metrics, rollouts):
            seen.append((trainer.counters.step, len(rollouts)))

        def on_evaluation(self, name, evaluation):
            seen.append(name)

    run = llmrl.train(
        policy,
        trivial.SayA(goal="".join(map(chr, range(ord("0"), ord("z"))))),
        algorithm("dr_grpo"),
        train={"steps": 1, "learning_rate": 1e-2, **SMALL, "group_size": 8},
        output=tmp_path / "run",
        callbacks=[Watch()],
        eval=SHORT["eval"],
        quiet=True,
    )
    assert run.policy is policy
    assert not (policy.model.get_input_embeddings().weight == first).all()
    assert seen == ["before", (1, 16), "after"]
    assert "dr_grpo" in (run.folder / "config.yaml").read_text()


def test_a_list_of_dicts_and_a_function_are_an_environment(tiny, tmp_path):
    rows = [{"problem": f"say {letter}", "answer": letter} for letter in "abc"]
    seen = []

    def reward(prompt, response, answer):
        seen.append((prompt, answer))
        return float(len(response) % 2)

    run = llmrl.train(tiny, rows, "grpo", reward=reward, train={"steps": 1, **SMALL}, output=tmp_path / "run", **SHORT)
    assert {("say a", "a"), ("say b", "b"), ("say c", "c")} == set(seen)
    assert run.before.greedy.mean <= 1
    found = llmrl.evaluate(run.policy, rows, problems=None, samples=0, reward=lambda prompt, response, answer: 1.0)
    assert found.greedy.mean == 1


def of_the_process():
    """What a notebook's cells share, and none of them expects a library to change."""
    loggers = [logging.getLogger(name) for name in (None, "llmrl", "transformers", "huggingface_hub")]
    return {
        "path": list(sys.path),
        "handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "threads of torch": torch.get_num_threads(),
        "bars": transformers_logging.is_progress_bar_enabled(),
        "bars of downloads": are_progress_bars_disabled(),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "folder": os.getcwd(),
        "variables": dict(os.environ),
        "filters": list(warnings.filters),
        "loggers": [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers],
        "gradients": torch.is_grad_enabled(),
        "type": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "errors": np.geterr(),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook),
        "digits": sys.get_int_max_str_digits(),
    }


def trains(tiny, folder):
    llmrl.train(
        tiny, "tests/SayA-v0", "grpo", train={"steps": 1, **SMALL}, output=folder / "run", threads=3, seed=7, **SHORT
    )


def draws_in_training(tiny, folder):
    llmrl.train(tiny, "noisy:tests/Noisy-v0", "grpo", train={"steps": 1, **SMALL}, output=folder / "run", **SHORT)


def breaks_off(tiny, folder):
    class Watch(llmrl.Callback):
        def on_step(self, trainer, metrics, rollouts):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        llmrl.train(
            tiny,
            "tests/SayA-v0",
            "grpo",
            train={"steps": 1, **SMALL},
            output=folder / "run",
            threads=3,
            callbacks=[Watch()],
            **SHORT,
        )


def is_refused(tiny, folder):
    with pytest.raises(UserError):
        llmrl.train("./nowhere", "tests/SayA-v0", "grpo", output=folder / "run", threads=3, **SHORT)


def evaluates(tiny, folder):
    llmrl.evaluate(tiny, "noisy:tests/Noisy-v0", problems=2, samples=1)


def studies(tiny, folder):
    llmrl.study(output=folder, algorithms=["dapo"], tasks=["hack"], seeds=1, rollouts=2)


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("call", [trains, draws_in_training, breaks_off, is_refused, evaluates, studies])
def test_nothing_of_the_interpreter_is_changed(call, bars, tiny, tmp_path, capsys):
    llmrl.train, llmrl.study  # noqa: B018  imports them, and rich draws from random as it is imported
    switch = transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar
    with borrowed():
        switch()
        before, threads = of_the_process(), threading.enumerate()
        call(tiny, tmp_path)
        after = of_the_process()
        assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}
        for thread in set(threading.enumerate()) - set(threads):
            thread.join(20)  # one that has been told to end may need a moment
            assert not thread.is_alive(), thread.name
    assert capsys.readouterr().out == ""


def test_a_page_is_written_of_folders_and_of_outcomes(tiny, tmp_path):
    run = llmrl.train(tiny, "tests/SayA-v0", "grpo", train={"steps": 1, **SMALL}, output=tmp_path / "run", **SHORT)
    page = llmrl.report(run, output=tmp_path / "page.html", algorithms=["dapo"], plots=True)
    assert page.path.read_text().lower().startswith("<!doctype html>")
    assert {path.suffix for path in page.plots.iterdir()} == {".png", ".svg"}
    assert llmrl.report(run.folder, output=tmp_path / "other.html").notes == page.notes
    with pytest.raises(UserError, match="There is no folder"):
        llmrl.report(tmp_path / "nowhere", output=tmp_path / "none.html")


def test_a_study_is_run_and_read_again(tmp_path):
    results = llmrl.study(output=tmp_path, algorithms=["dapo", "gspo"], tasks=["hack"], seeds=2, rollouts=3)
    assert [line.algorithm for line in results.table()] == ["dapo", "gspo"]
    again = load(str(tmp_path))
    assert [line.runs for line in again.table()] == [line.runs for line in results.table()] == [2, 2]
    with pytest.raises(UserError, match="Did you mean 'gspo'"):
        llmrl.study(output=tmp_path, algorithms=["gspoo"])


def test_evaluate_takes_names_and_objects(tiny):
    policy = Policy.from_pretrained(tiny, max_response_length=3)
    by_name = llmrl.evaluate(policy, "tests/SayA-v0", problems=4, samples=2)
    by_object = llmrl.evaluate(policy, trivial.SayA(), problems=4, samples=2)
    assert by_name.summary() == by_object.summary()


def test_rows_to_evaluate_on_are_the_test_part(tiny, monkeypatch):
    asked = []
    monkeypatch.setattr(api, "run_evaluation", lambda policy, environments, *a, **k: asked.append(str(environments)))
    train, test = ([{"problem": f"say {letter}", "answer": letter} for letter in letters] for letters in ("abc", "x"))
    policy = Policy.from_pretrained(tiny, max_response_length=3)
    llmrl.evaluate(policy, {"train": iter(train), "test": iter(test)})
    llmrl.evaluate(policy, iter(train))
    assert asked[0] == "1 problem of the given data: test"
    assert asked[1] == "3 problems of the given data"


def test_an_unknown_option_of_a_section_is_refused():
    with pytest.raises(ConfigError, match=r"no option 'train\.lr'"):
        llmrl.train(train={"lr": 3}, quiet=True)
