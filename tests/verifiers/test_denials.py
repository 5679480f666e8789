"""Every sign that an answer does not count is needed, and later words of a response decide over earlier ones."""

import pytest

from llmrl.verifiers.math import denials
from llmrl.verifiers.math.extract import find_answer
from llmrl.verifiers.math.signs import Sign

ROWS = [(place, number) for place, table in denials.TABLES.items() for number in range(len(table.rows))]


def accepted(response):
    return "5" in [found.text.strip("$ ") for found in find_answer(response)]


@pytest.mark.parametrize(("place", "number"), ROWS, ids=lambda value: str(value))
def test_a_sign_alone_takes_its_example_back(place, number, monkeypatch):
    table = denials.TABLES[place]
    example = table.rows[number].example
    assert not accepted(example), example
    others = table._replace(rows=(*table.rows[:number], *table.rows[number + 1 :], Sign("(?!)", "")))
    monkeypatch.setitem(denials.PATTERNS, place, others.pattern())
    assert accepted(example), f"the row is not needed for {example!r}"


@pytest.mark.parametrize(
    ("response", "counts"),
    [
        (r"\boxed{5}. Wait, is 0 allowed? No. So 2 + 3 = 5.", True),
        (r"\boxed{5}. Wait, is 0 allowed? Yes. Hmm, then 2 + 4 = 6.", False),
        (r"\boxed{5}. I made an error. Checked again: it is confirmed.", True),
        (r"\boxed{5}. It is confirmed. No, I made an error.", False),
        (r"Had we added instead, we would have \boxed{5}.", False),
        (r"Tom wrote \boxed{5}.", False),
        (r"Tom wrote \boxed{5} pages.", True),
        (r"~~\boxed{4}~~ \boxed{5}", True),
        (r"\boxed{4} ~~\boxed{5}~~", False),
        (r"<s>The answer is 5.</s>", True),
        (r"The answer is <s>5</s>.", False),
        (r"\boxed{5} [asy] for (int i=0; i<5; ++i) {} // not wrong [/asy]", True),
    ],
)
def test_the_last_word_counts(response, counts):
    assert accepted(response) is counts


@pytest.mark.parametrize(
    "sentence",
    [
        "Check: $2 + 3 = 5$.",
        "I hope this helps!",
        "This is the smallest one, since 4 fails.",
        "It doesn't matter which side we choose.",
        "The proof uses two lemmas.",
        "So the answer is $5$.",
        "Let me know if you have questions.",
        "In other words, one hand has 5 fingers.",
        "Note that it can be shown by induction.",
        "Hence no other value works.",
        "Die Antwort ist 5.",
        r"\end{align*}",
        "Many students make the mistake of adding the denominators.",
        "Would you like to see a similar problem?",
        "| row | 3 |",
        "### Key idea",
        "N'hésitez pas si vous avez d'autres questions !",
        "检验：代入原式，两边相等。",
        "```python\nassert wrong != 5\n```",
    ],
)
def test_a_harmless_sentence_leaves_the_answer(sentence):
    assert accepted(rf"The sum is \boxed{{5}}. {sentence}")


@pytest.mark.parametrize(
    "sentence",
    [
        "Kidding.",
        "This figure treats the interest as simple and needs to be recalculated.",
        "The answer could also be 7.",
        "Ich glaube, das ist falsch.",
        "Then again, the other one is closer.",
        "This is a fib.",
        "It could be anything.",
        "So the answer above is nonsense.",
        "Note that this is a placeholder.",
        "Five hundred monkeys typed this.",
        "The value above is a joke.",
        "And no.",
        "So let me have another look.",
        "Because I have no clue.",
        "So far so good, but the second part asks for more.",
        "Then why is the area negative?",
        "But you can also see this from the graph.",
    ],
)
def test_any_other_sentence_takes_the_answer_back(sentence):
    assert not accepted(rf"The sum is \boxed{{5}}. {sentence}")
    assert not accepted(rf"The sum is \boxed{{5}} {sentence}")
    assert accepted(rf"The sum is \boxed{{5}}. {sentence} Checked again: it is confirmed.")


def test_a_denial_behind_a_long_explanation_counts():
    assert accepted(rf"The sum is \boxed{{5}}. {'Note that 2 is prime. ' * 400}")
    assert not accepted(rf"The sum is \boxed{{5}}. {'Note that 2 is prime. ' * 400} Kidding.")
