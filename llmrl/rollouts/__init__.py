"""Rollouts: which problems are asked, how episodes are played, and the batch made of them."""
