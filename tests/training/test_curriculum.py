"""Curriculum and filter: what they admit, that they survive a resume, and what they refuse."""

from pathlib import Path

import leveled  # noqa: F401  registers tests/Levels-v0
import pytest
import trivial  # noqa: F401  registers tests/SayA-v0
from command import trained
from hypothesis import given
from hypothesis import strategies as st
from small_run import press_control_c_after, small_run, untimed_rows

from llmrl.errors import ConfigError
from llmrl.rollouts.stream import NoProblemLeft, ProblemStream
from llmrl.training.build import build
from llmrl.training.command_line import parse
from llmrl.training.curriculum import (
    AboveAccuracy,
    AfterSteps,
    LevelCurriculum,
    PassRateFilter,
    pass_rates,
)
from llmrl.training.faults import TrainingError


def arguments(tiny: Path, output: Path, *more: str) -> list[str]:
    size = (
        "--algo grpo --policy.max-response-length 3 --train.prompts-per-step 4 --train.updates-per-step 1 "
        "--train.steps 6 --checkpoint.every 3"
    )
    return small_run(tiny, "--output", str(output), *size.split(), *more, env="tests/Levels-v0")


def curriculum(schedule, **more) -> LevelCurriculum:
    return LevelCurriculum(lambda i: i % 3 + 1, [1, 2, 3], schedule, **more)


def test_at_the_last_level_nothing_is_kept():
    rule = curriculum(AboveAccuracy(0.75, window=4), admitted=3)
    for step in range(9):
        rule.observe(step, [(2, 1.0)])
    assert (rule.top, rule.state()["rates"]) == (3, [])


def test_a_level_is_admitted_when_the_newest_one_is_learned():
    rule = curriculum(AboveAccuracy(0.75, window=4))
    stream = ProblemStream(0, 30, rules=[rule])
    assert {i % 3 for i in stream.take(10)} == {0}
    rule.observe(0, [(0, 1.0), (3, 1.0), (6, 1.0)])  # one too few
    assert rule.top == 1
    rule.observe(1, [(9, 0.0)])
    assert rule.top == 2
    rule.observe(2, [(0, 1.0)] * 8)  # level 1 says nothing about level 2
    assert rule.top == 2
    rule.observe(3, [(1, 1.0), (1, 0.0), (1, 0.0), (1, 1.0), (1, 1.0)])
    assert rule.top == 2  # of the last four two
    rule.observe(4, [(4, 1.0)])
    assert rule.top == 3  # three
    rule.observe(5, [(2, 1.0)] * 9)  # there is no further level
    assert rule.metrics() == {"curriculum/level": 3.0}
    assert {i % 3 for i in stream.take(30)} == {0, 1, 2}


def test_a_level_is_admitted_after_its_steps():
    rule = curriculum(AfterSteps(2))
    tops = []
    for step in range(5):
        tops.append(rule.top)
        rule.observe(step, [])
    assert tops == [1, 1, 2, 2, 3]


def test_a_problem_is_passed_over_after_visits_without_a_mixed_group():
    rule = PassRateFilter(visits=2, revisit=0.0, seed=0)
    rule.observe(0, [(0, 1.0), (1, 0.0), (2, 0.5), (3, 1.0)])
    assert sorted(ProblemStream(0, 4, rules=[rule]).take(4)) == [0, 1, 2, 3]
    rule.observe(1, [(0, 0.0), (1, 0.0), (2, 1.0), (3, 0.25)])
    assert set(ProblemStream(0, 4, rules=[rule]).take(20)) == {2, 3}
    assert rule.metrics()["filter/problems"] == 2
    rule.observe(2, [(0, 0.5)])
    assert 0 in ProblemStream(0, 4, rules=[rule]).take(20)


def test_a_share_of_the_visits_is_kept():
    rule = PassRateFilter(visits=1, revisit=0.25, seed=0)
    rule.observe(0, [(i, 0.0) for i in range(1000)])
    stream = ProblemStream(0, 1000, rules=[rule])
    taken = stream.take(500)
    assert len(taken) == 500
    assert stream.position == pytest.approx(2000, rel=0.15)
    assert rule.metrics() == {"filter/skipped": stream.position - 500, "filter/problems": 1000}
    assert rule.metrics()["filter/skipped"] == 0


@given(st.integers(0, 60), st.integers(0, 5))
def test_the_order_with_rules_goes_on_from_position_and_state(taken, seed):
    def rules():
        return [curriculum(AfterSteps(3)), PassRateFilter(1, 0.3, seed)]

    def play(stream: ProblemStream, steps: range) -> list[int]:
        ids = []
        for step in steps:
            new = stream.take(3)
            stream.observe(step, [(i, float(i % 2)) for i in new if i % 5])
            ids += new
        return ids

    whole = play(ProblemStream(seed, 30, rules=rules()), range(taken // 3 + 5))
    stream = ProblemStream(seed, 30, rules=rules())
    before = play(stream, range(taken // 3))
    fresh = rules()
    for rule, old in zip(fresh, stream.rules, strict=True):
        rule.load(old.state())
    resumed = ProblemStream(seed, 30, stream.position, fresh)
    assert before + play(resumed, range(taken // 3, taken // 3 + 5)) == whole


def test_when_no_problem_is_left_it_says_so():
    rule = PassRateFilter(visits=1, revisit=0.0, seed=0)
    rule.observe(0, [(0, 1.0), (1, 0.0)])
    with pytest.raises(NoProblemLeft, match="201 problems in a row were passed over by skip after 1"):
        ProblemStream(0, 2, rules=[rule]).take(1)


def test_pass_rates_leave_out_what_has_no_verdict():
    records = [
        {"group": 0, "problem_id": 5, "verdict": "timeout", "valid": False},
        {"group": 1, "problem_id": 5, "verdict": "wrong", "valid": True},
        {"group": 1, "problem_id": 5, "verdict": "correct", "valid": True},
    ]
    assert pass_rates(records) == [(5, 0.5)]


BOTH = ["--curriculum.threshold", "0.9", "--curriculum.window", "4", "--filter.visits", "1", "--filter.revisit", "0.5"]


def test_a_run_with_both_is_the_same_when_stopped_and_resumed(tiny, tmp_path, monkeypatch):
    whole = trained(parse(arguments(tiny, tmp_path / "whole", *BOTH)))
    with monkeypatch.context() as patch:
        press_control_c_after(patch, 3)
        stopped = trained(parse(arguments(tiny, tmp_path / "stopped", *BOTH)))
    trained(parse(arguments(tiny, stopped, *BOTH, "--resume", "auto")))

    rows = untimed_rows(whole)
    assert rows == untimed_rows(stopped)
    assert [row["curriculum/level"] for row in rows] == sorted(r["curriculum/level"] for r in rows)
    assert rows[-1]["curriculum/level"] > 1
    assert sum(row["filter/skipped"] for row in rows) > 0


def test_without_rules_nothing_of_them_is_reported(tiny, tmp_path):
    trainer, _ = build(parse(arguments(tiny, tmp_path / "run")))
    assert trainer.problems.rules == []
    ids = ProblemStream(0, 12).take(4)
    metrics, rollouts = trainer.step()
    assert [record["problem_id"] for record in rollouts.records[::4]] == ids
    assert not any(name.startswith(("curriculum/", "filter/")) for name in metrics)


def test_the_start_up_report_names_the_rules(tiny, tmp_path, capsys):
    trained(parse(arguments(tiny, tmp_path / "run", *BOTH, "--dry-run")))
    shown = capsys.readouterr().out
    assert "choice     levels [1, 2, 3], up to 1 at first; next by AboveAccuracy(threshold=0.9, window=4)" in shown
    assert "choice     skip after 1 visits in a row with pass rate 0 or 1, except 50 %" in shown


def test_prompts_that_are_too_long_are_counted_and_never_cut(tiny, tmp_path):
    short = ["--policy.max-prompt-length", "40", "--train.prompts-per-step", "12"]
    trainer, _ = build(parse(arguments(tiny, tmp_path / "a", *short)))
    metrics, rollouts = trainer.step()
    assert metrics["prompt_length/dropped"] == 1
    assert {record["problem_id"] for record in rollouts.records} == set(range(1, 12))
    for record in rollouts.records:
        assert record["problem"] == f"problem {record['problem_id']}"


def test_a_step_whose_prompts_are_all_too_long_is_counted_and_teaches_nothing(tiny, tmp_path):
    trainer, _ = build(parse(arguments(tiny, tmp_path / "a")))
    trainer.policy.max_prompt_length = 3
    before = [p.clone() for p in trainer.learner.parameters]
    metrics, rollouts = trainer.step()
    assert len(rollouts) == 0
    assert metrics["prompt_length/dropped"] == 4
    assert all((a == b).all() for a, b in zip(before, trainer.learner.parameters, strict=True))


def test_a_run_stops_when_the_filter_leaves_nothing(tiny, tmp_path):
    strict = ["--filter.visits", "1", "--filter.revisit", "0"]
    trainer, _ = build(parse(arguments(tiny, tmp_path / "a", *strict)))
    trainer.problems.observe(0, [(i, 0.0) for i in range(12)])
    with pytest.raises(TrainingError, match=r"1201 problems in a row .* Give --filter.revisit above 0"):
        trainer.step()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--curriculum.threshold", "0.5", "--curriculum.every", "3"], "two ways .* Give only one"),
        (["--curriculum.start", "2"], "Also give --curriculum.threshold or --curriculum.every"),
        (["--curriculum.threshold", "1.5"], r"above 0 and at most 1, got 1.5"),
        (["--curriculum.every", "0"], r"--curriculum.every must be 1 or more, got 0"),
        (["--filter.visits", "-1"], r"--filter.visits must be 0 or more"),
        (["--filter.revisit", "2"], r"--filter.revisit must be from 0 to 1, got 2"),
        (
            ["--curriculum.every", "1", "--curriculum.start", "0"],
            r"no problems at or below this level; its levels are \[1, 2, 3\]",
        ),
        (
            ["--curriculum.every", "1", "--curriculum.start", "3"],
            r"up to level 3 are asked from the start, and the levels of .* are \[1, 2, 3\], so none is left",
        ),
        (["--curriculum.every", "1", "--env", "tests/SayA-v0"], r"tests/SayA-v0 have no levels"),
        (
            ["--filter.visits", "1", "--env", "llmrl/MATH-v0", "--env.source", "generated"],
            r"are unlimited, so none is asked twice",
        ),
    ],
)
def test_what_cannot_work_is_refused(tiny, tmp_path, more, message):
    with pytest.raises(ConfigError, match=message):
        build(parse(arguments(tiny, tmp_path / "a", *more)))


def test_levels_of_generated_problems_are_found():
    config = parse(["--curriculum.every", "5", "--curriculum.start", "2", "--env.levels", "1", "2", "4"])
    trainer, _ = build(config)
    (rule,) = trainer.problems.rules
    assert (rule.levels, rule.top) == ([1, 2, 4], 2)
    asked = trainer.gatherer.next_problems(20)
    assert {rule.level_of(i) for i in asked} == {1, 2}
