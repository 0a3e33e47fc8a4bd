"""Prune a fine-tuned model: remove its least important weights, heads or feed-forward units, and fine-tune it again."""
