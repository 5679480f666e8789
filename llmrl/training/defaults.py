"""The settings of a run that differ from the defaults; its page and its card show these first."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from llmrl.algorithms import find_algorithm
from llmrl.errors import UserError
from llmrl.training.config import SECTIONS, Config, plain_value
from llmrl.training.files import flatten
from llmrl.training.options import env_class, options_of


def changed(config: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """The settings of a run's ``config.yaml`` that are not at their defaults, by dotted names, in the order of the
    file.

    Names are always included. So are all options of an algorithm or environment outside the package (``module:name``)
    or unknown here, because their defaults cannot be looked up.

    Args:
        config: nested, as :meth:`~llmrl.training.config.Config.to_dict` returns it.
        given: names that are included though they are at the defaults, such as those of a record's ``origins``. Without
            them ``--config`` would take the values in the ``training.yaml`` of a model instead.

    >>> changed({"algo": {"name": "dapo", "kl": 0.0}, "env": {"id": "llmrl/MATH-v0", "levels": [1]},
    ...          "train": {"steps": 100, "group_size": 4}, "seed": 0})
    {'algo.name': 'dapo', 'env.id': 'llmrl/MATH-v0', 'env.levels': [1], 'train.group_size': 4}
    """
    usual = _defaults(config)
    absent = object()
    return {name: value for name, value in flatten(config).items() if name in given or usual.get(name, absent) != value}


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of all options but the names."""
    tree: dict[str, Any] = {name: dataclasses.asdict(section()) for name, section in SECTIONS.items()}
    del tree["policy"]["path"]
    tree |= {f.name: f.default for f in dataclasses.fields(Config) if f.default is not dataclasses.MISSING}
    algo, env = (str((config.get(section) or {}).get(key)) for section, key in (("algo", "name"), ("env", "id")))
    for section, name, key, find in (("algo", algo, "name", find_algorithm), ("env", env, "id", env_class)):
        if ":" in name:  # looking it up would import the module
            continue
        try:
            tree[section] = dataclasses.asdict(options_of(section, find(name), name)())
        except UserError:
            continue
        del tree[section][key]
    return {name: plain_value(value) for name, value in flatten(tree).items()}
