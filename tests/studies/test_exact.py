"""The exact tasks: their numbers against brute force, their optima, their frozen start points and runs."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from llmrl import keys
from llmrl.algorithms import ALGORITHMS, algorithm
from llmrl.credit.groups import KeepAll
from llmrl.studies.exact import start
from llmrl.studies.exact.machine import Machine, divergence
from llmrl.studies.exact.run import CURVE, PROVIDED, _Run, compared, run
from llmrl.studies.exact.task import ExactTask, mean_success
from llmrl.studies.exact.tasks import EXACT

SHORT = 2
GOLDEN = {  # score of the start point, and of dapo with seed 0 after two rollouts
    "carry": (0.125379, 0.138393),
    "bandit": (0.200152, 0.271502),
    "modes": (0.235614, 0.249973),
    "lengths": (0.201809, 0.285303),
    "noisy": (0.127742, 0.139676),
    "hack": (0.127826, 0.172460),
    "stale": (0.125379, 0.128825),
    "rounding": (0.125379, 0.136691),
    "distractors": (0.120004, 0.323276),
}


def short(task: ExactTask, **changes: object) -> object:
    return dataclasses.replace(task.settings, **{"rollouts": SHORT, **changes})


def log_probs(task: ExactTask, noise: float = 0.0) -> torch.Tensor:
    logits = start.start_policy(task)(task.machine.features).detach().double()
    generator = torch.Generator().manual_seed(1)
    return (logits + noise * torch.randn(logits.shape, generator=generator, dtype=torch.float64)).log_softmax(-1)


def figure(x: float) -> str:
    """Two decimals without a leading zero, as the pages write them."""
    return f"{x:.2f}".removeprefix("0")


def answers(machine: Machine, probs: torch.Tensor):
    """Every answer by walking: (prompt, chance, steps, end)."""
    vocabulary = probs.shape[1]
    for prompt, first in enumerate(machine.starts.tolist()):
        for tokens in itertools.product(range(vocabulary), repeat=machine.length):
            state, chance, steps = first, 1.0, []
            for token in tokens:
                steps.append((state, token))
                chance *= float(probs[state, token])
                state = int(machine.after[state, token])
                if state >= machine.decisions:
                    break
            if len(steps) == machine.length:
                yield prompt, chance, steps, machine.outcomes[state - machine.decisions]


class TestNumbers:
    def test_success_entropy_and_kl_are_those_of_all_answers_one_by_one(self):
        task = EXACT["distractors"]
        rules = dataclasses.replace(task.rules(), prompts=2, vocabulary=9)
        task = dataclasses.replace(task, rules=lambda: rules)
        machine = task.machine
        generator = torch.Generator().manual_seed(0)
        old, new = (torch.randn(machine.after.shape, generator=generator).double().log_softmax(-1) for _ in range(2))
        success = entropy = kl = 0.0
        for _, chance, steps, outcome in answers(machine, old.exp()):
            weight = chance / len(machine.starts)
            log_old = sum(float(old[step]) for step in steps)
            log_new = sum(float(new[step]) for step in steps)
            success += weight * outcome.success
            entropy -= weight * log_old
            kl += weight * (log_old - log_new)
        states, ends = machine.reach(old.exp())
        assert mean_success(machine, ends) == pytest.approx(success)
        assert float((states * -(old.exp() * old).sum(-1)).sum()) == pytest.approx(entropy)
        sampled = torch.rand(machine.after.shape, generator=generator) < 0.3
        inside, outside = divergence(machine, old, new, sampled)
        assert inside + outside == pytest.approx(kl)
        assert inside > 0
        assert outside > 0

    @pytest.mark.parametrize("name", EXACT)
    def test_every_answer_ends_somewhere(self, name):
        machine = EXACT[name].machine
        _, ends = machine.reach(log_probs(EXACT[name]).exp())
        assert float(ends.sum()) == pytest.approx(1)
        assert (ends >= 0).all()

    @pytest.mark.parametrize("name", EXACT)
    def test_the_best_policy_has_the_score_1(self, name):
        task = EXACT[name]
        machine = task.machine
        worth = torch.zeros(machine.decisions + len(machine.outcomes), dtype=torch.float64)
        worth[machine.decisions :] = torch.tensor([o.success for o in machine.outcomes])
        probs = torch.zeros(machine.after.shape, dtype=torch.float64)
        for first, last in reversed(list(itertools.pairwise(machine.layers))):
            value = worth[machine.after[first:last]]
            best = value == value.max(-1, keepdim=True).values
            probs[first:last] = best / best.sum(-1, keepdim=True)
            worth[first:last] = value.max(-1).values
        assert task.score(machine, machine.reach(probs)[1]) == pytest.approx(1)

    def test_the_score_of_modes_asks_for_all_right_answers(self):
        task = EXACT["modes"]
        machine = task.machine
        one = torch.zeros(len(machine.outcomes), dtype=torch.float64)
        for i, outcome in enumerate(machine.outcomes):
            one[i] = (outcome.kind == "mode 0") / len(machine.starts)
        assert mean_success(machine, one) == pytest.approx(1)
        assert task.score(machine, one) == pytest.approx(1 / (4 * (1 - 0.75**8)))


class TestPages:
    """``docs/tasks`` states properties of the start points, which the teachers do not decide."""

    @pytest.mark.parametrize("name", ["bandit", "modes", "hack", "lengths", "rounding", "distractors"])
    def test_a_page_states_the_numbers_of_its_start_point(self, name):
        page = " ".join(Path(f"docs/tasks/{name}.md").read_text().split())
        assert [text for text in self.facts(name) if text not in page] == []

    def facts(self, name: str) -> list[str]:
        machine = EXACT[name].machine
        exact = log_probs(EXACT[name])
        probs = exact.exp()
        _, ends = machine.reach(probs)
        kinds = list(machine.kind_probability(ends).values())
        mean = {kind: sum(p[kind] for p in kinds) / len(kinds) for kind in kinds[0]}
        if name == "bandit":
            return [f"with probability {figure(mean['best'])}", f"and probability {figure(mean['habit'])}"]
        if name == "modes":
            shares = [[p[f"mode {i}"] / (1 - p["wrong"]) for i in range(4)] for p in kinds]
            most, least = [max(row) for row in shares], [min(row) for row in shares]
            return [
                f"{100 * min(most):.0f} to {100 * max(most):.0f} % are the most frequent",
                f"{100 * min(least):.0f} to {100 * max(least):.0f} % the rarest",
            ]
        if name == "hack":
            return [f"in {100 * mean['trick']:.2f} % of its answers", f"{100 * mean['right']:.1f} % of its answers are"]
        if name == "lengths":
            return [f"in {100 * kinds[0]['right']:.0f} %", f"the longest in {100 * kinds[-1]['right']:.0f} %"]
        if name == "distractors":
            taught = machine.teacher.sum(-1) > 0
            right = probs[taught].gather(1, machine.teacher[taught].argmax(-1, keepdim=True))
            return [f"({figure(float(right.mean()))} on average)"]
        tables = _Run(EXACT[name], algorithm("dapo"), EXACT[name].settings, 0).tables
        sampler = tables.sampler.exp()
        change = ((tables.log_probs - tables.sampler).exp() - 1).abs()
        average = float((machine.reach(sampler)[0][:, None] * sampler * change).sum() / machine.length)
        return [f"{figure(100 * average)} % on average", f"up to {100 * float(change[sampler > 0.01].max()):.1f} %"]


class TestFrozen:
    @pytest.mark.parametrize("name", EXACT)
    def test_start_points_and_runs_have_the_numbers_of_version_1(self, name):
        task = EXACT[name]
        summary = run(task, algorithm("dapo"), 0, short(task)).summary
        assert summary["start"] == pytest.approx(GOLDEN[name][0], abs=2e-6)
        assert summary["final"] == pytest.approx(GOLDEN[name][1], abs=2e-3)

    def test_a_changed_file_of_start_points_is_refused(self, monkeypatch):
        monkeypatch.setattr(start, "DIGEST", "0" * 64)
        start._shipped.cache_clear()
        with pytest.raises(start.WrongStart, match="Install llmrl again"):
            start.start_policy(EXACT["carry"])
        start._shipped.cache_clear()

    def test_a_task_of_ones_own_is_fitted_to_its_start(self):
        task = dataclasses.replace(EXACT["hack"], name="mine", start=0.3)
        assert 0.3 <= start.success_of(task.machine, start.start_policy(task)) < 0.4


class TestRuns:
    def test_recipes_have_the_tasks_length_as_response_limit(self):
        task = EXACT["hack"]
        state = _Run(task, algorithm("dr_grpo"), task.settings, 0)
        assert state.algorithm.aggregate.length == task.machine.length

    @pytest.mark.parametrize("name", [n for n in ALGORITHMS if n not in ("run",)])
    def test_every_shipped_algorithm_runs(self, name):
        task = EXACT["hack"]
        result = run(task, algorithm(name), 0, short(task))
        assert set(result.curves) == set(CURVE)
        assert len(result.curves["score"]) == SHORT + 1
        assert result.summary["final"] != result.summary["start"]

    def test_a_seed_decides_everything(self):
        task = EXACT["noisy"]
        first, again, other = (run(task, algorithm("espo"), seed, short(task)).curves for seed in (3, 3, 4))
        assert first == again
        assert first["score"] != other["score"]

    def test_with_one_update_per_rollout_clips_and_gates_change_nothing(self):
        task = EXACT["carry"]
        names, settings = ("dapo", "erc+dapo", "gppo"), short(task, updates=1)
        curves = [run(task, algorithm(name), 0, settings).curves["score"] for name in names]
        assert curves[0] == curves[1]
        assert curves[0] == pytest.approx(curves[2], abs=1e-6)

    def test_refills_choice_and_shaping_are_left_out(self):
        credit = compared(algorithm("dapo")).credit
        assert (credit.shape, credit.keep, credit.max_refills) == ((), KeepAll(), 0)
        assert credit.advantage == algorithm("dapo").credit.advantage

    def test_responses_are_rewarded_by_what_they_end_in(self):
        state = _Run(EXACT["hack"], algorithm("dapo"), EXACT["hack"].settings, 0)
        batch = state.sample()
        assert set(batch[keys.REWARD].unique().tolist()) == {0.0, 0.5, 1.0}
        trick = batch[keys.REWARD][:, 0] == 0.5
        assert (batch["token"][trick, 0] == 8).all()
        assert (batch[keys.MASK][trick].sum(1) == 1).all()
        assert set(batch.keys(True, True)) - {"state", "token", "problem"} <= PROVIDED

    def test_a_verifier_that_is_always_wrong_reports_the_opposite(self):
        task = dataclasses.replace(EXACT["noisy"], flip=1.0)
        right = _Run(dataclasses.replace(task, flip=0.0), algorithm("dapo"), task.settings, 0).sample()
        wrong = _Run(task, algorithm("dapo"), task.settings, 0).sample()
        assert torch.equal(right[keys.REWARD], 1 - wrong[keys.REWARD])

    def test_a_stale_rollout_comes_from_an_older_policy(self):
        task = EXACT["carry"]
        state = _Run(task, algorithm("dapo"), dataclasses.replace(task.settings, lag=2), 0)
        first = state.tables
        for _ in range(2):
            state.rollout()
        assert state.sampling[0] is first
        batch = state.sample()
        expected = first.log_probs[batch["state"], batch["token"]].float()
        assert torch.equal(batch[keys.OLD_LOG_PROB], expected)
        state.rollout()
        assert state.sampling[0] is not first

    def test_rounded_scores_differ_by_rounding(self):
        tables = _Run(EXACT["rounding"], algorithm("dapo"), EXACT["rounding"].settings, 0).tables
        gap = (tables.sampler - tables.log_probs).abs().max()
        assert 1e-4 < gap < 0.1
