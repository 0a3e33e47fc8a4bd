"""Generate a corpus, a tokenizer and an entity set for the smoke preset: no network, the same on every machine.

The words are meaningless strings of syllables. Their frequencies decrease as in real text, and each
document uses the words of one topic, so that a model can learn more than word frequencies.
"""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compact_biomed.files import atomic_file, atomic_folder, cache_folder

# Raise one when its generator changes, so that old files in the cache are not reused.
_CORPUS_VERSION, _TOKENIZER_VERSION, _ENTITIES_VERSION = 1, 2, 1
_ONSETS = ("b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "z", "ph", "th", "tr", "cl")
_VOWELS = ("a", "e", "i", "o", "u", "io", "ea")
_CODAS = ("", "n", "x", "s", "l", "r")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SENTENCES = {"train": 48, "devel": 16, "test": 32}


def smoke_words(n: int = 1200) -> list[str]:
    """Return the invented words, in a fixed order."""
    generator = np.random.default_rng(20220907)
    words: dict[str, None] = {}
    while len(words) < n:
        parts = [
            str(generator.choice(_ONSETS)) + str(generator.choice(_VOWELS)) + str(generator.choice(_CODAS))
            for _ in range(generator.integers(1, 4))
        ]
        words["".join(parts)] = None
    return list(words)


def smoke_corpus(n_documents: int = 400) -> Path:
    """Return a JSON lines file of invented documents, in the cache."""
    path = cache_folder() / "smoke" / f"documents-{_CORPUS_VERSION}-{n_documents}.jsonl"
    if path.is_file():
        return path
    words, generator = np.array(smoke_words()), np.random.default_rng(7)
    topics = [generator.permutation(len(words))[:300] for _ in range(8)]
    weights = 1 / np.arange(1, 301)
    weights /= weights.sum()
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for number in range(n_documents):
            topic = topics[number % len(topics)]
            sentence = [words[generator.choice(topic, p=weights)] for _ in range(generator.integers(12, 60))]
            document = {"pmid": 90_000_000 + number, "title": " ".join(sentence[:6]), "abstract": " ".join(sentence)}
            stream.write(json.dumps(document) + "\n")
    return path


def smoke_tokenizer_folder() -> Path:
    """Return the folder of a BERT tokenizer whose vocabulary is the invented words, in the cache."""
    folder = cache_folder() / "smoke" / f"tokenizer-{_TOKENIZER_VERSION}"
    if folder.is_dir():
        return folder
    vocabulary = {entry: i for i, entry in enumerate([*_SPECIAL, *smoke_words()])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=512, **dict(zip(names, _SPECIAL, strict=True))
    )
    with atomic_folder(folder) as temporary:
        fast.save_pretrained(temporary)
    return folder


def smoke_task_folder() -> Path:
    """Return the folder of an entity set in the cache: every 20th word of the vocabulary is an entity."""
    folder = cache_folder() / "smoke" / f"entities-{_ENTITIES_VERSION}"
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
