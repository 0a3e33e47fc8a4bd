"""Tiny tokenizers of every family, trained on words written here."""

from collections.abc import Callable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = """the old nurse saw a mild fever , and the kinase of old frogs rose ( grade 2 )
ovarian cancer was treated early ; no anemia was seen in nine of thirty mice
the protein binds naïve β - cells of the liver , which lowers fever and pain
she had anemia and cancer of the lung , but no fever : 0.5 mg / day was enough
"""
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([TEXT], trainers.WordPieceTrainer(vocab_size=120, **_OPTIONS))
    return tokenizer


def _byte_level(*, prefix: bool, trim: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, **_OPTIONS)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim, prefix)
    return tokenizer


def _unigram(*, scheme: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator([TEXT], trainers.UnigramTrainer(vocab_size=110, unk_token="<unk>", **_OPTIONS))
    return tokenizer


def _sentence_piece_bpe(*, legacy: bool) -> Tokenizer:
    """The BPE of SentencePiece, in which the blank is a letter; `legacy`: it is put before a text by the normalizer."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=110, **_OPTIONS))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = None
    return tokenizer


_OPTIONS = {"special_tokens": SPECIALS, "show_progress": False}
FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "WordPiece": _word_piece,
    "byte-level": lambda: _byte_level(prefix=False, trim=True),
    "byte-level, blanks in offsets": lambda: _byte_level(prefix=False, trim=False),
    "byte-level, forced prefix": lambda: _byte_level(prefix=True, trim=False),
    "unigram": lambda: _unigram(scheme="always"),
    "unigram, first word alone": lambda: _unigram(scheme="first"),
    "unigram, no prefix": lambda: _unigram(scheme="never"),
    "metaspace BPE": lambda: _sentence_piece_bpe(legacy=False),
    "metaspace BPE, legacy": lambda: _sentence_piece_bpe(legacy=True),
}


def build(family: str) -> PreTrainedTokenizerFast:
    """Train the tokenizer of a key of `FAMILIES`."""
    tokenizer = FAMILIES[family]()
    if not family.startswith("byte-level"):
        pair = "<s> $A </s> $B:1 </s>:1"
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", pair, [("<s>", 0), ("</s>", 2)])
    names = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
