"""Prompts: the token ids of a problem, and of a reply after a response.

This module handles templates, the system prompt, the instruction and special tokens. The policy has the limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from tensordict import TensorDictBase

from llmrl.errors import PolicyError
from llmrl.policies.foreign import ids_of, text_of
from llmrl.policies.options import PolicyOptions
from llmrl.policies.templates import check_cost, variables_of
from llmrl.registry import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAND_IN = "<think>\nfirst\n</think>\n\nthen"
"""Placeholder for a response in a rendered history. Templates that rewrite responses change it too."""


class Prompts:
    """Prompts for one tokenizer.

    Args:
        tokenizer: the model's tokenizer; its chat template is used if ``chat_template`` is ``"auto"``.
        chat_template: ``"auto"``: the tokenizer's if it has one; None: ``prompt_template``; else the name of one of
            the tokenizer's templates, or the path of a Jinja file.
        prompt_template: form of the prompt without a chat template.
        system_prompt: message before the first problem; needs a chat template.
        instruction: text after each problem, after an empty line.
        template_arguments: arguments of the chat template, such as ``{"enable_thinking": False}``.

    Raises:
        PolicyError: a template cannot be used.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        chat_template: str | None = "auto",
        prompt_template: str = "{problem}",
        system_prompt: str | None = None,
        instruction: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if "{problem}" not in prompt_template:
            raise PolicyError(f"prompt_template must contain {{problem}}, got {prompt_template!r}.")
        self.tokenizer = tokenizer
        self.chat_template = _chat_template(tokenizer, chat_template)
        self.prompt_template = prompt_template
        self.system_prompt = system_prompt
        self.instruction = instruction
        self.template_arguments = dict(template_arguments or {})
        if self.chat_template is None:
            for name, given in (("system_prompt", system_prompt), ("template_arguments", template_arguments)):
                if given:
                    raise PolicyError(
                        f"{name} needs a chat template, and this policy has none. Write the text into prompt_template, "
                        "or give the path of a Jinja file as chat_template."
                    )
            if prompt_template == "{problem}" and not ids_of(tokenizer, ["a"], special=True)[0]:
                raise PolicyError("The tokenizer writes no token for the text 'a': it is not the model's tokenizer.")
        elif prompt_template != "{problem}":
            raise PolicyError(
                "prompt_template is used only without a chat template, and this policy has one. Give chat_template "
                "None (--policy.chat-template None) besides, or use instruction and system_prompt."
            )
        self.render("1 + 1")  # a template that raises is refused now
        if self.chat_template is not None:
            read = variables_of(self.chat_template)
            for name in self.template_arguments:
                if name not in read:  # it would have no effect
                    raise PolicyError(f"The chat template reads no argument {name!r}. {suggest(name, read)}")

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, options: PolicyOptions) -> Prompts:
        """The prompts for a policy's options."""
        return cls(
            tokenizer,
            chat_template=options.chat_template,
            prompt_template=options.prompt_template,
            system_prompt=options.system_prompt,
            instruction=options.instruction,
            template_arguments=options.template_arguments,
        )

    def render(self, problem: str, *replies: str) -> str:
        """The prompt as text, with visible special tokens.

        Args:
            problem: the first message of the user.
            replies: its later messages; :data:`STAND_IN` takes the place of the responses between them.
        """
        if self.instruction:
            problem = f"{problem}\n\n{self.instruction}"
        if self.chat_template is None:
            turns = [self.prompt_template.replace("{problem}", text) for text in (problem, *replies)]
            return STAND_IN.join(turns)
        messages = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        messages += [{"role": "user", "content": problem}]
        for reply in replies:
            messages += [
                {"role": "assistant", "content": STAND_IN},
                {"role": "user", "content": reply},
            ]
        return self._rendered(self.chat_template, messages, begin_response=True)

    def turn_end(self) -> str:
        """The text that the chat template writes after a response; empty if it writes none, or changes the response."""
        if self.chat_template is None:
            return ""
        turns = [{"role": "user", "content": "1 + 1"}, {"role": "assistant", "content": STAND_IN}]
        try:
            return self._rendered(self.chat_template, turns, begin_response=False).partition(STAND_IN)[2]
        except PolicyError:  # a template for prompts alone
            return ""

    def _rendered(self, template: str, messages: list[dict[str, str]], *, begin_response: bool) -> str:
        try:
            variables = {
                "messages": messages,
                "tools": None,
                "documents": None,
                "add_generation_prompt": begin_response,
            }
            check_cost(template, {**self.tokenizer.special_tokens_map, **variables, **self.template_arguments})
            return self.tokenizer.apply_chat_template(  # type: ignore[return-value]
                messages,
                chat_template=template,
                add_generation_prompt=begin_response,
                tokenize=False,
                **self.template_arguments,
            )
        except (
            TemplateError,
            LookupError,
            TypeError,
            ValueError,
            ArithmeticError,
            RecursionError,
            MemoryError,
        ) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise PolicyError(
                f"The chat template cannot render messages with the roles {roles}: {error}. Leave out what it does not "
                "know (a system prompt, template arguments), or give --policy.chat-template a Jinja file that does."
            ) from error

    def encode(self, problems: Sequence[str]) -> list[list[int]]:
        """The ids of each rendered prompt; prompts of any length are kept whole."""
        if not problems:
            return []
        # A chat template writes the special tokens itself.
        rendered = [self.render(problem) for problem in problems]
        special = self.chat_template is None
        contexts = ids_of(self.tokenizer, rendered, special=special)
        end = self.tokenizer.eos_token_id
        if (
            special and end is not None
        ):  # some tokenizers add an end token to every text, after which no response could begin
            bare = ids_of(self.tokenizer, rendered, special=False)
            contexts = [
                ids[:-1] if ids and ids[-1] == end and plain[-1:] != [end] else ids
                for ids, plain in zip(contexts, bare, strict=True)
            ]
        return contexts

    def contexts(self, prompts: Sequence[str] | TensorDictBase) -> list[list[int]]:
        """The ids of prompts given as texts, or in a TensorDict as texts or as tokens.

        Raises:
            TypeError: a single text is given instead of a list.
            KeyError: the TensorDict holds no prompts.
        """
        if not isinstance(prompts, TensorDictBase):
            if isinstance(prompts, str):
                raise TypeError("generate takes a list of problems, got one str. Put it in a list.")
            return self.encode(list(prompts))
        found = prompts.keys(include_nested=True)
        if ("tokens", "prompt") in found:
            tokens, mask = prompts["tokens", "prompt"], prompts["masks", "prompt"].bool()
            return [ids[real].tolist() for ids, real in zip(tokens, mask, strict=True)]
        if ("text", "prompt") in found:
            return self.encode(list(prompts["text", "prompt"]))
        raise KeyError(
            "generate needs ('text', 'prompt'), or ('tokens', 'prompt') and ('masks', 'prompt'), in "
            f"its TensorDict; it holds {sorted(map(str, found))}."
        )

    def reply(self, said: Sequence[str], end: int) -> list[int]:
        """The ids after a response: the end of its turn, the newest reply, and the start of the next response.

        Args:
            said: the problem and all replies so far.
            end: the token that ended the response.

        Raises:
            PolicyError: the chat template rewrites earlier turns.
        """
        text = written_behind(self.render(*said[:-1]), self.render(*said))
        return continuation(self.tokenizer, text, end)


def json_or_text(value: str) -> Any:
    """The value of a template argument of the command line.

    >>> json_or_text("false"), json_or_text("low")
    (False, 'low')
    """
    try:
        return json.loads(value)
    except ValueError:
        return value


def written_behind(before: str, whole: str) -> str:
    """The text that a template writes between a response and the next response.

    Args:
        before: the rendered history before the response.
        whole: the rendered history with :data:`STAND_IN` as the response, and the reply to it.

    Raises:
        PolicyError: ``whole`` does not begin with ``before`` and the response.

    >>> written_behind("Q: 2+2 A: ", f"Q: 2+2 A: {STAND_IN}<end>Q: 3+3 A: ")
    '<end>Q: 3+3 A: '
    """
    begin = before + STAND_IN
    if not whole.startswith(begin):
        raise PolicyError(
            "The chat template rewrites what came before: with a reply behind it, the history that "
            f"the model has read and written as {_end_of(begin)!r} is rendered as "
            f"{_end_of(whole)!r}. An episode of several turns is one row that only grows. Give "
            "--policy.chat-template a Jinja file that leaves earlier turns as they were (reasoning "
            "in <think> included)."
        )
    return whole[len(begin) :]


def continuation(tokenizer: PreTrainedTokenizerBase, text: str, end: int) -> list[int]:
    """The ids of ``text`` after a response that ended with the token ``end``.

    Templates write this end token themselves. It is in the response already, so it is left out.
    """
    close = text_of(tokenizer, [end])
    if end in tokenizer.added_tokens_decoder:  # otherwise it may be the beginning of the reply
        blank, found, rest = text.partition(close)
        text = rest if found and not blank.strip() else text
    # Encoded after the end token, because some tokenizers encode the beginning of a text differently.
    ids = ids_of(tokenizer, [close + text], special=False)[0]
    if end in ids[:2]:
        return ids[ids.index(end) + 1 :]
    return ids_of(tokenizer, [text], special=False)[0]


def _end_of(text: str, length: int = 240) -> str:
    return text if len(text) <= length else "..." + text[-length:]


def _chat_template(tokenizer: PreTrainedTokenizerBase, choice: str | None) -> str | None:
    if choice is None:
        return None
    own = tokenizer.chat_template
    if choice == "auto":
        if not own:
            return None
        if isinstance(own, dict) and "default" not in own:
            raise PolicyError(
                f"The tokenizer has several chat templates and none is called default: {', '.join(sorted(own))}. "
                "Give one of these names (--policy.chat-template NAME)."
            )
        return tokenizer.get_chat_template()
    if isinstance(own, dict) and choice in own:
        return own[choice]
    try:
        return Path(choice).read_text()
    except (OSError, UnicodeDecodeError) as error:
        named = f" The tokenizer's own: {suggest(choice, own)}" if isinstance(own, dict) else ""
        raise PolicyError(
            f"The chat template {choice!r} cannot be read ({error}). Give 'auto', None or the path of a Jinja file."
            f"{named}"
        ) from error
