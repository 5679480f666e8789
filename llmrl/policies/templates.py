"""A limit on the cost of rendering a chat template, which comes with a model's folder and could run without end.

A template is first rendered here, in transformers' environment, with a count of every loop round, call, filter and
text. Only then the tokenizer renders it. Jinja's sandbox still applies.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache, wraps
from types import BuiltinMethodType, MethodType
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError, TemplateRuntimeError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

BUDGET = 500_000
"""Maximum number of loop rounds, calls and hundreds of characters of one rendering; less than a second."""
LARGEST = 2_000_000
"""Maximum number of characters and entries of one value."""
MOST_MADE = 200_000_000
"""Maximum product of the sizes of an operation's operands, which bounds its result and its time."""
_SMALL = 16
_WIDE = re.compile(r"\d{5}")
"""Five digits in a row: a width in a text format that no prompt needs."""


class TooCostly(TemplateRuntimeError):
    """A rendering takes more than a prompt can need; the message names the limit."""


def check_cost(template: str, variables: Mapping[str, Any]) -> None:
    """Render a template with a limit on the cost.

    Args:
        template: the template in Jinja.
        variables: the variables of the template.

    Raises:
        TooCostly: it loops too long, or makes too large a text.
        TemplateError: it cannot be rendered.

    >>> check_cost("{% for i in range(9) %}{{ i }}{% endfor %}", {})
    >>> check_cost("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", {})
    Traceback (most recent call last):
    ...
    llmrl.policies.templates.TooCostly: it takes more than 500000 rounds of loops, calls and texts
    """
    environment, compiled = _compiled(template)
    environment.spent = 0
    for _ in compiled.generate(**variables):
        environment.spend()


def variables_of(template: str) -> set[str]:
    """The names of the variables that a template reads.

    Raises:
        TemplateError: it cannot be parsed.

    >>> variables_of("{% set a = 1 %}{{ a }}{% if enable_thinking is defined %}{{ text }}{% endif %}") == {
    ...     "enable_thinking", "text"}
    True
    """
    return find_undeclared_variables(_Environment().parse(template))


def size_of(value: Any) -> int:
    """Number of characters and entries of a value, including nested ones; counted up to :data:`LARGEST`."""
    total, waiting = 0, [value]
    while waiting and total <= LARGEST:
        one = waiting.pop()
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, Mapping):
            total += len(one)
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set)):
            total += len(one)
            waiting += one
        else:
            total += 1
    return total


class _Environment(ImmutableSandboxedEnvironment):
    """Counts the operations of a rendering."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})  # these are not evaluated at compile time either

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=self.shown
        )
        self.spent = 0
        self.filters = {name: self._counted(filter_) for name, filter_ in {**self.filters, "tojson": _tojson}.items()}
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def spend(self, cost: int = 1) -> str:
        """Count; raise if the limit is exceeded."""
        self.spent += cost
        if self.spent > BUDGET:
            raise TooCostly(f"it takes more than {BUDGET} rounds of loops, calls and texts")
        return ""

    def shown(self, value: Any) -> Any:
        """Count the written text."""
        self.weigh(value)
        return value

    def weigh(self, value: Any) -> int:
        """Count a value; raise if it is too large."""
        size = size_of(value)
        if size > LARGEST:
            raise TooCostly(f"it makes a value of more than {LARGEST} characters or entries")
        self.spend(1 + size // 100)
        return size

    def joined(self, *parts: Any) -> str:
        """The result of ``~``."""
        self.weigh(parts)
        return "".join(map(str, parts))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Evaluate an operator, unless its result is too large."""
        if isinstance(left, int) and isinstance(right, int):
            digits = {"*": left.bit_length() + right.bit_length(), "**": left.bit_length() * abs(right)}
            if digits.get(operator, 0) > LARGEST // 200:
                raise TooCostly("it makes a number of thousands of digits")
        elif operator == "+":
            self.weigh([left, right])
        else:
            if operator == "%":
                _check_form(left)
            self._operands([left, right])
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a call, unless its result is too large."""
        # The sandbox wraps the method format; other methods have their text as an attribute.
        bound = inspect.unwrap(function) if callable(function) else function
        text = bound.__self__ if isinstance(bound, (BuiltinMethodType, MethodType)) else None
        if isinstance(text, str) and bound.__name__.startswith("format"):
            _check_form(text)
        self._operands([text, *args, *kwargs.values()])
        return super().call(context, function, *args, **kwargs)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if function is FILTERS["format"]:
                _check_form(args[0])
            self._operands([*args, *kwargs.values()])
            return function(*args, **kwargs)

        return counted

    def _operands(self, values: Iterable[Any]) -> None:
        """Count an operation by its operands."""
        made = 1
        for value in values:
            size = abs(value) if isinstance(value, int) and abs(value) > _SMALL else self.weigh(value)
            made *= max(int(size), 1)
        if made > MOST_MADE:
            raise TooCostly("an operation of it makes too large a value")
        self.spend(1)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """The syntax tree with a count of every loop round, every macro and every ``~``."""
        tree = super()._parse(source, name, filename)
        bodies = [loop.body for loop in tree.find_all(nodes.For)]
        bodies += [macro.body for macro in tree.find_all(nodes.Macro)]
        bodies += [block.body for block in tree.find_all(nodes.CallBlock)]
        for body in bodies:
            texts = sum(len(data.data) for part in body for data in part.find_all(nodes.TemplateData))
            spend = nodes.Call(nodes.EnvironmentAttribute("spend"), [nodes.Const(1 + texts // 100)], [], None, None)
            body.insert(0, nodes.ExprStmt(spend).set_lineno(1))
        return _WithoutConcat(self).visit(tree)


class _WithoutConcat:
    """Replace ``a ~ b`` by a counted call."""

    def __init__(self, environment: _Environment) -> None:
        self.environment = environment

    def visit(self, node: Any) -> Any:
        """The node, changed."""
        for field, value in node.iter_fields():
            if isinstance(value, nodes.Node):
                setattr(node, field, self.visit(value))
            elif isinstance(value, list):
                setattr(node, field, [self.visit(one) if isinstance(one, nodes.Node) else one for one in value])
        if isinstance(node, nodes.Concat):
            joined = nodes.Call(nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None)
            return joined.set_lineno(node.lineno).set_environment(self.environment)
        return node


class _Generation(Extension):
    """``{% generation %}``, with which transformers marks the model's messages; it renders its contents."""

    tags = {"generation"}  # noqa: RUF012  as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=16)
def _compiled(template: str) -> tuple[_Environment, Any]:
    environment = _Environment()
    return environment, environment.from_string(template)


def _check_form(form: Any) -> None:
    """Refuse ``%99999d`` and ``{:99999}``."""
    if isinstance(form, str) and _WIDE.search(form):
        raise TooCostly("it formats a text with a width of five digits or more")


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
