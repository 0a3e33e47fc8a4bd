"""Fine-tuning of a checkpoint on benchmark tasks, seed by seed, and its scores."""
