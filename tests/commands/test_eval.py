"""The commands on a tiny policy: files, going on after a kill, what is refused."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
from tiny import tiny_folder, tiny_policy

import llmrl
from llmrl import api
from llmrl.commands import eval as eval_command
from llmrl.commands.cli import main
from llmrl.commands.compare import CompareOptions
from llmrl.commands.compare import run as run_compare
from llmrl.commands.eval import EvalOptions
from llmrl.commands.eval import evaluate_policy as run
from llmrl.errors import ConfigError
from llmrl.evaluation import Evaluation, evaluate, running
from llmrl.rollouts.environments import Environments
from llmrl.terminal import Terminal
from llmrl.training.display import Display

MATH = {"source": "generated", "split": "test", "levels": [1]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0)


def options(tiny: Path, output: Path, **changes) -> EvalOptions:
    settings = {
        "policy": str(tiny),
        "env": ("llmrl/MATH-v0",),
        "env_options": ("source=generated", "levels=[1]"),
        "problems": 7,
        "samples": 2,
        "batch": 4,
        "max_response_length": 3,
        "max_prompt_length": 400,
        "output": output,
    }
    return EvalOptions(**{**settings, **changes})


def quiet() -> Display:
    return Display(Terminal(file=io.StringIO(), width=200))


def test_an_evaluation_leaves_settings_responses_and_results(tiny, tmp_path):
    console = Terminal(record=True, width=200, file=io.StringIO())
    folder = run(
        options(tiny, tmp_path / "e", env=("llmrl/MATH-v0", "tests/SayA-v0"), k=(1, 2)),
        Display(console),
    )
    results = json.loads((folder / "results.json").read_text())["environments"]
    assert list(results) == ["llmrl/MATH-v0", "tests/SayA-v0"]
    math = results["llmrl/MATH-v0"]
    assert math["problems"] == 7
    assert {"greedy", "avg@2", "pass@1", "maj@1", "pass@2", "maj@2"} <= math.keys()
    assert "maj@2" not in results["tests/SayA-v0"]  # it extracts no answers
    records = Evaluation.read(folder / math["responses"]).records
    assert len(records) == 7 * 3
    assert all(record["source"] == "generated" and record["level"] == 1 for record in records)
    shown = console.export_text()
    for text in ("pass@2", "truncated, greedy / sampled", "level 1", "tests/SayA-v0"):
        assert text in shown


def test_a_killed_evaluation_goes_on_and_ends_as_if_it_had_not_been(tiny, tmp_path, monkeypatch):
    whole = run(options(tiny, tmp_path / "whole"), quiet())
    name = "llmrl-MATH-v0.jsonl"
    append, batches = running._append, []

    def killed(file, records):
        batches.append(len(records))
        if len(batches) == 4:
            with file.open("a") as out:  # in the middle of a line
                out.write("".join(json.dumps(r) + "\n" for r in records)[:200])
            raise KeyboardInterrupt
        append(file, records)

    monkeypatch.setattr(running, "_append", killed)
    with pytest.raises(KeyboardInterrupt):
        run(options(tiny, tmp_path / "killed"), quiet())
    assert not (tmp_path / "killed" / "results.json").exists()
    calls = []
    monkeypatch.setattr(running, "_append", lambda file, records: (calls.append(1), append(file, records)))
    resumed = run(options(tiny, tmp_path / "killed"), quiet())
    assert (resumed / name).read_text() == (whole / name).read_text()
    assert (resumed / "results.json").read_text() == (whole / "results.json").read_text()
    assert len(calls) == 4  # of six batches two were complete and not the last

    # A finished one answers nothing again, and gives other k's from the same responses.
    monkeypatch.setattr(running, "collect", None)
    run(options(tiny, tmp_path / "killed", k=(1,)), quiet())
    results = json.loads((resumed / "results.json").read_text())["environments"]["llmrl/MATH-v0"]
    assert "pass@1" in results
    assert "pass@2" not in results


def test_other_settings_or_weights_are_not_mixed(tiny, tmp_path):
    folder = run(options(tiny, tmp_path / "e"), quiet())
    with pytest.raises(ConfigError, match=r"other settings:\n  seed: was 0, is 1\n.*--force"):
        run(options(tiny, folder, seed=1), quiet())
    with pytest.raises(ConfigError, match=r"env.llmrl/MATH-v0.levels: was \[1\], is \[2\]"):
        run(options(tiny, folder, env_options=("source=generated", "levels=[2]")), quiet())
    changed = tmp_path / "other"
    tiny_folder(changed, sharpness=1.0, seed=1)
    shutil.copytree(changed, tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"weights: was '\w{16}', is '\w{16}'"):
        run(options(changed, folder), quiet())
    assert run(options(tiny, folder, seed=1, force=True), quiet()) == folder
    records = Evaluation.read(folder / "llmrl-MATH-v0.jsonl").records
    assert len(records) == 21


def test_another_environment_may_join(tiny, tmp_path):
    folder = run(options(tiny, tmp_path / "e"), quiet())
    run(options(tiny, folder, env=("tests/SayA-v0",), env_options=()), quiet())
    results = json.loads((folder / "results.json").read_text())["environments"]
    assert set(results) == {"llmrl/MATH-v0", "tests/SayA-v0"}
    run(options(tiny, folder), quiet())  # and the first one is still known as it was


def test_a_folder_with_something_else_in_it_is_left_alone(tiny, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no evaluation"):
        run(options(tiny, tmp_path, force=True), quiet())
    assert (tmp_path / "precious.txt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": (3,)}, r"--k 3: .* must be from 1 to 2"),
        ({"env_options": ("sorce=generated",)}, r"--env-options sorce: .* Did you mean 'source'"),
        ({"env_options": ("generated",)}, r"--env-options generated: give name=value"),
        ({"problems": None}, r"llmrl/MATH-v0 has an unlimited number of problems"),
        ({"problems": 0}, r"--problems must be at least 1, or None for all, got 0"),
        ({"batch": 0}, r"--batch must be 1 or more, got 0"),
        ({"max_prompt_length": 2}, r"All 7 prompts of llmrl/MATH-v0 are longer than"),
        ({"env": ("llmrl/MAHT-v0",)}, r"Did you mean 'llmrl/MATH-v0'"),
    ],
)
def test_what_cannot_work_is_refused(tiny, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(options(tiny, tmp_path / "e", **changes), quiet())


def test_the_settings_of_training_are_the_defaults(tiny, tmp_path, monkeypatch):
    checkpoint = tmp_path / "run" / "checkpoint-000001"
    shutil.copytree(tiny, checkpoint)
    (tmp_path / "run" / "latest").symlink_to(checkpoint.name)
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "run" / "config.yaml").write_text(
        "env: {id: llmrl/MATH-v0, source: generated, levels: [2], split: train}\n"
        "policy: {temperature: 0.5, max_response_length: 5, instruction: Box it., system_prompt: Be brief.}\n"
    )
    chosen = EvalOptions(
        policy=str(tmp_path / "run" / "latest"),
        problems=2,
        samples=1,
        output=tmp_path / "e",
        env_options=("seed=3",),
        max_response_length=4,
    )
    settings = json.loads((run(chosen, quiet()) / "settings.json").read_text())
    assert settings["env"] == {"llmrl/MATH-v0": {"split": "test", "source": "generated", "levels": [2], "seed": 3}}
    assert (settings["temperature"], settings["max_response_length"]) == (0.5, 4)
    assert (settings["instruction"], settings["system_prompt"]) == ("Box it.", "Be brief.")
    again = run(dataclasses.replace(chosen, instruction=None, output=tmp_path / "f"), quiet())
    assert json.loads((again / "settings.json").read_text())["instruction"] is None

    asked = []
    monkeypatch.setattr(
        api, "run_evaluation", lambda policy, environments, *a, **k: asked.append((policy, environments))
    )
    llmrl.evaluate(tmp_path / "run" / "latest", env_options={"seed": 3})
    ((policy, environments),) = asked
    assert environments.options == settings["env"]["llmrl/MATH-v0"]
    assert (policy.temperature, policy.max_response_length, policy.options.instruction) == (0.5, 5, "Box it.")


def test_code_and_addresses_of_the_files_need_a_word(tiny, tmp_path):
    folder = tmp_path / "p"
    shutil.copytree(tiny, folder)
    (folder / "training.yaml").write_text("env: {id: 'evil:Code-v0'}\n")
    with pytest.raises(ConfigError, match=r"evil:Code-v0, which is code. Give --allow-code .in Python allow_code=True"):
        llmrl.evaluate(folder)
    (folder / "training.yaml").write_text("env: {id: llmrl/Data-v0, source: openai/gsm8k}\n")
    with pytest.raises(ConfigError, match=r"data set openai/gsm8k, which is not on this machine. Give --allow-code"):
        llmrl.evaluate(folder)
    (folder / "training.yaml").write_text("policy: {instruction: [1]}\n")
    with pytest.raises(ConfigError, match=r"instruction is .1., expected a text"):
        llmrl.evaluate(folder)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("mine.jsonl", "was trained on mine.jsonl, which does not exist here. Give --env-options source=PATH"),
        ("an object of type list", "was trained on problems given in Python, which its files do not hold. Give --env"),
    ],
)
def test_data_of_training_that_are_not_here_may_be_given(tiny, tmp_path, source, said):
    folder = tmp_path / "p"
    shutil.copytree(tiny, folder)
    (folder / "training.yaml").write_text(f"env: {{id: llmrl/Data-v0, source: {source}}}\n")
    chosen = EvalOptions(policy=str(folder), problems=2, samples=0, output=tmp_path / "e", max_response_length=2)
    with pytest.raises(ConfigError, match=said):
        run(chosen, quiet())
    with pytest.raises(ConfigError, match=said):
        llmrl.evaluate(folder)
    file = tmp_path / "here.jsonl"
    file.write_text(json.dumps({"problem": "1+1", "answer": "2"}) + "\n")
    run(dataclasses.replace(chosen, env_options=(f"source={file}",)), quiet())
    assert Evaluation.read(tmp_path / "e" / "llmrl-Data-v0.jsonl").records[0]["answer"] == "2"
    rows = [{"problem": "1+1", "answer": "2"}]
    assert len(llmrl.evaluate(folder, rows, samples=0).records) == 1


def test_dropped_prompts_are_counted_and_left_out():
    environments = Environments("llmrl/MATH-v0", MATH)
    policy = tiny_policy(max_response_length=2, sharpness=1.0, max_prompt_length=90)
    asked = environments.of_size(12).reset(options={"problem_id": list(range(12))})[0]
    fitting = sum(len(ids) <= 90 for ids in policy.prompts.encode(list(asked)))
    assert 0 < fitting < 12
    result = evaluate(policy, environments, 12, samples=2, batch=4)
    assert result.summary()["problems"] == fitting
    assert result.dropped_prompts == 12 - fitting


def test_a_choice_among_finitely_many_problems_is_random_and_always_the_same(tmp_path):
    file = tmp_path / "sorted.jsonl"
    rows = [{"problem": f"{i}", "answer": "1", "subject": "ab"[i // 20]} for i in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    environments = Environments("llmrl/MATH-v0", {"source": str(file), "split": "all"})
    policy = tiny_policy(max_response_length=1, sharpness=1.0)
    first, second = (evaluate(policy, environments, 20, samples=1, seed=seed).records for seed in (0, 1))
    assert [r["problem_id"] for r in first] == [r["problem_id"] for r in second]
    assert {r["subject"] for r in first} == {"a", "b"}
    everything = evaluate(policy, environments, None, samples=0)
    assert len(everything.records) == 40


def test_votes_follow_the_verifiers_own_equality():
    environments = Environments("llmrl/MATH-v0", MATH)
    same = running._equality(environments)
    assert same("0.5", r"\frac12")
    assert not same("0.5", "0.6")
    assert running._equality(Environments("tests/SayA-v0", {})) is running._same_text


def test_compare_reads_folders_and_files(tiny, tmp_path):
    one = run(options(tiny, tmp_path / "one"), quiet())
    two = run(options(tiny, tmp_path / "two", seed=1), quiet())
    console = Terminal(record=True, width=200, file=io.StringIO())
    run_compare(CompareOptions(one, two, output=tmp_path / "c.json"), console)
    shown = console.export_text()
    for text in ("second - first", "McNemar's exact test: p = 1", "pass@2", "first wrong"):
        assert text in shown
    content = json.loads((tmp_path / "c.json").read_text())["llmrl/MATH-v0"]
    assert content["measures"]["greedy"]["difference"]["mean"] == 0
    name = "llmrl-MATH-v0.jsonl"
    run_compare(CompareOptions(one / name, two / name), console)
    (tmp_path / "run" / "eval").mkdir(parents=True)
    for name_there, taken in (("after", two), ("before", one)):
        shutil.copy(taken / name, tmp_path / "run" / "eval" / f"{name_there}.jsonl")
    (tmp_path / "run" / "eval" / "before.json").write_text("{}")
    for path in (one / name, tmp_path / "run", tmp_path / "run" / "eval" / "before.json"):
        run_compare(CompareOptions(path, tmp_path / "run", output=tmp_path / "c.json"), console)
    assert list(json.loads((tmp_path / "c.json").read_text())) == ["before, run"]
    third = run(options(tiny, tmp_path / "three", problems=4), quiet())
    with pytest.raises(ConfigError, match=r"3 are in the first alone, 0 in the second alone"):
        run_compare(CompareOptions(one, third), console)


def test_the_commands_report_mistakes_without_a_traceback(tiny, tmp_path, capsys, monkeypatch):
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "does not exist: give a folder of llmrl eval" in capsys.readouterr().err
    assert main(["eval", "--policy", str(tiny), "--k", "9"]) == 2
    monkeypatch.setattr(eval_command, "run", lambda options: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["eval", "--policy", str(tiny)]) == 130
    assert "or with the same eval command" in capsys.readouterr().err
