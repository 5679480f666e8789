"""Doctests of a package's own modules: pytest would execute a module that its package has imported once
more, and register its algorithms and templates twice.  Imported here, they are found.  An integration is not
collected where the trainer that it extends is not installed.
"""

from importlib.util import find_spec

import llmrl.algorithms
import llmrl.envs.generated
import llmrl.verifiers  # noqa: F401

collect_ignore = [] if find_spec("trl") else ["llmrl/integrations/trl.py"]
