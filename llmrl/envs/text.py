"""Text environments: the space of texts, one environment, and many at once."""

from __future__ import annotations

from llmrl.envs.single import FreeText, TextEnv, Turn, find_verifier
from llmrl.envs.vector import TextVectorEnv, vector_of

__all__ = ["FreeText", "TextEnv", "TextVectorEnv", "Turn", "find_verifier", "vector_of"]
