"""Fast training on CPUs: the mathematics of transformers' modules with less work and fewer passes over memory.

What each module saves:

* `plan`: choosing precision, number of replicas and micro-batch size by hand.
* `microbatch`: padding, memory, and cores that wait for one another: each computes whole micro-batches.
* `layout`: computing padding, as tokens are packed into one matrix.
* `encoders`: separate projections of the same input, MobileBERT's norms, and last-layer rows that no head reads.
* `attention`: cells of padding in attention maps, and unfused dropout.
* `kernels`: passes over memory in embedding, feed-forward, LayerNorm and loss, and copies of gradients.
* `dropout`: one random number per cell, and storing large masks.
* `flat_weights`, `adamw`: handling a hundred tensors one by one, and updating word embeddings that do not occur.
* `taps`: attention maps of layers that no distillation term reads.
* `compiled`: torch's passes over whole matrices, by loops over rows and documents that stay in cache.

Tests compare values and gradients with transformers and torch in float64.
"""
