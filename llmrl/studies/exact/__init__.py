"""Exact tasks: a second a run, one property each, and success, entropy and KL without sampling noise."""
