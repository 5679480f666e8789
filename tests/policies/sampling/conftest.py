"""What tests of engines share."""

import pytest
from engine_stand_in import TOKEN

from llmrl.policies.sampling import pool, vllm


@pytest.fixture
def no_back_off(monkeypatch):
    """The token of the tests, and no waiting between attempts; all engines' threads are ended."""
    loops = []

    class Loop(vllm.Loop):
        def __init__(self):
            super().__init__()
            loops.append(self)

    monkeypatch.setenv("LLMRL_TOKEN", TOKEN)
    monkeypatch.setattr(pool, "BACK_OFF", 0.0)
    monkeypatch.setattr(vllm, "Loop", Loop)
    yield
    for loop in loops:
        loop.close()
