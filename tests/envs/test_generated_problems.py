"""The endless source: reproducible, balanced, without repetition, train and test apart."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from llmrl.envs.generated import GeneratedProblems, draw_problem, solution
from llmrl.envs.generated.template import TEMPLATES, Draft, Template
from llmrl.envs.problems import split_of


def test_problem_i_is_always_the_same_whatever_was_asked_before():
    forward, backward = GeneratedProblems("train"), GeneratedProblems("train")
    first = [forward[i] for i in range(300)]
    assert first == [backward[i] for i in reversed(range(300))][::-1]


def test_seeds_give_different_problems():
    first, other = GeneratedProblems("train", seed=0), GeneratedProblems("train", seed=1)
    same = sum(first[i].problem == other[i].problem for i in range(200))
    assert same < 20


def numbers_and_answer(problems: GeneratedProblems, index: int) -> tuple[object, ...]:
    template, draft = problems._place(index)[0].template, problems.draft(index)
    numbers = re.findall(r"\d+\.\d+|\d+", draft.problem)
    return template.name, tuple(sorted(numbers)), draft.answer


def test_no_test_problem_is_a_training_problem_in_other_words():
    some, others = GeneratedProblems("train", seed=1), GeneratedProblems("test", seed=2)
    train = {numbers_and_answer(some, i) for i in range(3000)}
    test = {numbers_and_answer(others, i) for i in range(1000)}
    assert not train & test


def test_ten_thousand_problems_repeat_only_what_small_templates_force():
    problems = GeneratedProblems("train")
    places: dict[str, list[str]] = {}
    for index in range(10_000):
        text = problems[index].problem
        places.setdefault(text, []).append(problems._place(index)[0].template.name)
    repeated = {text: names for text, names in places.items() if len(names) > 1}
    assert sum(len(names) - 1 for names in repeated.values()) <= 10
    for names in repeated.values():
        distinct = {text for text, own in places.items() if names[0] in own}
        assert len(distinct) < 400, f"{names[0]} repeats although it knows {len(distinct)} problems"


def test_balanced_over_subjects_templates_and_levels():
    problems = GeneratedProblems("train", levels=[1, 2])
    subjects = Counter(problems[i].subject for i in range(700))
    assert max(subjects.values()) - min(subjects.values()) <= 1
    subject = next(iter(subjects))
    only = GeneratedProblems("train", subjects=[subject])
    names = Counter(only._place(i)[0].template.name for i in range(600))
    assert max(names.values()) - min(names.values()) <= 1
    for name in names:
        ranks = [i for i in range(600) if only._place(i)[0].template.name == name]
        levels = Counter(only[i].level for i in ranks)
        assert set(levels) == set(TEMPLATES[name].levels)
        assert max(levels.values()) - min(levels.values()) <= 1


def test_the_choice_of_subjects_and_levels_is_kept():
    problems = GeneratedProblems("test", subjects=["algebra"], levels=[2])
    assert {(problems[i].subject, problems[i].level) for i in range(50)} == {("algebra", 2)}


def test_a_solution_is_the_steps_and_the_boxed_answer():
    problems = GeneratedProblems("train")
    draft, problem = problems.draft(8), problems[8]
    assert (draft.problem, draft.answer) == (problem.problem, problem.answer)
    assert problem.solution == solution(draft)
    assert problem.solution.startswith(" ".join(draft.steps))
    assert problem.solution.endswith(f"The answer is $\\boxed{{{draft.answer}}}$.")
    assert problem.id == "generated/train/0/8"
    assert problem.source == "generated"
    assert draft.referee()


def test_a_small_template_gives_all_its_problems_before_any_comes_again(monkeypatch):
    draws = []

    def draw(rng, level):
        draws.append(level)
        text = f"What is ${rng.integers(30)} + {level}$?"
        return Draft(problem=text, answer="?", steps=("So.",), referee=bool)

    monkeypatch.setattr("llmrl.envs.generated.TEMPLATES", {"a": Template("algebra/tiny", "algebra", (1,), draw)})
    problems = GeneratedProblems("train")
    texts = [problems[i].problem for i in range(400)]
    known = len(set(texts))
    assert 20 < known <= 30
    assert len(set(texts[:known])) == known
    assert min(Counter(texts).values()) > 400 // known // 2
    assert len(draws) < 400 * 60  # and without a long search for each


@pytest.mark.parametrize("split", ["train", "test"])
def test_draw_problem_keeps_to_its_split(split):
    rng = np.random.default_rng(0)
    template = next(iter(TEMPLATES.values()))
    drafts = [draw_problem(template, template.levels[0], split, rng) for _ in range(20)]
    assert {split_of(template.key(draft)) for draft in drafts} == {split}


def test_a_template_with_too_few_problems_says_so():
    def draw(rng, level):
        return Draft(problem="What is $1 + 1$?", answer="2", steps=("It is $2$.",), referee=bool)

    tiny = Template("algebra/tiny", "algebra", (1,), draw)
    own = split_of(tiny.key(draw(None, 1)))
    other = {"train": "test", "test": "train"}[own]
    with pytest.raises(LookupError, match=r"'algebra/tiny' gave no .* problem of level 1"):
        draw_problem(tiny, 1, other, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"split": "tst"}, "There is no split 'tst'. Did you mean 'test'"),
        ({"subjects": ["algebar"]}, "There is no subject 'algebar'. Did you mean 'algebra'"),
        ({"levels": [6]}, "levels must be among 1 to 5, got 6"),
    ],
)
def test_wrong_choices(options, text):
    with pytest.raises(ValueError, match=text):
        GeneratedProblems(**options)


def test_a_negative_id_is_an_error():
    with pytest.raises(IndexError, match="must be 0 or more, got -1"):
        GeneratedProblems("train")[-1]
