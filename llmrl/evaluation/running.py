"""Run an evaluation: choose the problems, answer them in batches, continue after a stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from llmrl.distributed.world import World
from llmrl.envs.text import TextEnv
from llmrl.errors import ConfigError
from llmrl.evaluation.outcomes import SUMMARIZED, Evaluation, count_votes, is_outcome
from llmrl.policies.policy import Policy
from llmrl.policies.sampling.engine import SamplingOptions
from llmrl.rollouts.collect import collect
from llmrl.rollouts.environments import Environments
from llmrl.rollouts.records import Record
from llmrl.rollouts.stream import ProblemStream
from llmrl.text import json_line, parse_line, read_lines
from llmrl.verifiers.verdict import ComparesAnswers

MOST_RESPONSES = 10_000_000
"""Maximum number of responses of an evaluation, which are held in memory."""
PROBLEM_ORDER = 0
"""Seed of the random choice of problems. It is fixed, so all policies and seeds get the same problems."""


class _Batch(NamedTuple):
    greedy: bool
    begin: int
    end: int

    def holds(self, record: Record) -> bool:
        """Whether a record is of this batch; its group is the place of its problem among all problems."""
        return self.greedy == record["greedy"] and self.begin <= record["group"] < self.end


def evaluate(
    policy: Policy,
    environments: Environments,
    problems: int | None,
    *,
    samples: int = 4,
    batch: int = 512,
    seed: int = 0,
    sampling: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    file: Path | None = None,
    world: World = World(),  # noqa: B008 (without state)
) -> Evaluation:
    """Answer ``problems`` problems once greedily, and ``samples`` times by sampling.

    If the number of problems is limited, the choice is random, but always the same; otherwise it is the first
    ones. A batch depends on its place and the seed, not on the batches before it.

    Args:
        problems: number of problems; None: all.
        batch: number of responses generated at once.
        seed: seed of the sampling; the same seed gives the same responses.
        sampling: temperature and length limit; by default the policy's. Its ``greedy`` is ignored.
        on_batch: called with (responses done, responses in all) for a progress display.
        file: a file to which each batch of responses is appended. If it has batches already, the evaluation
            continues after them; the last one is repeated, since it may be incomplete.
        world: the ranks that share the problems; all return the same.

    Raises:
        ConfigError: all problems are wanted but their number is unlimited, or every prompt is too long.
    """
    count = count_problems(environments, problems)
    if count * (1 + samples) > MOST_RESPONSES:
        raise ConfigError(
            f"{count} problems with {1 + samples} responses each are too many: at most {MOST_RESPONSES} responses can "
            "be held. Evaluate on fewer problems, or with fewer samples."
        )
    ids = ProblemStream(PROBLEM_ORDER, environments.num_problems()).take(count)
    plan = list(_batches(count, samples, batch))
    records = [] if file is None else _resume(file, plan)
    first = plan.index(_batch_of(records[-1], plan)) + 1 if records else 0
    same = _equality(environments)
    done, total = 0, count * (1 + samples)
    for number, (greedy, begin, end) in enumerate(plan):
        group = 1 if greedy else samples
        done += (end - begin) * group
        if number >= first:
            part = collect(
                policy,
                environments,
                ids[begin:end],
                seed=seed,
                group_size=group,
                options=replace(sampling, greedy=greedy),
                first_group=begin,
                stream="evaluation",
                world=world,
            )
            new = [{**record, "greedy": greedy} for record in part.records]
            if not greedy:
                _add_votes(new, same)
            if file is not None:
                _append(file, new)
            records += new
        on_batch(done, total)
    if not records:
        raise ConfigError(
            f"All {count} prompts of {environments.env_id} are longer than max_prompt_length "
            f"{policy.max_prompt_length}. Give a larger limit."
        )
    answered = len({record["problem_id"] for record in records})
    return Evaluation(records, dropped_prompts=count - answered)


def count_problems(environments: Environments, problems: int | None) -> int:
    """The number of problems to answer if ``problems`` are wanted; None: all."""
    size = environments.num_problems()
    if problems is None and size is None:
        raise ConfigError(f"{environments.env_id} has an unlimited number of problems: say how many to evaluate on.")
    return min(n for n in (problems, size) if n is not None)


def shortage(environments: Environments, problems: int) -> str | None:
    """A sentence if ``problems`` problems are wanted and there are fewer; else None."""
    count = count_problems(environments, problems)
    return None if count == problems else f"{problems} problems were requested; {environments.title} has only {count}."


def _batches(count: int, samples: int, batch: int) -> Iterator[_Batch]:
    for greedy, group in ((True, 1), (False, samples)):
        chunk = max(batch // max(group, 1), 1)
        for begin in range(0, count if group else 0, chunk):
            yield _Batch(greedy, begin, min(begin + chunk, count))


def _batch_of(record: Record, plan: list[_Batch]) -> _Batch:
    """The batch of a record."""
    return next(batch for batch in plan if batch.holds(record))


def _resume(file: Path, plan: list[_Batch]) -> list[Record]:
    """The records of all batches in a file but the last; the last one is removed from the file."""
    if not file.is_file():
        return []
    records = []
    for line in read_lines(file):
        record = parse_line(line)
        if record is None or not record.keys() >= SUMMARIZED or not is_outcome(record):
            break  # the process may have been killed while it wrote the last line, even inside a character
        if not any(batch.holds(record) for batch in plan):
            break
        records.append(record)
    if records:
        last = _batch_of(records[-1], plan)
        records = [record for record in records if _batch_of(record, plan) != last]
    aside = file.with_name(f".{file.name}")
    aside.write_text("".join(map(_line, records)))
    os.replace(aside, file)
    return records


def _append(file: Path, records: list[Record]) -> None:
    with file.open("a") as out:
        out.write("".join(map(_line, records)))
        out.flush()
        os.fsync(out.fileno())


def _line(record: Record) -> str:
    return json_line(record)


def _add_votes(records: list[Record], same: Callable[[str, str], bool]) -> None:
    groups: dict[int, list[Record]] = {}
    for record in records:
        if "extracted" in record:
            groups.setdefault(record["group"], []).append(record)
    for group in groups.values():
        for record, vote in zip(group, count_votes(group, same), strict=True):
            record["vote"] = vote


def _equality(environments: Environments) -> Callable[[str, str], bool]:
    """The verifier's equality of answers, if it has one; else equality of their texts."""
    env = environments.of_size(1).envs[0].unwrapped
    if isinstance(env, TextEnv) and isinstance(env.verifier, ComparesAnswers):
        return env.verifier.same
    return _same_text


def _same_text(first: str, second: str) -> bool:
    return first.split() == second.split()
