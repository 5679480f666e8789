"""LLM policies as TorchRL actors: sampling, scoring, a critic, and the embedded policy llmrl/nano."""

from llmrl.errors import PolicyError
from llmrl.policies.adapters import LoraOptions
from llmrl.policies.critic import Critic
from llmrl.policies.policy import Policy, PolicyOptions
from llmrl.policies.sampling.engine import SamplingOptions

__all__ = ["Critic", "LoraOptions", "Policy", "PolicyError", "PolicyOptions", "SamplingOptions"]
