"""Nano tasks: start policies have room, and the study's door runs the real trainer on them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from llmrl.algorithms import algorithm
from llmrl.envs.arithmetic import evaluate
from llmrl.errors import ConfigError, PolicyError, UserError
from llmrl.policies.names import EMBEDDED, locate
from llmrl.policies.policy import Policy
from llmrl.rollouts.environments import Environments
from llmrl.studies import NANO, Settings, study
from llmrl.studies.grid import make_grid, run_cell
from llmrl.studies.nano.run import make, success
from llmrl.studies.nano.starts import STARTS, careful_search, encode, hasty_guesses, hasty_search, make_tokenizer
from llmrl.studies.nano.task import places
from llmrl.studies.running import estimate_seconds

ALL = pytest.mark.parametrize("name", NANO)
SHORT = {"rollouts": 2}


@ALL
def test_a_start_policy_succeeds_now_and_then(name):
    task = NANO[name]
    policy = Policy.from_pretrained(
        task.policy, device="cpu", max_prompt_length=32, max_response_length=task.response_tokens
    )
    held_out = Environments(task.env_id, {**task.env_options, "split": "test"})
    assert 0.03 <= success(policy, held_out) <= 0.25
    assert policy.prompts.contexts(["1 2"])  # a character is a token
    assert sum(p.numel() for p in policy.model.parameters()) < 200_000


@ALL
def test_two_steps_through_the_door(name):
    (cell,) = make_grid(algorithms=["dapo"], tasks=[name], seeds=[3], **SHORT)
    row = run_cell(cell)
    assert not row.error
    assert len(row.curves["score"]) == 3
    assert all(len(curve) == 2 for number, curve in row.curves.items() if number != "score")
    assert row.summary["final"] == row.curves["score"][-1]
    assert row.summary["kl"] > 0
    assert row.summary["entropy"] > 0


def test_a_seed_gives_every_algorithm_the_same_first_responses_and_repeats_its_run():
    cells = make_grid(algorithms=["dapo", "espo"], tasks=["nano-carry"], seeds=[0], rollouts=1)
    dapo, espo = map(run_cell, cells)
    assert dapo.summary["start"] == espo.summary["start"]
    assert dapo.curves["accuracy"] == espo.curves["accuracy"]
    assert dapo.curves["kl"] != espo.curves["kl"]
    again = run_cell(cells[0])
    assert (again.summary, again.curves) == (dapo.summary, dapo.curves)


def test_refills_choice_of_groups_and_shaping_are_left_out():
    trainer, _ = make(NANO["nano-carry"], algorithm("dapo"), 0, Settings(rollouts=1))
    credit = trainer.algorithm.credit
    assert (credit.max_refills, credit.shape) == (0, ())
    assert type(credit.keep).__name__ == "KeepAll"


def test_a_study_of_exact_and_nano_tasks_goes_on_where_it_was(tmp_path):
    options = {"output": tmp_path, "algorithms": ["dapo"], "use_shipped": False, "rollouts": 1, "seeds": 1}
    study(**options, tasks=["nano-carry"])
    progress = []
    both = ["hack", "nano-carry"]
    results = study(**options, tasks=both, progress=lambda row, done, total: progress.append((done, total)))
    assert progress == [(1, 2), (2, 2)]
    assert results.strata == both
    assert not any(row.failed for row in results.rows)
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert "nano-carry" in (tmp_path / "runs.csv").read_text()


def test_a_long_study_is_estimated_before_it_starts(tmp_path):
    (cell,) = make_grid(algorithms=["dapo"], tasks=["nano-carry"], seeds=[0])
    assert estimate_seconds([cell] * 100, 1) > estimate_seconds([cell], 4) > 0
    with pytest.raises(ConfigError, match=r"would take about .*--yes"):
        study(output=tmp_path, algorithms=["dapo"], tasks=["nano-carry"], seeds=3, allow_seconds=0.1)


def test_wrong_names_and_settings_are_refused():
    with pytest.raises(UserError, match="Did you mean 'nano-carry'"):
        make_grid(algorithms=["dapo"], tasks=["nano-cary"], seeds=[0])
    with pytest.raises(ConfigError, match=r"nano-carry samples with the current policy, got lag 4"):
        make_grid(algorithms=["dapo"], tasks=["nano-carry"], seeds=[0], lags=[4])
    with pytest.raises(PolicyError, match="Did you mean 'llmrl/nano-guess'"):
        locate("llmrl/nano-gess")


def test_every_task_has_its_policy_and_the_way_it_was_made():
    assert set(NANO) == set(STARTS)
    assert {task.policy for task in NANO.values()} == set(EMBEDDED) - {"llmrl/nano"}
    size = sum(f.stat().st_size for name in NANO for f in EMBEDDED[f"llmrl/{name}"].iterdir())
    assert size < 3_000_000


def test_supervised_rows_are_what_the_policy_reads_and_writes():
    tokenizer = make_tokenizer()
    dialogue = [("12 34 56", "35"), ("<", "12")]
    messages = []
    for said, response in dialogue:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": response}]
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    ids, labels = encode([dialogue, [("1", "2")]], tokenizer)
    assert ids[0].tolist() == whole
    assert tokenizer.decode([i for i in labels[0].tolist() if i != -100]) == "35<|end|>12<|end|>"
    assert labels[1].tolist().count(-100) == len(whole) - 2  # the padding too


def test_a_hasty_player_is_silent_as_often_as_it_is_told():
    rng = np.random.default_rng(0)
    for _ in range(100):
        for said, response in (game := hasty_guesses(rng, silence=0.0)):
            assert response in game[0][0].split()
            assert said in (game[0][0], "<", ">")
    silent = [hasty_guesses(rng, silence=1.0) for _ in range(20)]
    assert all([turn[1] for turn in game] == ["", ""] and game[1][0] == "?" for game in silent)
    half = [hasty_guesses(rng, silence=0.5)[0][1] == "" for _ in range(400)]
    assert 0.4 < sum(half) / 400 < 0.6


def test_a_careful_search_ends_at_the_target_and_a_hasty_one_anywhere():
    rng = np.random.default_rng(0)
    for _ in range(100):
        ((said, response),) = careful_search(rng)
        digits, target = said.split("=")
        values = [int(part.split("=")[1]) for part in response.split(" ")]
        assert values.index(int(target)) == len(values) - 1
        assert len(set(values)) == len(values)
        assert (
            sum(first > second for first, second in pairwise(values)) <= 1
        )  # ascending, and the smallest after the largest
        for part in response.split(" "):
            text, value = part.split("=")
            found = evaluate(text)
            assert (found.value, sorted(map(int, found.numbers))) == (int(value), sorted(map(int, digits)))
    assert all(hasty_search(rng, stop=1.0)[0][1] == "" for _ in range(20))
    games = [hasty_search(rng, stop=0.5)[0] for _ in range(400)]
    assert 0.4 < sum(response == "" for _, response in games) / 400 < 0.6
    told = [
        (said.split("=")[1], [part.split("=")[1] for part in response.split(" ")])
        for said, response in games
        if response
    ]
    assert any(target in values[:-1] for target, values in told)  # it passes over the target
    assert any(target not in values for target, values in told)


def test_the_places_of_evaluations_are_even():
    assert places(1) == [0, 1]
    assert places(10) == list(range(11))
    assert len(set(places(57))) == 11
