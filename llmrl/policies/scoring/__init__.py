"""Scoring: log-probabilities and entropies of given tokens, with gradient."""
