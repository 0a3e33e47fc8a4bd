"""A small checkpoint and a small entity set, for tests of whole runs. All sentences are invented."""

from pathlib import Path

import numpy as np
import torch
from evaluation_inputs import build_tokenizer

WORDS = ("the", "mild", "fever", "of", "old", "frogs")


def make_checkpoint(folder: Path, *, seed: int = 0, **options) -> Path:
    """Save a BERT with random layers and its tokenizer; return the folder."""
    from transformers import AutoModel, BertConfig

    tokenizer = build_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=len(tokenizer), **{"max_position_embeddings": 64, **sizes, **options})
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_ner_set(folder: Path, *, n: int = 24) -> Path:
    """Write sentences in which "fever" is an entity, and "mild" before it its beginning; return the folder."""
    generator = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in (("train", n), ("devel", n // 3), ("test", n // 2)):
        lines = []
        for _ in range(size):
            words = [*generator.choice(WORDS, generator.integers(1, 7)), "fever"]
            for before, word in zip(["", *words], words, strict=False):
                inside = word == "fever" and before == "mild"
                lines.append(f"{word}\t{'I' if inside else 'B' if word in ('fever', 'mild') else 'O'}")
            lines.append("")
        (folder / f"{split}.tsv").write_text("\n".join(_without_lone_mild(lines)) + "\n")
    return folder


def _without_lone_mild(lines: list[str]) -> list[str]:
    """Return the lines with O for each "mild" that no fever follows."""
    following = [*lines[1:], ""]
    return [
        "mild\tO" if line == "mild\tB" and not after.startswith("fever") else line
        for line, after in zip(lines, following, strict=True)
    ]
