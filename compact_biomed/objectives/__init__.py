"""Training objectives: (model, batch) -> loss and its named parts."""

IGNORED = -100  # the label of positions without a loss (transformers' convention)
