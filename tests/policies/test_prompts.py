"""Prompts: system prompt, instruction, template arguments, and templates that cannot be used."""

from __future__ import annotations

import pytest
from tiny import CHAT_TEMPLATE, MODEL, USER, tiny_tokenizer

from llmrl.errors import PolicyError
from llmrl.policies.prompts import Prompts

THINKING = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}{% endif %}"
)


def tokenizer_with(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_what_the_model_reads_with_everything_set():
    prompts = Prompts(
        tokenizer_with(THINKING),
        system_prompt="Be brief.",
        instruction="Box the answer.",
        template_arguments={"enable_thinking": False},
    )
    assert prompts.render("1+1?") == "<system>Be brief.<user>1+1?\n\nBox the answer.<assistant><think></think>"
    assert Prompts(tokenizer_with(THINKING)).render("1+1?") == "<user>1+1?<assistant>"


def test_the_instruction_without_a_template_and_in_later_turns():
    prompts = Prompts(tiny_tokenizer(chat=False), prompt_template="Q: {problem}\nA:", instruction="Box it.")
    assert prompts.render("2") == "Q: 2\n\nBox it.\nA:"
    prompts = Prompts(tiny_tokenizer(), instruction="Box it.")
    assert prompts.render("2", "no").endswith(f"{USER}no{MODEL}")


def test_one_of_several_templates_by_name():
    named = {"rag": THINKING, "plain": CHAT_TEMPLATE}
    assert Prompts(tokenizer_with(named), chat_template="plain").render("2") == f"{USER}2{MODEL}"
    with pytest.raises(PolicyError, match="several chat templates and none is called default: plain, rag"):
        Prompts(tokenizer_with(named))
    with pytest.raises(PolicyError, match=r"'plane' cannot be read.*Did you mean"):
        Prompts(tokenizer_with(named), chat_template="plane")


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        ("{{ raise_exception('no system role') }}", {}, "cannot render messages with the roles user: no system role"),
        ("{{ messages[0]['content'] + 1 }}", {}, "cannot render messages"),
        ("{% if %}", {}, "cannot render messages"),
        (None, {"system_prompt": "x"}, "system_prompt needs a chat template"),
        (None, {"template_arguments": {"a": 1}}, "template_arguments needs a chat template"),
        (
            THINKING,
            {"template_arguments": {"enable_thinkin": 1}},
            "no argument 'enable_thinkin'. Did you mean 'enable_thi",
        ),
        (CHAT_TEMPLATE, {"prompt_template": "Q: {problem}"}, "prompt_template is used only without a chat template"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(template, options, message):
    with pytest.raises(PolicyError, match=message):
        Prompts(tokenizer_with(template), **options)
