"""Run the model in this folder on one text and print tab-separated lines.

    python run.py "Aspirin lowers [MASK]."    masked-LM: the five likeliest words, one line per mask
    python run.py "TEXT"                      entities: start, end, type and words
    python run.py "TEXT" ["TEXT"]             classes of a text, or of a pair of texts, with their scores
    python run.py "QUESTION" "TEXT"           the answer to a question: start, end and words

    --threshold dev                           of entities and classes: those whose score reaches the threshold of their
                                              type or class that was chosen on dev, or a number from 0 to 1 for all
manifest.json says which of the four this model does. Positions count characters from 0. Contexts may have any
length; entities are found sentence by sentence; a sentence, and any other text, is cut to the length that the model
reads.

Needs: pip install onnxruntime tokenizers numpy
"""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer

from compact_biomed.corpus.pieces import QUESTION_WINDOW, Pieces, split_words, trimmed
from compact_biomed.corpus.sentences import sentence_spans
from compact_biomed.evaluation.analysis.thresholds import DEV, Thresholds, thresholds_in

FOLDER = Path(__file__).resolve().parent
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
for name in ("model.onnx", "tokenizer.json"):
    if hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() != MANIFEST["sha256"][name]:
        sys.exit(f"error: {FOLDER / name}: not the file that was exported (export the model again)")
TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
PIECES = Pieces(TOKENIZER, MANIFEST["unknown"])
LENGTH = MANIFEST["max_length"]
TEXTS = {"mlm": (1, 2), "token": (1, 1), "sequence": (1, 2), "span": (2, 2)}  # family -> fewest and most
if MANIFEST.get("pairs") is not None:
    TEXTS["sequence"] = (2, 2) if MANIFEST["pairs"] else (1, 1)
LONGEST_ANSWER = 30  # word-pieces
UNTYPED = "Entity"  # the type where tags are a bare B, I and O, as in predict


def compute(ids: list[int], types: list[int] | None = None) -> np.ndarray:
    """Return the logits of one input: [labels] for a class of the text, else [tokens, outputs]."""
    inputs = {"input_ids": ids, "attention_mask": [1] * len(ids), "token_type_ids": types or [0] * len(ids)}
    logits = session().run(["logits"], {name: np.array([inputs[name]], np.int64) for name in MANIFEST["inputs"]})[0][0]
    if not np.isfinite(logits).all():
        sys.exit(f"error: {FOLDER}: the model's logits are not finite (export a checkpoint whose weights are finite)")
    return logits


@cache
def session() -> onnxruntime.InferenceSession:
    """Open the model."""
    # Measured: onnxruntime's kernel that fuses an addition with the norm after it is slower than the two.
    options = {"providers": ["CPUExecutionProvider"], "disabled_optimizers": ["SkipLayerNormFusion"]}
    return onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), **options)


def masked_words(*texts: str) -> list[list]:
    """Return the five likeliest words of each mask."""
    TOKENIZER.no_padding()
    TOKENIZER.enable_truncation(LENGTH)
    encoded = TOKENIZER.encode(*texts)
    logits = compute(encoded.ids, encoded.type_ids)
    masks = [position for position, token in enumerate(encoded.tokens) if token == MANIFEST["mask"]]
    return [[TOKENIZER.id_to_token(int(i)) for i in np.argsort(-logits[position])[:5]] for position in masks]


def entities(text: str, *, thresholds: Thresholds | None = None) -> list[list]:
    """Return start, end, type and words of the entities of a text, which is read sentence by sentence."""
    thresholds = thresholds or Thresholds()
    return [
        [first + start, first + end, kind, text[first + start : first + end]]
        for first, last in sentence_spans(text)
        for start, end, kind, score in entities_of_sentence(text[first:last])
        if score >= thresholds.of(kind)
    ]


def entities_of_sentence(text: str) -> list[list]:
    """Return start, end, type and score of the entities of a sentence; the score is the mean of its words' tags.

    Tags are read strictly as IOB2: an entity begins with B; an I that continues none is ignored.
    Where a type has no B among the labels, the tags are IOB1: such an I begins an entity.
    """
    labels = MANIFEST["labels"]
    are_iob1 = any(label[0] == "I" and f"B{label[1:]}" not in labels for label in labels)
    words = split_words(text)
    pieces = PIECES.of_words([text[start:end] for start, end in words])
    firsts = np.cumsum([0, *map(len, pieces)])[:-1]  # of each word, the position of its first piece, which tags it
    ids = [piece for word in pieces for piece in word][: PIECES.room(LENGTH)]
    logits = compute([*PIECES.prefix, *ids, *PIECES.suffix])[len(PIECES.prefix) :]
    spans, inside = [], False
    for (start, end), first in zip(words, firsts, strict=True):
        if first >= len(ids):
            break
        tag, _, kind = labels[int(logits[first].argmax())].partition("-")
        score = float(probabilities(logits[first]).max())
        if inside and tag == "I" and spans[-1][2] == kind:
            spans[-1][1] = end
            spans[-1][3].append(score)
        elif inside := tag == "B" or (are_iob1 and tag == "I"):
            spans.append([start, end, kind, [score]])
    return [[start, end, kind or UNTYPED, sum(scores) / len(scores)] for start, end, kind, scores in spans]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of the labels of one word or text, which add up to 1."""
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


def classes(text: str, pair: str | None = None, *, thresholds: Thresholds | None = None) -> list[list]:
    """Return all labels with their scores, the best first; with thresholds, those that are predicted."""
    if pair is None:
        logits = compute(PIECES.of_text(text, LENGTH))
    else:
        encoded = PIECES.of_pair(text, pair, LENGTH)
        logits = compute(encoded.ids, encoded.type_ids)
    several = MANIFEST["problem_type"] == "multi_label_classification"
    if MANIFEST["problem_type"] == "regression":
        scores = logits
    elif several:
        scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    else:
        scores = probabilities(logits)
    ranked = [(MANIFEST["labels"][i], float(scores[i])) for i in np.argsort(-scores, kind="stable")]
    if thresholds is not None:
        ranked = [ranked[i] for i in thresholds.choose(*zip(*ranked, strict=True), several=several)]
    return [[label, f"{score:.4f}"] for label, score in ranked]


def answer(question: str, text: str) -> list[list]:
    """Return the stretch of the text with the largest sum of start and end logit, without white space at its ends."""
    windows = PIECES.of_question(question, text, min(QUESTION_WINDOW, LENGTH))
    best = max((best_stretch(window, text) for window in windows), key=lambda stretch: stretch[0])
    return [] if best[0] == -np.inf else [[*best[1:], text[best[1] : best[2]]]]


def best_stretch(window: Encoding, text: str) -> tuple[float, int, int]:
    """Return score, start and end of the best answer in one window; a score of -inf if there is none."""
    logits = compute(window.ids, window.type_ids)
    in_text = np.array([sequence == 1 for sequence in window.sequence_ids])
    start, end = np.where(in_text[:, None], logits, -np.inf).T
    scores = start[:, None] + end[None, :]  # [first piece, last piece]
    pieces = np.arange(len(start))
    beyond = np.subtract.outer(pieces, pieces)  # first - last
    scores[(beyond > 0) | (beyond <= -LONGEST_ANSWER)] = -np.inf
    while (best := float(scores.max())) > -np.inf:
        first, last = np.unravel_index(scores.argmax(), scores.shape)
        begin, finish = trimmed(text, window.offsets[first][0], window.offsets[last][1])
        if begin < finish:
            return best, begin, finish
        scores[first, last] = -np.inf
    return -np.inf, 0, 0


def requested(threshold: str) -> Thresholds:
    """Return the thresholds that the user asks for; end the program where there are none."""
    chosen = thresholds_in(MANIFEST)
    if MANIFEST["family"] not in ("token", "sequence") or MANIFEST["problem_type"] == "regression":
        sys.exit(f"error: --threshold {threshold}: this model has neither types nor classes (leave it out)")
    if threshold == DEV:
        if chosen is None:
            sys.exit("error: this model has no thresholds chosen on dev (give a number, --threshold 0.5)")
        return chosen
    try:
        number = float(threshold)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1:
        sys.exit(f"error: --threshold: {threshold!r} is no threshold (dev, or a number from 0 to 1)")
    return Thresholds({}, number, chosen.otherwise if chosen else None)


def main(arguments: list[str]) -> None:
    texts, options, given = [], {}, iter(arguments)
    for argument in given:
        flag, equals, value = argument.partition("=")
        if flag == "--threshold":
            options["thresholds"] = requested(value if equals else next(given, ""))
        else:
            texts.append(argument)
    family = MANIFEST["family"]
    fewest, most = TEXTS[family]
    if not fewest <= len(texts) <= most:
        needed = "one text" if most == 1 else "two texts" if fewest == 2 else "one text or two"
        sys.exit(f"{__doc__}\nerror: {len(texts)} texts; this model takes {needed}")
    predict = {"mlm": masked_words, "token": entities, "sequence": classes, "span": answer}[family]
    for line in predict(*texts, **options):
        print(*(" ".join(str(field).split()) for field in line), sep="\t")  # one line, whatever the words contain


if __name__ == "__main__":
    main(sys.argv[1:])
