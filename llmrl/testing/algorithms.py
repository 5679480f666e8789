"""Properties that every policy-gradient algorithm must have, tested on batches that are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from llmrl import keys
from llmrl.algorithms import Algorithm, algorithm
from llmrl.keys import Key
from llmrl.losses.batch import LOG_RATIO_LIMIT
from llmrl.testing.running import pickled, require, run_checks

ROWS, COLUMNS = 6, 9
FAR = 6.0
"""A log-ratio beyond the bounds of every published clip: the ratio is 403 or 1/403."""
FAR_FACTOR = 20.0
"""The largest gradient allowed at such a ratio, as a multiple of the gradient at ratio 1."""
ATOL = 1e-10


@dataclass(frozen=True)
class Case:
    """The algorithm under test, and the further entries that it reads."""

    algorithm: Algorithm
    entries: Mapping[Key, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def batch(self, log_ratio: float | Tensor = 0.0, *, advantage: float | None = None) -> TensorDict:
        """An optimiser batch in float64: several lengths, a row without tokens, advantages of both signs."""
        random = torch.Generator().manual_seed(5)
        mask = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
        for row, tokens in enumerate((7, 3, 1, 6, 0, 5)):
            mask[row, 2 : 2 + tokens] = True
        mask[3, 4] = False  # the text of another turn
        old = -0.1 - 2 * torch.rand(ROWS, COLUMNS, generator=random, dtype=torch.float64)
        entropy = 0.05 + 2 * torch.rand(ROWS, COLUMNS, generator=random, dtype=torch.float64)
        sign = torch.tensor([1.0, -0.7, 0.4, -1.3, 0.9, 0.6], dtype=torch.float64)
        td = TensorDict(batch_size=[ROWS])
        td[keys.MASK] = mask
        td[keys.OLD_LOG_PROB] = old
        td[keys.LOG_PROB] = old + log_ratio
        td[keys.SAMPLER_LOG_PROB] = old.clone()
        td[keys.REF_LOG_PROB] = old.clone()
        td[keys.ENTROPY] = entropy + 0.01
        td[keys.OLD_ENTROPY] = entropy
        td[keys.MAX_ENTROPY] = torch.full((ROWS, 1), 12.0, dtype=torch.float64)
        given = sign if advantage is None else torch.full_like(sign, advantage)
        td[keys.ADVANTAGE] = torch.where(mask, given[:, None], 0.0)
        td[keys.GROUP] = torch.tensor([0, 0, 1, 1, 2, 2])
        td[keys.REWARD] = (sign > 0).double()[:, None]
        td[keys.VALID] = torch.ones(ROWS, dtype=torch.bool)
        td[keys.TRUNCATED] = torch.zeros(ROWS, 1, dtype=torch.bool)
        td[keys.KL_COEFFICIENT] = torch.full((ROWS, 1), 0.05, dtype=torch.float64)
        td[keys.PAST_REWARDS] = torch.zeros(ROWS, 3, dtype=torch.float64)
        for key in (keys.VALUE, keys.OLD_VALUE, keys.VALUE_TARGET):
            td[key] = torch.zeros_like(old)
        for own, make in self.entries.items():
            td[own] = make(mask)
        return td

    def near(self) -> TensorDict:
        """A batch with ratios on both sides of 1, some of them clipped."""
        random = torch.Generator().manual_seed(6)
        return self.batch(0.4 * torch.randn(ROWS, COLUMNS, generator=random, dtype=torch.float64))

    def weighed(self, td: TensorDictBase) -> TensorDictBase:
        """The batch with the entries that ``weigh`` adds."""
        torch.manual_seed(0)  # an algorithm may draw random numbers
        return self.algorithm.weigh(td)

    def outcome(self, weighed: TensorDictBase) -> tuple[Tensor, Tensor]:
        """Policy loss, and its gradient with respect to the log-probabilities [N, T]."""
        torch.manual_seed(0)
        td = weighed.copy()
        new = td[keys.LOG_PROB].detach().clone().requires_grad_()
        td[keys.LOG_PROB] = new
        out = self.algorithm.loss()(td)
        loss = out["loss_objective"]
        require(loss.ndim == 0, f"'loss_objective' has shape {list(loss.shape)}; a single number was expected.")
        require(loss.requires_grad, "'loss_objective' has no gradient; it must depend on 'log_prob'.")
        (grad,) = torch.autograd.grad(loss, new, allow_unused=True)
        require(grad is not None, "'loss_objective' does not depend on 'log_prob'; nothing would be learnt.")
        return loss.detach(), grad

    def weight(self, weighed: TensorDictBase) -> Tensor:
        """The factor of each token in the policy loss, [N, T]."""
        return weighed[keys.POLICY_WEIGHT if self.algorithm.corrections else keys.WEIGHT]


def _entries(case: Case) -> None:
    """Every entry that the algorithm reads is known, and the loss returns exactly the entries it announces."""
    td = case.batch()
    for key in case.algorithm.in_keys:
        require(
            key in td.keys(True, True),
            f"the algorithm reads {key!r}, which the batch of the checks does not hold; give it: "
            f"check_algorithm(..., entries={{{key!r}: lambda mask: ...}}).",
        )
    loss = case.algorithm.loss()
    written = set(loss(case.weighed(td)).keys())
    require(written == set(loss.out_keys), f"the loss writes {sorted(written)}, but announces {sorted(loss.out_keys)}.")


def _advantage(case: Case) -> None:
    """Credit gives every token a finite advantage, and none outside the mask."""
    td = case.batch()
    out = case.algorithm.credit.advantage(td)
    given = out[keys.ADVANTAGE]
    shape = tuple(td[keys.MASK].shape)
    require(tuple(given.shape) == shape, f"the advantage has shape {list(given.shape)}; {list(shape)} was expected.")
    require(bool(given.isfinite().all()), "the advantage was not finite; finite numbers were expected.")
    require(bool((given[~td[keys.MASK]] == 0).all()), "the advantage was not 0 outside the mask; 0 was expected.")


def _ratio_one(case: Case) -> None:
    """At ratio 1 the gradient is that of the plain policy gradient."""
    td = case.weighed(case.batch())
    expected = torch.where(td[keys.MASK], -case.weight(td) * td[keys.ADVANTAGE], 0.0)
    _same(case.outcome(td)[1], expected, "at ratio 1 the gradient", "minus weight times advantage")


def _far_ratio(case: Case) -> None:
    """A token that moved far in the direction of its advantage gets a small gradient, and never one the other way."""
    for log_ratio, advantage in ((FAR, 1.0), (-FAR, -1.0)):
        td = case.weighed(case.batch(log_ratio, advantage=advantage))
        gradient = case.outcome(td)[1]
        push = torch.where(td[keys.MASK], -gradient * advantage, 0.0)
        limit = FAR_FACTOR * case.weight(td).abs().max()
        where = f"at ratio {2.718281828**log_ratio:.4g} with advantage {advantage:g}"
        require(
            float(push.max()) <= float(limit),
            f"{where} a token's gradient was {float(push.max()):.4g}; at most {float(limit):.4g} was expected "
            f"({FAR_FACTOR:g} times that at ratio 1): the clip does not hold it back.",
        )
        require(
            float(push.min()) >= -ATOL,
            f"{where} a token's gradient was {float(push.min()):.4g} against its advantage; 0 or more was expected.",
        )


def _zero_advantage(case: Case) -> None:
    """Without an advantage the loss and the gradient are 0."""
    td = case.weighed(case.near())
    td[keys.ADVANTAGE] = torch.zeros_like(td[keys.ADVANTAGE])
    loss, gradient = case.outcome(td)
    _same(loss, torch.zeros_like(loss), "with advantage 0 everywhere the policy loss", "0")
    _same(gradient, torch.zeros_like(gradient), "with advantage 0 everywhere the gradient", "0")


def _mask(case: Case) -> None:
    """Positions outside the mask are not read and get no gradient."""
    clean = case.near()
    loss, gradient = case.outcome(case.weighed(clean))
    outside = ~clean[keys.MASK]
    _same(gradient[outside], torch.zeros_like(gradient[outside]), "outside the mask the gradient", "0")
    for garbage in (float("nan"), float("inf"), 100.0):
        dirty = clean.clone()
        for key in (keys.LOG_PROB, keys.OLD_LOG_PROB, keys.ADVANTAGE, keys.ENTROPY, keys.OLD_ENTROPY):
            dirty[key] = torch.where(outside, garbage, dirty[key])
        other_loss, other = case.outcome(case.weighed(dirty))
        _same(other_loss, loss, f"with {garbage} outside the mask the loss", "unchanged")
        _same(other, gradient, f"with {garbage} outside the mask the gradient", "unchanged")


def _rows(case: Case) -> None:
    """The order of responses does not matter."""
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    td = case.near()
    loss, gradient = case.outcome(case.weighed(td))
    other_loss, other = case.outcome(case.weighed(td[order]))
    _same(other_loss, loss, "after a permutation of the rows the loss", "unchanged")
    _same(other, gradient[order], "after a permutation of the rows the gradient", "permuted with them")


def _micro_batches(case: Case) -> None:
    """Losses and gradients of micro-batches add up to those of the whole batch."""
    td = case.weighed(case.near())
    loss, gradient = case.outcome(td)
    parts = [case.outcome(part) for part in (td[:1], td[1:4], td[4:])]
    _same(
        torch.stack([part[0] for part in parts]).sum(),
        loss,
        "the sum of the losses of three micro-batches",
        "the loss of the whole batch",
    )
    _same(
        torch.cat([part[1] for part in parts]), gradient, "the gradients of three micro-batches", "those of the whole"
    )


def _finite(case: Case) -> None:
    """Loss and gradient are finite at any log-ratio, in every precision."""
    infinity = float("inf")
    for log_ratio in (0.0, 100.0, -100.0, LOG_RATIO_LIMIT, -infinity):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            td = case.batch(log_ratio)
            floats = [key for key in td.keys(True, True) if td[key].dtype == torch.float64]
            for key in floats:
                td[key] = td[key].to(dtype)
            loss, gradient = case.outcome(case.weighed(td))
            require(
                bool(loss.isfinite()) and bool(gradient.isfinite().all()),
                f"at log-ratio {log_ratio:g} in {dtype} the loss was {float(loss)} and "
                f"{int((~gradient.isfinite()).sum())} gradients were not finite; finite numbers were expected.",
            )
    td = case.batch()
    td[keys.MASK] = torch.zeros_like(td[keys.MASK])
    loss, gradient = case.outcome(case.weighed(td))
    require(bool(loss == 0), f"in a batch without a sampled token the loss was {float(loss)}; 0 was expected.")
    require(bool((gradient == 0).all()), "a batch without a sampled token had a gradient; 0 was expected.")


def _inputs(case: Case) -> None:
    """Neither ``weigh`` nor the loss changes an entry of the caller."""
    td = case.near()
    before = td.clone()
    weighed = case.weighed(td)
    kept = weighed.clone()
    case.outcome(weighed)
    for step, now, then in (("weigh", td, before), ("the loss", weighed, kept)):
        require(set(now.keys(True, True)) == set(then.keys(True, True)), f"{step} added entries to its input.")
        for key in then.keys(True, True):
            require(torch.equal(now[key], then[key]), f"{step} changed the entry {key!r} of its input in place.")


def _detached(case: Case) -> None:
    """Metrics have no gradient; only entries named ``loss_*`` do."""
    td = case.weighed(case.near())
    td[keys.LOG_PROB] = td[keys.LOG_PROB].clone().requires_grad_()
    for name, value in case.algorithm.loss()(td).items():
        require(
            name.startswith("loss_") or not value.requires_grad,
            f"the metric {name!r} has a gradient; none was expected.",
        )


def _pickle(case: Case) -> None:
    """A copy by pickle gives the same loss."""
    other = Case(pickled(case.algorithm), case.entries)
    td = case.near()
    _same(
        other.outcome(other.weighed(td))[0], case.outcome(case.weighed(td))[0], "after pickling the loss", "unchanged"
    )


def _compile(case: Case) -> None:
    """``torch.compile`` traces the loss as one graph and gives the same number."""
    td = case.weighed(case.near())
    torch.compiler.reset()  # all losses share TorchRL's forward, and torch limits its recompilations
    loss = case.algorithm.loss()
    torch.manual_seed(0)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")(td)["loss_objective"]
    _same(compiled.detach(), case.outcome(td)[0], "compiled, the loss", "unchanged")


ALGORITHM_CHECKS: dict[str, Callable[[Case], None]] = {
    "entries": _entries,
    "advantage": _advantage,
    "ratio_one": _ratio_one,
    "far_ratio": _far_ratio,
    "zero_advantage": _zero_advantage,
    "mask": _mask,
    "rows": _rows,
    "micro_batches": _micro_batches,
    "finite": _finite,
    "inputs": _inputs,
    "detached": _detached,
    "pickle": _pickle,
    "compile": _compile,
}
"""The checks by name, in the order in which they run."""


def check_algorithm(
    subject: str | Algorithm,
    *,
    entries: Mapping[Key, Callable[[Tensor], Tensor]] | None = None,
    except_for: Iterable[str] = (),
) -> None:
    """Raise unless an algorithm has the properties that a trainer relies on.

    The batches have float64 log-probabilities [6, 9] and are the same in every call.

    Args:
        subject: a name, ``module:name``, or an :class:`~llmrl.algorithms.Algorithm`.
        entries: further entries that the algorithm reads: functions from the mask, bool [N, T], to a tensor [N, T].
        except_for: checks that do not hold for this algorithm; :data:`ALGORITHM_CHECKS` has the names.

    Raises:
        AssertionError: a check failed; the message says what was tried, what happened, what was expected.
        ValueError: ``except_for`` has a name that no check has.

    >>> check_algorithm("gspo", except_for=("compile",))
    >>> import dataclasses
    >>> from llmrl.losses.clip import NoClip
    >>> free = dataclasses.replace(algorithm("grpo"), clip=NoClip())
    >>> check_algorithm(free, except_for=("compile",))
    Traceback (most recent call last):
    AssertionError: Algorithm grpo, check 'far_ratio': at ratio 403.4 with advantage 1 a token's gradient was ...
    """
    made = algorithm(subject) if isinstance(subject, str) else subject
    case = Case(made.resolve(COLUMNS), entries or {})
    run_checks(f"Algorithm {made.name}", ALGORITHM_CHECKS, case, except_for)


def _same(found: Tensor, expected: Tensor, what: str, wanted: str) -> None:
    found, expected = found.double(), expected.double()
    if torch.allclose(found, expected, rtol=1e-9, atol=ATOL):
        return
    at = (found - expected).abs().nan_to_num(float("inf")).argmax()
    raise AssertionError(
        f"{what} was {float(found.flatten()[at]):.6g}; {float(expected.flatten()[at]):.6g} was expected ({wanted})."
    )
