"""What is trained while a step is timed: models with random weights on real documents, or on random tokens."""

from collections.abc import Mapping

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from compact_biomed.models.locate import REGISTRY_MINILM
from compact_biomed.objectives import IGNORED
from compact_biomed.training import build
from compact_biomed.training.data import Collator, Documents
from compact_biomed.training.hyperparameters import Hyperparameters
from compact_biomed.training.recipe import MINI, SMOKE_SETTINGS

# Every twentieth of the lengths of abstracts, in tokens, cut at 256: 4,000 of the registry's sample.
_LENGTHS = (22, 101, 127, 150, 172, 190, 211, 229, 246, *[256] * 12)


def random_masked_lm(config: transformers.PretrainedConfig, attention: str) -> nn.Module:
    """Build a masked-LM with the same random weights on every call.

    Args:
        attention: transformers' name of an implementation, "eager" or "sdpa".
    """
    torch.manual_seed(0)
    return transformers.AutoModelForMaskedLM.from_config(config, attn_implementation=attention)


def perturb(*models: nn.Module) -> None:
    """Add noise to the weights, the same on every call.

    A newly made BERT has nearly uniform attention maps, and a teacher's states would nearly equal its student's.
    """
    torch.manual_seed(2)
    for model in models:
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                module.weight.data[module.padding_idx] = 0


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


def random_batch(documents: int, vocabulary: int, *, longest: int = 256, pad_id: int = 0) -> dict[str, Tensor]:
    """Return a masked batch of random tokens whose documents are as long as abstracts are, unsorted.

    Args:
        longest: tokens per document at most; other lengths shrink with it.

    Returns:
        input_ids, attention_mask and labels, [documents, length], padded on the right.
    """
    rng = np.random.default_rng(0)
    places = rng.permutation((np.arange(documents) + 0.5) / documents)
    lengths = np.interp(places, np.linspace(0, 1, len(_LENGTHS)), _LENGTHS) * longest / max(_LENGTHS)
    lengths = lengths.round().astype(int).clip(min=4)
    real = np.arange(lengths.max()) < lengths[:, None]
    ids = np.where(real, rng.integers(vocabulary // 20, vocabulary, real.shape), pad_id)
    scored = real & (rng.random(real.shape) < 0.15)
    labels = np.where(scored, rng.integers(vocabulary // 20, vocabulary, real.shape), IGNORED)
    arrays = {"input_ids": ids, "attention_mask": real.astype(np.int64), "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def relative_difference(gradients: Mapping[str, Tensor | None], expected: Mapping[str, Tensor | None]) -> float:
    """Return the norm of the difference of all gradients, relative to the norm of the expected ones.

    Args:
        gradients, expected: by the same names; None and zeros are the same.
    """
    error = norm = 0.0
    for name, theirs in expected.items():
        ours = gradients[name]
        if theirs is None:
            assert ours is None or not ours.any(), name
            continue
        ours = torch.zeros_like(theirs) if ours is None else ours
        error += float((ours.to(theirs.device) - theirs).square().sum())
        norm += float(theirs.square().sum())
    return (error / norm) ** 0.5
