"""A checkpoint and task files in, fine-tuned scores out, seed by seed."""
