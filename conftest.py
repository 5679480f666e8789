"""Doctests of a package's own modules: pytest would execute a module that its package has imported once
more, and register its algorithms and templates twice.  Imported here, they are found.
"""

import llmrl.algorithms
import llmrl.envs.generated
import llmrl.verifiers  # noqa: F401
