"""Pruning: a fine-tuned model without its least important weights, heads or feed-forward units, fine-tuned again.

    compact-biomed evaluate --model M --task NCBI-disease --data DIR --seeds 1,2,3 --save kept
    python recipes/pruning.py --model kept/M-NCBI-disease-seed* --data DIR --share 0.3 0.5 0.7
    python recipes/pruning.py --start M --task NCBI-disease --data DIR --seeds 1,2,3      # both in one
    python recipes/pruning.py --model kept/M-NCBI-disease-seed1 --dry-run                 # what would be left

The third family of compression that the abstract of arXiv 2209.03182 names, beside distillation and quantization;
the paper prunes nothing itself. One shot, then fine-tuning by the rules under which the model was fine-tuned before:

weights   those of least absolute value, in each matrix of the layers (--scope model: in all together), go to zero and
          are set to zero after each step (Han et al. 2015). The file keeps its size.
heads     the least important over all layers, whose scores are normalized; the best of each layer stays (Michel et
          al. 2019). transformers has no configuration for missing heads: the folder holds zeros in their place, and
          `compact-biomed export` takes them out.
units     the least important of each feed-forward network; the matrices are smaller, and so is the file.

Importance of heads and units is first-order (--importance taylor): the mean over 512 training examples of
|d loss / d gate|, gates of 1 at each head's context and each unit's activation; or the norm of the weights that vanish
with it (--importance magnitude). --share 0 is the control: the same second fine-tuning, nothing removed.

Embeddings, norms and the task head are left alone. In a small model embeddings are most of the parameters.
"""

import sys

from compact_biomed.cli.prune import main

if __name__ == "__main__":
    sys.exit(main(__doc__))
