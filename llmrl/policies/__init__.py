"""LLM policies as TorchRL actors: sampling, scoring, a critic, and the embedded policy llmrl/nano."""

from llmrl.policies.critic import Critic
from llmrl.policies.loading import LoraOptions, PolicyError
from llmrl.policies.policy import Policy, PolicyOptions
from llmrl.policies.sampling.engine import SamplingOptions

__all__ = ["Critic", "LoraOptions", "Policy", "PolicyError", "PolicyOptions", "SamplingOptions"]
