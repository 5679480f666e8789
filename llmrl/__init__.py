"""llmrl: reinforcement learning of LLM reasoning.

The import registers the environments with Gymnasium and does nothing else: torch and transformers are
loaded when a name that needs them is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from llmrl import envs

__version__ = "0.1.0"

_HOME = {
    "Algorithm": "llmrl.algorithms",
    "Callback": "llmrl.training.session",
    "FreeText": "llmrl.envs.text",
    "Policy": "llmrl.policies.policy",
    "PolicyLoss": "llmrl.losses",
    "PolicyOptions": "llmrl.policies",
    "Problem": "llmrl.envs.problems",
    "TextEnv": "llmrl.envs.text",
    "TextVectorEnv": "llmrl.envs.vector",
    "Trainer": "llmrl.training.trainer",
    "UserError": "llmrl.errors",
    "ValueLoss": "llmrl.losses",
    "Verdict": "llmrl.verifiers.verdict",
    "algorithm": "llmrl.algorithms",
    "evaluate": "llmrl.api",
    "find_algorithm": "llmrl.algorithms",
    "push": "llmrl.training.push",
    "register_algorithm": "llmrl.algorithms",
    "report": "llmrl.reports.api",
    "study": "llmrl.studies.api",
    "train": "llmrl.api",
    "verifier": "llmrl.verifiers",
}

__all__ = ["__version__", "envs", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'llmrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
