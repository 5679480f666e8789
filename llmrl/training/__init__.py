"""From settings to a trained policy: configuration, rollouts, credit, the trainer and its checkpoints."""
