"""Tiny checkpoints with each kind of head, for tests of export and prediction. All text is invented."""
# ruff: noqa: RUF001

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SIZES = {
    "bert": {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32},
    "distilbert": {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32},
    "mobilebert": {
        **{"num_hidden_layers": 2, "hidden_size": 32, "embedding_size": 16, "intermediate_size": 24},
        **{"intra_bottleneck_size": 16, "true_hidden_size": 16, "num_attention_heads": 4},
    },
}
AUTO_CLASSES = {
    "mlm": "AutoModelForMaskedLM",
    "token": "AutoModelForTokenClassification",
    "sequence": "AutoModelForSequenceClassification",
    "span": "AutoModelForQuestionAnswering",
}
LABELS = {
    "token": ["B-Disease", "B-Gene", "I-Disease", "I-Gene", "O"],
    "sequence": ["no", "perhaps", "yes"],
}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def build_tokenizer():
    """Build a cased BERT-like tokenizer whose words are one to three pieces of letters; Greek and accents too."""
    letters = [chr(code) for code in range(33, 127)] + list("αβγµéüñ–…")
    words = ["the", "fever", "of", "frogs", "kin", "and", "in"]
    pieces = [*letters, *words, "##ase", "##s", *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*SPECIALS, *pieces]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **dict(zip(names, SPECIALS, strict=True))
    )


def make_checkpoint(folder: Path, head: str, model_type: str = "bert", **options) -> Path:
    """Save a checkpoint with random weights, large enough that its predictions differ from token to token.

    Args:
        head: a key of `AUTO_CLASSES`.
        options: of the configuration.
    """
    tokenizer = build_tokenizer()
    labels = options.pop("labels", LABELS.get(head))
    named = {"id2label": dict(enumerate(labels)), "label2id": {x: i for i, x in enumerate(labels)}} if labels else {}
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 64} | SIZES[model_type] | named | options
    torch.manual_seed(5)
    config = transformers.AutoConfig.for_model(model_type, **sizes)
    model = getattr(transformers, AUTO_CLASSES[head]).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
