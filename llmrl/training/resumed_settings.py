"""The settings of a run that ``--resume`` names: those that the user does not give again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llmrl.errors import ConfigError
from llmrl.text import one_line
from llmrl.training import checkpoint
from llmrl.training.files import NAME_FLAGS, flatten, read_tree
from llmrl.training.folder import MARKER
from llmrl.training.given import ORIGIN
from llmrl.training.record import sessions_of

NAMES = {"algo": "algo.name", "env": "env.id"}
"""The options that name the things whose options a section holds."""
OBJECTS = {**NAMES, "eval_env": "eval.env"}
"""Arguments of :func:`llmrl.train` that may be objects, and the options that name them otherwise."""
MAY_NAME_CODE = ("env.id", "env.verifier", "eval.env", "reward")


def settings_of(run: Path, given: Mapping[str, Any], objects: Collection[str]) -> tuple[str, dict[str, Any]] | None:
    """The file of a run's settings, and those of them that apply; None if there is no run to resume.

    Args:
        run: folder of the run.
        given: what the user gives again, by dotted names. Options of another algorithm or environment than that of the
            run do not apply.
        objects: the keys of :data:`OBJECTS` that are given as objects.

    Raises:
        ConfigError: the run was made with an object that is not given again; or its settings name code or an address,
            and its folder may come from elsewhere.
    """
    file = run / "config.yaml"
    if not file.is_file() or not (run / MARKER).is_file() or not checkpoint.list_checkpoints(run):
        return None
    try:
        flat = flatten(read_tree(file))
    except ConfigError:
        return None  # the checkpoint holds the settings too: what is given is compared with those
    other = [name for name, key in NAMES.items() if name in objects or given.get(key, flat.get(key)) != flat.get(key)]
    dropped = {key for key in flat if key in given or key.partition(".")[0] in other}
    if "eval_env" in objects or not {"eval.env", "eval.data"}.isdisjoint(given):
        dropped |= {"eval.env", "eval.data"}
    flat = {key: value for key, value in flat.items() if key not in dropped}
    made = _made_in_python(run)
    for name, key in OBJECTS.items():
        if key in flat and key in made:
            raise ConfigError(
                f"{run} was trained with an object as {name}, which {file} cannot hold. Resume it in Python: "
                f"llmrl.train({name}=..., resume={str(run)!r})."
            )
    for key, value in flat.items():
        if _names_code(key, value):
            raise ConfigError(
                f"{file} names {key} {one_line(str(value), 80)}, which is code or an address. The folder of a run may "
                f"come from elsewhere: if you trust it, give --{NAME_FLAGS.get(key, key).replace('_', '-')} again."
            )
    return str(file), {key: value for key, value in flat.items() if key not in made}


def _made_in_python(run: Path) -> set[str]:
    """The options that were read off objects in the run's last session, without those of a policy."""
    record = run / "environment.json"
    last = sessions_of(record)[-1:] if record.is_file() else []
    origins = last[0].get("origins") if last and isinstance(last[0], dict) else None
    pairs = origins.items() if isinstance(origins, dict) else ()
    return {key for key, origin in pairs if origin == ORIGIN and key.startswith(("algo.", "env.", "eval."))}


def _names_code(key: str, value: Any) -> bool:
    if key == "policy.engine":
        return str(value).startswith(("http://", "https://"))
    return ":" in str(value) and (key in MAY_NAME_CODE or key.startswith("algo."))
