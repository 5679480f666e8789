"""An algorithm is a recipe: one object that holds everything in which methods differ.

A name leads to a function that makes a recipe. ``module:name`` is a function outside the package, and
``erc+gspo`` applies ``erc``, which changes a recipe, to ``gspo``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import dispatch
from torch import Tensor

from llmrl import keys
from llmrl.algorithms.spelling import split_options, wanted
from llmrl.credit import Credit
from llmrl.errors import ArgumentError, ConfigError, UserError
from llmrl.keys import Key, check_entry, check_mask, reads, require_entry
from llmrl.losses.aggregate import Aggregate, TokenMean
from llmrl.losses.clip import ChecksAdvantages, Clip, PPOClip
from llmrl.losses.correction import Correction, weighs
from llmrl.losses.gate import Gate
from llmrl.losses.limits import resolved
from llmrl.losses.module import BatchLoss
from llmrl.losses.partition import Partition
from llmrl.losses.policy import PolicyLoss, Ratio
from llmrl.losses.ratio import TokenRatio
from llmrl.losses.segments import check_segment_ids
from llmrl.registry import Registry, suggest


@dataclass(frozen=True)
class Term:
    """A class of loss module and its options; :func:`term` is the short form."""

    loss: Callable[..., BatchLoss]
    """The class."""
    options: tuple[tuple[str, Any], ...] = ()
    """Its arguments."""

    def __call__(self) -> BatchLoss:
        """A new module."""
        return self.loss(**dict(self.options))


def term(loss: Callable[..., BatchLoss], **options: Any) -> Term:
    """A further loss of a recipe: ``term(ValueLoss, clip=0.2, coefficient=0.5)``."""
    return Term(loss, tuple(options.items()))


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """One method, complete. ``dataclasses.replace(algorithm, clip=...)`` changes a component.

    >>> print(Algorithm(name="plain"))
    plain
      ratio       TokenRatio()
      clip        PPOClip(low=0.2, high=0.2)
      gates       none
      aggregate   TokenMean()
      partition   none
      corrections none
      advantage   GroupAdvantage(divide_by_std=True, ddof=1, eps=1e-06)
      shape       none
      keep        KeepAll()
      refills     0
      terms       none
    """

    name: str
    """Its name."""
    ratio: Ratio = field(default_factory=TokenRatio)
    """The importance ratio."""
    clip: Clip = field(default_factory=PPOClip)
    """Bounds how far the ratio counts."""
    gates: tuple[Gate, ...] = ()
    """Gates, which select the tokens that keep their gradient."""
    aggregate: Aggregate = field(default_factory=TokenMean)
    """How tokens are averaged."""
    partition: Partition | None = None
    """How a response is divided into segments; None: no segments are needed, or the batch holds them already."""
    corrections: tuple[Correction, ...] = ()
    """Corrections for the gap between sampler and trainer. Their product weighs the policy loss alone."""
    credit: Credit = field(default_factory=Credit)
    """How rewards become advantages."""
    terms: tuple[Term, ...] = ()
    """Further losses, such as ``term(ValueLoss, clip=0.2)``."""
    paper: str = ""
    """Title and arXiv number."""

    def __post_init__(self) -> None:
        weighing = [correction for correction in self.corrections if weighs(correction)]
        if len(weighing) > 1:
            raise ValueError(
                f"{self.name}: {_shown(tuple(weighing))} would weigh a token by the ratio of trainer and sampler "
                "twice. Use one of them, and weigh=False for the others."
            )

    @property
    def in_keys(self) -> tuple[Key, ...]:
        """The entries that :meth:`weigh` and :meth:`loss` read, without those that :meth:`weigh` writes.

        A trainer looks here whether entropies, values or reference log-probabilities are needed.

        >>> "old_entropy" in Algorithm(name="plain").in_keys
        False
        """
        wanted: list[Key] = [*self.loss().in_keys, *self._read_before()]
        written: set[Key] = {keys.WEIGHT, keys.POLICY_WEIGHT}
        if self.partition is not None:
            written.add(keys.SEGMENT)
        for loss in self._terms():
            written.update(loss.prepared)
        return tuple(key for key in dict.fromkeys(wanted) if key not in written)

    @property
    def scores_first(self) -> bool:
        """Whether credit or :meth:`weigh` reads scores under the weights before the update.

        If not, no separate scoring pass is needed before the first update: its own forward pass, with the same
        weights, gives the old scores of its rows.

        >>> algorithm("grpo").scores_first, algorithm("espo").scores_first
        (False, True)
        """
        return not {keys.OLD_LOG_PROB, keys.OLD_ENTROPY}.isdisjoint(self._read_before())

    def _read_before(self) -> list[Key]:
        """The entries that credit and :meth:`weigh` read before the loss is made, in addition to the mask."""
        read: list[Key] = []
        for component in (self.aggregate, self.partition, self.credit.advantage):
            read += reads(component)
        if self.corrections:
            read += [keys.OLD_LOG_PROB, keys.SAMPLER_LOG_PROB]
        for loss in self._terms():
            read += loss.prepared_from
        return read

    def weigh(self, td: TensorDictBase) -> TensorDictBase:
        """Add ``"weight"`` to a whole optimiser batch, and the entries that segments and terms of the recipe need.

        With corrections it adds ``"policy_weight"`` too.

        Cut micro-batches afterwards: with these weights their gradients add up exactly.
        """
        mask = require_entry(td, keys.MASK)
        check_mask(mask)
        old = require_entry(td, keys.OLD_LOG_PROB)
        check_entry(old, mask, keys.OLD_LOG_PROB)
        if isinstance(self.clip, ChecksAdvantages):
            self.clip.check_advantages(require_entry(td, keys.ADVANTAGE), mask)
        out = td.copy()
        segment = td.get(keys.SEGMENT, None)
        if self.partition is not None:
            entropy = require_entry(td, keys.OLD_ENTROPY)
            check_entry(entropy, mask, keys.OLD_ENTROPY)
            segment = out[keys.SEGMENT] = self.partition(entropy, mask)
        trained = mask
        if segment is not None and keys.SEGMENT in reads(self.aggregate):
            check_entry(segment, mask, keys.SEGMENT)
            if self.partition is None:  # only where segments were given does the CPU wait for a GPU here
                check_segment_ids(segment)
            trained = mask & (segment >= 0)
        dtype = torch.float64 if old.dtype == torch.float64 else torch.float32
        weight = self.aggregate(trained, segment)
        out[keys.WEIGHT] = weight.to(dtype)
        if self.corrections:
            for correction in self.corrections:
                weight = weight * correction(old, require_entry(td, keys.SAMPLER_LOG_PROB), mask)
            out[keys.POLICY_WEIGHT] = weight.to(dtype)
        for loss in self._terms():
            for key, value in loss.prepare(out).items():
                out[key] = value.to(dtype)
        return out

    def resolve(self, max_response_length: int) -> Algorithm:
        """The recipe with the response limit of a run, in tokens, in all numbers that follow it and were not given.

        >>> algorithm("dr_grpo").resolve(256).aggregate
        FixedLength(length=256)
        """
        shape = tuple(resolved(one, max_response_length) for one in self.credit.shape)
        return dataclasses.replace(
            self,
            aggregate=resolved(self.aggregate, max_response_length),
            credit=dataclasses.replace(self.credit, shape=shape),
        )

    def loss(self) -> BatchLoss:
        """A loss module with ``loss_objective`` and the entry of every term."""
        policy = PolicyLoss(self)
        return JointLoss([policy, *self._terms()]) if self.terms else policy

    def _terms(self) -> list[BatchLoss]:
        return [make() for make in self.terms]

    def __str__(self) -> str:
        rows = {
            "ratio": self.ratio,
            "clip": self.clip,
            "gates": self.gates,
            "aggregate": self.aggregate,
            "partition": self.partition,
            "corrections": self.corrections,
            "advantage": self.credit.advantage,
            "shape": self.credit.shape,
            "keep": self.credit.keep,
            "refills": self.credit.max_refills,
            "terms": self.terms,
        }
        shown = {n: "none" if component in (None, ()) else _shown(component) for n, component in rows.items()}
        head = f"{self.name}: {self.paper}" if self.paper else self.name
        return "\n".join([head, *(f"  {name:<11} {component}" for name, component in shown.items())])


def _shown(component: object) -> str:
    """A component with every number it has."""
    if isinstance(component, tuple) and component and callable(component[0]):
        return ", ".join(map(_shown, component))
    if isinstance(component, Term):
        options = ", ".join(f"{name}={_shown(value)}" for name, value in component.options)
        return f"{_shown(component.loss)}({options})"
    if dataclasses.is_dataclass(component) and not isinstance(component, type):
        options = ", ".join(f"{f.name}={_shown(getattr(component, f.name))}" for f in dataclasses.fields(component))
        return f"{type(component).__name__}({options})"
    return component.__name__ if inspect.isroutine(component) or inspect.isclass(component) else repr(component)


class JointLoss(BatchLoss):
    """Several losses of one batch; the output has the ``loss_*`` entries and the metrics of all.

    Args:
        losses: loss modules over the same batch.
    """

    def __init__(self, losses: list[BatchLoss]) -> None:
        super().__init__()
        self.losses = torch.nn.ModuleList(losses)

    def _each(self) -> list[BatchLoss]:
        return list(cast("Iterable[BatchLoss]", self.losses))

    @property
    def in_keys(self) -> list[Key]:
        """The entries that the losses read."""
        return list(dict.fromkeys(key for loss in self._each() for key in loss.in_keys))

    @property
    def out_keys(self) -> list[Key]:
        """The entries that the losses write."""
        return [key for loss in self._each() for key in loss.out_keys]

    def set_keys(self, **names: Any) -> None:
        """Change keys, in every loss."""
        super().set_keys(**names)
        for loss in self._each():
            loss.set_keys(**names)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> JointLoss:
        for loss in self._each():
            loss._apply(fn)
        return self

    @dispatch
    def forward(self, tensordict: TensorDictBase) -> TensorDict:
        """The entries that the losses return, in one TensorDict."""
        out: dict[str, Tensor] = {}
        for loss in self._each():
            out.update(loss(tensordict).items())
        return TensorDict(out, batch_size=[])


Recipe = Callable[..., Algorithm]
ALGORITHMS: Registry[Recipe] = Registry("algorithm", entry_point_group="llmrl.algorithms")
register_algorithm = ALGORITHMS.register


def find_algorithm(name: str) -> Recipe:
    """The function that makes the algorithm of this name; its arguments are the options.

    An algorithm with a base, such as ``erc``, takes the options of its base too, named or by default. Options in
    brackets after the name replace the defaults.

    >>> find_algorithm("erc+gspo")(low=0.9).name
    'erc+gspo'
    >>> find_algorithm("erc")(clip_high=0.3).clip
    PPOClip(low=0.2, high=0.3)
    >>> find_algorithm("dapo[clip_high=0.5]")().name
    'dapo[clip_high=0.5]'
    """
    plain, options = split_options(name)
    if options:
        recipe = find_algorithm(plain)
        _check_options(plain, recipe, options)
        return _preset(name.strip(), recipe, options)
    outer_name, plus, rest = plain.partition("+")
    outer = ALGORITHMS[outer_name]
    if not callable(outer):
        raise ArgumentError(
            f"{outer_name!r} must be a function that returns an Algorithm, got an object of type "
            f"{type(outer).__name__}."
        )
    base = inspect.signature(outer).parameters.get("base")
    if not plus:
        return outer if base is None or base.default is base.empty else _compose(name, outer, base.default)
    if base is None:
        changing = [n for n in ALGORITHMS if "base" in inspect.signature(ALGORITHMS[n]).parameters]
        raise ConfigError(
            f"{outer_name!r} in {name!r} does not change another algorithm: it has no 'base'. "
            f"Before the + can stand: {', '.join(changing)}."
        )
    return _compose(name, outer, find_algorithm(rest))


def _preset(name: str, recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """A recipe with other defaults. It is called by its whole name, so that variants can be told apart."""

    @functools.wraps(recipe)
    def preset(**given: Any) -> Algorithm:
        return dataclasses.replace(recipe(**{**options, **given}), name=name)

    signature = inspect.signature(recipe)
    defaults = [p.replace(default=options.get(n, p.default)) for n, p in signature.parameters.items()]
    preset.__signature__ = signature.replace(parameters=defaults)  # type: ignore[attr-defined]
    return preset


def _compose(name: str, outer: Recipe, base: Recipe) -> Recipe:
    """``outer`` applied to ``base``. It takes the options of both; a name that both have means outer's option."""
    mine = {n: p for n, p in inspect.signature(outer).parameters.items() if n != "base"}
    others = {n: p for n, p in inspect.signature(base).parameters.items() if n not in mine}

    def recipe(**options: Any) -> Algorithm:
        inner = {n: v for n, v in options.items() if n in others}
        own = {n: v for n, v in options.items() if n not in others}
        made = outer(base=functools.partial(base, **inner), **own)
        return dataclasses.replace(made, name=name)

    recipe.__name__ = name
    recipe.__doc__ = f"{inspect.getdoc(outer)}\n\n{inspect.getdoc(base)}"
    recipe.__signature__ = inspect.Signature([*mine.values(), *others.values()])  # type: ignore[attr-defined]
    hints = {**typing.get_type_hints(base), **typing.get_type_hints(outer)}
    recipe.__annotations__ = {n: hints[n] for n in (*mine, *others) if n in hints}
    return recipe


def _check_options(name: str, recipe: Recipe, options: Mapping[str, Any]) -> None:
    """Raise for an option that a recipe does not have, or whose value is of another type."""
    parameters = inspect.signature(recipe).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for option in options:
            if option not in parameters:
                raise ArgumentError(f"{name!r} has no option {option!r}. {suggest(option, parameters)}")
    for option, value in options.items():
        if option in parameters and (expected := wanted(value, parameters[option].annotation)) is not None:
            raise ArgumentError(f"{name!r} takes {expected} as {option!r}, got {value!r:.80}.")


def algorithm(name: str, **options: Any) -> Algorithm:
    """Make an algorithm by its name.

    Args:
        name: a registered name, ``module:name``, or a composition such as ``"erc+gspo"``; options may follow in
            brackets.
        options: arguments of the function behind the name.

    >>> algorithm("dapo", clip_high=0.3).clip
    PPOClip(low=0.2, high=0.3)
    >>> algorithm("dapo", clip_hihg=0.3)
    Traceback (most recent call last):
    llmrl.errors.ArgumentError: 'dapo' has no option 'clip_hihg'. Did you mean 'clip_high'? ...

    Raises:
        UserError: there is no such algorithm or option, or a value cannot be used.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"An algorithm is made by its name, such as 'dapo', got {name!r:.80}.")
    recipe = find_algorithm(name)
    _check_options(name, recipe, options)
    try:
        made = recipe(**options)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name!r} cannot be made: {error}") from error
    if not isinstance(made, Algorithm):
        raise ArgumentError(f"{name!r} must return an llmrl.algorithms.Algorithm, got {type(made).__name__}.")
    return made
