"""Entities of a text: python run.py "TEXT" prints start, end, type and words.

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

text, entities, previous = sys.argv[1], [], None
inside = False  # an entity
for row, word, (start, end) in zip(logits, encoded.word_ids, encoded.offsets, strict=True):
    if word is None or word == previous:  # [CLS], [SEP]; further pieces of a word have the tag of its first
        if word is not None and inside:
            entities[-1][1] = end
        continue
    previous, (tag, _, kind) = word, about["labels"][int(row.argmax())].partition("-")
    if tag == "B":
        entities.append([start, end, kind])
    elif inside := inside and tag == "I" and entities[-1][2] == kind:
        entities[-1][1] = end
    inside = inside or tag == "B"
for start, end, kind in entities:
    print(start, end, kind, text[start:end], sep="\t")
