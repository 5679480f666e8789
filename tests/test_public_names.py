"""What `import llmrl` gives, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llmrl


@pytest.mark.parametrize("name", llmrl.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(llmrl, name)
    assert name == "__version__" or thing.__doc__
    assert name in dir(llmrl)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'llmrl' has no attribute 'Polcy'"):
        _ = llmrl.Polcy


def test_importing_and_playing_loads_neither_torch_nor_transformers():
    code = (
        "import sys, llmrl, llmrl.envs.text, llmrl.envs.math, llmrl.envs.wrappers, gymnasium\n"
        "gymnasium.make('llmrl/MATH-v0', source='generated', "
        "verifier='llmrl.envs.countdown:check_countdown').reset()\n"
        "heavy = {'torch', 'transformers', 'torchrl', 'tensordict', 'huggingface_hub', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
