"""Models: architectures of the paper, checkpoints, layer maps, and students that start from their teacher."""

RANDOM = "random"  # in place of a checkpoint's name: new weights
