"""Fast training on CPUs: the plan for a machine, encoders, attention, kernels, micro-batches, the optimizer."""
