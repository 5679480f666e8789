"""The embedded policy llmrl/nano: its corpus, its training, its checkpoint."""
