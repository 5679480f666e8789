"""A chat template that never ends or fills the memory is refused; those that models come with are not."""

# ruff: noqa: E501  a template is read more easily on one line

import pytest
from tiny import tiny_tokenizer

from llmrl.errors import PolicyError
from llmrl.policies.prompts import Prompts

BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "three loops": "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}x{% endfor %}{% endfor %}{% endfor %}",
    "a loop in a macro": "{% macro m(n) %}{% for a in range(50000) %}x{% endfor %}{% endmacro %}{% for b in range(99999) %}{{ m(b) }}{% endfor %}",
    "a macro that calls itself": "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(1) }}",
    "macros that call twice": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "a recursive loop": "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "only for some problems": "{% if 'apples' in messages[0].content %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}",
    "text times number": "{{ 'x' * 9999999999 }}",
    "list times number": "{{ [1] * 9999999999 }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "products": "{% set n = namespace(x=9) %}{% for a in range(64) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "doubling by ~": "{% set n = namespace(x='x') %}{% for a in range(64) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling by +": "{% set n = namespace(x='x') %}{% for a in range(64) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling lists": "{% set n = namespace(x=[]) %}{% for a in range(64) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "doubling by set": "{% set n = namespace(x='xx') %}{% for a in range(64) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
    "center": "{{ 'x' | center(9999999999) }}",
    "ljust": "{{ 'x'.ljust(9999999999) }}",
    "a width in a format": "{{ '%9999999999d' | format(1) }}",
    "a width by %": "{{ '%9999999999d' % 1 }}",
    "a width in braces": "{{ '{:>9999999999}'.format(1) }}",
    "replace": "{% set x = 'x' * 100000 %}{{ x.replace('x', x).replace('x', x) }}",
    "the filter replace": "{% set x = 'x' * 100000 %}{{ x | replace('x', x) }}",
    "join": "{% set x = 'x' * 100000 %}{{ ([1] * 100000) | join(x) }}",
    "the method join": "{% set x = 'x' * 100000 %}{{ x.join(['a'] * 100000) }}",
    "indent": "{{ ('\n' * 100000) | indent(1000000) }}",
    "lipsum": "{{ lipsum(n=1000000, min=1000, max=2000) }}",
    "a long text in a loop": "{% for a in range(99999) %}" + "x" * 100_000 + "{% endfor %}",
}
PROBLEM = "How many apples are 1 + 1?"


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_costs_too_much_is_refused_in_a_sentence(name, tokenizer, tmp_path):
    file = tmp_path / "bomb.jinja"
    file.write_text(BOMBS[name])
    with pytest.raises(PolicyError, match="The chat template cannot render messages with the roles user: ") as error:
        Prompts(tokenizer, chat_template=str(file)).render(PROBLEM)
    assert len(str(error.value)) < 600


FINE = {
    "a usual one": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "~ and namespaces": "{%- set ns = namespace(out='') -%}{%- for m in messages -%}{%- set ns.out = ns.out ~ m.role ~ ': ' + m.content ~ loop.index -%}{%- endfor -%}{{ ns.out }}",
    "slices and tests": "{% for m in messages[::-1] %}{% if m.content is string and not m.content.startswith('x') %}{{ m.content.split('</think>')[-1].lstrip('\n') }}{% endif %}{% endfor %}{{ messages | length }}",
    "break": "{% for m in messages %}{{ m.content }}{% break %}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "tojson": "{{ messages | tojson(indent=4) }}",
    "special tokens": "{{ eos_token }}{{ messages[0].content }}{{ pad_token }}",
    "a date": "{{ strftime_now('%Y') }}{{ messages[0].content }}",
    "macros": "{% macro say(m, n=2) %}{{ m.content | upper }}{{ caller() if caller else n }}{% endmacro %}{{ say(messages[0]) }}{% call say(messages[0]) %}!{% endcall %}",
    "arithmetic": "{{ (messages | length) * 3 % 2 + 4 ** 2 }}{{ '-' * 40 }}{{ '%s' % messages[0].content }}",
    "many rounds": "{% for a in range(300) %}{% for b in range(300) %}{% endfor %}{% endfor %}{{ messages[0].content }}",
    "filters": "{{ [3, 1, 2] | sort | join(', ') }}{{ messages[0].content | replace('a', 'bb') | truncate(1000) | indent(4) }}",
}


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("problem", [PROBLEM, "long " * 40_000])
def test_what_models_come_with_is_rendered_as_transformers_does(name, problem, tokenizer, tmp_path):
    file = tmp_path / "fine.jinja"
    file.write_text(FINE[name])
    messages = [{"role": "user", "content": problem}]
    expected = tokenizer.apply_chat_template(
        messages, chat_template=FINE[name], add_generation_prompt=True, tokenize=False
    )
    assert Prompts(tokenizer, chat_template=str(file)).render(problem) == expected


def test_a_prompt_template_runs_nothing(tokenizer):
    for text in ("{{ 7 * 7 }}", "{problem.__class__}", "{0}", "%s", "{% for a in range(9) %}", "${HOME}", "$(id)"):
        prompts = Prompts(tokenizer, chat_template=None, prompt_template=text + " {problem}")
        assert prompts.render("1 {problem} {{ 2 }}") == text + " 1 {problem} {{ 2 }}"
