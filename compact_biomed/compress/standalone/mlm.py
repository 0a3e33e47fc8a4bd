"""The masked words of a text: python run.py "Aspirin lowers [MASK]." prints five for each.

Needs: pip install onnxruntime tokenizers numpy
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

if len(sys.argv) < 2:
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

for position, token in enumerate(encoded.tokens):
    if token == about["mask"]:
        best = np.argsort(-logits[position])[:5]
        print(*(tokenizer.id_to_token(int(i)) for i in best), sep="\t")
