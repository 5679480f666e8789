"""Algorithms by name, and the class of their recipes."""

from llmrl.algorithms.algorithm import (
    ALGORITHMS,
    Algorithm,
    JointLoss,
    algorithm,
    find_algorithm,
    register_algorithm,
)
from llmrl.algorithms.aspo import aspo
from llmrl.algorithms.cispo import cispo
from llmrl.algorithms.cov import clip_cov, kl_cov
from llmrl.algorithms.dapo import dapo
from llmrl.algorithms.dcpo import dcpo
from llmrl.algorithms.erc import erc
from llmrl.algorithms.espo import espo
from llmrl.algorithms.gmpo import gmpo
from llmrl.algorithms.gppo import ce_gppo, gppo
from llmrl.algorithms.grpo import dr_grpo, grpo, rloo
from llmrl.algorithms.gspo import gspo
from llmrl.algorithms.mismatch import mis, tis
from llmrl.algorithms.ppo import ppo
from llmrl.algorithms.sapo import sapo
from llmrl.credit import Credit

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Credit",
    "JointLoss",
    "algorithm",
    "aspo",
    "ce_gppo",
    "cispo",
    "clip_cov",
    "dapo",
    "dcpo",
    "dr_grpo",
    "erc",
    "espo",
    "find_algorithm",
    "gmpo",
    "gppo",
    "grpo",
    "gspo",
    "kl_cov",
    "mis",
    "ppo",
    "register_algorithm",
    "rloo",
    "sapo",
    "tis",
]
