"""Numbers of an evaluation on fixed samples, against values computed by hand; paired comparison."""

import json

import pytest
import trivial  # noqa: F401  registers tests/SayA-v0

from llmrl.errors import ConfigError
from llmrl.evaluation import DifferentProblems, Evaluation, compare, evaluate
from llmrl.evaluation.outcomes import count_votes
from llmrl.policies.policy import Policy
from llmrl.rollouts.environments import Environments
from llmrl.verifiers import Verdict


def record(problem: int, answer: str, verdict: str, greedy: bool = False, **more) -> dict:
    return {
        "group": problem,
        "problem_id": problem,
        "problem": f"problem {problem}",
        "answer": "1",
        "response": answer,
        "extracted": answer,
        "verdict": verdict,
        "reward": float(verdict == "correct"),
        "valid": verdict in ("correct", "wrong", "no_answer"),
        "finish_reason": "end",
        "tokens": 10,
        "subject": "algebra" if problem < 2 else "geometry",
        "level": 1,
        "greedy": greedy,
        **more,
    }


def two_problems() -> Evaluation:
    """Problem 0: 1, 1, 7, none; problem 2: 7, 7, 1, timeout."""
    records = [
        record(0, "1", "correct", greedy=True),
        record(2, "7", "wrong", greedy=True, finish_reason="length", tokens=30),
    ]
    for problem, said in (
        (0, [("1", "correct"), ("1.0", "correct"), ("7", "wrong"), ("", "no_answer")]),
        (2, [("7", "wrong"), ("7.0", "wrong"), ("1", "correct"), ("8", "timeout")]),
    ):
        group = [record(problem, answer, verdict) for answer, verdict in said]
        votes = count_votes(group, lambda a, b: float(a) == float(b))
        records += [{**r, "vote": vote} for r, vote in zip(group, votes, strict=True)]
    return Evaluation(records, dropped_prompts=3)


def test_an_evaluation_prints_its_measures_and_no_record():
    assert repr(two_problems()).startswith("<Evaluation of 2 problems: greedy 50.0 % [")
    assert "response" not in repr(two_problems())


def test_a_summary_by_hand():
    summary = two_problems().summary([1, 2, 4])
    means = {name: summary[name]["mean"] for name in summary if name == "greedy" or "@" in name}
    assert means == pytest.approx(
        {
            "greedy": 0.5,
            "avg@4": (2 / 4 + 1 / 4) / 2,
            "pass@1": 3 / 8,
            "maj@1": 3 / 8,
            # C(4, 2) = 6 pairs: without a correct one 1 of 6 and 3 of 6.
            "pass@2": (5 / 6 + 3 / 6) / 2,
            # Problem 0: 1 1, two of 1 7 (a half each), two of 1 none, 7 none: (1 + 1 + 2) / 6.
            # Problem 2: 7 7, two of 7 1 (a half each), two of 7 none, 1 none: (1 + 1) / 6.
            "maj@2": (4 / 6 + 2 / 6) / 2,
            "pass@4": 1.0,
            "maj@4": 0.5,
        }
    )
    assert summary["problems"] == 2
    assert summary["dropped_prompts"] == 3
    assert summary["truncated"] == 0.5
    assert summary["response_length"] == 20
    sampled = summary["sampled"]
    assert (sampled["no_answer"], sampled["timeout"], sampled["invalid"]) == (1 / 8, 1 / 8, 1 / 8)
    assert summary["by_subject"]["algebra"]["mean"] == 1
    assert summary["by_subject"]["geometry"]["maj@4"]["mean"] == 0
    assert summary["by_level"]["1"]["problems"] == 2
    json.dumps(summary, allow_nan=False)


def test_properties_and_summary_agree():
    part = two_problems()
    summary = part.summary([2])
    assert part.greedy._asdict() == summary["greedy"]
    assert part.average._asdict() == summary["avg@4"]
    assert part.pass_at(2)._asdict() == summary["pass@2"]
    assert part.majority_at(2)._asdict() == summary["maj@2"]


def test_a_shaped_reward_is_no_accuracy():
    part = Evaluation([record(0, "1", "wrong", greedy=True, reward=1.2)])
    assert part.greedy.mean == 0


def test_without_extracted_answers_there_is_no_majority():
    records = [record(0, "x", "correct", greedy=greedy) for greedy in (True, False, False)]
    for part in (Evaluation(records), Evaluation([{**one, "extracted": "", "vote": None} for one in records])):
        assert "maj@2" not in part.summary()
        with pytest.raises(ValueError, match="the environment reports no 'extracted' in its info"):
            part.majority_at(2)


def test_writing_and_reading_gives_the_same_numbers(tmp_path):
    part = two_problems()
    part.records[0]["response"] = "a line\u2028separator and \x85 are no new record"
    part.write(tmp_path, "before")
    again = Evaluation.read(tmp_path / "before.jsonl")
    assert again.records == part.records
    written = json.loads((tmp_path / "before.json").read_text())
    assert written == part.summary()
    assert {"avg@4", "pass@4", "maj@4"} <= written.keys()


def greedy_only(*right: bool) -> Evaluation:
    verdicts = ["correct" if r else "wrong" for r in right]
    return Evaluation([record(i, "1", v, greedy=True) for i, v in enumerate(verdicts)])


def test_paired_counts_and_difference_by_hand():
    first = greedy_only(True, True, True, False, False, False, False, False)
    second = greedy_only(True, True, False, True, True, True, False, False)
    result = compare(first, second)
    counts = (result.both, result.only_first, result.only_second, result.neither)
    assert counts == (2, 1, 3, 2)
    assert result.p_value == pytest.approx(2 * (1 + 4) / 16)
    assert result.difference["greedy"].mean == pytest.approx(2 / 8)
    assert result.to_dict()["greedy"]["only_second"] == 3


def test_the_paired_interval_is_narrower_than_two_single_ones():
    first = greedy_only(*[i % 2 == 0 for i in range(100)])
    second = greedy_only(*[i % 2 == 0 or i < 10 for i in range(100)])
    result = compare(first, second)
    gain = result.difference["greedy"]
    assert gain.mean == pytest.approx(0.05)
    # Five differences of 1 in 100: the paired standard error is 0.022, that of two samples 0.07.
    # McNemar's test says p = 0.06 of them, so 0 is just within.
    assert -0.01 <= gain.low < 0 < gain.mean < gain.high <= 0.11


def test_samples_are_compared_by_the_measures_that_both_have():
    part = two_problems()
    result = compare(part, part)
    assert set(result.difference) == {
        "greedy",
        "avg@4",
        "pass@2",
        "maj@2",
        "pass@4",
        "maj@4",
    }
    assert all(d.mean == 0 and d.low == -d.high < 0 for d in result.difference.values())


@pytest.mark.parametrize(
    ("asked", "text", "message"),
    [
        (2, None, "1 are in the first alone, 0 in the second alone, and 0 have"),
        (4, None, "0 are in the first alone, 1 in the second alone, and 0 have"),
        (3, "another text", "0 are in the first alone, 0 in the second alone, and 1 have"),
    ],
)
def test_different_problems_are_refused_with_their_number(asked, text, message):
    first, second = greedy_only(*[True] * 3), greedy_only(*[True] * asked)
    second.records[1]["problem"] = text or second.records[1]["problem"]
    with pytest.raises(DifferentProblems, match=message):
        compare(first, second)


def test_notebooks_show_a_table():
    shown = two_problems()._repr_html_()
    assert shown.startswith("<table>")
    assert "<td>greedy</td>" in shown
    assert str(two_problems().greedy) in shown
    said = Verdict(0.0, "wrong", extracted="<b>7</b>")._repr_html_()
    assert "<b>wrong</b>" in said
    assert "&lt;b&gt;7" in said


def test_more_responses_than_fit_into_memory_are_refused(tiny):
    environments = Environments("tests/SayA-v0", {})
    with pytest.raises(ConfigError, match=r"1000000000000 problems with 2 responses each are too many"):
        evaluate(Policy.from_pretrained(tiny), environments, 10**12, samples=1)
