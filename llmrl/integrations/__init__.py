"""Integrations with other libraries: losses, advantages, verifiers and environments, one module each."""
