"""Small random models of the three architectures, and random batches for them."""

import torch
from transformers import AutoConfig, AutoModelForMaskedLM

VOCABULARY = 61
SIZES = {
    "bert": {"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40},
    "distilbert": {"n_layers": 3, "dim": 24, "n_heads": 4, "hidden_dim": 40},
    "mobilebert": {
        "num_hidden_layers": 3,
        "hidden_size": 32,
        "embedding_size": 16,
        "intra_bottleneck_size": 16,
        "true_hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 4,
        "classifier_activation": False,
    },
}


def small_model(model_type: str, dtype: torch.dtype = torch.float64, **options):
    """Build a random masked-LM in which every weight matters: biases and norms are not 0 and 1."""
    sizes = {"vocab_size": VOCABULARY, "max_position_embeddings": 64} | SIZES[model_type] | options
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model(model_type, **sizes)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def random_batch(lengths: list[int], width: int, *, masked: float = 0.3, vocabulary: int = VOCABULARY, seed: int = 0):
    """Return (input_ids, attention_mask, labels), padded with id 0 to `width`."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, vocabulary, mask.shape, generator=generator) * mask
    chosen = (torch.rand(mask.shape, generator=generator) < masked) & mask.bool()
    return ids, mask, torch.where(chosen, torch.randint(5, vocabulary, mask.shape, generator=generator), -100)
