"""A fine-tuned model without its least important weights, heads or feed-forward units."""
