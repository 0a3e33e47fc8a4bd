"""Small random task models of the three architectures, and random batches for them."""

import torch
import transformers
from transformers import AutoConfig

VOCABULARY, LABELS = 61, 3
_BERT = {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40}
SIZES = {  # the architectures of the fast encoder
    "bert": _BERT,
    "distilbert": {"n_layers": 2, "dim": 24, "n_heads": 4, "hidden_dim": 40},
    "mobilebert": {
        **{"num_hidden_layers": 2, "hidden_size": 32, "embedding_size": 16, "intermediate_size": 24},
        **{"intra_bottleneck_size": 16, "true_hidden_size": 16, "num_attention_heads": 4},
    },
}
AUTO_CLASSES = {
    "token": "AutoModelForTokenClassification",
    "sequence": "AutoModelForSequenceClassification",
    "multilabel": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "span": "AutoModelForQuestionAnswering",
}
PROBLEMS = {"multilabel": "multi_label_classification", "regression": "regression"}


def small_task_model(model_type: str, head: str, dtype: torch.dtype = torch.float64, **options):
    """Return a task model in which every weight matters: no bias is 0 and no norm is 1."""
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": 64} | SIZES.get(model_type, _BERT) | options
    labels = {"regression": 1, "span": 2}.get(head, LABELS)
    torch.manual_seed(1)
    config = AutoConfig.for_model(model_type, num_labels=labels, problem_type=PROBLEMS.get(head), **sizes)
    model = getattr(transformers, AUTO_CLASSES[head]).from_config(config).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def random_task_batch(model_type: str, head: str, lengths: list[int], width: int):
    """Return (input_ids, attention_mask, token_type_ids, targets); half of each document is of type 1."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.tensor(lengths)[:, None]
    mask = (torch.arange(width) < sizes).long()
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=generator) * mask
    types = None if model_type == "distilbert" else (torch.arange(width) >= sizes // 2).long() * mask
    n = len(lengths)
    if head == "token":
        labeled = (torch.rand(mask.shape, generator=generator) < 0.6) & mask.bool()
        targets = torch.where(labeled, torch.randint(0, LABELS, mask.shape, generator=generator), -100)
    elif head == "span":
        targets = torch.stack([sizes[:, 0] // 3, sizes[:, 0] // 2], 1)
    elif head == "multilabel":
        targets = torch.randint(0, 2, (n, LABELS), generator=generator).double()
    elif head == "regression":
        targets = torch.rand(n, generator=generator, dtype=torch.float64)
    else:
        targets = torch.randint(0, LABELS, (n,), generator=generator)
    return ids, mask, types, targets
