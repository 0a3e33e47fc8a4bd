"""Prune a fine-tuned model: remove its least important weights, heads or feed-forward units, and fine-tune it again.

    compact-biomed evaluate --model M --task NCBI-disease --data DIR --seeds 1,2,3 --save kept
    python recipes/pruning.py --model kept/M-NCBI-disease-seed* --data DIR --share 0.3 0.5 0.7
    python recipes/pruning.py --start M --task NCBI-disease --data DIR --seeds 1,2,3      # both in one
    python recipes/pruning.py --model kept/M-NCBI-disease-seed1 --dry-run                 # what would be left

Pruning is the third family of compression that the abstract of arXiv 2209.03182 names, beside distillation and
quantization; none of its models is pruned. A model is pruned once, then fine-tuned by the rules of its first
fine-tuning:

weights   The weights of least absolute value in each matrix of the layers (--scope model: in all together) are set to
          zero, and again after each step (Han et al. 2015). The file keeps its size.
heads     The least important heads of all layers are removed. Scores are normalized per layer, and the best head of
          each layer stays (Michel et al. 2019). transformers has no configuration for missing heads, so the folder
          holds zeros in their place; `compact-biomed export` takes them out.
units     The least important units of each feed-forward network are removed. Its matrices become smaller, and so does
          the file.

The importance of heads and units is first-order (--importance taylor): the mean over 512 training examples of
|d loss / d gate|, with a gate of 1 at the context of each head and the activation of each unit. With --importance
magnitude it is the norm of the weights that are removed with it. --share 0 is the control: the same second
fine-tuning, with nothing removed.

Embeddings, norms and the task head are not pruned. In a small model, most parameters are embeddings.
"""

import sys

from compact_biomed.cli.prune import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
