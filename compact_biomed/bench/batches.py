"""Real documents as a batch that a benchmark trains on."""

import numpy as np
from torch import Tensor

from compact_biomed.models.locate import REGISTRY_MINILM
from compact_biomed.training import build
from compact_biomed.training.data import Collator, Documents
from compact_biomed.training.hyperparameters import Hyperparameters
from compact_biomed.training.recipe import MINI, SMOKE_SETTINGS


def real_batch(preset: str, n: int) -> tuple[dict[str, Tensor], int]:
    """Return a masked batch of `n` real documents (generated ones for smoke), unsorted, and the vocabulary's size."""
    settings = SMOKE_SETTINGS if preset == "smoke" else {**MINI, "start": REGISTRY_MINILM, "tokenizer": REGISTRY_MINILM}
    names = {"sources", "start", "tokenizer", "max_length", "heldout_fraction"} & settings.keys()
    hyperparameters = Hyperparameters(
        recipe="bench", preset=preset, model="", **{name: settings[name] for name in names}
    )
    tokenizer = build.load_tokenizer(hyperparameters)
    corpus = build.load_corpus(hyperparameters, tokenizer)
    rows = np.random.default_rng(0).choice(len(corpus.train), n, replace=False)
    documents = Documents(corpus.train).__getitems__([(0, int(row)) for row in rows])
    masking = build.masking_of(hyperparameters, tokenizer, seed=0)
    return Collator(masking, tokenizer.pad_token_id, hyperparameters.max_length)(documents), len(tokenizer)
