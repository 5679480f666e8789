"""Studies: which objective is better, with intervals."""
