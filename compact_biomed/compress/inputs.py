"""Texts on which an exported model is held to the one that it was made from.

All sentences are made up here.
"""

from typing import TYPE_CHECKING

import numpy as np

from compact_biomed.evaluation.model import longest_input

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "Fever.",
    "Two brothers with early-onset ataxia carried the same deletion in exon 7.",
    "Oral zinc (20 mg/day) shortened diarrhoea by about a day in our ward, but not the hospital stay.",
    "We saw no change of IL-6, TGF-β or C-reactive protein after four weeks (p = 0.41).",
    "Is the loss of one copy of this kinase enough to cause kidney failure in zebrafish?",
    "A 63-year-old woman came with chest pain; her troponin was high and the left ventricle hardly moved.",
    "Mice that lacked the receptor gained weight, slept longer, and did not answer to leptin.",
    "Cisplatin damaged hearing in nine of thirty children with hepatoblastoma, mostly at 4 kHz and above.",
)
_LONGEST = 512


def batches(tokenizer: "PreTrainedTokenizerFast", config, names: list[str]) -> list[dict[str, np.ndarray]]:
    """Inputs of several shapes: one short text, a padded batch, pairs, and one text as long as the model reads.

    Args:
        config: of the model, for its limit.
        names: `checkpoint.input_names`.

    Returns:
        For each batch its arrays [batch, length], int64.
    """
    limit = min(longest_input(config) or _LONGEST, _LONGEST)
    halves = SENTENCES[: len(SENTENCES) // 2], SENTENCES[len(SENTENCES) // 2 :]
    texts = [
        ([SENTENCES[0]], None),
        ([SENTENCES[1]], None),
        (list(SENTENCES), None),
        (list(halves[0]), list(halves[1])),
        ([" ".join(SENTENCES * 20)], None),
    ]
    options = {"truncation": True, "max_length": limit, "padding": True, "return_token_type_ids": True}
    encoded = [tokenizer(first, second, return_tensors="np", **options) for first, second in texts]
    return [{name: batch[name].astype(np.int64) for name in names} for batch in encoded]
