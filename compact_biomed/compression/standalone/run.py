"""Run the model in this folder on one text and print tab-separated lines.

    python run.py "Aspirin lowers [MASK]."    masked-LM: the five likeliest words, one line per mask
    python run.py "TEXT"                      entities: start, end, type and words
    python run.py "TEXT" ["TEXT"]             classes of a text, or of a pair of texts, with their scores
    python run.py "QUESTION" "TEXT"           the answer to a question: start, end and words

manifest.json says which of the four this model does. Positions count characters from 0.

Needs: pip install onnxruntime tokenizers numpy
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

FOLDER = Path(__file__).resolve().parent
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
TEXTS = {"mlm": (1, 2), "token": (1, 1), "sequence": (1, 2), "span": (2, 2)}  # family -> fewest and most
LONGEST_ANSWER = 30  # word-pieces


def encode(texts: list[str]) -> Encoding:
    """Tokenize one text or a pair, cut to the length that the model reads."""
    TOKENIZER.no_padding()
    TOKENIZER.enable_truncation(MANIFEST["max_length"])
    return TOKENIZER.encode(*texts)


def compute(encoded: Encoding) -> np.ndarray:
    """Return the logits of one input: [labels] for a class of the text, else [tokens, outputs]."""
    # Measured: onnxruntime's kernel that fuses an addition with the norm after it is slower than the two.
    options = {"providers": ["CPUExecutionProvider"], "disabled_optimizers": ["SkipLayerNormFusion"]}
    session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), **options)
    inputs = {"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}
    logits = session.run(["logits"], {name: np.array([inputs[name]], np.int64) for name in MANIFEST["inputs"]})[0][0]
    if not np.isfinite(logits).all():
        sys.exit(f"error: {FOLDER}: the model's logits are not finite (export a checkpoint whose weights are finite)")
    return logits


def masked_words(encoded: Encoding, logits: np.ndarray) -> list[list]:
    """Return the five likeliest words of each mask."""
    masks = [position for position, token in enumerate(encoded.tokens) if token == MANIFEST["mask"]]
    return [[TOKENIZER.id_to_token(int(i)) for i in np.argsort(-logits[position])[:5]] for position in masks]


def entities(encoded: Encoding, logits: np.ndarray, text: str) -> list[list]:
    """Read the tags strictly as IOB2: an entity begins with B; an I that continues none is ignored."""
    spans, word, inside = [], None, False
    for row, word_of_piece, (start, end) in zip(logits, encoded.word_ids, encoded.offsets, strict=True):
        if word_of_piece is None:  # [CLS], [SEP]
            continue
        if word_of_piece == word:  # the first piece of a word tags it; further pieces lengthen it
            if inside:
                spans[-1][1] = end
            continue
        word = word_of_piece
        tag, _, kind = MANIFEST["labels"][int(row.argmax())].partition("-")
        if tag == "B":
            spans.append([start, end, kind])
            inside = True
        elif inside := inside and tag == "I" and spans[-1][2] == kind:
            spans[-1][1] = end
    return [[start, end, kind, text[start:end]] for start, end, kind in spans]


def classes(logits: np.ndarray) -> list[list]:
    """Return all labels with their scores, the best first."""
    if MANIFEST["problem_type"] == "regression":
        scores = logits
    elif MANIFEST["problem_type"] == "multi_label_classification":
        scores = 1 / (1 + np.exp(-logits))
    else:
        scores = np.exp(logits - logits.max())
        scores /= scores.sum()
    return [[MANIFEST["labels"][i], f"{scores[i]:.4f}"] for i in np.argsort(-scores)]


def answer(encoded: Encoding, logits: np.ndarray, text: str) -> list[list]:
    """Return the stretch of the text with the largest sum of start and end logit."""
    in_text = np.array([sequence == 1 for sequence in encoded.sequence_ids])
    start, end = np.where(in_text[:, None], logits, -np.inf).T
    scores = start[:, None] + end[None, :]  # [first piece, last piece]
    pieces = np.arange(len(start))
    beyond = np.subtract.outer(pieces, pieces)  # first - last
    scores[(beyond > 0) | (beyond <= -LONGEST_ANSWER)] = -np.inf
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    begin, finish = encoded.offsets[first][0], encoded.offsets[last][1]
    return [[begin, finish, text[begin:finish]]]


def main(texts: list[str]) -> None:
    family = MANIFEST["family"]
    fewest, most = TEXTS[family]
    if not fewest <= len(texts) <= most:
        sys.exit(__doc__)
    encoded = encode(texts)
    logits = compute(encoded)
    if family == "mlm":
        lines = masked_words(encoded, logits)
    elif family == "token":
        lines = entities(encoded, logits, texts[0])
    elif family == "sequence":
        lines = classes(logits)
    else:
        lines = answer(encoded, logits, texts[1])
    for line in lines:
        print(*line, sep="\t")


if __name__ == "__main__":
    main(sys.argv[1:])
