"""Models: architectures of the paper, checkpoints, layer maps, and students that start from their teacher."""
