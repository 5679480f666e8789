"""The environments, by id. The import registers only their names with Gymnasium; the module of an environment
is loaded when one is made.
"""

from __future__ import annotations

import gymnasium

_ENTRIES: dict[str, tuple[str, dict[str, str]]] = {
    "llmrl/MATH-v0": ("llmrl.envs.math:MathEnv", {}),
    **{
        f"llmrl/{name}-v0": ("llmrl.envs.benchmarks:BenchmarkEnv", {"dataset": name.lower()})
        for name in (
            *("MATH500", "GSM8K", "AIME24", "AIME25", "AMC23"),
            *("Minerva", "OlympiadBench", "HMMT25"),
        )
    },
    "llmrl/Data-v0": ("llmrl.envs.data:DataEnv", {}),
    "llmrl/Countdown-v0": ("llmrl.envs.countdown:CountdownEnv", {}),
    "llmrl/MathRetry-v0": ("llmrl.envs.turns:MathRetryEnv", {}),
    "llmrl/MathTool-v0": ("llmrl.envs.turns:MathToolEnv", {}),
    **{f"llmrl/Nano{name}-v0": (f"llmrl.envs.nano:Nano{name}Env", {}) for name in ("Carry", "Countdown", "Guess")},
    "llmrl/ReasoningGym-v0": ("llmrl.envs.reasoning_gym:ReasoningGymEnv", {}),
}


def _register() -> None:
    for env_id, (entry_point, options) in _ENTRIES.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point=entry_point,
                vector_entry_point=f"{entry_point}_vector",
                kwargs=options,
            )


_register()
