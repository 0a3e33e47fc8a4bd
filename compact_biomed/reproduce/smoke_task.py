"""An entity set made here, for the smoke preset: no network, the same on every machine."""

from pathlib import Path

import numpy as np

from compact_biomed.files import atomic_folder, cache_folder
from compact_biomed.training.smoke import smoke_words

_VERSION = 1
_SENTENCES = {"train": 48, "devel": 16, "test": 32}


def smoke_task_folder() -> Path:
    """Sentences of invented words; those of a twentieth of the vocabulary are entities. In the cache."""
    folder = cache_folder() / "smoke" / f"entities-{_VERSION}"
    if folder.is_dir():
        return folder
    words, generator = smoke_words(), np.random.default_rng(5)
    names = set(words[::20])
    with atomic_folder(folder) as temporary:
        for split, n in _SENTENCES.items():
            lines = []
            for _ in range(n):
                sentence = [*generator.choice(words[:200], generator.integers(3, 12)), generator.choice(sorted(names))]
                lines += [f"{word}\t{'B' if word in names else 'O'}" for word in sentence] + [""]
            (temporary / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
