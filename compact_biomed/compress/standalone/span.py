"""The answer to a question in a text: python run.py "QUESTION" "TEXT" prints start, end and words.

Needs: pip install onnxruntime tokenizers numpy
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

if len(sys.argv) < 3:
    sys.exit(__doc__)
here = Path(__file__).resolve().parent
about = json.loads((here / "manifest.json").read_text(encoding="utf-8"))
tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(about["max_length"])
# Its kernel for an addition and the norm after it is slower than the two.
how = {"providers": ["CPUExecutionProvider"], "disabled_optimizers": ["SkipLayerNormFusion"]}
session = onnxruntime.InferenceSession(str(here / "model.onnx"), **how)

encoded = tokenizer.encode(*sys.argv[1:3])
arrays = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
logits = session.run(["logits"], {name: np.array([arrays[name]], np.int64) for name in about["inputs"]})[0][0]

inside = np.array([sequence == 1 for sequence in encoded.sequence_ids])
start, end = np.where(inside[:, None], logits, -np.inf).T
scores = start[:, None] + end[None, :]
order = np.subtract.outer(np.arange(len(start)), np.arange(len(start)))  # first - last
scores[(order > 0) | (order <= -30)] = -np.inf  # in order, at most 30 pieces
first, last = np.unravel_index(scores.argmax(), scores.shape)
begin, finish = encoded.offsets[first][0], encoded.offsets[last][1]
print(begin, finish, sys.argv[2][begin:finish], sep="\t")
