"""What every test shares: hypothesis profiles, and where the data sets are.

`dev` is quick; `ci` (chosen by CI=true, or HYPOTHESIS_PROFILE) is deterministic and looks at more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "helpers")]  # `import strategies`, `import trivial`

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", max_examples=10, deadline=None, suppress_health_check=QUIET)
settings.register_profile(
    "ci",
    max_examples=40,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=QUIET,
)
in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if in_ci else "dev"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets that the repository does not carry; without it, skip."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("LLMRL_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}: set LLMRL_TEST_DATA to the folder")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that starts in milliseconds; tests must not write into it."""
    from tiny import tiny_folder  # torch is loaded only for who asks

    return tiny_folder(tmp_path_factory.mktemp("tiny"), sharpness=1.0)
