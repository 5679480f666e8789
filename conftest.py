"""Doctests of a package's own modules: pytest would execute a module that its package has imported once
more, and register its algorithms and templates twice.  Imported here, they are found.  An integration is not
collected where the package that it extends is not installed.
"""

from importlib.util import find_spec

import llmrl.algorithms
import llmrl.envs.generated
import llmrl.verifiers  # noqa: F401

NEEDS = {"trl": ("trl",), "verifiers": ("verifiers", "verifiers_env"), "openenv": ("openenv", "openenv_env")}
"""The modules of llmrl.integrations that import another package, by its name."""
collect_ignore = [
    f"llmrl/integrations/{module}.py"
    for package, modules in NEEDS.items()
    if not find_spec(package)
    for module in modules
]
