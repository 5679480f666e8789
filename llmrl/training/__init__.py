"""From settings to a trained policy: options, the trainer, the learner, checkpoints and the folder of a run."""
