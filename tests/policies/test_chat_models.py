"""The recipes of docs/chat_models.md: what the model reads, and that the commands are understood.

The templates are written for these tests, in the style of each family.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tiny import tiny_tokenizer

from llmrl.policies.prompts import Prompts, json_or_text
from llmrl.training.command_line import parse
from llmrl.training.config import Config

PAGE = Path(__file__).parents[2] / "docs" / "chat_models.md"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "<bos>{% set first = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for m in messages if m['role'] != 'system' %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{{ first if loop.first else '' }}{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
FAMILIES = {"Qwen3": CHATML, "Llama 3": LLAMA, "Gemma 3": GEMMA, "SmolLM2": CHATML}


def recipe(family: str) -> tuple[Config, str]:
    """The settings of a recipe's command, and the text below it."""
    section = PAGE.read_text().split(f"## {family}\n")[1].split("\n## ")[0]
    command, text = re.findall(r"```(?:text)?\n(.*?)```", section, re.DOTALL)
    words = shlex.split(command)
    assert words[:2] == ["llmrl", "train"]
    return parse(words[2:]), text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_shows_what_the_model_reads(family):
    config, shown = recipe(family)
    settings = config.policy
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = FAMILIES[family]
    prompts = Prompts(
        tokenizer,
        system_prompt=settings.system_prompt,
        instruction=settings.instruction,
        template_arguments={key: json_or_text(value) for key, value in settings.template_arguments.items()},
    )
    assert prompts.render("What is $3+4$?").rstrip("\n") == shown.rstrip("\n")
