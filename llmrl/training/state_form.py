"""The form of the state that a checkpoint holds, with which a state from a file is compared before it is used."""

from __future__ import annotations

from typing import Any

import torch

from llmrl.likeness import MOST, Anything, Each, Maybe, Some, Table, Within
from llmrl.training import randomness
from llmrl.training.gathering import FORM as PENDING
from llmrl.training.incidents import Counters
from llmrl.training.learner import Learner


def state_form(state: dict[str, Any], learner: Learner, shuffling: torch.Generator, sharded: bool) -> dict[str, Any]:
    """The form of what ``Trainer.state`` returns, for :func:`llmrl.likeness.refuse_unlike`.

    Args:
        state: of an earlier version it may have fewer entries.
        learner: its weights give the shapes of the moments.
        shuffling: the generator of the order of rows.
        sharded: whether the state of the learner may be in shards, apart from this one.
    """
    form = {
        "counters": Some(vars(Counters())),
        "problems": {"position": 0, "rules": Table("", Anything())},  # each rule compares its own
        "past_rewards": Table(0, (0.0, 0.0, 0.0)),
        "pending": Maybe(PENDING),
        "kl_coefficient": Maybe(0.0),
        "learner": Maybe(learner.form()) if sharded else learner.form(),
        "shuffling": shuffling.get_state(),
        "random": Each(randomness.form(), least=1),
        "micro_batch_tokens": Within(1, MOST),
        "policy_version": 0,
        "metrics_position": 0,
        "config": "",
    }
    if "pending" not in state:
        del form["pending"]
    return form
